"""What is said of an environment that the driver's tests do not come to."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any, Literal

import pytest
from fakes import FakeHost, function

from lambent.sandbox.base import Process
from lambent.telemetry.capture import LINE_COST_BYTES, Allowance
from lambent.telemetry.events import Telemetry, _logs_view
from lambent.worker import chronicle
from lambent.worker.chronicle import Chronicle

REASON = "written faster than 1 bytes per second"


@pytest.mark.parametrize("extension", [False, True], ids=["runtime", "extension"])
@pytest.mark.parametrize("log_format", ["Text", "JSON"])
async def test_lines_that_were_too_many_are_told_in_the_format_of_the_function(
        log_format: Literal["Text", "JSON"], extension: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chronicle, "Allowance", lambda monotonic: Allowance(monotonic, 1, LINE_COST_BYTES))
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(Telemetry, "emit", lambda _, event: told.append(event))
    host = FakeHost()
    flooded = Chronicle(host.parts(), replace(function(), log_format=log_format, system_log_level="WARN"),
                        "on-demand", 0.0)
    flooded.telemetry.begin()
    output, end = os.pipe()
    os.set_blocking(output, False)
    process = Process(1, output)
    flooded.listen(process, extension=extension)
    os.write(end, b"kept\n" + b"lost\n" * 3)
    os.close(end)
    flooded.stop_listening(process)
    flooded.close()
    kept, notice = host.lines
    assert kept == "kept\n"
    record = {"droppedBytes": 15, "droppedRecords": 3, "reason": REASON}
    if log_format == "JSON":
        event = json.loads(notice)
        assert notice.endswith("}\n") and (event["type"], event["record"]) == ("platform.logsDropped", record)
    else:
        assert notice == f"LOGS_DROPPED\tRecords: 3\tBytes: 15\tReason: {REASON}\n"
    assert [event["type"] for event in told] == ["extension" if extension else "function", "platform.logsDropped"]
    view = _logs_view(told[1], "2020-08-15")
    assert told[1]["record"] == record == (view or {})["record"]
