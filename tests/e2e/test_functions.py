"""The API as plain boto3 sees it: creating, changing, finding, invoking and deleting functions (point 3)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .harness import PYTHON, ROLE, Answer, Call, Function, Server, refusal, until, wire

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
WHO = """
import os

def handler(event, context):
    client = context.client_context
    return {
        "event": event, "arn": context.invoked_function_arn, "name": context.function_name,
        "version": context.function_version, "memory": context.memory_limit_in_mb,
        "group": context.log_group_name, "id": context.aws_request_id,
        "remaining": context.get_remaining_time_in_millis(),
        "client": client and {"custom": client.custom, "env": client.env, "title": client.client.app_title},
        "identity": context.identity.cognito_identity_id, "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        "variables": dict(os.environ),
    }
"""
EDITION = """
import os, pathlib
EDITION = {0}

def handler(event, context):
    return [EDITION, int(pathlib.Path("/var/task/edition").read_text()), os.environ["SETTING"]]
"""
PLAIN = "def handler(event, context): return event"
FUNCTIONS = (
    Function("who", WHO, more={"Environment": {"Variables": {"COLOUR": "blue", "EMPTY": "", "TZ": "Europe/Berlin"}}}),
    Function("plain", PLAIN),
    Function("changing", PLAIN),
    Function("printing", "def handler(event, context): print('x' * event)"),
)

PENDING = (409, "ResourceConflictException", "The operation cannot be performed at this time. "
           "The function is currently in the following state: Pending")  # fmt: skip


@pytest.fixture
def made(server: Server) -> Iterator[str]:
    """The name of a function that the test makes."""
    name = "made"
    yield name
    server.functions.delete_function(FunctionName=name)


def error(answer: Answer) -> tuple[int, str | None, str]:
    return answer.status, answer.header("x-amzn-ErrorType"), answer.json()["message"]


def test_a_new_function_is_pending_then_active(server: Server, made: str) -> None:
    function = Function(made, PLAIN, timeout=7, memory=333, more={"Description": "words"})
    creation = ("POST", "/2015-03-31/functions", wire(function.request()))
    created, invoked, again = server.pipeline(
        creation, ("POST", f"/2015-03-31/functions/{made}/invocations", {}), creation)
    reply = created.json()
    assert created.status == 201
    assert reply["FunctionName"] == made
    assert reply["FunctionArn"] == ARN + made
    assert (reply["Runtime"], reply["Role"], reply["Handler"]) == (PYTHON, ROLE, "app.handler")
    assert (reply["Timeout"], reply["MemorySize"], reply["Description"]) == (7, 333, "words")
    assert reply["CodeSize"] == len(function.package())
    assert reply["CodeSha256"] == base64.b64encode(hashlib.sha256(function.package()).digest()).decode()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", reply["LastModified"])
    assert (reply["Version"], reply["PackageType"], reply["Architectures"]) == ("$LATEST", "Zip", ["x86_64"])
    assert reply["EphemeralStorage"] == {"Size": 512}
    assert reply["TracingConfig"] == {"Mode": "PassThrough"}
    assert reply["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    assert reply["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{made}"}
    version_arn = reply["RuntimeVersionConfig"]["RuntimeVersionArn"]
    assert re.fullmatch(r"arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}", version_arn)
    assert (reply["State"], reply["StateReasonCode"]) == ("Pending", "Creating")
    assert reply["StateReason"] == "The function is being created."
    assert "LastUpdateStatus" not in reply and "Environment" not in reply

    assert error(invoked) == PENDING
    assert error(again) == (409, "ResourceConflictException", f"Function already exist: {made}")

    server.wait_active(made)
    active = server.functions.get_function_configuration(FunctionName=made)
    assert (active["State"], active["LastUpdateStatus"]) == ("Active", "Successful")
    assert not {"StateReason", "StateReasonCode"} & active.keys()
    assert active["RevisionId"] != reply["RevisionId"]
    assert active["LastModified"] == reply["LastModified"]
    assert f"\tRuntime Version ARN: {version_arn}\n" in server.stream(server.invoke(made))


def test_a_pending_function_cannot_be_changed(server: Server, made: str) -> None:
    # The first function of a runtime, since to find the interpreter takes a while.
    _, updated = server.pipeline(
        ("POST", "/2015-03-31/functions", wire(Function(made, "exports.x = 1", runtime="nodejs20.x").request())),
        ("PUT", f"/2015-03-31/functions/{made}/configuration", {"Timeout": 8}))  # fmt: skip
    assert error(updated) == PENDING
    server.wait_active(made)


def test_an_update_serves_the_old_code_until_it_is_done(server: Server) -> None:
    before = server.functions.get_function_configuration(FunctionName="changing")
    server.invoke("changing")
    # Small on the wire and large on disk: the calls behind it come long before it is unpacked.
    package = Function("changing", "def handler(event, context): return 'new'", files={"blank": " " * 2**26}).package()
    change = ("PUT", "/2015-03-31/functions/changing/code", wire({"ZipFile": package}))
    updated, second, meanwhile = server.pipeline(
        change, change, ("POST", "/2015-03-31/functions/changing/invocations", {"old": True}))
    reply = updated.json()
    assert updated.status == 200
    assert (reply["State"], reply["LastUpdateStatus"]) == ("Active", "InProgress")
    assert reply["LastUpdateStatusReason"] == "The function is being created."
    assert reply["LastUpdateStatusReasonCode"] == "Creating"
    assert reply["CodeSize"] == len(package)
    assert error(second) == (409, "ResourceConflictException", "The operation cannot be performed at this time. "
                             f"An update is in progress for resource: {ARN}changing")  # fmt: skip
    assert meanwhile.json() == {"old": True}
    server.wait_active("changing", "function_updated_v2")
    after = server.functions.get_function_configuration(FunctionName="changing")
    assert after["LastUpdateStatus"] == "Successful" and "LastUpdateStatusReason" not in after
    assert len({before["RevisionId"], reply["RevisionId"], after["RevisionId"]}) == 3
    assert server.invoke("changing").payload == "new"


def test_the_older_waiters_work_too(server: Server) -> None:
    for name in ("function_exists", "function_active", "function_active_v2", "function_updated", "function_updated_v2"):
        server.functions.get_waiter(name).wait(FunctionName="plain", WaiterConfig={"Delay": 0, "MaxAttempts": 2})


def test_calls_during_updates_see_one_edition_each_and_never_go_back(server: Server, made: str) -> None:
    def edition(number: int) -> Function:
        variables = {"Environment": {"Variables": {"SETTING": "one"}}}
        return Function(made, EDITION.format(number), files={"edition": str(number)}, more=variables)

    server.deploy(edition(0))
    stop = threading.Event()

    def call_on() -> list[Call]:
        calls = []
        while not stop.is_set():
            calls.append(server.invoke(made, LogType="None"))
        return calls

    with ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(call_on) for _ in range(3)]
        for number in range(1, 5):
            server.functions.update_function_code(FunctionName=made, ZipFile=edition(number).package())
            server.wait_active(made, "function_updated_v2")
            assert server.invoke(made).payload[:2] == [number, number]
        server.functions.update_function_configuration(
            FunctionName=made, Environment={"Variables": {"SETTING": "two"}})
        server.wait_active(made, "function_updated_v2")
        assert server.invoke(made).payload == [4, 4, "two"]
        stop.set()
        rows = [caller.result() for caller in callers]
    served: dict[str, set[str]] = {}
    for calls in rows:
        assert calls and not any(call.error for call in calls)
        payloads = [call.payload for call in calls]
        assert all(code == file for code, file, _ in payloads)
        assert payloads == sorted(payloads), "an older edition served after a newer one"
        for call in calls:
            served.setdefault(call.environment, set()).add(call.raw.decode())
    assert all(len(payloads) == 1 for payloads in served.values())


def test_the_code_can_be_downloaded(server: Server) -> None:
    found = server.functions.get_function(FunctionName="plain")
    assert found["Configuration"]["State"] == "Active"
    assert found["Code"]["RepositoryType"] == "S3"
    with urllib.request.urlopen(found["Code"]["Location"]) as reply:
        assert reply.read() == Function("plain", PLAIN).package()


def test_functions_are_listed_by_page(server: Server) -> None:
    pages = server.functions.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3})
    listed = [[row["FunctionName"] for row in page["Functions"]] for page in pages]
    names = [name for page in listed for name in page]
    assert {function.name for function in FUNCTIONS} <= set(names)
    assert names == sorted(names)
    assert all(len(page) == 3 for page in listed[:-1])


def test_a_deleted_function_is_gone_with_its_environments(server: Server) -> None:
    server.deploy(Function("brief", PLAIN))
    server.invoke("brief")
    reply = server.functions.delete_function(FunctionName="brief")
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
    get = refusal(lambda: server.functions.get_function(FunctionName="brief"))
    invoke = refusal(lambda: server.invoke("brief"))
    delete = refusal(lambda: server.functions.delete_function(FunctionName="brief"))
    assert get[:3] == delete[:3] == (404, "ResourceNotFoundException", f"Function not found: {ARN}brief")
    assert invoke[:3] == (404, "ResourceNotFoundException", f"Function not found: {ARN}brief:$LATEST")
    assert invoke[3]["ResponseMetadata"]["HTTPHeaders"]["x-amzn-errortype"] == "ResourceNotFoundException"
    until(lambda: not server.environments("brief"))


def test_the_function_sees_what_its_owner_set(server: Server) -> None:
    variables = server.invoke("who").payload["variables"]
    assert variables["COLOUR"] == "blue"
    assert variables["EMPTY"] == ""
    assert variables["TZ"] == "Europe/Berlin"
    host_only = {"HOME", "USER", "LAMBENT_CACHE_DIR", "VIRTUAL_ENV"} & os.environ.keys()
    assert not host_only & variables.keys()


def test_the_context_says_who_was_called_and_how(server: Server) -> None:
    call = server.invoke("who", {"a": [1, "\u2603"]})
    seen = call.payload
    assert seen["event"] == {"a": [1, "\u2603"]}
    assert (seen["arn"], seen["name"], seen["version"]) == (ARN + "who", "who", "$LATEST")
    assert (seen["memory"], seen["group"], seen["id"]) == ("256", "/aws/lambda/who", call.request_id)
    assert 0 < seen["remaining"] <= 10_000
    assert seen["client"] is None and seen["identity"] is None
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=\S+", seen["trace"])
    assert call.headers["x-amzn-trace-id"] == seen["trace"]


def test_the_client_context_arrives_decoded(server: Server) -> None:
    given = {"custom": {"k": "v\u00e4"}, "env": {"locale": "de"}, "client": {"app_title": "app"}}
    encoded = base64.b64encode(json.dumps(given).encode()).decode()
    seen = server.invoke("who", ClientContext=encoded).payload["client"]
    assert seen == {"custom": {"k": "v\u00e4"}, "env": {"locale": "de"}, "title": "app"}
    status, code, _, _ = refusal(lambda: server.invoke("who", ClientContext="no base64!"))
    assert (status, code) == (400, "InvalidRequestContentException")


@pytest.mark.parametrize(
    ("name", "qualifier", "arn"),
    [
        ("who", None, "who"),
        ("who", "$LATEST", "who:$LATEST"),
        ("who:$LATEST", None, "who:$LATEST"),
        (ARN + "who", None, "who"),
        (ARN + "who:$LATEST", "$LATEST", "who:$LATEST"),
        ("000000000000:function:who", None, "who"),
    ],
)
def test_a_function_has_many_names(server: Server, name: str, qualifier: str | None, arn: str) -> None:
    qualified: Any = {"Qualifier": qualifier} if qualifier else {}
    call = server.invoke(name, **qualified)
    assert call.payload["arn"] == ARN + arn
    assert call.headers["x-amz-executed-version"] == "$LATEST"


@pytest.mark.parametrize(
    ("name", "qualifier", "expected"),
    [
        ("absent", None, (404, "ResourceNotFoundException", f"Function not found: {ARN}absent:$LATEST")),
        ("who", "7", (404, "ResourceNotFoundException", f"Function not found: {ARN}who:7")),
        ("who:1", "2", (400, "InvalidParameterValueException",
                        "The derived qualifier from the function name does not match the specified qualifier.")),
        ("us-west-2:function:who", None, (404, "ResourceNotFoundException",
         "Functions from 'us-west-2' are not reachable in this region ('us-east-1')")),
    ],
)  # fmt: skip
def test_a_wrong_name_is_refused(
    server: Server, name: str, qualifier: str | None, expected: tuple[int, str, str]
) -> None:
    qualified: Any = {"Qualifier": qualifier} if qualifier else {}
    assert refusal(lambda: server.invoke(name, **qualified))[:3] == expected


def test_a_dry_run_answers_204_and_starts_nothing(server: Server, made: str) -> None:
    server.deploy(Function(made, PLAIN))
    reply = server.functions.invoke(FunctionName=made, InvocationType="DryRun")
    assert reply["StatusCode"] == 204
    assert reply["Payload"].read() == b""
    assert "ExecutedVersion" not in reply
    assert server.environments(made) == []
    status, _, _, _ = refusal(lambda: server.functions.invoke(FunctionName="absent", InvocationType="DryRun"))
    assert status == 404


def test_an_asynchronous_call_is_refused_in_a_sentence(server: Server) -> None:
    status, code, message, _ = refusal(lambda: server.functions.invoke(FunctionName="plain", InvocationType="Event"))
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message == ("Asynchronous invocation (InvocationType Event) is not supported yet: "
                       "use RequestResponse or DryRun.")  # fmt: skip


def test_the_answer_has_the_headers_of_lambda(server: Server) -> None:
    call = server.invoke("plain", [1])
    assert (call.status, call.raw, call.error) == (200, b"[1]", None)
    assert call.headers["x-amz-executed-version"] == "$LATEST"
    assert call.headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", call.request_id)
    assert "x-amz-function-error" not in call.headers


def test_nothing_in_and_nothing_out(server: Server) -> None:
    reply = server.functions.invoke(FunctionName="plain")
    assert json.loads(reply["Payload"].read()) == {}
    assert server.invoke("printing", 1).raw == b"null"


def test_the_tail_is_the_last_four_kilobytes(server: Server) -> None:
    short = server.invoke("printing", 5)
    assert "\nxxxxx\nEND RequestId" in short.log
    long = server.invoke("printing", 10_000)
    assert len(long.log) == 4096
    assert long.log.startswith("x") and long.log.endswith("\t\n")
    assert "x-amz-log-result" not in server.invoke("printing", 1, LogType="None").headers


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"Runtime": "cobol7"}, "InvalidParameterValueException", "Value cobol7 at 'runtime' failed to satisfy"),
        ({"MemorySize": 64}, "ValidationException", "Value '64' at 'memorySize' failed to satisfy constraint: Member "
         "must have value greater than or equal to 128"),
        ({"Timeout": 901}, "ValidationException", "'timeout' failed to satisfy constraint: Member must have value less "
         "than or equal to 900"),
        ({"Role": "nobody"}, "ValidationException", "'role' failed to satisfy constraint: Member must satisfy regular"),
        ({"FunctionName": "x" * 65}, "InvalidParameterValueException", "less than or equal to 64"),
        ({"Environment": {"Variables": {"AWS_REGION": "mars"}}}, "InvalidParameterValueException",
         "Reserved keys used in this request: AWS_REGION"),
        ({"Environment": {"Variables": {"BIG": "x" * 4096}}}, "InvalidParameterValueException",
         "exceeded the 4KB limit"),
        ({"Code": {"ZipFile": b"this is no zip"}}, "InvalidParameterValueException",
         "Could not unzip uploaded file. Please check your file, then try to upload again."),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_is_refused(server: Server, change: dict[str, Any], code: str, words: str) -> None:
    # Not through boto3, which would not send some of them.
    request = wire({**Function("refused", PLAIN).request(), **change})
    [answer] = server.pipeline(("POST", "/2015-03-31/functions", request))
    status, seen, message = error(answer)
    assert (status, seen) == (400, code)
    assert words in message
    assert refusal(lambda: server.functions.get_function(FunctionName="refused"))[0] == 404


def test_a_runtime_that_the_host_lacks_makes_the_function_failed(server: Server) -> None:
    wanted = [f"python3.{minor}" for minor in range(9, 16)] + [f"nodejs{major}.x" for major in (20, 22, 24)]
    for runtime in reversed(wanted):
        name = "lacking-" + runtime.replace(".", "-")
        server.create(Function(name, runtime=runtime, files={"app.py": PLAIN}))
        failed = settled(server, name)
        if failed["State"] == "Failed":
            break
    else:
        pytest.skip("needs a runtime that this host lacks")
    assert failed["StateReasonCode"] == "InvalidRuntime"
    assert failed["StateReason"].startswith(f"{runtime} needs ")
    assert "install it" in failed["StateReason"]
    assert "--nearest-runtime" in failed["StateReason"]
    assert refusal(lambda: server.invoke(name))[:3] == (
        409, "ResourceConflictException", "The operation cannot be performed at this time. "
        "The function is currently in the following state: Failed")  # fmt: skip
    # Its owner can mend it.
    server.functions.update_function_configuration(FunctionName=name, Runtime=PYTHON)
    server.wait_active(name, "function_updated_v2")
    assert server.invoke(name, "mended").payload == "mended"


def settled(server: Server, name: str) -> dict[str, Any]:
    """The configuration, once the function is not Pending any more."""

    def configuration() -> dict[str, Any]:
        found: dict[str, Any] = server.functions.get_function_configuration(FunctionName=name)
        return found

    until(lambda: configuration()["State"] != "Pending", 300)
    return configuration()


def test_code_for_another_architecture_is_taken_with_a_warning(server: Server, made: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("needs an x86-64 host")
    server.deploy(Function(made, PLAIN, more={"Architectures": ["arm64"]}))
    assert server.functions.get_function_configuration(FunctionName=made)["Architectures"] == ["arm64"]
    assert server.invoke(made, 1).payload == 1
    assert f"{made}: arm64 code runs on this x86_64 host" in server.stderr()
