"""What can be provoked, through boto3 and with real processes: what the caller, the log and the story say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .harness import Answer, Function, Server, meeting, refusal, until
from .test_layers import layer

COUNTS = """
import os, socket, time

calls = 0

def handler(event, context):
    global calls
    calls += 1
    if "write" in event:
        open("/tmp/kept", "w").write(event["write"])
    if "meet" in event:
        with socket.create_connection(("127.0.0.1", event["meet"])) as peer:
            peer.recv(1)
    kept = open("/tmp/kept").read() if os.path.exists("/tmp/kept") else None
    return {"calls": calls, "kept": kept, "remaining_ms": context.get_remaining_time_in_millis(), "now": time.time()}
"""

#: An external extension that writes what it is told of shutdowns.
AGENT = """#!/usr/bin/env python3
import http.client, json, os

host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
connection = http.client.HTTPConnection(host, int(port))
connection.request("POST", "/2020-01-01/extension/register", json.dumps({"events": ["INVOKE", "SHUTDOWN"]}),
                   {"Lambda-Extension-Name": "agent"})
reply = connection.getresponse()
reply.read()
headers = {"Lambda-Extension-Identifier": reply.headers["Lambda-Extension-Identifier"]}
while True:
    connection.request("GET", "/2020-01-01/extension/event/next", headers=headers)
    event = json.loads(connection.getresponse().read())
    if event["eventType"] == "SHUTDOWN":
        print("agent was told of a", event["shutdownReason"], flush=True)
        break
