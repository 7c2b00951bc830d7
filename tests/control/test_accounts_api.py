"""Several accounts and regions in one server: what one makes, no other sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running, settled

from lambent.callers import Caller
from lambent.errors import ApiError

QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"


async def test_nothing_leaks_from_one_account_or_region_to_another(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Tags={"a": "b"}))
            client.create_event_source_mapping(FunctionName="f", EventSourceArn=QUEUE)
            profile = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/test"
            client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [profile]})
            for region, key, account in (("eu-west-1", "test", "000000000000"),
                                         ("us-east-1", "111111111111", "111111111111")):  # fmt: skip
                other = plane.client("lambda", region, key)
                assert other.list_functions()["Functions"] == []
                assert other.list_event_source_mappings()["EventSourceMappings"] == []
                assert other.list_code_signing_configs()["CodeSigningConfigs"] == []
                assert other.get_account_settings()["AccountUsage"]["FunctionCount"] == 0
                assert refused(other.get_function, FunctionName="f")[1] == 404
                arn = f"arn:aws:lambda:{region}:{account}:function:f"
                assert other.create_function(**function())["FunctionArn"] == arn
                assert other.list_tags(Resource=arn)["Tags"] == {}
                other.add_permission(FunctionName="f", StatementId="s", Action="lambda:*", Principal="*")
                other.delete_function(FunctionName="f")
                other.close()
            assert [one["FunctionArn"] for one in client.list_functions()["Functions"]] == [ARN + "f"]
            assert refused(client.get_policy, FunctionName="f")[1] == 404

        await plane.drive(script)


async def test_each_account_and_region_reserves_from_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            clients = (client, plane.client("lambda", "eu-west-1"), plane.client("lambda", key="111111111111"))
            for other in clients:
                assert other.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1000
                other.create_function(**function())
                other.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=900)
                assert other.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
            assert len(plane.capacity.reserved) == 3 and set(plane.capacity.reserved.values()) == {900}
            for other in clients[1:]:
                other.close()

        await plane.drive(script)


async def test_policy_lets_another_account_invoke_what_it_names(tmp_path: Path) -> None:
    other = Caller("111111111111", "us-east-1")
    async with running(tmp_path) as plane:

        def invoked(qualifier: str | None) -> str:
            """The ARN that an invocation from the other account leads to, or the error's code."""
            try:
                return plane.store.functions.route(ARN + "f", qualifier, other).invoked_arn.removeprefix(ARN)
            except ApiError as error:
                return error.code

        def prepare(client: Any) -> None:
            client.create_function(**function())
            settled(client)
            client.publish_version(FunctionName="f")
            client.get_waiter("published_version_active").wait(
                FunctionName="f", Qualifier="1", WaiterConfig={"Delay": 0.01, "MaxAttempts": 500})
            client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")

        async def change(operation: str, **params: Any) -> None:
            await plane.drive(lambda client: getattr(client, operation)(FunctionName="f", StatementId="s", **params))

        await plane.drive(prepare)
        denied = ["AccessDeniedException"] * 3
        assert [invoked(None), invoked("1"), invoked("live")] == denied
        for principal in ("*", "111111111111", "arn:aws:iam::111111111111:role/r"):
            for action in ("lambda:InvokeFunction", "lambda:*"):
                await change("add_permission", Action=action, Principal=principal)
                assert [invoked(None), invoked("1"), invoked("live")] == ["f", *denied[1:]]
                await change("remove_permission")
                assert invoked(None) == denied[0]
        await change("add_permission", Action="lambda:InvokeFunction", Principal="111111111111", Qualifier="live")
        assert [invoked(None), invoked("1"), invoked("live")] == [*denied[1:], "f:live"]
        await plane.drive(lambda client: client.delete_alias(FunctionName="f", Name="live"))
        assert invoked("live") == denied[0]
        for more in ({"Principal": "222222222222"}, {"Principal": "s3.amazonaws.com"},
                     {"Principal": "*", "PrincipalOrgID": "o-abcdefghij"},
                     {"Principal": "*", "Action": "lambda:GetFunction"},
                     {"Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}):
            await change("add_permission", **{"Action": "lambda:InvokeFunction", **more})
            assert invoked(None) == denied[0]
            await change("remove_permission")
        assert plane.store.functions.route(ARN + "f").invoked_arn == ARN + "f"


async def test_names_of_other_regions_and_accounts_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            away, foreign = plane.client("lambda", "eu-west-1"), plane.client("lambda", key="111111111111")
            assert refused(away.get_function, FunctionName=ARN + "f") == (
                "ResourceNotFoundException", 404,
                "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')")  # fmt: skip
            assert refused(foreign.get_function, FunctionName=ARN + "f") == (
                "AccessDeniedException", 403, "User: arn:aws:iam::111111111111:root is not authorized to perform: "
                f"lambda:GetFunction on resource: {ARN}f because no resource-based policy allows the "
                "lambda:GetFunction action")  # fmt: skip
            away.close()
            foreign.close()

        await plane.drive(script)
