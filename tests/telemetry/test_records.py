"""AWS's platform lines and events, compared with recorded ones byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambent.core.model import Bill
from lambent.telemetry.records import (
    End,
    Extension,
    Fault,
    InitReport,
    InitRuntimeDone,
    InitStart,
    LogsDropped,
    Record,
    Report,
    RuntimeDone,
    Start,
    log_line,
    memory_mb,
)

ID = "8286a188-ba32-4475-8077-530cd35c09a9"
ARN = "arn:aws:lambda:eu-west-1::runtime:" + "0a" * 32
WARM = Bill(3.01, 4)
COLD = Bill(1.96, 113, 110.1)
START = InitStart("on-demand", "init", "python:3.10.v11", "f", "$LATEST", "stream", 128, ARN)


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (START, f"INIT_START Runtime Version: python:3.10.v11\tRuntime Version ARN: {ARN}\n"),
        (InitStart("on-demand", "init", "x:1.v1", "f", "1", "s", 128), "INIT_START Runtime Version: x:1.v1\n"),
        (InitStart("on-demand", "init", "", "f", "1", "s", 128), ""),
        (InitRuntimeDone("on-demand", "init", "success"), ""),
        (InitReport("on-demand", "init", "success", 12.0), ""),
        (InitReport("snap-start", "init", "success", 1853.4), "INIT_REPORT Init Duration: 1853.40 ms\n"),
        (
            InitReport("on-demand", "init", "error", 316.8, "Runtime.ImportModuleError"),
            "INIT_REPORT Init Duration: 316.80 ms\tPhase: init\tStatus: error\t"
            "Error Type: Runtime.ImportModuleError\n",
        ),
        (
            InitReport("on-demand", "init", "timeout", 9999.79),
            "INIT_REPORT Init Duration: 9999.79 ms\tPhase: init\tStatus: timeout\n",
        ),
        (Start(ID, "$LATEST"), f"START RequestId: {ID} Version: $LATEST\n"),
        (RuntimeDone(ID, "success", 2.0, 7), ""),
        (End(ID), f"END RequestId: {ID}\n"),
        (
            Report(ID, "success", WARM, 128, 36),
            f"REPORT RequestId: {ID}\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\t\n",
        ),
        (
            Report(ID, "success", COLD, 128, 36),
            f"REPORT RequestId: {ID}\tDuration: 1.96 ms\tBilled Duration: 113 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\tInit Duration: 110.10 ms\t\n",
        ),
        (
            Report(ID, "timeout", Bill(3000.0, 3403, 402.04), 128, 36, "Sandbox.Timedout"),
            f"REPORT RequestId: {ID}\tDuration: 3000.00 ms\tBilled Duration: 3403 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\tInit Duration: 402.04 ms\tStatus: timeout\n",
        ),
        (
            Report(ID, "error", WARM, 128, 128, "Runtime.OutOfMemory"),
            f"REPORT RequestId: {ID}\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 128 MB\tStatus: error\tError Type: Runtime.OutOfMemory\n",
        ),
        (
            Report(ID, "success", WARM, 128, 36, trace_id="Root=1-5f-a;Parent=3f;Sampled=1;Lineage=1:x:0"),
            f"REPORT RequestId: {ID}\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t"
            "Max Memory Used: 36 MB\t\nXRAY TraceId: 1-5f-a\tSegmentId: 3f\tSampled: true\t\n",
        ),
        (
            Extension("my-ext", "Ready", ("INVOKE", "SHUTDOWN")),
            "EXTENSION\tName: my-ext\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\n",
        ),
        (
            Fault(ID, "Couldn't find valid bootstrap(s): [/var/task/bootstrap]", "Runtime.InvalidEntrypoint"),
            f"RequestId: {ID} Error: Couldn't find valid bootstrap(s): [/var/task/bootstrap]\n"
            "Runtime.InvalidEntrypoint\n",
        ),
        (LogsDropped(3, 99, "too fast"), "LOGS_DROPPED\tRecords: 3\tBytes: 99\tReason: too fast\n"),
    ],
)
def test_text_line(record: Record, line: str) -> None:
    assert record.text() == line
    assert log_line(record, 0.0) == line


@pytest.mark.parametrize(
    ("record", "kind", "body"),
    [
        (
            START,
            "platform.initStart",
            {"initializationType": "on-demand", "phase": "init", "runtimeVersion": "python:3.10.v11",
             "runtimeVersionArn": ARN, "functionName": "f", "functionVersion": "$LATEST",
             "instanceId": "stream", "instanceMaxMemory": 134_217_728},
        ),
        (
            InitRuntimeDone("on-demand", "invoke", "error", "Runtime.ExitError"),
            "platform.initRuntimeDone",
            {"initializationType": "on-demand", "phase": "invoke", "status": "error",
             "errorType": "Runtime.ExitError"},
        ),
        (
            InitReport("on-demand", "init", "timeout", 10000.487),
            "platform.initReport",
            {"initializationType": "on-demand", "phase": "init", "status": "timeout",
             "metrics": {"durationMs": 10000.487}},
        ),
        (
            Start(ID, "7", "Root=1-a;Parent=b;Sampled=1"),
            "platform.start",
            {"requestId": ID, "version": "7",
             "tracing": {"spanId": "b", "type": "X-Amzn-Trace-Id", "value": "Root=1-a;Parent=b;Sampled=1"}},
        ),
        (
            Start(ID, "7", function_arn="arn:aws:lambda:us-east-1:000000000000:function:f"),
            "platform.start",
            {"requestId": ID, "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "version": "7"},
        ),
        (
            Start(ID, "7", "Root=1-a;Sampled=1"),
            "platform.start",
            {"requestId": ID, "version": "7", "tracing": {"type": "X-Amzn-Trace-Id", "value": "Root=1-a;Sampled=1"}},
        ),
        (
            Start(ID, "7", "Root=1-a;Parent=b;Sampled=0;Lineage=1:c:0"),  # nobody has it traced
            "platform.start",
            {"requestId": ID, "version": "7"},
        ),
        (
            RuntimeDone(ID, "success", 200.0, 32),
            "platform.runtimeDone",
            {"requestId": ID, "status": "success", "metrics": {"durationMs": 200.0, "producedBytes": 32}},
        ),
        (
            RuntimeDone(ID, "success", 17.12, 50, "", "", 1.613, 0.064, 1_665_533_000.0),
            "platform.runtimeDone",
            {"requestId": ID, "status": "success", "metrics": {"durationMs": 17.12, "producedBytes": 50},
             "spans": [{"name": "responseLatency", "start": "2022-10-12T00:03:20.000Z", "durationMs": 1.613},
                       {"name": "responseDuration", "start": "2022-10-12T00:03:20.001Z", "durationMs": 0.064},
                       {"name": "runtimeOverhead", "start": "2022-10-12T00:03:20.001Z", "durationMs": 15.443}]},
        ),
        (
            Report(ID, "error", COLD, 128, 90, "Runtime.ExitError"),
            "platform.report",
            {"requestId": ID, "status": "error", "errorType": "Runtime.ExitError",
             "metrics": {"durationMs": 1.96, "billedDurationMs": 113, "memorySizeMB": 128,
                         "maxMemoryUsedMB": 90, "initDurationMs": 110.1}},
        ),
    ],
)  # fmt: skip
def test_event(record: Record, kind: str, body: dict[str, Any]) -> None:
    assert record.envelope(1_665_533_030.0) == {"time": "2022-10-12T00:03:50.000Z", "type": kind, "record": body}


def test_json_line_is_the_event() -> None:
    line = log_line(Start(ID, "7"), 1_665_533_030.0, "JSON")
    assert line.endswith("}\n") and " " not in line
    assert json.loads(line) == Start(ID, "7").envelope(1_665_533_030.0)


@pytest.mark.parametrize(
    ("record", "lowest_that_hides"),
    [
        (START, "WARN"),
        (InitReport("on-demand", "init", "success", 1.0), "INFO"),
        (InitReport("provisioned-concurrency", "init", "success", 1.0), "WARN"),
        (InitRuntimeDone("on-demand", "init", "success"), "INFO"),
        (RuntimeDone(ID, "success", 1.0, 1), "INFO"),
        (Report(ID, "success", WARM, 128, 36), "WARN"),
        (Report(ID, "error", WARM, 128, 36, "X"), None),
        (RuntimeDone(ID, "timeout", 1.0, 0), None),
        (LogsDropped(1, 1, "r"), None),
        (End(ID), "DEBUG"),
    ],
)
def test_system_log_level_hides_records_below_it(record: Record, lowest_that_hides: str | None) -> None:
    levels = ["DEBUG", "INFO", "WARN"]
    shown = [level for level in levels if log_line(record, 0.0, "JSON", level)]
    expected = levels if lowest_that_hides is None else levels[: levels.index(lowest_that_hides)]
    assert shown == expected


def test_default_system_level_is_info() -> None:
    assert log_line(RuntimeDone(ID, "success", 1.0, 1), 0.0, "JSON", None) == ""
    assert log_line(Start(ID, "1"), 0.0, "JSON", None) != ""


def test_whole_milliseconds_are_fractions_in_json() -> None:
    assert '"durationMs":3000.0,' in log_line(Report(ID, "timeout", Bill(3000, 3000, None), 128, 36), 0.0, "JSON")


def test_memory_is_rounded_up_to_whole_mb() -> None:
    assert [memory_mb(value) for value in (None, 0, 1, 1048576, 1048577)] == [0, 0, 1, 1, 2]
