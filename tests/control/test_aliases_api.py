"""Aliases through boto3: their shape, their rules, and what invocations through them get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from control_plane import ARN, ROLE, GatedPreparer, function, refused, running, settled, zipped

from lambent.errors import ApiError

OTHER_ROLE = ROLE + "2"
WEIGHTS = {"AdditionalVersionWeights": {"2": 0.25}}
STALE = ("PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision Id. Call the "
         "GetFunction/GetAlias API to retrieve the latest Revision Id")  # fmt: skip


def versions(client: Any, *changes: dict[str, Any]) -> None:
    """Create `f` and publish 1, then one version for each change."""
    client.create_function(**function(Publish=True))
    for change in changes:
        settled(client)
        client.update_function_configuration(FunctionName="f", **change)
        settled(client)
        client.publish_version(FunctionName="f")
    for number in range(1, len(changes) + 2):
        client.get_waiter("published_version_active").wait(
            FunctionName="f", Qualifier=str(number), WaiterConfig={"Delay": 0.01, "MaxAttempts": 500})


async def test_alias_lives_from_creation_to_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            versions(client, {"Timeout": 4})
            created = client.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")
            assert created.pop("ResponseMetadata")["HTTPStatusCode"] == 201
            revision = created.pop("RevisionId")
            assert created == {"AliasArn": ARN + "f:prod", "Name": "prod", "FunctionVersion": "1", "Description": ""}
            assert client.get_alias(FunctionName=ARN + "f", Name="prod")["RevisionId"] == revision
            assert refused(client.create_alias, FunctionName="f", Name="prod", FunctionVersion="2") == (
                "ResourceConflictException", 409, f"Alias already exists: {ARN}f:prod")  # fmt: skip
            updated = client.update_alias(FunctionName="f", Name="prod", RoutingConfig=WEIGHTS, Description="d",
                                          RevisionId=revision)  # fmt: skip
            assert (updated["FunctionVersion"], updated["Description"]) == ("1", "d")
            assert updated["RoutingConfig"] == WEIGHTS and updated["RevisionId"] != revision
            assert refused(client.update_alias, FunctionName="f", Name="prod", RevisionId=revision) == STALE
            moved = client.update_alias(FunctionName="f", Name="prod", FunctionVersion="2", RoutingConfig={})
            assert moved["FunctionVersion"] == "2" and "RoutingConfig" not in moved and moved["Description"] == "d"
            shown = client.get_function(FunctionName="f", Qualifier="prod")["Configuration"]
            assert (shown["FunctionArn"], shown["Version"], shown["Timeout"]) == (ARN + "f:prod", "2", 4)
            assert client.get_function_configuration(FunctionName="f:prod")["Version"] == "2"
            for _ in range(2):
                deleted = client.delete_alias(FunctionName="f", Name="prod")
                assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert refused(client.get_function, FunctionName="f", Qualifier="prod")[2] == (
                f"Function not found: {ARN}f:prod")  # fmt: skip

        await plane.drive(script)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"FunctionVersion": "7"}, "ResourceNotFoundException", f"Function not found: {ARN}f:7"),
    ({"Name": "12"}, "ValidationException", "at 'name' failed to satisfy constraint"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1, "3": 0.1}}}, "InvalidParameterValueException",
     "Number of items in AdditionalVersionWeights cannot be greater than 1"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1}}}, "InvalidParameterValueException",
     "Invalid function version 1. Function version 1 is already included in routing configuration."),
    ({"FunctionVersion": "$LATEST", "RoutingConfig": WEIGHTS}, "InvalidParameterValueException",
     "$LATEST is not supported for an alias pointing to more than 1 version"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"$LATEST": 0.1}}}, "ValidationException", "[0-9]+"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"2": 1.1}}}, "ValidationException", "less than or equal to 1.0"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"2": -0.1}}}, "ValidationException",
     "greater than or equal to 0.0"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"7": 0.1}}}, "ResourceNotFoundException",
     f"Function not found: {ARN}f:7"),
    ({"RoutingConfig": {"AdditionalVersionWeights": {"3": 0.1}}}, "InvalidParameterValueException", "execution role"),
]  # fmt: skip


async def test_aliases_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            versions(client, {"Timeout": 4}, {"Role": OTHER_ROLE})
            client.create_alias(FunctionName="f", Name="held", FunctionVersion="1")
            for changes, code, words in REFUSED:
                params = {"FunctionName": "f", "Name": "new", "FunctionVersion": "1", **changes}
                found = refused(client.create_alias, **params)
                assert found[0] == code and words in found[2], (changes, found)
                if "Name" not in changes:
                    found = refused(client.update_alias, **{**params, "Name": "held"})
                    assert found[0] == code and words in found[2], (changes, found)
            nowhere = {"FunctionName": "g", "Name": "new", "FunctionVersion": "1"}
            assert refused(client.create_alias, **nowhere)[1:] == (404, f"Function not found: {ARN}g:1")
            assert refused(client.update_alias, **nowhere)[1:] == (404, f"Function not found: {ARN}g")
            missing = {"FunctionName": "f", "Name": "new"}
            assert refused(client.get_alias, **missing)[2] == f"Cannot find alias arn: {ARN}f:new"
            assert refused(client.update_alias, **missing)[2] == f"Alias not found: {ARN}f:new"
            assert [one["Name"] for one in client.list_aliases(FunctionName="f")["Aliases"]] == ["held"]

        await plane.drive(script)


async def test_aliases_are_listed_by_name_and_by_version(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            versions(client, {"Timeout": 4})
            for name in ("c", "a", "b"):
                client.create_alias(FunctionName="f", Name=name, FunctionVersion="1" if name == "a" else "2")
            pages = list(client.get_paginator("list_aliases").paginate(
                FunctionName="f", PaginationConfig={"PageSize": 2}))  # fmt: skip
            assert [[one["Name"] for one in page["Aliases"]] for page in pages] == [["a", "b"], ["c"]]
            some = client.list_aliases(FunctionName="f", FunctionVersion="2")["Aliases"]
            assert [one["Name"] for one in some] == ["b", "c"]

        await plane.drive(script)


async def test_invocations_through_an_alias_get_its_versions(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    async with running(tmp_path, preparer) as plane:
        functions = plane.store.functions

        def create(client: Any) -> None:
            versions(client, {"Timeout": 4})
            client.create_alias(FunctionName="f", Name="prod", FunctionVersion="1")

        await plane.drive(create)
        route = functions.route("f", "prod")
        assert (route.function.version, route.invoked_arn, route.others) == ("1", ARN + "f:prod", ())
        assert functions.route("f:prod") == route
        await plane.drive(lambda client: client.update_alias(FunctionName="f", Name="prod", RoutingConfig=WEIGHTS))
        route = functions.route("f", "prod")
        assert route.function.version == "1"
        assert [(other.version, weight) for other, weight in route.others] == [("2", 0.25)]

        # A version that is not ready yet leaves its share to the main one; as the main one it is Pending.
        preparer.gate.clear()

        def publish(client: Any) -> None:
            code = zipped({"app.py": b"def handler(event, context):\n    return 2\n"})
            assert client.update_function_code(FunctionName="f", ZipFile=code, Publish=True)["Version"] == "3"
            client.update_alias(FunctionName="f", Name="prod", RoutingConfig={"AdditionalVersionWeights": {"3": 0.5}})
            client.create_alias(FunctionName="f", Name="next", FunctionVersion="3")

        await plane.drive(publish)
        assert functions.route("f", "prod").others == ()
        with pytest.raises(ApiError, match="following state: Pending"):
            functions.route("f", "next")
        preparer.gate.set()

        def wait(client: Any) -> None:
            client.get_waiter("published_version_active").wait(
                FunctionName="f", Qualifier="3", WaiterConfig={"Delay": 0.01, "MaxAttempts": 500})

        await plane.drive(wait)
        assert functions.route("f", "prod").others[0][0].version == "3"
        assert functions.route("f", "next").function.version == "3"


async def test_version_of_an_alias_cannot_go_and_aliases_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            versions(client, {"Timeout": 4})
            client.create_alias(FunctionName="f", Name="prod", FunctionVersion="1", RoutingConfig=WEIGHTS)
            for number in ("1", "2"):
                found = refused(client.delete_function, FunctionName="f", Qualifier=number)
                assert found[:2] == ("ResourceConflictException", 409) and "[prod]" in found[2]

        await plane.drive(script)
        before = plane.store.functions.get("000000000000", "us-east-1", "f")
    async with running(tmp_path) as plane:
        assert plane.store.functions.get("000000000000", "us-east-1", "f") == before
        assert plane.store.functions.route("f", "prod").others[0][1] == 0.25

        def script(client: Any) -> None:
            client.delete_alias(FunctionName="f", Name="prod")
            client.delete_function(FunctionName="f", Qualifier="2")
            client.delete_function(FunctionName="f")
            client.create_function(**function())
            assert client.list_aliases(FunctionName="f")["Aliases"] == []

        await plane.drive(script)
