"""Functions through boto3: the shapes, states and errors that callers see."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_plane import ARN, ROLE, GatedPreparer, function, refused, running, settled, zipped

from lambent.store.blobs import Blobs


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


async def test_update_serves_the_old_version_until_the_new_one_is_ready(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    async with running(tmp_path, preparer) as plane:
        conflicts: list[tuple[str, int, str]] = []

        def create(client: Any) -> dict[str, Any]:
            client.create_function(**function())
            return settled(client)

        before = await plane.drive(create)
        old = plane.store.functions.resolve("f")
        preparer.gate.clear()

        def update(client: Any) -> dict[str, Any]:
            answer = client.update_function_configuration(
                FunctionName="f", Timeout=7, Environment={"Variables": {"AB": "c"}}, RevisionId=before["RevisionId"])
            conflicts.append(refused(client.update_function_code, FunctionName="f", ZipFile=zipped()))
            conflicts.append(refused(client.update_function_configuration, FunctionName="f", Timeout=8))
            return dict(answer)

        answer = await plane.drive(update)
        message = f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}f"
        assert conflicts == [("ResourceConflictException", 409, message)] * 2
        assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "InProgress")
        assert answer["LastUpdateStatusReason"] == "The function is being created."
        assert answer["LastUpdateStatusReasonCode"] == "Creating"
        assert (answer["Timeout"], answer["Environment"]) == (7, {"Variables": {"AB": "c"}})
        assert answer["RevisionId"] != before["RevisionId"]
        assert plane.store.functions.resolve("f") is old and old.timeout_s == 3

        preparer.gate.set()

        def settle(client: Any) -> dict[str, Any]:
            return settled(client)

        after = await plane.drive(settle)
        assert after["LastUpdateStatus"] == "Successful" and "LastUpdateStatusReason" not in after
        assert len({before["RevisionId"], answer["RevisionId"], after["RevisionId"]}) == 3
        new = plane.store.functions.resolve("f")
        assert (new.timeout_s, dict(new.environment)) == (7, {"AB": "c"}) and new.generation != old.generation


async def test_code_update_and_dry_run(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        new = zipped({"app.py": b"def handler(event, context):\n    return 2\n"})

        def script(client: Any) -> None:
            client.create_function(**function())
            before = configuration(settled(client))
            dry = client.update_function_code(FunctionName="f", ZipFile=new, DryRun=True)
            assert configuration(dry) == before
            changed = client.update_function_code(FunctionName="f", ZipFile=new, Architectures=["arm64"])
            assert changed["CodeSha256"] == base64.b64encode(hashlib.sha256(new).digest()).decode()
            assert changed["CodeSize"] == len(new) and changed["Architectures"] == ["arm64"]
            settled(client)
            stale = refused(client.update_function_code, FunctionName="f", ZipFile=new, RevisionId=before["RevisionId"])
            assert stale[:2] == ("PreconditionFailedException", 412)

        await plane.drive(script)
        serving = plane.store.functions.resolve("f")
        assert serving.code_sha256 == hashlib.sha256(new).hexdigest() and serving.architecture == "arm64"


async def test_missing_runtime_fails_the_function_and_an_update_mends_it(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    preparer.lacks = "python3.13"
    async with running(tmp_path, preparer) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Runtime="python3.13"))
            failed = settled(client)
            assert (failed["State"], failed["StateReasonCode"]) == ("Failed", "InvalidRuntime")
            assert failed["StateReason"] == "python3.13 is not installed"
            client.update_function_configuration(FunctionName="f", Runtime="python3.12")
            mended = settled(client)
            assert mended["State"] == "Active" and "StateReason" not in mended
            client.update_function_configuration(FunctionName="f", Runtime="python3.13")
            broken = settled(client)
            assert (broken["State"], broken["LastUpdateStatus"]) == ("Active", "Failed")
            assert broken["LastUpdateStatusReasonCode"] == "InvalidRuntime"

        await plane.drive(script)
        assert plane.store.functions.resolve("f").runtime == "python3.12"


async def test_our_own_failure_is_logged_and_told_as_internal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preparer = GatedPreparer()
    preparer.breaks = True
    async with running(tmp_path, preparer) as plane:

        def script(client: Any) -> str:
            client.create_function(**function())
            return str(settled(client)["StateReasonCode"])

        assert await plane.drive(script) == "InternalError"
    assert "the preparer is broken" in capsys.readouterr().err


async def test_a_disk_that_refuses_is_told_in_words_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    told = "The server's disk refuses: "
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            with monkeypatch.context() as patched:
                patched.setattr(Blobs, "put", full)
                assert refused(client.create_function, **function()) == (
                    "ServiceException", 500, f"{told}No space left on device.")  # fmt: skip
            with monkeypatch.context() as patched:
                patched.setattr(GatedPreparer, "prepare", full)
                client.create_function(**function("g"))
                assert settled(client, "g")["StateReason"] == f"{told}No space left on device."
            database_is_read_only(True)
            assert refused(client.create_function, **function()) == (
                "ServiceException", 500, f"{told}attempt to write a readonly database.")  # fmt: skip
            database_is_read_only(False)
            client.create_function(**function())
            assert settled(client)["State"] == "Active"

        def database_is_read_only(wanted: bool) -> None:
            plane.store._writer._connection.execute(f"PRAGMA query_only = {wanted}")

        await plane.drive(script)
    err = capsys.readouterr().err
    assert "'POST /2015-03-31/functions': the disk refuses: No space left on device\n" in err
    assert "Traceback" not in err


async def test_activation_goes_on_after_a_restart(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    preparer.gate.clear()
    async with running(tmp_path, preparer) as plane:
        await plane.drive(lambda client: client.create_function(**function()))
    async with running(tmp_path) as plane:
        await plane.drive(settled)
        assert plane.store.functions.resolve("f").name == "f"


async def test_deletion_during_activation_leaves_nothing(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    preparer.gate.clear()
    async with running(tmp_path, preparer) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            deleted = client.delete_function(FunctionName="f")
            assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            client.create_function(**function(Timeout=9))

        await plane.drive(script)
        preparer.gate.set()
        await plane.drive(settled)
        assert plane.store.functions.resolve("f").timeout_s == 9


async def test_list_is_paged_and_leaves_out_states(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            for number in range(5):
                client.create_function(**function(f"f{number}"))
            pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
            assert [[one["FunctionName"] for one in page["Functions"]] for page in pages] == [
                ["f0", "f1"], ["f2", "f3"], ["f4"]]  # fmt: skip
            assert "NextMarker" not in pages[-1]
            first = pages[0]["Functions"][0]
            assert first["FunctionArn"] == ARN + "f0" and "State" not in first and "RuntimeVersionConfig" not in first
            every = client.list_functions(FunctionVersion="ALL")["Functions"]
            assert every[0]["FunctionArn"] == ARN + "f0:$LATEST"
            assert refused(client.list_functions, Marker="\N{SNOWMAN}")[0] == "InvalidParameterValueException"

        await plane.drive(script)


async def test_names_and_qualifiers_lead_to_the_function(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(ARN + "f", Tags={"k": "v"}))
            for name in ("f", ARN + "f", "000000000000:f"):
                answer = client.get_function(FunctionName=name)
                assert answer["Configuration"]["FunctionArn"] == ARN + "f" and answer["Tags"] == {"k": "v"}
            for params in ({"Qualifier": "$LATEST"}, {"FunctionName": "f:$LATEST"}):
                answer = client.get_function_configuration(**{"FunctionName": "f", **params})
                assert answer["FunctionArn"] == ARN + "f:$LATEST"
            missing = refused(client.get_function, FunctionName="f", Qualifier="7")
            assert missing == ("ResourceNotFoundException", 404, f"Function not found: {ARN}f:7")
            assert refused(client.get_function, FunctionName="g")[2] == f"Function not found: {ARN}g"
            assert client.get_function_concurrency(FunctionName="f").get("ReservedConcurrentExecutions") is None
            assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(FunctionName="f")

        await plane.drive(script)


CREATIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"FunctionName": "a" * 65}, "InvalidParameterValueException", "Member must have length less than or equal to 64"),
    ({"FunctionName": "f:prod"}, "InvalidParameterValueException", "without a qualifier"),
    ({"Runtime": "cobol"}, "InvalidParameterValueException", "Value cobol at 'runtime' failed to satisfy constraint: "
                                                             "Member must satisfy enum value set: [nodejs20.x, "
                                                             "python3.14, "),
    ({"Runtime": "java8"}, "InvalidParameterValueException", "The runtime parameter of java8 is no longer supported"),
    ({"Runtime": None}, "InvalidParameterValueException", "Runtime and Handler are mandatory parameters"),
    ({"Handler": "a\0b"}, "InvalidParameterValueException", "NUL"),
    ({"Code": {}}, "InvalidParameterValueException", "Please provide a source for function code."),
    ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException", "Could not unzip uploaded file."),
    ({"Code": {"S3Bucket": "bucket", "S3Key": "key"}}, "NotImplementedException", "S3"),
    ({"PackageType": "Image", "Code": {"ImageUri": "i"}}, "NotImplementedException", "Image"),
    ({"PublishTo": "LATEST_PUBLISHED"}, "NotImplementedException", "PublishTo"),
    ({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:l:1"]}, "InvalidParameterValueException",
     "Layer version arn:aws:lambda:us-east-1:000000000000:layer:l:1 does not exist."),
    ({"Environment": {"Variables": {"AWS_REGION": "x", "AWS_ACCESS_KEY": "y"}}}, "InvalidParameterValueException",
     "Reserved keys used in this request: AWS_ACCESS_KEY, AWS_REGION"),
    ({"Environment": {"Variables": {"AB": "x" * 4096}}}, "InvalidParameterValueException",
     "exceeded the 4KB limit. String measured: {\"AB\":\"xxx"),
    ({"Environment": {"Variables": {"AB": "\0"}}}, "InvalidParameterValueException", "NUL"),
    ({"LoggingConfig": {"LogFormat": "Text", "SystemLogLevel": "INFO"}}, "InvalidParameterValueException",
     'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the '
     'LogFormat to "JSON" and try again.'),
    ({"LoggingConfig": {"ApplicationLogLevel": "INFO"}}, "InvalidParameterValueException", "LogLevel is not supported"),
    ({"Tags": {f"k{number}": "v" for number in range(51)}}, "InvalidParameterValueException", "Number of tags exceeds"),
    ({"Tags": {"aws:k": "v"}}, "InvalidParameterValueException", "aws:"),
    ({"Timeout": 901}, "ValidationException", "Member must have value less than or equal to 900"),
    ({"MemorySize": 10_241}, "ValidationException",
     "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"),
]  # fmt: skip


async def test_creations_that_are_refused_leave_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            for changes, code, words in CREATIONS:
                found = refused(client.create_function, **function(**{"name": "f", **changes}))
                assert found[0] == code and words in found[2], (changes, found)
                assert found[1] == (501 if code == "NotImplementedException" else 400)
            client.create_function(**function(VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}, Layers=[]))
            assert refused(client.create_function, **function()) == (
                "ResourceConflictException", 409, "Function already exist: f")  # fmt: skip

        await plane.drive(script)
        assert [one.name for one in plane.store.functions] == ["f"]
        assert {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()} == plane.store.blobs_in_use()


async def test_json_logging_has_levels(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            given = {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG", "LogGroup": "/mine"}
            created = client.create_function(**function(LoggingConfig=given))
            assert created["LoggingConfig"] == {**given, "SystemLogLevel": "INFO"}
            settled(client)
            updated = client.update_function_configuration(FunctionName="f", LoggingConfig={"LogFormat": "Text"})
            assert updated["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/mine"}

        await plane.drive(script)
        serving = plane.store.functions.resolve("f")
        assert (serving.log_format, serving.log_group) in (("JSON", "/mine"), ("Text", "/mine"))


async def test_deletions_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            assert refused(client.delete_function, FunctionName="f", Qualifier="$LATEST") == (
                "InvalidParameterValueException", 400,
                "$LATEST version cannot be deleted without deleting the function.")  # fmt: skip
            assert refused(client.delete_function, FunctionName="f", Qualifier="prod") == (
                "InvalidParameterValueException", 400, "Deletion of aliases is not currently supported.")  # fmt: skip
            client.delete_function(FunctionName="f")
            gone = ("ResourceNotFoundException", 404, f"Function not found: {ARN}f")
            assert refused(client.delete_function, FunctionName="f") == gone
            assert refused(client.delete_function, FunctionName="f", Qualifier="3") == gone

        await plane.drive(script)


async def test_creations_at_once_make_one_function(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        async def one() -> str:
            def script(client: Any) -> str:
                try:
                    return str(client.create_function(**function())["State"])
                except ClientError as error:
                    return str(error.response["Error"]["Code"])

            return await plane.drive(script)

        results = sorted(await asyncio.gather(*(one() for _ in range(6))))
        assert results == ["Pending"] + ["ResourceConflictException"] * 5


async def test_operations_that_are_not_served_say_so(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            code, status, message = refused(client.list_capacity_providers)
            assert (code, status) == ("NotImplementedException", 501)
            assert message == ("The operation ListCapacityProviders is not served by this version of Lambent; nothing "
                               "was changed.")  # fmt: skip

        await plane.drive(script)

        def logs(client: Any) -> None:
            assert refused(client.put_retention_policy, logGroupName="g", retentionInDays=1)[0] == (
                "NotImplementedException")  # fmt: skip
            assert refused(client.describe_queries)[2].startswith("DescribeQueries of the service logs is not served")

        await plane.drive(logs, "logs")


async def test_unknown_paths_and_broken_bodies(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(_: Any) -> None:
            for method, path, body, expected in (
                ("GET", "/", b"", 404), ("GET", "/2015-03-31/nothing", b"", 404),
                ("POST", "/2015-03-31/functions", b"{", 400), ("POST", "/2015-03-31/functions/", b"{}", 400),
                ("POST", "/2015-03-31/functions", b"x" * 300_000, 400), ("GET", "/_code/" + "a" * 64, b"", 403),
            ):  # fmt: skip
                request = urllib.request.Request(plane.endpoint + path, body or None, method=method)
                with pytest.raises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(request)
                with caught.value as error:
                    assert error.code == expected
                    assert error.headers["x-amzn-ErrorType"] and error.headers["x-amzn-RequestId"]

        await plane.drive(script)
