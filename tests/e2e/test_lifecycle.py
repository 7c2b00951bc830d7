"""The life of an environment as a function sees it: Init, invocations, reset, retirement (points 8 and 9)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from .harness import Call, Function, Server, at_once, meeting, until

LIFE = """
import os, pathlib, socket, sys, time, uuid
BOOT = uuid.uuid4().hex
COUNT = 0
NOTES = pathlib.Path("/tmp/notes")

def handler(event, context):
    global COUNT
    COUNT += 1
    if "note" in event:
        NOTES.write_text(event["note"])
    if "meet" in event:
        with socket.create_connection(("127.0.0.1", event["meet"])) as peer:
            assert peer.recv(1) == b"!"
    if "exit" in event:
        os._exit(event["exit"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    return {"boot": BOOT, "count": COUNT, "notes": NOTES.read_text() if NOTES.exists() else None,
            "pid": os.getpid(), "stream": context.log_stream_name, "edition": 1,
            "init_type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
"""

BAD_INIT = """
print("init runs")
raise ValueError("no luck")
"""

#: Fails the first time; what it leaves in /tmp tells the second time.
SECOND_LUCK = """
import os, time
print("init runs")
if not os.path.exists("/tmp/tried"):
    open("/tmp/tried", "w").close()
    raise ValueError("no luck at first")

def handler(event, context):
    return os.listdir("/tmp")
"""

SLOW_AT_FIRST = """
import os, time
print("init runs", flush=True)
if not os.path.exists("/tmp/tried"):
    open("/tmp/tried", "w").close()
    time.sleep(30)

def handler(event, context):
    return "in time"
"""

FUNCTIONS = (
    Function("life", LIFE),
    Function("impatient", LIFE, timeout=1),
    Function("crowd", LIFE, timeout=60, memory=1769),
    Function("renewed", LIFE),
    Function("bad-init", BAD_INIT),
    Function("second-luck", SECOND_LUCK),
    Function("slow-init", SLOW_AT_FIRST, timeout=3),
)

CROWD = 50
#: A failing Init's log, in order.
WORDS = ("INIT_START Runtime", "Phase: init\t", "Phase: invoke\t", "\nSTART ", "\nEND ", "\nREPORT ")


@pytest.fixture(scope="module", autouse=True)
def slow_init(server: Server) -> Iterator[Future[Call]]:
    """A call that takes more than ten seconds, begun before everything else."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(server.invoke, "slow-init")


def test_globals_and_tmp_live_as_long_as_the_environment(server: Server) -> None:
    first = server.invoke("life", {"note": "hello"})
    second = server.invoke("life")
    assert first.cold and not second.cold
    assert second.environment == first.environment
    assert (first.payload["count"], second.payload["count"]) == (1, 2)
    assert second.payload["boot"] == first.payload["boot"]
    assert second.payload["notes"] == "hello"
    assert second.payload["stream"] == first.payload["stream"]
    assert first.payload["init_type"] == "on-demand"

    server.retire(first.environment)
    third = server.invoke("life")
    assert third.cold and third.environment != first.environment
    assert third.payload["boot"] != first.payload["boot"]
    assert third.payload["count"] == 1
    assert third.payload["notes"] is None
    assert third.payload["stream"] != first.payload["stream"]


def test_init_is_reported_with_the_first_invocation_only(server: Server) -> None:
    server.invoke("life")
    call = server.invoke("life")
    reports = re.findall(r"REPORT .*", server.stream(call))
    assert "Init Duration: " in reports[0]
    assert all("Init Duration" not in report for report in reports[1:])
    assert server.stream(call).count("INIT_START Runtime") == 1


def test_a_timeout_keeps_tmp_and_log_stream_and_loses_memory(server: Server) -> None:
    before = server.invoke("impatient", {"note": "kept"})
    late = server.invoke("impatient", {"sleep": 5})
    assert late.status == 200
    assert late.error == "Unhandled"
    assert late.payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {late.request_id} Error: Task timed out after 1.00 seconds",
    }
    after = server.invoke("impatient")
    assert late.environment == before.environment == after.environment
    assert after.error is None
    assert after.payload["notes"] == "kept"
    assert after.payload["stream"] == before.payload["stream"]
    assert after.payload["boot"] != before.payload["boot"]
    assert after.payload["count"] == 1
    assert after.payload["init_type"] == "on-demand"
    # Init was run again inside the invocation: it is neither announced nor reported by itself.
    assert "Init Duration" not in after.log
    assert server.stream(after).count("INIT_START Runtime") == 1


def test_a_crash_keeps_the_environment_too(server: Server) -> None:
    before = server.invoke("life", {"note": "kept"})
    crashed = server.invoke("life", {"exit": 1})
    assert crashed.payload["errorType"] == "Runtime.ExitError"
    after = server.invoke("life")
    assert after.environment == crashed.environment == before.environment
    assert after.payload["notes"] == "kept"
    assert after.payload["boot"] != before.payload["boot"]


def test_a_failing_init_runs_twice_for_the_first_caller(server: Server) -> None:
    call = server.invoke("bad-init")
    assert call.status == 200 and call.error == "Unhandled"
    assert call.payload["errorType"] == "ValueError"
    assert call.payload["errorMessage"] == "no luck"
    assert call.payload["requestId"] == ""
    log = server.stream(call)
    assert log.count("init runs\n") == 2
    phases = re.findall(r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: (\w+)\tStatus: error\tError Type: \S+\n", log)
    assert phases == ["init", "invoke"]
    order = [log.index(word) for word in WORDS]
    assert order == sorted(order)

    again = server.invoke("bad-init")
    assert again.environment == call.environment
    assert again.payload["errorMessage"] == "no luck"
    assert server.stream(call).count("init runs\n") == 3


def test_an_init_that_succeeds_the_second_time_serves_its_first_caller(server: Server) -> None:
    call = server.invoke("second-luck")
    assert call.error is None
    assert call.payload == ["tried"]
    log = server.stream(call)
    assert log.count("init runs\n") == 2
    assert log.count("INIT_START Runtime") == 1
    assert log.count("INIT_REPORT") == 1
    assert "Init Duration" not in log.partition("\nREPORT ")[2]


def test_new_code_retires_environments_once_they_are_done(server: Server) -> None:
    old = server.invoke("renewed")
    with ThreadPoolExecutor(1) as pool, meeting(1) as (port, met, go):
        running = pool.submit(server.invoke, "renewed", {"meet": port})
        assert met.wait(10)
        changed = Function("renewed", LIFE.replace('"edition": 1', '"edition": 2'))
        server.functions.update_function_code(FunctionName="renewed", ZipFile=changed.package())
        server.wait_active("renewed", "function_updated_v2")
        new = server.invoke("renewed")
        assert new.cold and new.payload["edition"] == 2
        assert new.environment != old.environment
        go.set()
        finished = running.result()
    assert finished.error is None
    assert finished.environment == old.environment
    assert finished.payload["edition"] == 1
    until(lambda: [row["id"] for row in server.environments("renewed")] == [new.environment])


def test_new_configuration_retires_environments(server: Server) -> None:
    old = server.invoke("renewed")
    server.functions.update_function_configuration(FunctionName="renewed", MemorySize=300)
    server.wait_active("renewed", "function_updated_v2")
    until(lambda: not server.environments("renewed"))
    new = server.invoke("renewed")
    assert new.cold and new.environment != old.environment


@pytest.mark.slow
def test_fifty_calls_at_once_make_fifty_environments_that_are_warm_afterwards(server: Server) -> None:
    def wave() -> list[Call]:
        with meeting(CROWD) as (port, _, go):
            go.set()
            return at_once([lambda: server.invoke("crowd", {"meet": port})] * CROWD)

    first = wave()
    assert [call.error for call in first] == [None] * CROWD
    assert all(call.cold for call in first)
    environments = {call.environment for call in first}
    assert len(environments) == CROWD
    assert len({call.payload["boot"] for call in first}) == CROWD
    until(lambda: all(row["frozen"] for row in server.environments("crowd")))

    second = wave()
    assert not any(call.cold for call in second)
    assert {call.environment for call in second} == environments
    assert {call.payload["count"] for call in second} == {2}


def test_one_after_the_other_is_served_by_one_environment(server: Server) -> None:
    calls = [server.invoke("life", LogType="None") for _ in range(30)]
    assert len({call.environment for call in calls}) == 1


@pytest.mark.slow
def test_an_init_over_ten_seconds_is_repeated_inside_the_invocation(
    server: Server, slow_init: Future[Call]
) -> None:
    call = slow_init.result()
    assert call.error is None
    assert json.loads(call.raw) == "in time"
    log = server.stream(call)
    reported = re.search(r"INIT_REPORT Init Duration: (\d+\.\d\d) ms\tPhase: init\tStatus: timeout\n", log)
    assert reported is not None, log
    assert 9_990 <= float(reported.group(1)) <= 11_000
    assert log.count("init runs\n") == 2
    assert log.count("INIT_START Runtime") == 1
    report = log[log.index("\nREPORT ") :]
    assert "Init Duration" not in report and "Status" not in report
    duration = re.search(r"\tDuration: (\d+\.\d\d) ms\t", report)
    assert duration is not None and float(duration.group(1)) < 3000
