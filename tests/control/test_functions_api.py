"""Functions through boto3: the shapes, states and errors that callers see."""

from __future__ import annotations

import base64
import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_plane import ARN, ROLE, GatedPreparer, function, running, zipped


def refused(call: Any, **params: Any) -> tuple[str, int, str]:
    """Code, status and message of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def configuration(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def test_created_function_is_pending_and_becomes_active(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    preparer.gate.clear()
    async with running(tmp_path, preparer) as plane:
        code = zipped()
        created = await plane.drive(lambda client: client.create_function(**function(Code={"ZipFile": code})))
        assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
        shown = configuration(created)
        revision, modified = shown.pop("RevisionId"), shown.pop("LastModified")
        assert len(revision) == 36 and modified.endswith("+0000") and modified[-9] == "."
        assert shown == {
            "FunctionName": "f", "FunctionArn": ARN + "f", "Runtime": "python3.12", "Role": ROLE,
            "Handler": "app.handler", "CodeSize": len(code), "Description": "", "Timeout": 3, "MemorySize": 128,
            "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(), "Version": "$LATEST",
            "TracingConfig": {"Mode": "PassThrough"}, "State": "Pending", "PackageType": "Zip",
            "StateReason": "The function is being created.", "StateReasonCode": "Creating",
            "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "RuntimeVersionConfig": shown["RuntimeVersionConfig"],
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"},
        }  # fmt: skip
        preparer.gate.set()

        def wait(client: Any) -> dict[str, Any]:
            client.get_waiter("function_active_v2").wait(FunctionName="f")
            client.get_waiter("function_active").wait(FunctionName="f")
            client.get_waiter("function_updated_v2").wait(FunctionName="f")
            client.get_waiter("function_exists").wait(FunctionName="f")
            return dict(client.get_function(FunctionName="f")["Configuration"])

        active = await plane.drive(wait)
        assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
        assert "StateReason" not in active and "StateReasonCode" not in active
        assert active["RevisionId"] != revision
        assert plane.store.functions.resolve("f").handler == "app.handler"


async def test_code_location_gives_the_zip_until_it_expires(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        code = zipped()

        def script(client: Any) -> str:
            client.create_function(**function(Code={"ZipFile": code}))
            location: str = client.get_function(FunctionName="f")["Code"]["Location"]
            assert urllib.request.urlopen(location).read() == code
            for broken in (location.replace("Signature=", "Signature=0"), location.split("?")[0], location[:-1]):
                with pytest.raises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(broken)
                with caught.value as error:
                    assert error.code == 403
            return location

        location = await plane.drive(script)
        plane.clock.advance(601)

        def expired(client: Any) -> None:
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(location)
            with caught.value as error:
                assert error.code == 403 and b"expired" in error.read()

        await plane.drive(expired)
