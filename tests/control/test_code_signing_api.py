"""Code signing configurations through boto3, as recorded from the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running

PUBLISHERS = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/test"]}
UNKNOWN = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"


async def test_code_signing_config_from_creation_to_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            created = client.create_code_signing_config(AllowedPublishers=PUBLISHERS, Tags={"a": "b"})
            config = created["CodeSigningConfig"]
            arn = config["CodeSigningConfigArn"]
            assert created["ResponseMetadata"]["HTTPStatusCode"] == 201 and "Tags" not in config
            assert arn.endswith(":code-signing-config:" + config["CodeSigningConfigId"])
            assert config["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
            assert client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
            client.tag_resource(Resource=arn, Tags={"c": "d"})
            assert client.list_tags(Resource=arn)["Tags"] == {"a": "b", "c": "d"}
            updated = client.update_code_signing_config(
                CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"},
                Description="d")["CodeSigningConfig"]  # fmt: skip
            assert updated["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Enforce"}
            assert client.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == updated
            assert client.update_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == updated
            assert client.list_code_signing_configs()["CodeSigningConfigs"] == [updated]
            put = client.put_function_code_signing_config(FunctionName="f", CodeSigningConfigArn=arn)
            assert (put["CodeSigningConfigArn"], put["FunctionName"]) == (arn, "f")
            shown = client.get_function_code_signing_config(FunctionName="f")
            assert (shown["CodeSigningConfigArn"], shown["FunctionName"]) == (arn, "f")
            by = client.list_functions_by_code_signing_config
            assert by(CodeSigningConfigArn=arn)["FunctionArns"] == [ARN + "f"]
            assert refused(client.delete_code_signing_config, CodeSigningConfigArn=arn)[:2] == (
                "ResourceConflictException", 409)  # fmt: skip
            for _ in range(2):
                gone = client.delete_function_code_signing_config(FunctionName="f")
                assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert by(CodeSigningConfigArn=arn)["FunctionArns"] == []
            assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(FunctionName="f")
            deleted = client.delete_code_signing_config(CodeSigningConfigArn=arn)
            assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert client.list_code_signing_configs()["CodeSigningConfigs"] == []

        await plane.drive(script)


async def test_code_signing_configs_that_are_not_there(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            for call in (client.get_code_signing_config, client.update_code_signing_config,
                         client.delete_code_signing_config, client.list_functions_by_code_signing_config):  # fmt: skip
                assert refused(call, CodeSigningConfigArn=UNKNOWN) == (
                    "ResourceNotFoundException", 404,
                    f"The Lambda code signing configuration {UNKNOWN} can not be found.")  # fmt: skip
            unknown = ("CodeSigningConfigNotFoundException", 404, "The code signing configuration cannot be found. "
                       f"Check that the provided configuration is not deleted: {UNKNOWN}.")  # fmt: skip
            put = client.put_function_code_signing_config
            for name in ("f", "g"):
                assert refused(put, FunctionName=name, CodeSigningConfigArn=UNKNOWN) == unknown
            for call in (client.get_function_code_signing_config, client.delete_function_code_signing_config):
                assert refused(call, FunctionName="g")[2] == f"Function not found: {ARN}g"

        await plane.drive(script)


async def test_configs_and_their_functions_are_listed_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            arns = {client.create_code_signing_config(AllowedPublishers=PUBLISHERS)["CodeSigningConfig"][
                "CodeSigningConfigArn"] for _ in range(3)}  # fmt: skip
            small = {"PageSize": 2}
            pages = list(client.get_paginator("list_code_signing_configs").paginate(PaginationConfig=small))
            found = [config["CodeSigningConfigArn"] for page in pages for config in page["CodeSigningConfigs"]]
            assert (len(pages), len(found), set(found)) == (2, 3, arns)
            arn = min(arns)
            for name in ("a", "b", "c"):
                client.create_function(**function(name))
                client.put_function_code_signing_config(FunctionName=name, CodeSigningConfigArn=arn)
            pages = list(client.get_paginator("list_functions_by_code_signing_config").paginate(
                CodeSigningConfigArn=arn, PaginationConfig=small))  # fmt: skip
            assert [page["FunctionArns"] for page in pages] == [[ARN + "a", ARN + "b"], [ARN + "c"]]

        await plane.drive(script)