"""
FLAGS = ("--keep-alive-s", "600")
FUNCTIONS = (Function("counts", COUNTS), Function("other", COUNTS), Function("brief", COUNTS, timeout=2))


def chaos(server: Server, method: str, what: str = "", **body: Any) -> Answer:
    path = f"/_lambent/chaos/{what}" if what else "/_lambent/chaos"
    content = json.dumps(body).encode() if method == "POST" else None
    return server.http(method, path, body=content, headers=[("Authorization", f"Bearer {server.token}")])


def provoke(server: Server, what: str, **body: Any) -> dict[str, Any]:
    answer = chaos(server, "POST", what, **body)
    assert answer.status in (200, 202), answer
    told: dict[str, Any] = answer.json()
    return told


def steps(server: Server, environment: str) -> list[str]:
    return [step["event"] for step in server.story(environment)["steps"]]


@pytest.fixture(autouse=True)
def _disarmed(server: Server) -> Iterator[None]:
    yield
    assert chaos(server, "DELETE").status == 200
    for name in ("counts", "other", "brief"):
        provoke(server, "recycle", function=name)


def test_a_recycled_environment_is_gone_when_that_is_answered_and_the_next_call_is_cold(server: Server) -> None:
    call = server.invoke("counts")
    answer = provoke(server, "recycle", environment=call.environment)
    assert [(row["id"], row["busy"]) for row in answer["retired"]] == [(call.environment, False)]
    assert server.environments("counts") == []
    assert "RetireRequested(reason=recycled (provoked))" in steps(server, call.environment)
    assert server.invoke("counts").cold


def test_all_environments_of_a_function_are_recycled_and_a_running_invocation_is_finished(server: Server) -> None:
    other = server.invoke("other")
    with meeting(1) as (port, met, go):
        caller = server.background("counts", {"meet": port})
        assert met.wait(10)
        server.invoke("counts")
        answer = provoke(server, "recycle", function="counts")
        assert sorted(row["busy"] for row in answer["retired"]) == [False, True]
        go.set()
        assert caller.result().error is None
    until(lambda: server.environments("counts") == [])
    assert server.invoke("other").environment == other.environment


@pytest.mark.parametrize(("failure", "error_type", "message"), [
    ("exit", "Runtime.ExitError", "RequestId: {} Error: Runtime exited with error: exit status 1"),
    ("Runtime.OutOfMemory", "Runtime.OutOfMemory", "RequestId: {} Error: Runtime exited with error: signal: killed"),
    ("Runtime.ImportModuleError", "Runtime.ImportModuleError", "this Init was made to fail (lambent chaos)"),
    ("Runtime.InvalidEntrypoint", "Runtime.InvalidEntrypoint",
     "RequestId: {} Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
    ("timeout", "Sandbox.Timedout", "RequestId: {} Error: Task timed out after 2.00 seconds"),
])  # fmt: skip
def test_a_failing_init_is_told_as_aws_tells_it(server: Server, failure: str, error_type: str, message: str) -> None:
    provoke(server, "init-failures", function="brief", failure=failure)
    call = server.invoke("brief")
    assert (call.status, call.error, call.cold) == (200, "Unhandled", True)
    assert (call.payload["errorType"], call.payload["errorMessage"]) == (error_type, message.format(call.request_id))
    status = "timeout" if failure == "timeout" else f"error\tError Type: {error_type}"
    assert re.search(rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: {status}\n", call.log)
    assert re.search(rf"REPORT RequestId: .*\tStatus: {status}\n", call.log)
    if failure == "timeout":  # without having waited for it
        assert "INIT_REPORT Init Duration: 10000.00 ms" in call.log and "\tDuration: 2000.00 ms" in call.log
    assert steps(server, call.environment).count(f"InitFailureProvoked(failure={failure})") == 2
    again = server.invoke("brief")
    assert (again.environment, again.error) == (call.environment, None)


def test_an_init_that_fails_once_is_run_again_inside_the_invocation(server: Server) -> None:
    provoke(server, "init-failures", function="counts", failure="Runtime.ImportModuleError", times=1)
    call = server.invoke("counts")
    assert (call.error, call.payload["calls"]) == (None, 1)
    assert "Phase: init\tStatus: error\tError Type: Runtime.ImportModuleError" in call.log
    assert server.invoke("other").error is None


def test_a_frozen_environment_crashes_and_keeps_tmp_and_loses_memory(server: Server) -> None:
    first = server.invoke("counts", {"write": "kept"})
    answer = provoke(server, "crash", environment=first.environment)
    assert (answer["participant"], answer["phase"]) == ("runtime", "idle")
    again = server.invoke("counts")
    assert again.environment == first.environment
    assert (again.payload["calls"], again.payload["kept"]) == (1, "kept")
    assert "CrashProvoked(participant=runtime)" in steps(server, first.environment)


def test_an_environment_crashes_during_an_invocation(server: Server) -> None:
    with meeting(1) as (port, met, go):
        caller = server.background("counts", {"meet": port})
        assert met.wait(10)
        [row] = [row for row in server.environments("counts") if row["phase"] == "invoke"]
        assert provoke(server, "crash", environment=row["id"])["phase"] == "invoke"
        call = caller.result()
        go.set()
    assert (call.error, call.payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    said = f"RequestId: {call.request_id} Error: Runtime exited with error: signal: killed"
    assert call.payload["errorMessage"] == said


def test_an_extension_crashes_and_the_environment_is_reset(server: Server) -> None:
    arn = layer(server, "agent", {"extensions/agent": AGENT})
    server.deploy(Function("watched", COUNTS, more={"Layers": [arn]}))
    call = server.invoke("watched")
    assert chaos(server, "POST", "crash", environment=call.environment, participant="nobody").status == 409
    provoke(server, "crash", environment=call.environment, participant="agent")
    again = server.invoke("watched")
    assert (again.environment, again.payload["calls"]) == (call.environment, 1)
    provoke(server, "crash", environment=call.environment)
    server.invoke("watched")
    assert "agent was told of a failure" in server.stream(call)
    provoke(server, "recycle", function="watched")


def test_hours_of_platform_time_retire_what_they_would_and_move_no_clock_of_a_guest(server: Server) -> None:
    call = server.invoke("counts")
    before = chaos(server, "GET").json()
    answer = provoke(server, "advance", seconds=5 * 3600)
    assert answer["offset_s"] == before["offset_s"] + 18_000
    assert [(row["id"], row["reason"]) for row in answer["retired"]] == [(call.environment, "age")]
    assert server.environments("counts") == []
    assert "ClockAdvanced(seconds=18000.0)" in steps(server, call.environment)
    later = server.invoke("counts")
    assert later.cold and 9_000 < later.payload["remaining_ms"] <= 10_000
    assert later.payload["now"] - call.payload["now"] < 3600


def test_platform_time_does_not_interrupt_an_invocation(server: Server) -> None:
    with meeting(1) as (port, met, go):
        caller = server.background("counts", {"meet": port})
        assert met.wait(10)
        assert provoke(server, "advance", seconds=5 * 3600)["retired"] == []
        go.set()
        call = caller.result()
    assert call.error is None
    until(lambda: server.environments("counts") == [])  # its age had passed when it was over
    assert "RetireRequested(reason=age)" in steps(server, call.environment)


def test_retention_deletes_what_platform_time_makes_too_old(server: Server) -> None:
    server.invoke("other", {})
    group = "/aws/lambda/other"
    server.logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    assert server.logs.filter_log_events(logGroupName=group)["events"]
    provoke(server, "advance", seconds=25 * 3600)
    assert server.logs.filter_log_events(logGroupName=group)["events"] == []
    server.invoke("other", {})
    assert server.logs.filter_log_events(logGroupName=group)["events"]


def test_a_throttled_function_answers_429_for_so_many_calls_and_the_others_serve(server: Server) -> None:
    provoke(server, "throttles", function="counts", times=2, reason="ReservedFunctionConcurrentInvocationLimitExceeded")
    for _ in range(2):
        status, code, message, reply = refusal(lambda: server.invoke("counts"))
        assert (status, code, message) == (429, "TooManyRequestsException", "Rate Exceeded.")
        assert reply["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert reply["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
        assert server.invoke("other").error is None
    assert server.invoke("counts").error is None
    story = server.http("GET", "/_lambent/functions/counts/story").json()
    assert [row["how"] for row in story["throttled"]][-2:] == ["ReservedFunctionConcurrentInvocationLimitExceeded"] * 2


def test_all_functions_are_throttled_until_that_is_cleared(server: Server) -> None:
    provoke(server, "throttles")
    for name in ("counts", "other", "counts", "other"):
        assert refusal(lambda: server.invoke(name))[0] == 429  # noqa: B023
    assert chaos(server, "DELETE").json() == {"cleared": 1}
    assert server.invoke("counts").error is None


def test_a_throttle_meets_those_who_stream_too(server: Server) -> None:
    provoke(server, "throttles", function="counts", times=1)
    streaming = server.functions.invoke_with_response_stream
    assert refusal(lambda: streaming(FunctionName="counts"))[:2] == (429, "TooManyRequestsException")


def test_a_provisioned_environment_whose_init_is_made_to_fail_fails_the_configuration(server: Server) -> None:
    server.deploy(Function("ahead", COUNTS))
    version = server.functions.publish_version(FunctionName="ahead")["Version"]
    named = {"FunctionName": "ahead", "Qualifier": version}

    def status() -> tuple[str, str | None]:
        found = server.functions.get_provisioned_concurrency_config(**named)
        return found["Status"], found.get("StatusReason")

    provoke(server, "init-failures", function="ahead", times=1)
    server.functions.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=1)
    until(lambda: status() == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE"))
    server.functions.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=1)
    until(lambda: status()[0] == "READY")
    [row] = server.environments("ahead")
    provoke(server, "recycle", environment=row["id"])  # it is replaced
    until(lambda: [other["phase"] for other in server.environments("ahead") if other["id"] != row["id"]] == ["idle"])
    server.functions.delete_function(FunctionName="ahead")


def test_a_story_can_be_waited_for(server: Server) -> None:
    with meeting(1) as (port, met, go):
        caller = server.background("counts", {"meet": port})
        assert met.wait(10)
        [row] = server.environments("counts")
        path = f"/_lambent/environments/{row['id']}/story"
        assert server.http("GET", path).json()["phase"] == "invoke"
        provoke(server, "recycle", environment=row["id"])
        with ThreadPoolExecutor(2) as pool:
            idle, gone = (pool.submit(server.http, "GET", f"{path}?wait={what}") for what in ("idle", "gone"))
            go.set()
            assert caller.result().error is None
            assert [asked.result().json()["phase"] for asked in (idle, gone)] == ["gone", "gone"]
