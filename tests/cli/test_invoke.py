"""`lambent invoke`: payload out, log tail, traceback, figures, price."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lambent.cli.report import figures
from lambent.price import invocation_usd

from .conftest import Lambent
from .fake_server import REPORT, WARM_REPORT, FakeServer

PYTHON_ERROR = {
    "errorMessage": "boom",
    "errorType": "ValueError",
    "requestId": "1",
    "stackTrace": ['  File "/var/task/app.py", line 5, in handler\n    raise ValueError("boom")\n'],
}
NODE_ERROR = {
    "errorType": "Error",
    "errorMessage": "boom",
    "trace": ["Error: boom", "    at handler (/var/task/index.js:1)"],
}


@pytest.fixture
def hello(server: FakeServer) -> FakeServer:
    server.add_function("hello")
    return server


def sent(server: FakeServer) -> bytes:
    return next(body for method, _, body in server.requests if method == "POST")


def test_the_payload_goes_to_stdout_and_the_rest_to_stderr(lambent: Lambent, hello: FakeServer) -> None:
    ran = lambent("invoke", "hello", "-d", '{"name": "Ada"}')
    assert (ran.code, ran.out) == (0, '{"hello": "Ada"}\n')
    lines = ran.err.splitlines()
    assert lines[0].startswith("START") and lines[1] == "hello from the handler"
    assert lines[-1] == (
        "cold  duration 3.01 ms  billed 124 ms  init 120.10 ms  memory 36 of 128 MB  "
        f"cost ${0.128 / 1.024 * 0.124 * 0.0000166667 + 2e-7:.10f}  environment 3f9a0001"
    )
    assert sent(hello) == b'{"name": "Ada"}'


def test_a_warm_invocation_has_no_init(lambent: Lambent, hello: FakeServer) -> None:
    hello.start, hello.log_tail = "warm", WARM_REPORT
    last = lambent("invoke", "hello").err.splitlines()[-1]
    assert last.startswith("warm  duration 3.01 ms  billed 4 ms  memory")
    assert sent(hello) == b""


def test_an_init_that_ran_again_inside_the_invocation_is_told(lambent: Lambent, hello: FakeServer) -> None:
    hello.start, hello.log_tail = "warm", WARM_REPORT
    ours: dict[str, Any] = {"request_id": "11111111-2222-3333-4444-555555555555", "init_repeated": True}
    hello.stories["3f9a0001"] = {"init_type": "on-demand", "invocations": [ours]}
    last = lambent("invoke", "hello").err.splitlines()[-1]
    assert last.startswith("warm  duration 3.01 ms, with Init again  billed 4 ms  memory")
    assert json.loads(lambent("invoke", "hello", "--json").out)["init_repeated"] is True
    ours["request_id"] = "another one"
    assert json.loads(lambent("invoke", "hello", "--json").out)["init_repeated"] is False


def test_json_has_everything(lambent: Lambent, hello: FakeServer) -> None:
    ran = lambent("invoke", "hello", "--json")
    told = json.loads(ran.out)
    assert ran.err == ""
    assert told["payload"] == {"hello": "Ada"} and told["function_error"] is None
    assert (told["start"], told["environment"], told["executed_version"]) == ("cold", "3f9a0001", "$LATEST")
    assert told["report"]["init_ms"] == 120.1 and told["report"]["cost_usd"] == pytest.approx(4.583e-07, rel=1e-3)
    assert told["log_tail"] == hello.log_tail


def test_a_python_error_is_a_traceback_and_exit_code_1(lambent: Lambent, hello: FakeServer) -> None:
    hello.answer = (200, {"X-Amz-Function-Error": "Unhandled"}, json.dumps(PYTHON_ERROR).encode())
    ran = lambent("invoke", "hello")
    assert ran.code == 1
    assert json.loads(ran.out) == PYTHON_ERROR
    assert (
        'Traceback (most recent call last):\n  File "/var/task/app.py", line 5, in handler\n'
        '    raise ValueError("boom")\nValueError: boom\n'
    ) in ran.err


def test_a_node_error_is_its_own_trace(lambent: Lambent, hello: FakeServer) -> None:
    hello.answer = (200, {"X-Amz-Function-Error": "Unhandled"}, json.dumps(NODE_ERROR).encode())
    ran = lambent("invoke", "hello")
    assert ran.code == 1
    assert "\nError: boom\n    at handler (/var/task/index.js:1)\n" in ran.err


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (
            b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: 1 Error: Task timed out after 3.00 seconds"}',
            "Sandbox.Timedout: RequestId: 1 Error: Task timed out after 3.00 seconds",
        ),
        (b'{"errorMessage":"only this"}', "only this"),
        (b"{}", "the function failed"),
        (b"[1]", "the function failed"),
        (b"not json", "the function failed"),
        (b'{"errorType":"E","stackTrace":"odd"}', "E"),
    ],
)
def test_any_error_payload_is_told(lambent: Lambent, hello: FakeServer, payload: bytes, said: str) -> None:
    hello.answer = (200, {"X-Amz-Function-Error": "Unhandled"}, payload)
    ran = lambent("invoke", "hello")
    assert ran.code == 1
    assert said in ran.err


def test_a_function_error_exits_1_with_json_too(lambent: Lambent, hello: FakeServer) -> None:
    hello.answer = (200, {"X-Amz-Function-Error": "Unhandled"}, b"not json")
    ran = lambent("invoke", "hello", "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["payload"] == "not json"


def test_the_payload_from_a_file(lambent: Lambent, hello: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("[1, 2]\n")
    assert lambent("invoke", "hello", "--data", f"@{tmp_path}/event.json").code == 0
    assert sent(hello) == b"[1, 2]\n"


def test_the_payload_from_stdin(lambent: Lambent, hello: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'"piped"')))
    assert lambent("invoke", "hello", "-d", "-").code == 0
    assert sent(hello) == b'"piped"'


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{oops", "--data is no JSON"),
        ("", "--data is no JSON"),
        ("@", "@ is followed by the name of a file"),
        ("@/nowhere/event.json", "cannot read /nowhere/event.json"),
        ("@/", "cannot read /: Is a directory"),
    ],
)
def test_a_payload_that_cannot_be_sent_exits_2(lambent: Lambent, hello: FakeServer, data: str, said: str) -> None:
    ran = lambent("invoke", "hello", "-d", data)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and ran.err.count("\n") == 1
    assert hello.requests == []


def test_an_unknown_function_exits_4(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("invoke", "nobody")
    assert (ran.code, ran.out) == (4, "")
    assert "ResourceNotFoundException: Function not found" in ran.err


def test_a_function_that_cannot_run_says_why(lambent: Lambent, hello: FakeServer) -> None:
    hello.add_function("hello", State="Failed", StateReason="nodejs22.x needs Node.js 22")
    hello.answer = (409, {"x-amzn-ErrorType": "ResourceConflictException"}, b'{"Message": "in the state: Failed"}')
    ran = lambent("invoke", "hello")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == "lambent: ResourceConflictException: in the state: Failed: nodejs22.x needs Node.js 22\n"


def test_a_conflict_without_a_reason_is_told_as_it_is(lambent: Lambent, hello: FakeServer) -> None:
    hello.answer = (409, {"x-amzn-ErrorType": "ResourceConflictException"}, b'{"Message": "busy"}')
    ran = lambent("invoke", "hello")
    assert (ran.code, ran.err) == (4, "lambent: ResourceConflictException: busy\n")


def test_what_a_function_printed_cannot_drive_the_terminal(lambent: Lambent, hello: FakeServer) -> None:
    hello.log_tail = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\n" + REPORT
    hello.answer = (200, {}, b'"\x1b[H"')
    ran = lambent("invoke", "hello")
    assert "\x1b[31mred\x1b[0m \\x1b]0;title\\x07 \\x1b[2J" in ran.err
    assert ran.out == '"\\x1b[H"\n'


def test_without_a_report_the_start_is_still_told(lambent: Lambent, hello: FakeServer) -> None:
    hello.log_tail = ""
    assert lambent("invoke", "hello").err == "cold\n"


def test_a_server_that_does_not_say_cold_or_warm(lambent: Lambent, hello: FakeServer) -> None:
    hello.answer = (200, {"X-Lambent-Start": "", "X-Lambent-Environment": ""}, b"null")
    ran = lambent("invoke", "hello")
    assert ran.err.splitlines()[-1].startswith("cold  duration") and "environment" not in ran.err


# The REPORT line


def test_the_last_report_counts() -> None:
    measured = figures(REPORT + WARM_REPORT, {})
    assert measured is not None
    assert (measured.billed_ms, measured.init_ms) == (4, None)


@pytest.mark.parametrize(
    "line",
    [
        "REPORT RequestId: 1\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 36 MB\tStatus: timeout\n",
        "REPORT RequestId: 1\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 36 MB\tInit Duration: 402.04 ms\tStatus: error\tError Type: Runtime.OutOfMemory\n",
    ],
)
def test_reports_of_failures(line: str) -> None:
    measured = figures("END RequestId: 1\n" + line, {})
    assert measured is not None
    assert (measured.duration_ms, measured.memory_mib, measured.max_memory_mib) == (3000.0, 128, 36)
    assert measured.init_ms == (402.04 if "Init" in line else None)


def test_a_json_report() -> None:
    record = {
        "requestId": "1",
        "metrics": {
            "durationMs": 3.0,
            "billedDurationMs": 124,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 36,
            "initDurationMs": 120.1,
        },
        "status": "success",
    }
    line = json.dumps({"time": "t", "type": "platform.report", "record": record}, separators=(",", ":"))
    measured = figures(f"noise\n{line}\n", {})
    assert measured is not None
    assert (measured.duration_ms, measured.billed_ms, measured.init_ms) == (3.0, 124, 120.1)


@pytest.mark.parametrize(
    "tail", ["", "REPORT RequestId: x", '{"platform.report"', '{"type":"platform.report","record":1}']
)
def test_a_tail_without_a_report(tail: str) -> None:
    assert figures(tail, {}) is None


def test_a_function_cannot_print_its_own_report_over_the_platforms() -> None:
    measured = figures(WARM_REPORT.replace("Billed Duration: 4", "Billed Duration: 1") + WARM_REPORT, {})
    assert measured is not None and measured.billed_ms == 4


def test_prices_of_the_fact_sheet() -> None:
    assert invocation_usd(1000, 1024) == pytest.approx(0.0000166667 + 0.0000002)
    assert invocation_usd(1000, 1024, architecture="arm64") == pytest.approx(0.0000133334 + 0.0000002)
    assert invocation_usd(1, 128) == pytest.approx(0.0000166667 / 8000 + 0.0000002)
    assert invocation_usd(1000, 1024, ephemeral_mib=1536) == pytest.approx(0.0000166667 + 0.0000002 + 0.0000000309)


def test_what_provisioned_concurrency_serves_costs_less(lambent: Lambent, server: FakeServer) -> None:
    server.add_function("hello")
    server.stories["3f9a0001"] = {"init_type": "provisioned-concurrency"}
    cost = json.loads(lambent("invoke", "hello", "--json").out)["report"]["cost_usd"]
    assert cost == pytest.approx(124 / 1000 * 128 / 1024 * 0.0000097222 + 0.0000002)
    assert invocation_usd(1000, 1024, architecture="arm64", provisioned=True) == pytest.approx(0.0000079778)


def test_the_price_follows_architecture_and_tmp(lambent: Lambent, server: FakeServer) -> None:
    server.add_function("hello", Architectures=["arm64"], EphemeralStorage={"Size": 1536})
    cost = json.loads(lambent("invoke", "hello", "--json").out)["report"]["cost_usd"]
    assert cost == pytest.approx(invocation_usd(124, 128, architecture="arm64", ephemeral_mib=1536))
