"""LoggingConfig on a real server, fact by fact (fact sheet 5.4 to 5.6), for Python and Node.js.

Which application records are written is the runtime's decision, which platform events the platform's.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from .harness import Call, Function, Server

PYTHON_SOURCE = """
import logging, os
logging.getLogger().critical("at init")
log = logging.getLogger("mine")

def handler(event, context):
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("said at %s", level)
    print("printed")
    if "extra" in event:
        log.error("more", extra={"order": 7})
    if "caught" in event:
        try:
            raise KeyError("x")
        except KeyError:
            log.exception("caught")
    if "raise" in event:
        raise ValueError("boom")
    return [os.environ.get("AWS_LAMBDA_LOG_FORMAT"), os.environ.get("AWS_LAMBDA_LOG_LEVEL")]
"""
NODE_SOURCE = """
console.fatal("at init");
exports.handler = async (event) => {
  for (const level of ["trace", "debug", "info", "warn", "error", "fatal"]) console[level](`said at ${level}`);
  process.stdout.write("printed\\n");
  if (event.extra) console.error({ order: 7 }, "and", [1]);
  if (event.object) console.error({ order: 7 });
  if (event.caught) console.error("caught", new RangeError("x"));
  if (event.raise) throw new TypeError("boom");
  return [process.env.AWS_LAMBDA_LOG_FORMAT, process.env.AWS_LAMBDA_LOG_LEVEL];
};
"""
MORTAL = """
import os

def handler(event, context):
    if event:
        os._exit(3)
"""
JSON = {"LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
FUNCTIONS = (Function("python", PYTHON_SOURCE, more={"LoggingConfig": JSON}),
             Function("mortal", MORTAL, more={"LoggingConfig": JSON | {"SystemLogLevel": "DEBUG"}}),
             Function("node", NODE_SOURCE, runtime="nodejs20.x", more={"LoggingConfig": JSON}))  # fmt: skip

MILLISECOND = timedelta(milliseconds=1)

#: What a function says at each application level, in the words of its language.
SAID = {
    "python": {"TRACE": 5, "DEBUG": 5, "INFO": 4, "WARN": 3, "ERROR": 2, "FATAL": 1},
    "node": {"TRACE": 6, "DEBUG": 5, "INFO": 4, "WARN": 3, "ERROR": 2, "FATAL": 1},
}
LEVELS = {"python": ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
          "node": ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]}  # fmt: skip


def configure(server: Server, name: str, **config: str) -> None:
    server.functions.update_function_configuration(FunctionName=name, LoggingConfig=JSON | config)
    server.wait_active(name, "function_updated_v2")


def whole(server: Server, call: Call) -> list[str]:
    """The lines of the environment's log stream."""
    server.idle(call.environment)
    return server.stream(call).splitlines()


def records(lines: list[str]) -> list[dict[str, Any]]:
    """Application records."""
    return [row for line in lines if line.startswith("{") and "type" not in (row := json.loads(line))]


def kinds(lines: list[str]) -> list[str]:
    """Platform events."""
    return [row["type"].removeprefix("platform.") for line in lines if line.startswith("{")
            and "type" in (row := json.loads(line))]  # fmt: skip


