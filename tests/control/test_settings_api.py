"""Settings that hang on functions and on the account, through boto3."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running, zipped

BAD_DESTINATION = "arn:aws:iam:us-east-1:000000000000:function:f"


async def test_event_invoke_config_is_put_merged_listed_and_deleted(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            client.create_function(**function("other"))
            put = client.put_function_event_invoke_config(
                FunctionName="f", MaximumRetryAttempts=1, MaximumEventAgeInSeconds=60,
                DestinationConfig={"OnSuccess": {"Destination": ARN + "other"}, "OnFailure": {}})  # fmt: skip
            assert put["FunctionArn"] == ARN + "f:$LATEST" and put["LastModified"].year >= 2020
            assert put["DestinationConfig"] == {"OnSuccess": {"Destination": ARN + "other"}, "OnFailure": {}}
            updated = client.update_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=0)
            assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (0, 60)
            assert updated["DestinationConfig"] == put["DestinationConfig"]
            replaced = client.put_function_event_invoke_config(FunctionName="f:$LATEST", MaximumRetryAttempts=2)
            assert "MaximumEventAgeInSeconds" not in replaced
            assert replaced["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
            listed = client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]
            shown = client.get_function_event_invoke_config(FunctionName="f", Qualifier="$LATEST")
            assert [one["FunctionArn"] for one in listed] == [ARN + "f:$LATEST"] == [shown["FunctionArn"]]
            gone = client.delete_function_event_invoke_config(FunctionName="f")
            assert gone["ResponseMetadata"]["HTTPStatusCode"] == 204
            missing = ("ResourceNotFoundException", 404, f"The function {ARN}f:$LATEST doesn't have an "
                       "EventInvokeConfig")  # fmt: skip
            assert refused(client.get_function_event_invoke_config, FunctionName="f") == missing
            assert refused(client.delete_function_event_invoke_config, FunctionName="f") == missing
            assert refused(client.update_function_event_invoke_config, FunctionName="f", MaximumRetryAttempts=0
                           ) == missing  # fmt: skip

        await plane.drive(script)


async def test_event_invoke_configs_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            for changes, code, words in (
                ({"FunctionName": "g"}, "ResourceNotFoundException", "The function doesn't exist."),
                ({"Qualifier": "prod", "MaximumRetryAttempts": 1}, "ResourceNotFoundException",
                 "The function doesn't exist."),
                ({}, "InvalidParameterValueException",
                 "You must specify at least one of error handling or destination setting."),
                ({"DestinationConfig": {"OnSuccess": {"Destination": ARN + "g"}}}, "InvalidParameterValueException",
                 f"The destination ARN {ARN}g is invalid."),
                ({"DestinationConfig": {"OnFailure": {"Destination": ARN + "f"}}}, "InvalidParameterValueException",
                 "You can't specify the function as a destination for itself."),
                ({"DestinationConfig": {"OnSuccess": {"Destination": BAD_DESTINATION}}},
                 "InvalidParameterValueException", "The provided destination config DestinationConfig(onSuccess="
                 f"OnSuccess(destination={BAD_DESTINATION}), onFailure=null) is invalid."),
                ({"FunctionName": "f:prod", "Qualifier": "test", "MaximumRetryAttempts": 1},
                 "InvalidParameterValueException",
                 "The derived qualifier from the function name does not match the specified qualifier."),
            ):  # fmt: skip
                found = refused(client.put_function_event_invoke_config, **{"FunctionName": "f", **changes})
                assert (found[0], found[2]) == (code, words)
            assert refused(client.list_function_event_invoke_configs, FunctionName="g")[2] == (
                "The function doesn't exist.")  # fmt: skip
            assert refused(client.get_function_event_invoke_config, FunctionName="g")[2] == (
                f"The function {ARN}g:$LATEST doesn't have an EventInvokeConfig")  # fmt: skip

        await plane.drive(script)


async def test_runtime_management_and_recursion_are_kept(tmp_path: Path) -> None:
    version = "arn:aws:lambda:us-east-1::runtime:" + "0" * 64
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            shown = client.get_runtime_management_config(FunctionName="f")
            assert (shown["UpdateRuntimeOn"], shown["FunctionArn"]) == ("Auto", ARN + "f:$LATEST")
            put = client.put_runtime_management_config(FunctionName="f", UpdateRuntimeOn="Manual",
                                                       RuntimeVersionArn=version)  # fmt: skip
            assert (put["UpdateRuntimeOn"], put["RuntimeVersionArn"]) == ("Manual", version)
            client.put_runtime_management_config(FunctionName="f", UpdateRuntimeOn="FunctionUpdate")
            shown = client.get_runtime_management_config(FunctionName="f")
            assert shown["UpdateRuntimeOn"] == "FunctionUpdate" and "RuntimeVersionArn" not in shown
            path = f"{plane.endpoint}/2021-07-20/functions/f/runtime-management-config"
            with urllib.request.urlopen(path) as raw:
                assert json.loads(raw.read())["RuntimeVersionArn"] is None, "the one null that was recorded"
            for params in ({"UpdateRuntimeOn": "Manual"}, {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": version}):
                found = refused(client.put_runtime_management_config, FunctionName="f", **params)
                assert found[0] == "InvalidParameterValueException"
            assert client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
            assert client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")["RecursiveLoop"] == (
                "Allow")  # fmt: skip
            assert client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Allow"
            for call in (client.get_runtime_management_config, client.get_function_recursion_config):
                assert refused(call, FunctionName="g")[1] == 404

        await plane.drive(script)


async def test_account_settings_count_what_is_there(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            code = zipped()
            before = client.get_account_settings()
            client.create_function(**function(Code={"ZipFile": code}))
            after = client.get_account_settings()
            assert (before["AccountUsage"], after["AccountUsage"]) == (
                {"TotalCodeSize": 0, "FunctionCount": 0}, {"TotalCodeSize": len(code), "FunctionCount": 1})  # fmt: skip
            for number in (1, 2):
                client.publish_layer_version(LayerName="l", Content={"ZipFile": code})
                used = client.get_account_settings()["AccountUsage"]
                assert used == {"TotalCodeSize": len(code) * (number + 1), "FunctionCount": 1}
            client.delete_layer_version(LayerName="l", VersionNumber=1)
            assert client.get_account_settings()["AccountUsage"]["TotalCodeSize"] == len(code) * 2
            assert after["AccountLimit"] == {
                "TotalCodeSize": 80530636800, "CodeSizeUnzipped": 262144000, "CodeSizeZipped": 52428800,
                "ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000,
            }  # fmt: skip

        await plane.drive(script)
