"""STS and IAM through boto3, as far as tools need them, and the one error for every other service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from control_plane import Plane, refused, running

from lambent.store.documents import Shelf

TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]})  # fmt: skip
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


async def test_identity_is_the_callers(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            shown = client.get_caller_identity()
            assert (shown["Account"], shown["Arn"]) == ("000000000000", "arn:aws:iam::000000000000:root")
            other = plane.client("sts", key="111111111111")
            assert other.get_caller_identity()["Account"] == "111111111111"
            keys = other.get_session_token()["Credentials"]
            assert identity(plane, keys) == "111111111111"
            role = "arn:aws:iam::222222222222:role/path/deploy"
            assumed = other.assume_role(RoleArn=role, RoleSessionName="me")
            assert assumed["AssumedRoleUser"]["Arn"] == "arn:aws:sts::222222222222:assumed-role/deploy/me"
            assert identity(plane, assumed["Credentials"]) == "222222222222"
            assert assumed["Credentials"]["Expiration"].year >= 2026
            for changes in ({"RoleArn": "nonsense"}, {"RoleSessionName": "!!"}, {"DurationSeconds": 5}):
                params = {"RoleArn": role, "RoleSessionName": "me", **changes}
                assert refused(client.assume_role, **params)[:2] == ("ValidationError", 400)
            other.close()

        await plane.drive(script, "sts")


async def test_keys_of_a_role_are_its_keys(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            iam = plane.client("iam")
            role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST, Path="/p/")["Role"]
            known = client.assume_role(RoleArn=role["Arn"], RoleSessionName="me")
            shown = "arn:aws:sts::000000000000:assumed-role/r/me"
            assert known["AssumedRoleUser"] == {"AssumedRoleId": f"{role['RoleId']}:me", "Arn": shown}
            assert whoami(plane, known["Credentials"]) == (shown, f"{role['RoleId']}:me", "000000000000")
            other = client.assume_role(RoleArn="arn:aws:iam::222222222222:role/r", RoleSessionName="me")
            made_up, _, name = other["AssumedRoleUser"]["AssumedRoleId"].partition(":")
            assert made_up != role["RoleId"] and len(made_up) == 21 and made_up.startswith("AROA") and name == "me"
            again = client.assume_role(RoleArn="arn:aws:iam::222222222222:role/r", RoleSessionName="me")
            assert again["AssumedRoleUser"] == other["AssumedRoleUser"]
            # Without its path it is another role; the made-up id stays, whoever is asked.
            assert client.assume_role(RoleArn="arn:aws:iam::000000000000:role/r", RoleSessionName="me")[
                "AssumedRoleUser"]["AssumedRoleId"] not in (f"{role['RoleId']}:me", f"{made_up}:me")  # fmt: skip
            assert refused(client.assume_role, RoleArn=role["Arn"], RoleSessionName="me", DurationSeconds=3601) == (
                "ValidationError", 400,
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")  # fmt: skip
            keys = plane.client("sts", keys=known["Credentials"])
            assert refused(keys.get_session_token) == (
                "AccessDenied", 403, "Cannot call GetSessionToken with session credentials")  # fmt: skip
            for made in (iam, keys):
                made.close()

        await plane.drive(script, "sts")


def whoami(plane: Plane, keys: dict[str, Any]) -> tuple[str, str, str]:
    client = plane.client("sts", keys=keys)
    shown = client.get_caller_identity()
    client.close()
    return shown["Arn"], shown["UserId"], shown["Account"]


def identity(plane: Plane, keys: dict[str, Any]) -> str:
    return whoami(plane, keys)[2]


async def test_role_from_creation_to_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            made = client.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST, Path="/p/", Description="<&>",
                                      Tags=[{"Key": "a", "Value": "b"}])["Role"]  # fmt: skip
            assert made["Arn"] == "arn:aws:iam::000000000000:role/p/r" and made["RoleId"].startswith("AROA")
            shown = client.get_role(RoleName="r")["Role"]
            assert shown["AssumeRolePolicyDocument"] == json.loads(TRUST) and shown["Description"] == "<&>"
            assert shown["Tags"] == [{"Key": "a", "Value": "b"}] and shown["MaxSessionDuration"] == 3600
            assert [role["RoleName"] for role in client.list_roles()["Roles"]] == ["r"]
            assert plane.client("iam", key="111111111111").list_roles()["Roles"] == []
            client.put_role_policy(RoleName="r", PolicyName="inline", PolicyDocument=TRUST)
            assert client.list_role_policies(RoleName="r")["PolicyNames"] == ["inline"]
            inline = client.get_role_policy(RoleName="r", PolicyName="inline")
            assert inline["PolicyDocument"] == json.loads(TRUST)
            client.attach_role_policy(RoleName="r", PolicyArn=BASIC)
            attached = client.list_attached_role_policies(RoleName="r")["AttachedPolicies"]
            assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}]
            client.update_role(RoleName="r", MaxSessionDuration=7200)
            assert client.update_role_description(RoleName="r", Description="new")["Role"]["Description"] == "new"
            client.update_role(RoleName="r", Description="<&>")
            client.put_role_permissions_boundary(RoleName="r", PermissionsBoundary=BASIC)
            bounded = client.get_role(RoleName="r")["Role"]
            assert (bounded["MaxSessionDuration"], bounded["Description"]) == (7200, "<&>")
            assert bounded["PermissionsBoundary"] == {"PermissionsBoundaryType": "Policy",
                                                      "PermissionsBoundaryArn": BASIC}  # fmt: skip
            client.delete_role_permissions_boundary(RoleName="r")
            assert "PermissionsBoundary" not in client.get_role(RoleName="r")["Role"]
            client.tag_role(RoleName="r", Tags=[{"Key": "c", "Value": "d"}])
            client.untag_role(RoleName="r", TagKeys=["a"])
            assert client.list_role_tags(RoleName="r")["Tags"] == [{"Key": "c", "Value": "d"}]
            assert client.list_instance_profiles_for_role(RoleName="r")["InstanceProfiles"] == []
            assert refused(client.delete_role, RoleName="r") == (
                "DeleteConflict", 409, "Cannot delete entity, must detach all policies first.")  # fmt: skip
            client.detach_role_policy(RoleName="r", PolicyArn=BASIC)
            assert refused(client.delete_role, RoleName="r")[2] == "Cannot delete entity, must delete policies first."
            client.delete_role_policy(RoleName="r", PolicyName="inline")
            client.delete_role(RoleName="r")
            assert refused(client.get_role, RoleName="r") == (
                "NoSuchEntity", 404, "The role with name r cannot be found.")  # fmt: skip

        await plane.drive(script, "iam")


async def test_lists_come_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            names = [f"r{number:03}" for number in range(103)]
            for name in names:
                client.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
            first = client.list_roles()
            assert (len(first["Roles"]), first["IsTruncated"]) == (100, True)
            pages = client.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 40})
            assert [[role["RoleName"] for role in page["Roles"]] for page in pages] == [
                names[:40], names[40:80], names[80:]]  # fmt: skip
            # What goes between two pages moves nothing.
            client.delete_role(RoleName="r099")
            rest = client.list_roles(Marker=first["Marker"])
            assert [role["RoleName"] for role in rest["Roles"]] == names[100:] and not rest["IsTruncated"]
            for number in range(3):
                client.put_role_policy(RoleName="r000", PolicyName=f"p{number}", PolicyDocument=TRUST)
                client.attach_role_policy(RoleName="r000", PolicyArn=f"arn:aws:iam::aws:policy/p{number}")
                client.tag_role(RoleName="r000", Tags=[{"Key": f"k{number}", "Value": ""}])
            for operation, member in (("list_role_policies", "PolicyNames"), ("list_role_tags", "Tags"),
                                      ("list_attached_role_policies", "AttachedPolicies")):  # fmt: skip
                page = getattr(client, operation)(RoleName="r000", MaxItems=2)
                assert len(page[member]) == 2 and page["IsTruncated"]
                rest = getattr(client, operation)(RoleName="r000", MaxItems=2, Marker=page["Marker"])
                assert len(rest[member]) == 1 and not rest["IsTruncated"] and rest[member][0] not in page[member]
            for wrong in ({"MaxItems": 0}, {"MaxItems": 1001}, {"Marker": "!"}):
                assert refused(client.list_roles, **wrong)[:2] == ("ValidationError", 400)
            assert refused(client.list_roles, MaxItems="many")[:2] == ("MalformedInput", 400)

        await plane.drive(script, "iam")


async def test_roles_and_policies_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
            assert refused(client.create_role, RoleName="r", AssumeRolePolicyDocument=TRUST) == (
                "EntityAlreadyExists", 409, "Role with name r already exists.")  # fmt: skip
            assert refused(client.create_role, RoleName="s", AssumeRolePolicyDocument="{")[0] == (
                "MalformedPolicyDocument")  # fmt: skip
            assert refused(client.create_role, RoleName="a b", AssumeRolePolicyDocument=TRUST)[0] == "ValidationError"
            assert refused(client.get_role)[0] == "ValidationError"
            own = client.create_policy(PolicyName="p", PolicyDocument=TRUST)["Policy"]["Arn"]
            version = client.get_policy_version(PolicyArn=own, VersionId="v1")["PolicyVersion"]
            assert version["Document"] == json.loads(TRUST) and version["IsDefaultVersion"] is True
            client.attach_role_policy(RoleName="r", PolicyArn=own)
            assert client.get_policy(PolicyArn=own)["Policy"]["AttachmentCount"] == 1
            assert refused(client.delete_policy, PolicyArn=own)[0] == "DeleteConflict"
            client.detach_role_policy(RoleName="r", PolicyArn=own)
            client.delete_policy(PolicyArn=own)
            for call, params in ((client.get_policy, {"PolicyArn": own}),
                                 (client.attach_role_policy, {"RoleName": "r", "PolicyArn": own}),
                                 (client.detach_role_policy, {"RoleName": "r", "PolicyArn": own}),
                                 (client.get_role_policy, {"RoleName": "r", "PolicyName": "x"})):  # fmt: skip
                assert refused(call, **params)[:2] == ("NoSuchEntity", 404)

        await plane.drive(script, "iam")


async def test_policies_have_versions_and_tags(tmp_path: Path) -> None:
    second = '{"Version": "2012-10-17", "Statement": []}'
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            arn = client.create_policy(PolicyName="p", PolicyDocument=TRUST)["Policy"]["Arn"]
            added = {"PolicyArn": arn, "PolicyDocument": second}
            made = client.create_policy_version(**added, SetAsDefault=True)["PolicyVersion"]
            assert (made["VersionId"], made["IsDefaultVersion"]) == ("v2", True)
            assert client.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
            assert client.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]["Document"] == (
                json.loads(second))  # fmt: skip
            client.create_policy_version(PolicyArn=arn, PolicyDocument=TRUST)
            listed = client.list_policy_versions(PolicyArn=arn)["Versions"]
            assert [(one["VersionId"], one["IsDefaultVersion"]) for one in listed] == [
                ("v3", False), ("v2", True), ("v1", False)]  # fmt: skip
            assert refused(client.delete_policy, PolicyArn=arn)[0] == "DeleteConflict"
            assert refused(client.delete_policy_version, PolicyArn=arn, VersionId="v2") == (
                "DeleteConflict", 409, "Cannot delete the default version of a policy.")  # fmt: skip
            client.set_default_policy_version(PolicyArn=arn, VersionId="v3")
            client.delete_policy_version(PolicyArn=arn, VersionId="v2")
            for call in (client.get_policy_version, client.delete_policy_version, client.set_default_policy_version):
                assert refused(call, PolicyArn=arn, VersionId="v2")[:2] == ("NoSuchEntity", 404)
            for number in ("v4", "v5", "v6"):
                made = client.create_policy_version(PolicyArn=arn, PolicyDocument=second)["PolicyVersion"]
                assert made["VersionId"] == number, "numbers are not used again"
            assert refused(client.create_policy_version, PolicyArn=arn, PolicyDocument=second)[:2] == (
                "LimitExceeded", 409)  # fmt: skip
            for number in ("v1", "v4", "v5", "v6"):
                client.delete_policy_version(PolicyArn=arn, VersionId=number)
            client.tag_policy(PolicyArn=arn, Tags=[{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}])
            client.untag_policy(PolicyArn=arn, TagKeys=["a"])
            assert client.list_policy_tags(PolicyArn=arn)["Tags"] == [{"Key": "c", "Value": "d"}]
            client.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
            client.attach_role_policy(RoleName="r", PolicyArn=arn)
            assert [one["RoleName"] for one in client.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]] == ["r"]
            client.detach_role_policy(RoleName="r", PolicyArn=arn)
            client.delete_policy(PolicyArn=arn)

        await plane.drive(script, "iam")


async def test_policy_of_an_older_data_directory_has_its_one_version(tmp_path: Path) -> None:
    arn = "arn:aws:iam::000000000000:policy/old"
    kept = {"PolicyName": "old", "PolicyId": "ANPA", "Arn": arn, "Path": "/", "DefaultVersionId": "v1",
            "IsAttachable": True, "Description": "", "CreateDate": "2026-01-01T00:00:00.000Z",
            "UpdateDate": "2026-01-01T00:00:00.000Z", "Tags": [], "Document": TRUST}  # fmt: skip
    async with running(tmp_path) as plane:
        shelf = Shelf("000000000000", "", "", "managed-policy")
        await plane.store.change(lambda: plane.store.documents.save(shelf, arn, kept))

        def script(client: Any) -> None:
            assert client.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"] == (
                json.loads(TRUST))  # fmt: skip
            client.create_policy_version(PolicyArn=arn, PolicyDocument=TRUST, SetAsDefault=True)
            listed = client.list_policy_versions(PolicyArn=arn)["Versions"]
            assert [one["VersionId"] for one in listed] == ["v2", "v1"]

        await plane.drive(script, "iam")


async def test_other_services_are_named_in_one_clear_error(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(_: Any) -> None:
            for service, call, params in (
                ("iam", "list_users", {}), ("sns", "list_topics", {}), ("sqs", "list_queues", {}),
                ("dynamodb", "list_tables", {}), ("s3", "list_objects_v2", {"Bucket": "bucket"}),
                ("cloudformation", "list_stacks", {}), ("ec2", "describe_vpcs", {}), ("apigatewayv2", "get_apis", {}),
                ("scheduler", "list_schedules", {}), ("xray", "get_groups", {}), ("ssm", "describe_parameters", {}),
            ):  # fmt: skip
                client = plane.client(service)
                code, status, message = refused(getattr(client, call), **params)
                assert (code, status) == ("NotImplementedException", 501), (service, code)
                assert service.removesuffix("v2") in message and "is not served by Lambent" in message
                assert "<" not in message, "in another protocol than the service's"
                client.close()

        await plane.drive(script)