@pytest.mark.parametrize("level", ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"])
@pytest.mark.parametrize("name", ["python", "node"])
def test_application_records_are_written_from_their_level_on(server: Server, name: str, level: str) -> None:
    configure(server, name, ApplicationLogLevel=level)
    call = server.invoke(name)
    assert call.payload == ["JSON", level]
    said = [row for row in records(whole(server, call)) if "said" in str(row["message"])]
    assert [row["level"] for row in said] == LEVELS[name][-SAID[name][level] :]


@pytest.mark.parametrize("name", ["python", "node"])
def test_what_is_not_logged_is_not_judged(server: Server, name: str) -> None:
    configure(server, name, ApplicationLogLevel="FATAL", SystemLogLevel="WARN")
    lines = whole(server, server.invoke(name))
    assert "printed" in lines and kinds(lines) == []


@pytest.mark.parametrize(("level", "events"), [
    ("DEBUG", ["initStart", "initRuntimeDone", "initReport", "start", "runtimeDone", "report", "start", "runtimeDone",
               "report"]),
    ("INFO", ["initStart", "start", "report", "start", "runtimeDone", "report"]),
    ("WARN", ["runtimeDone"]),
])  # fmt: skip
def test_platform_events_are_written_from_their_level_on(server: Server, level: str, events: list[str]) -> None:
    """A cold invocation that does well, and one whose handler fails: that one's runtimeDone is a warning."""
    configure(server, "python", SystemLogLevel=level)
    server.invoke("python")
    lines = whole(server, server.invoke("python", {"raise": 1}))
    assert kinds(lines) == events
    assert not [line for line in lines if line.startswith(("START", "END", "REPORT", "INIT"))]


def test_a_python_record(server: Server) -> None:
    configure(server, "python")
    call = server.invoke("python", {"extra": 1, "caught": 1})
    rows = records(whole(server, call))
    time = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert all(re.fullmatch(time, row.pop("timestamp")) for row in rows)
    assert rows[0] == {"level": "CRITICAL", "message": "at init", "logger": "root", "requestId": ""}
    assert rows[1] == {"level": "INFO", "message": "said at info", "logger": "mine", "requestId": call.request_id}
    assert rows[-2] == {"level": "ERROR", "message": "more", "logger": "mine", "requestId": call.request_id, "order": 7}
    caught = rows[-1]
    assert 'File "/var/task/app.py"' in caught["stackTrace"][0]
    assert re.fullmatch(r"/var/task/app.py:handler:\d+", caught["location"])
    assert caught | {"stackTrace": [], "location": ""} == {
        "level": "ERROR", "message": "caught", "logger": "mine", "requestId": call.request_id, "errorType": "KeyError",
        "errorMessage": "'x'", "stackTrace": [], "location": ""}  # fmt: skip


def test_a_python_handlers_failure_is_a_record(server: Server) -> None:
    configure(server, "python")
    call = server.invoke("python", {"raise": 1})
    failure = records(whole(server, call))[-1]
    assert 'File "/var/task/app.py"' in failure["stackTrace"][0]
    assert (failure["errorType"], failure["errorMessage"], failure["requestId"]) == (
        "ValueError", "boom", call.request_id)  # fmt: skip


def test_a_node_record(server: Server) -> None:
    configure(server, "node")
    call = server.invoke("node", {"extra": 1, "object": 1, "caught": 1})
    rows = records(whole(server, call))
    time = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert all(re.fullmatch(time, row.pop("timestamp")) for row in rows)
    assert rows[0] == {"level": "FATAL", "message": "at init"}
    assert rows[1] == {"level": "INFO", "requestId": call.request_id, "message": "said at info"}
    assert rows[-3] == {"level": "ERROR", "requestId": call.request_id, "message": "{ order: 7 } and [ 1 ]"}
    assert rows[-2] == {"level": "ERROR", "requestId": call.request_id, "message": {"order": 7}}
    caught = rows[-1]
    assert caught["stackTrace"][0] == "RangeError: x" and "/var/task/app.js" in caught["stackTrace"][1]
    assert (caught["errorType"], caught["errorMessage"]) == ("RangeError", "x")
    assert caught["message"].startswith("caught RangeError: x\n")


def test_a_node_handlers_failure_is_a_record(server: Server) -> None:
    configure(server, "node")
    call = server.invoke("node", {"raise": 1})
    failure = records(whole(server, call))[-1]
    assert (failure["level"], failure["requestId"]) == ("ERROR", call.request_id)
    assert (failure["message"]["errorType"], failure["message"]["errorMessage"]) == ("TypeError", "boom")
    assert failure["message"]["stackTrace"][0] == "TypeError: boom"


@pytest.mark.parametrize("name", ["python", "node"])
def test_a_group_of_ones_own_and_back(server: Server, name: str) -> None:
    configure(server, name, LogGroup="/one/for-all")
    story = server.story(server.invoke(name).environment)
    assert story["log_group"] == "/one/for-all"
    assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{name}\[\$LATEST\][0-9a-f]{{32}}", story["log_stream"])
    configure(server, name, LogGroup=f"/aws/lambda/{name}")
    story = server.story(server.invoke(name).environment)
    assert story["log_group"] == f"/aws/lambda/{name}"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", story["log_stream"])


def test_spans_of_an_invocation_that_repeats_init_begin_after_it(server: Server) -> None:
    """The response's latency counts from when the runtime is handed the invocation, and so its span begins there."""
    server.invoke("mortal", {"exit": 1})
    call = server.invoke("mortal")
    events = [json.loads(line) for line in whole(server, call) if '"platform.' in line]
    repeated = next(row["time"] for row in events if row["type"] == "platform.initReport"
                    and row["record"]["phase"] == "invoke")  # fmt: skip
    done = next(row for row in events if row["type"] == "platform.runtimeDone"
                and row["record"]["requestId"] == call.request_id)  # fmt: skip
    latency, duration, _overhead = done["record"]["spans"]
    moments = [datetime.fromisoformat(text) for text in (latency["start"], repeated, duration["start"], done["time"])]
    assert moments[1] <= moments[0] + MILLISECOND and moments[2] <= moments[3] + MILLISECOND
    assert abs((moments[2] - moments[0]) / MILLISECOND - latency["durationMs"]) <= 2
