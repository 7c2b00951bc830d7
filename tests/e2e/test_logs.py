"""What is written, line by line, and how boto3 reads it (point 12). `\t` is a TAB; a good REPORT ends in one."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from .harness import PYTHON, Call, Function, Server, refusal, until

SOURCE = """
import logging, os, sys, time
print("at init")

def handler(event, context):
    print("to stdout")
    logging.getLogger().warning("logged")
    if "lines" in event:
        for number in range(event["lines"]):
            print("line", number)
    if "text" in event:
        print(event["text"], end="")
    if "aside" in event:
        print(event["aside"], file=sys.stderr)
    if "caught" in event:
        try:
            raise ValueError("boom")
        except ValueError:
            logging.getLogger().exception("two\\nlines")
    if "raise" in event:
        raise ValueError("boom")
    if "exit" in event:
        os._exit(event["exit"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    return None
"""

NODE = """
console.log("at init");
exports.handler = async (event) => {
  console.log("one", { two: 2 });
  console.error("three");
  if (event.caught) console.error("two\\nlines", new Error("boom"));
  if (event.raise) throw new Error("boom");
};
"""

FUNCTIONS = (
    Function("py", SOURCE),
    Function("py-short", SOURCE, timeout=1),
    Function("js", NODE, runtime="nodejs20.x"),
    Function("grouped", SOURCE, more={"LoggingConfig": {"LogGroup": "/shared/group"}}),
    Function("json", SOURCE, more={"LoggingConfig": {"LogFormat": "JSON"}}),
    Function("bad", "import absent_from_here"),
    Function("missing", runtime="provided.al2023", files={"nothing": "here"}),
)

#: What may stand in an expected text for what differs from run to run.
MARKS = {
    "<time>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "<ms>": r"\d+\.\d\d ms",
    "<n>": r"\d+",
    "<hex>": "[0-9a-f]{64}",
    "<any>": "[^\n]*",
}
INIT_START = "INIT_START Runtime Version: {}.v<n>\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:<hex>\n"
PY_START = INIT_START.format(PYTHON.replace("python", "python:"))
START = "START RequestId: <id> Version: $LATEST\n"
END = "END RequestId: <id>\n"
REPORT = ("REPORT RequestId: <id>\tDuration: <ms>\tBilled Duration: <n> ms\tMemory Size: 256 MB\t"
          "Max Memory Used: <n> MB\t")  # fmt: skip
COLD = "Init Duration: <ms>\t"
PRINTED = "to stdout\n[WARNING]\t<time>\t<id>\tlogged\n"


def pattern(shape: str, call: Call) -> str:
    found = re.escape(shape).replace("<id>", call.request_id)
    for mark, meaning in MARKS.items():
        found = found.replace(mark, meaning)
    return found


def expect(text: str, shape: str, call: Call) -> None:
    """The whole of the text is this shape."""
    assert re.fullmatch(pattern(shape, call), text), text


def fresh(server: Server, name: str) -> None:
    for row in server.environments(name):
        server.retire(row["id"])


def test_a_cold_and_a_warm_call(server: Server) -> None:
    fresh(server, "py")
    cold, warm = server.invoke("py"), server.invoke("py")
    first = PY_START + "at init\n" + START + PRINTED + END + REPORT + COLD + "\n"
    second = START + PRINTED + END + REPORT + "\n"
    whole = server.stream(cold)
    at = whole.index(f"START RequestId: {warm.request_id}")
    expect(whole[:at], first, cold)
    expect(whole[at:], second, warm)
    assert cold.log == whole[whole.index("at init\n") : at]  # AWS's tail begins after INIT_START
    assert warm.log == whole[at:]


def test_a_raised_error(server: Server) -> None:
    server.invoke("py")
    call = server.invoke("py", {"raise": True})
    error = ("[ERROR] ValueError: boom\nTraceback (most recent call last):\n"
             "  File \"/var/task/app.py\", line <n>, in handler\n    raise ValueError(\"boom\")\n")  # fmt: skip
    assert "\n\u00a0\u00a0File " in call.log
    expect(call.log.replace("\u00a0", " "), START + PRINTED + error + END + REPORT + "\n", call)


def test_a_timeout_shows_exactly_the_timeout(server: Server) -> None:
    late = ("REPORT RequestId: <id>\tDuration: 1000.00 ms\tBilled Duration: {} ms\tMemory Size: 256 MB\t"
            "Max Memory Used: <n> MB\t{}Status: timeout\n")  # fmt: skip
    cold = server.invoke("py-short", {"sleep": 5})
    expect(cold.log, "at init\n" + START + PRINTED + END + late.format("<n>", COLD), cold)
    warm = server.invoke("py-short", {"sleep": 5})
    # Init runs inside the invocation: it has no lines of its own, and its time is not reported.
    expect(warm.log, "at init\n" + START + PRINTED + END + late.format("1000", ""), warm)


def test_an_exit(server: Server) -> None:
    fresh(server, "py")
    call = server.invoke("py", {"exit": 3})
    status = "Status: error\tError Type: Runtime.ExitError\n"
    expect(call.log, "at init\n" + START + PRINTED + END + REPORT + COLD + status, call)


def test_an_init_that_fails(server: Server) -> None:
    call = server.invoke("bad")
    status = "Status: error\tError Type: Runtime.ImportModuleError\n"
    told = ("[WARNING]\t<time>\t\tLAMBDA_WARNING: <any>\n"
            "[ERROR] Runtime.ImportModuleError: Unable to import module 'app': No module named 'absent_from_here'\n"
            "Traceback (most recent call last):\n")  # fmt: skip
    expect(server.stream(call), PY_START + told + "INIT_REPORT Init Duration: <ms>\tPhase: init\t" + status
           + told + "INIT_REPORT Init Duration: <ms>\tPhase: invoke\t" + status
           + START + END + REPORT + status, call)  # fmt: skip


@pytest.mark.parametrize(("name", "bootstrap", "reason"), [
    ("carriage-return", "#!/bin/sh\r\necho hello\r\n", "no such file or directory"),
    ("no-first-line", "echo hello\n", "exec format error"),
    ("other-machine", b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf3\x00" + bytes(44), "exec format error"),
])  # fmt: skip
def test_a_bootstrap_that_cannot_be_executed(server: Server, name: str, bootstrap: str | bytes, reason: str) -> None:
    server.deploy(Function(name, runtime="provided.al2023", files={"bootstrap": bootstrap}))
    call = server.invoke(name)
    message = f"RequestId: {call.request_id} Error: fork/exec /var/task/bootstrap: {reason}"
    assert (call.error, call.payload) == (
        "Unhandled", {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": message})  # fmt: skip
    started = f"START RequestId: {call.request_id} Version: $LATEST\n"
    assert f"{started}{message}\nRuntime.InvalidEntrypoint\nEND " in server.stream(call)
    assert server.stream(call).count(message) == 1


def test_a_bootstrap_that_ends_like_one_that_cannot_be_executed(server: Server) -> None:
    server.deploy(Function("ends", runtime="provided.al2023", files={"bootstrap": "#!/bin/sh\nno-such-command\n"}))
    call = server.invoke("ends")
    assert call.payload["errorType"] == "Runtime.ExitError"
    assert call.payload["errorMessage"].endswith("Error: Runtime exited with error: exit status 127")


def test_a_custom_runtime_without_a_bootstrap(server: Server) -> None:
    call = server.invoke("missing")
    words = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    assert call.payload == {"errorType": "Runtime.InvalidEntrypoint",
                            "errorMessage": f"RequestId: {call.request_id} Error: {words}"}  # fmt: skip
    status = "Status: error\tError Type: Runtime.InvalidEntrypoint\n"
    expect(server.stream(call), INIT_START.format("provided:al2023")
           + f"INIT_REPORT Init Duration: <ms>\tPhase: init\t{status}"
           + f"INIT_REPORT Init Duration: <ms>\tPhase: invoke\t{status}"
           + START + f"RequestId: <id> Error: {words}\nRuntime.InvalidEntrypoint\n" + END + REPORT + status, call)


def test_node_prefixes_what_the_console_prints(server: Server) -> None:
    fresh(server, "js")
    call = server.invoke("js")
    printed = "<time>\t<id>\tINFO\tone { two: 2 }\n<time>\t<id>\tERROR\tthree\n"
    told = "<time>\tundefined\tINFO\tat init\n" + START + printed + END + REPORT + COLD + "\n"
    expect(call.log, told, call)
    expect(server.stream(call), INIT_START.format("nodejs:20") + told, call)
    failed = server.invoke("js", {"raise": 1})
    thrown = '{"errorType":"Error","errorMessage":"boom","stack":["Error: boom",<any>]}'
    error = f"<time>\t<id>\tERROR\tInvoke Error \t{thrown}\n"
    expect(failed.log, START + printed + error + END + REPORT + "\n", failed)


def test_billing_includes_init_and_rounds_up(server: Server) -> None:
    fresh(server, "py")
    cold, warm = server.invoke("py"), server.invoke("py")

    def figure(call: Call, name: str) -> float:
        found = re.search(rf"\t{name}: (\d+(?:\.\d+)?) m", call.log)
        assert found is not None
        return float(found.group(1))

    total = figure(cold, "Duration") + figure(cold, "Init Duration")
    assert figure(cold, "Billed Duration") == -(-round(total * 100) // 100)
    assert figure(warm, "Billed Duration") == max(1, -(-round(figure(warm, "Duration") * 100) // 100))


def test_a_line_without_an_end_is_written_before_the_report(server: Server) -> None:
    call = server.invoke("py", {"text": "no newline"})
    assert "\nno newline\nEND RequestId" in call.log


def test_every_line_is_an_event(server: Server) -> None:
    call = server.invoke("py", {"text": "one\ntwo\n\nh\u00e4\u2603\n", "aside": "to stderr"})
    assert "\none\ntwo\n\nh\u00e4\u2603\n" in call.log
    assert "\nto stderr\n" in call.log


@pytest.mark.parametrize(("name", "first", "last"), [
    ("py", "[ERROR]\t<time>\t<id>\ttwo\nlines\nTraceback (most recent call last):\n", "\nValueError: boom\n"),
    ("js", "<time>\t<id>\tERROR\ttwo\nlines Error: boom\n    at ", ")\n")])
def test_a_record_of_several_lines_is_one_event(server: Server, name: str, first: str, last: str) -> None:
    call = server.invoke(name, {"caught": 1})
    server.idle(call.environment)
    pages = server.logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{name}")
    [event] = [event["message"] for page in pages for event in page["events"] if "boom" in event["message"]
               and call.request_id in event["message"]]  # fmt: skip
    assert re.match(pattern(first, call), event) and event.endswith(last) and len(event.splitlines()) >= 5, event


def test_a_failing_init_is_in_the_tail_of_every_call(server: Server) -> None:
    for _ in range(2):
        assert "[ERROR] Runtime.ImportModuleError: Unable to import module 'app'" in server.invoke("bad").log


def test_json_logs_are_objects(server: Server) -> None:
    call = server.invoke("json")
    lines = [line for line in server.stream(call).splitlines() if line.startswith("{")]
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    kinds = [record.get("type") for record in records if "type" in record]
    assert kinds == ["platform.initStart", "platform.start", "platform.report"]
    [logged] = [record for record in records if record.get("message") == "logged"]
    assert (logged["level"], logged["requestId"]) == ("WARNING", call.request_id)
    assert "END RequestId" not in call.log
    report = records[-1]["record"]
    assert report["requestId"] == call.request_id and report["status"] == "success"
    assert report["metrics"].keys() >= {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB"}


# CloudWatch Logs through boto3


def test_groups_and_streams_have_the_names_of_aws(server: Server) -> None:
    call, other = server.invoke("py"), server.invoke("grouped")
    groups = [row["logGroupName"] for row in server.logs.describe_log_groups()["logGroups"]]
    assert {"/aws/lambda/py", "/shared/group"} <= set(groups)
    assert "/aws/lambda/grouped" not in groups
    prefixed = server.logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/py")["logGroups"]
    assert {row["logGroupName"] for row in prefixed} <= {"/aws/lambda/py", "/aws/lambda/py-short"}
    assert prefixed[0]["arn"] == "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/py:*"

    day = datetime.now(UTC).strftime("%Y/%m/%d")
    stream = server.story(call.environment)["log_stream"]
    assert re.fullmatch(rf"{day}/\[\$LATEST\][0-9a-f]{{32}}", stream)
    shared = server.story(other.environment)["log_stream"]
    assert re.fullmatch(rf"{day}/grouped\[\$LATEST\][0-9a-f]{{32}}", shared)
    rows = server.logs.describe_log_streams(logGroupName="/aws/lambda/py")["logStreams"]
    [row] = [row for row in rows if row["logStreamName"] == stream]
    assert abs(row["lastEventTimestamp"] / 1000 - time.time()) < 60
    latest = server.logs.describe_log_streams(
        logGroupName="/aws/lambda/py", orderBy="LastEventTime", descending=True, limit=1)["logStreams"]
    assert [row["logStreamName"] for row in latest] == [stream]


def test_events_are_read_by_page_from_either_end(server: Server) -> None:
    fresh(server, "py")
    call = server.invoke("py", {"lines": 50})
    story = server.story(call.environment)
    names = {"logGroupName": story["log_group"], "logStreamName": story["log_stream"]}
    whole = [event["message"] for event in server.logs.get_log_events(**names, startFromHead=True)["events"]]
    assert whole[5:-2] == [f"line {number}\n" for number in range(50)]

    paged: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = server.logs.get_log_events(**names, startFromHead=True, limit=20, **token)
        if not page["events"]:
            break
        paged += [event["message"] for event in page["events"]]
        token = {"nextToken": page["nextForwardToken"]}
    assert paged == whole
    last = server.logs.get_log_events(**names, limit=3)["events"]
    assert [event["message"] for event in last] == whole[-3:]
    stamps = [event["timestamp"] for event in server.logs.get_log_events(**names, startFromHead=True)["events"]]
    assert stamps == sorted(stamps)
    assert all(abs(stamp / 1000 - time.time()) < 60 for stamp in stamps)
    later = server.logs.get_log_events(**names, startTime=stamps[-1] + 1)["events"]
    assert later == []


def test_events_are_searched_in_all_streams_of_a_group(server: Server) -> None:
    fresh(server, "py")
    first = server.invoke("py", {"text": "needle one"})
    fresh(server, "py")
    second = server.invoke("py", {"text": "needle two"})
    paginator = server.logs.get_paginator("filter_log_events")

    def found(pattern: str, **more: Any) -> list[str]:
        pages = paginator.paginate(logGroupName="/aws/lambda/py", filterPattern=pattern, **more)
        return [event["message"] for page in pages for event in page["events"]]

    assert found("needle") == ["needle one\n", "needle two\n"]
    assert found("needle -two") == ["needle one\n"]
    assert found(f'"{second.request_id}" START') == [f"START RequestId: {second.request_id} Version: $LATEST\n"]
    only = server.story(first.environment)["log_stream"]
    assert found("needle", logStreamNames=[only]) == ["needle one\n"]


def test_an_absent_group_is_said(server: Server) -> None:
    status, code, message, _ = refusal(lambda: server.logs.get_log_events(logGroupName="/no", logStreamName="x"))
    assert (status, code, message) == (400, "ResourceNotFoundException", "The specified log group does not exist.")


def test_what_is_written_to_both_outputs_keeps_its_order(server: Server) -> None:
    source = ("import os\ndef handler(event, context):\n"
              "    for number in range(50): os.write(1 + number % 2, b'%d\\n' % number)")  # fmt: skip
    server.deploy(Function("both", source))
    log = server.invoke("both").log
    assert re.findall(r"^\d+$", log, re.MULTILINE) == [str(number) for number in range(50)]


def test_logs_of_a_frozen_environment_are_there(server: Server) -> None:
    """Pipes are drained while nothing runs: what was written before the freeze is found without another call."""
    call = server.invoke("py", {"lines": 2000})
    server.idle(call.environment)
    until(lambda: "line 1999\n" in server.stream(call))


@pytest.mark.parametrize("name", ["py", "grouped"])
def test_the_stream_is_the_one_that_the_function_is_told(server: Server, name: str) -> None:
    source = "def handler(event, context): return [context.log_group_name, context.log_stream_name]"
    server.functions.update_function_code(FunctionName=name, ZipFile=Function(name, source).package())
    server.wait_active(name, "function_updated_v2")
    call = server.invoke(name)
    story = server.story(call.environment)
    assert call.payload == [story["log_group"], story["log_stream"]]
