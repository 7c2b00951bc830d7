"""docs/operations.md says what the registry of operations says, and what it says of settings is true."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from control_plane import function, refused, running

from lambent.control.model import OPERATIONS

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "document_operations.py"

VPC = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
KEY = "arn:aws:kms:us-east-1:000000000000:key/k"
FILES = [{"Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-00000000000000000",
          "LocalMountPath": "/mnt/files"}]  # fmt: skip


@pytest.fixture
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_the_page_is_current(script: dict[str, Any]) -> None:
    assert script["PAGE"].read_text("utf-8") == script["page"](), "run scripts/document_operations.py"
    assert script["main"](["--check"]) == 0


def test_the_page_has_every_operation(script: dict[str, Any]) -> None:
    page = script["page"]()
    assert all(f"| {name} | {script['status'](name)} |" in page for name in OPERATIONS)


async def test_stored_settings_are_shown_as_aws_shows_them(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            created = client.create_function(**function(VpcConfig=VPC, DeadLetterConfig={"TargetArn": QUEUE},
                                                        KMSKeyArn=KEY, FileSystemConfigs=FILES))  # fmt: skip
            vpc = created["VpcConfig"]
            assert vpc.pop("VpcId").startswith("vpc-") and vpc == {**VPC, "Ipv6AllowedForDualStack": False}
            assert (created["DeadLetterConfig"], created["KMSKeyArn"]) == ({"TargetArn": QUEUE}, KEY)
            assert created["FileSystemConfigs"] == FILES
            client.get_waiter("function_active_v2").wait(FunctionName="f")
            changed = client.update_function_configuration(
                FunctionName="f", VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}, KMSKeyArn="",
                DeadLetterConfig={"TargetArn": ""}, FileSystemConfigs=[])  # fmt: skip
            assert changed["VpcConfig"] == {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "",
                                            "Ipv6AllowedForDualStack": False}  # fmt: skip
            assert not {"DeadLetterConfig", "KMSKeyArn", "FileSystemConfigs"} & changed.keys()

        await plane.drive(script)


async def test_stored_settings_that_are_refused(tmp_path: Path) -> None:
    unknown = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            for changes, code, words in (
                ({"VpcConfig": {"SubnetIds": ["subnet-1"]}}, "InvalidParameterValueException", "must coexist"),
                ({"DeadLetterConfig": {"TargetArn": KEY}}, "InvalidParameterValueException", "neither an SQS queue"),
                ({"DeadLetterConfig": {"TargetArn": QUEUE + ".fifo"}}, "InvalidParameterValueException", "FIFO"),
                ({"FileSystemConfigs": FILES}, "InvalidParameterValueException", "needs a VpcConfig"),
                ({"ImageConfig": {"Command": ["x"]}}, "InvalidParameterValueException", "packageType Zip"),
                ({"CodeSigningConfigArn": unknown}, "CodeSigningConfigNotFoundException", unknown),
                ({"DurableConfig": {"ExecutionTimeout": 5}}, "NotImplementedException", "DurableConfig"),
                ({"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}, "NotImplementedException", "TenancyConfig"),
            ):  # fmt: skip
                found = refused(client.create_function, **function(**changes))
                assert found[0] == code and words in found[2], found
            assert client.list_functions()["Functions"] == []

        await plane.drive(script)


async def test_function_is_created_with_its_code_signing_config(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            publishers = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/test"]}
            arn = client.create_code_signing_config(AllowedPublishers=publishers)["CodeSigningConfig"][
                "CodeSigningConfigArn"]  # fmt: skip
            client.create_function(**function(CodeSigningConfigArn=arn))
            assert client.get_function_code_signing_config(FunctionName="f")["CodeSigningConfigArn"] == arn

        await plane.drive(script)
