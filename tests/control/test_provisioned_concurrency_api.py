"""Provisioned concurrency through boto3; the scheduler is a stand-in that remembers what it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_plane import ARN, Plane, function, refused, running, settled


def published(client: Any, name: str = "f") -> None:
    """A function with version 1 and the alias `live` on it."""
    client.create_function(**function(name))
    settled(client, name)
    client.publish_version(FunctionName=name)
    client.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 0.02, "MaxAttempts": 200})  # fmt: skip
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")


def told(plane: Plane) -> dict[str, int]:
    """What the scheduler was told last, by version."""
    return {version: wanted for (_, version, _), wanted in plane.capacity.wanted.items()}


async def test_configuration_of_an_alias_becomes_environments_of_its_version(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def put(client: Any) -> None:
            published(client)
            answer = client.put_provisioned_concurrency_config(
                FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=3)  # fmt: skip
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
            assert answer["Status"] == "IN_PROGRESS"
            assert answer["AvailableProvisionedConcurrentExecutions"] == 0
            ready = client.get_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
            assert (ready["Status"], ready["AvailableProvisionedConcurrentExecutions"]) == ("READY", 3)
            listed = client.list_provisioned_concurrency_configs(FunctionName="f")["ProvisionedConcurrencyConfigs"]
            assert [config["FunctionArn"] for config in listed] == [ARN + "f:live"]

        await plane.drive(put)
        assert told(plane) == {"1": 3}
    async with running(tmp_path) as plane:
        assert told(plane) == {"1": 3}, "a restart keeps it"

        def move(client: Any) -> None:
            client.update_function_configuration(FunctionName="f", Description="other")
            settled(client)
            client.publish_version(FunctionName="f")
            client.get_waiter("published_version_active").wait(
                FunctionName="f", Qualifier="2", WaiterConfig={"Delay": 0.02, "MaxAttempts": 200})  # fmt: skip
            client.update_alias(FunctionName="f", Name="live", FunctionVersion="2")

        await plane.drive(move)
        assert told(plane) == {"1": 0, "2": 3}, "it moves with its alias"

        def delete(client: Any) -> None:
            gone = client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
            assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert refused(client.get_provisioned_concurrency_config, FunctionName="f", Qualifier="live") == (
                "ProvisionedConcurrencyConfigNotFoundException", 404,
                "No Provisioned Concurrency Config found for this function")  # fmt: skip

        await plane.drive(delete)
        assert told(plane) == {"1": 0, "2": 0}


async def test_what_cannot_be_provisioned(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            published(client)
            put = client.put_provisioned_concurrency_config

            def answer(qualifier: str, wanted: int) -> tuple[str, str]:
                code, _, message = refused(put, FunctionName="f", Qualifier=qualifier,
                                           ProvisionedConcurrentExecutions=wanted)
                return code, message

            assert answer("$LATEST", 1) == (
                "InvalidParameterValueException",
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")  # fmt: skip
            client.create_alias(FunctionName="f", Name="newest", FunctionVersion="$LATEST")
            assert answer("newest", 1) == answer("$LATEST", 1)
            for call in (client.get_provisioned_concurrency_config, client.delete_provisioned_concurrency_config):
                assert refused(call, FunctionName="f", Qualifier="$LATEST") == (
                    "InvalidParameterValueException", 400,
                    "The function resource provided must be an alias or a published version.")  # fmt: skip
            assert answer("9", 1) == ("ResourceNotFoundException", f"Function not found: {ARN}f:9")
            assert answer("nobody", 1) == ("ResourceNotFoundException", f"Alias not found: {ARN}f:nobody")
            for call, more in ((put, {"ProvisionedConcurrentExecutions": 1}),
                               (client.get_provisioned_concurrency_config, {}),
                               (client.delete_provisioned_concurrency_config, {})):  # fmt: skip
                for qualifier, what in (("1", "Function"), ("live", "Alias")):
                    found = refused(call, FunctionName="g", Qualifier=qualifier, **more)
                    assert found[1:] == (404, f"{what} not found: {ARN}g:{qualifier}")
            assert answer("1", 950)[1].endswith("UnreservedConcurrentExecution below its minimum value of [100].")
            assert answer("1", 1001)[1].endswith("greater than account's unreserved concurrency [1000].")
            client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)
            assert answer("1", 3) == (
                "InvalidParameterValueException", "Requested Provisioned Concurrency should not be greater than the "
                "reservedConcurrentExecution for function")  # fmt: skip
            put(FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=2)
            assert answer("live", 1) == (
                "ResourceConflictException", "Alias can't be used for Provisioned Concurrency configuration on an "
                "already Provisioned version")  # fmt: skip
            assert refused(client.put_function_concurrency, FunctionName="f", ReservedConcurrentExecutions=1)[2] == (
                " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency "
                "[2].")  # fmt: skip

        await plane.drive(script)


async def test_figures_that_cannot_be_are_refused_without_a_type(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            published(client)
            put = client.put_provisioned_concurrency_config
            put(FunctionName="f", Qualifier="1", ProvisionedConcurrentExecutions=2)
            for call, params in ((put, {"Qualifier": "1", "ProvisionedConcurrentExecutions": 950}),
                                 (put, {"Qualifier": "1", "ProvisionedConcurrentExecutions": 1001}),
                                 (client.put_function_concurrency, {"ReservedConcurrentExecutions": 1})):  # fmt: skip
                with pytest.raises(ClientError) as caught:
                    call(FunctionName="f", **params)
                assert "Type" not in caught.value.response and caught.value.response["message"]

        await plane.drive(script)


async def test_configurations_of_a_function_are_listed_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            published(client)
            for qualifier in ("1", "live", "$LATEST"):
                client.put_function_event_invoke_config(
                    FunctionName="f", Qualifier=qualifier, MaximumRetryAttempts=1)  # fmt: skip
            pages = list(client.get_paginator("list_function_event_invoke_configs").paginate(
                FunctionName="f", PaginationConfig={"PageSize": 1}))  # fmt: skip
            assert [len(page["FunctionEventInvokeConfigs"]) for page in pages] == [1, 1, 1]
            arns = {page["FunctionEventInvokeConfigs"][0]["FunctionArn"] for page in pages}
            assert arns == {ARN + "f:1", ARN + "f:live", ARN + "f:$LATEST"}
            client.update_function_configuration(FunctionName="f", Description="other")
            settled(client)
            second = client.publish_version(FunctionName="f")["Version"]
            for qualifier in ("live", second):
                client.put_provisioned_concurrency_config(
                    FunctionName="f", Qualifier=qualifier, ProvisionedConcurrentExecutions=1)  # fmt: skip
            pages = list(client.get_paginator("list_provisioned_concurrency_configs").paginate(
                FunctionName="f", PaginationConfig={"PageSize": 1}))  # fmt: skip
            arns = {config["FunctionArn"] for page in pages for config in page["ProvisionedConcurrencyConfigs"]}
            assert (len(pages), arns) == (2, {ARN + "f:live", ARN + "f:2"})

        await plane.drive(script)
