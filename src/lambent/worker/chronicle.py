"""What one environment leaves behind to read: its log stream, the tail for the caller, and its list of invocations.

Guest output and platform records meet here in the order in which they happened: before each record the pipes are
drained (bounded), so that what a function printed stands before its END and REPORT.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from lambent import limits
from lambent.clock import rfc3339
from lambent.core import effects as do
from lambent.core.model import FunctionVersion, InitPhase, InitType, Invocation
from lambent.core.outcomes import INVALID_ENTRYPOINT
from lambent.core.subscription import Subscription
from lambent.names import runtime_version_arn
from lambent.price import invocation_usd
from lambent.sandbox.base import Process
from lambent.telemetry import records
from lambent.telemetry.capture import Allowance, Capture
from lambent.telemetry.delivery import Connect
from lambent.telemetry.events import Telemetry
from lambent.worker.parts import Parts

#: Invocations whose figures a story shows.
BILLS_KEPT = 100
#: Most bytes of a pipe that are read before a record (design, section 8: Logs).
DRAIN_BYTES = 65_536


class _Figures(NamedTuple):
    """Of one invocation, for REPORT and for the story."""

    start_wall: float
    report: do.ReportEnd
    used_mb: int
    cold: bool
    repeated: bool  #: Init ran in it


class Chronicle:
    """One environment's log stream. `created_wall` dates it, as on AWS."""

    def __init__(self, parts: Parts, function: FunctionVersion, init_type: InitType, created_wall: float) -> None:
        self._parts = parts
        self._init_type = init_type
        self._function = function
        self._logs = parts.logs.of(function.account, function.region)
        self._clock = parts.clock
        day = rfc3339(created_wall)[:10].replace("-", "/")
        named = "" if function.log_group == f"/aws/lambda/{function.name}" else function.name
        self.log_stream = f"{day}/{named}[{function.version}]{os.urandom(16).hex()}"
        self._ended: deque[_Figures] = deque(maxlen=BILLS_KEPT)  #: of the last invocations
        self._repeated = False  #: Init runs, or ran, inside the invocation that is in work
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._tailing = False
        self._start_wall = created_wall
        self._loop = asyncio.get_running_loop()
        self._allowance = Allowance(parts.clock.monotonic)
        self._captures: dict[int, Capture] = {}
        self.telemetry = Telemetry(parts.clock, function.log_format)

    # Guest output

    def listen(self, process: Process, *, extension: bool = False) -> None:
        """Read a process's output until it ends."""
        on_line = self._extension_line if extension else self._line
        self._captures[process.pid] = Capture(process.output, self._loop, on_line, self._record, self._allowance)

    def stop_listening(self, process: Process) -> None:
        """The process has ended: take what is left in its pipe."""
        capture = self._captures.pop(process.pid, None)
        if capture is not None:
            capture.close()

    def _line(self, line: bytes) -> None:
        # The official Python client joins the lines of one event with carriage returns.
        text = line.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
        wall_s = self._clock.wall()
        self._write(text, wall_s)
        if self.telemetry.active:
            self._tell("function", text, wall_s)

    def _extension_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        wall_s = self._clock.wall()
        self._write(text, wall_s)
        if self.telemetry.active:
            self._tell("extension", text, wall_s)

    def _tell(self, kind: str, record: str, wall_s: float) -> None:
        self.telemetry.emit({"time": rfc3339(wall_s), "type": kind, "record": record})

    def _drain(self) -> None:
        for capture in self._captures.values():
            capture.drain(DRAIN_BYTES)
            capture.flush()

    def _write(self, text: str, wall_s: float) -> None:
        if not text:
            return
        self._parts.spare.use()  # what came before stands before
        self._logs.append(self._function.log_group, self.log_stream, int(wall_s * 1000), text)
        if self._tailing:
            data = text.encode("utf-8", "replace")
            self._tail.append(data)
            self._tail_bytes += len(data)
            while self._tail_bytes - len(self._tail[0]) >= limits.LOG_TAIL_BYTES:
                self._tail_bytes -= len(self._tail.popleft())

    def tail(self) -> bytes:
        """The last 4 KB of the invocation's log."""
        return b"".join(self._tail)[-limits.LOG_TAIL_BYTES :]

    # Platform records

    def _record(self, record: records.Record, wall_s: float | None = None) -> None:
        """Write it as of now, or as of the time at which it happened."""
        function = self._function
        wall_s = wall_s if wall_s is not None else self._clock.wall()
        self._write(records.log_line(record, wall_s, function.log_format, function.system_log_level), wall_s)
        if self.telemetry.active:
            self.telemetry.emit(record.envelope(wall_s))

    def init_started(self, phase: InitPhase) -> None:
        """An Init begins (the text shows the first one only).

        What the first one prints is part of the first tail, which AWS lets begin after INIT_START (published outputs of
        its console's test button).
        """
        self.telemetry.begin()
        function = self._function
        runtime = self._parts.runtimes.get(function.runtime)
        self._record(records.InitStart(self._init_type, phase, runtime.version_label, function.name, function.version,
                                       self.log_stream, function.memory_mib,
                                       runtime_version_arn(function.region, function.runtime)))
        if phase == "init":
            self._tailing = True

    def init_ended(self, report: do.ReportInit) -> None:
        self._drain()
        self._record(records.InitReport(self._init_type, report.phase, report.status, report.duration_ms,
                                        report.error_type))
        self.telemetry.settle()

    def init_runtime_done(self, report: do.ReportInitRuntimeDone) -> None:
        self._drain()
        # One that ran out of time has a type here, and nowhere else: AWS's published emulator has it, recorded reports
        # do not (fact sheet 4.2).
        error_type = report.error_type or ("Runtime.Unknown" if report.status == "timeout" else "")
        self._record(records.InitRuntimeDone(self._init_type, report.phase, report.status, error_type))

    def extension_came(self, report: do.ReportExtension) -> None:
        self._record(records.Extension(report.name, report.state, report.events, report.error_type))

    def subscribed(self, name: str, subscription: Subscription, connect: Connect) -> None:
        """An extension subscribed; it is told of that too."""
        self.telemetry.subscribe(name, subscription, connect)
        self._record(records.Subscribed(name, subscription.api, subscription.categories))

    def runtime_done(self, report: do.ReportRuntimeDone) -> None:
        """The runtime's part of an invocation is over. The text has no such line, so mostly there is nothing to do."""
        if not self.telemetry.active and self._function.log_format != "JSON":
            return
        self._drain()
        status = report.status
        error_type = report.error_type or ("Runtime.Unknown" if status == "error" else "")
        invocation = report.invocation
        self._record(records.RuntimeDone(invocation.request_id, status, report.duration_ms, report.produced_bytes,
                                         error_type, invocation.trace_id, report.response_ms, report.transfer_ms,
                                         self._start_wall))
        if error_type.endswith((".ExitError", ".Crash", ".OutOfMemory")) and self.telemetry.active:
            self._tell("platform.fault", f"RequestId: {invocation.request_id} Process exited before completing request",
                       self._clock.wall())

    def init_repeated(self) -> None:
        """Init runs inside an invocation: what it prints is part of that one's tail, although it precedes START."""
        self._repeated = True
        if not self._tailing:
            self._begin_tail()

    def _begin_tail(self) -> None:
        self._parts.spare.use()  # what is left to write is not this one's
        self._tailing = True
        self._tail.clear()
        self._tail_bytes = 0

    def started(self, invocation: Invocation) -> None:
        self._start_wall = self._clock.wall()
        if not invocation.reply_after_report:
            self._tailing = False
        elif not self._tailing:
            self._begin_tail()
        function = self._function
        self._record(records.Start(invocation.request_id, function.version, invocation.trace_id, function.function_arn))

    def ended(self, report: do.ReportEnd, memory_peak: Callable[[], int | None], *, cold: bool) -> None:
        """END and REPORT. When neither the caller nor a subscriber waits for them, in spare time.

        The peak, in bytes, is the environment's so far; a few microseconds of the next invocation do not change it.
        """
        self._drain()
        write = partial(self._write_end, self._start_wall, report, memory_peak, cold, self._repeated,
                        self._clock.wall())  # fmt: skip
        self._repeated = False
        if report.invocation.reply_after_report or self.telemetry.active:
            write()
            self._tailing = False
        else:
            self._parts.spare.leave(write)

    def _write_end(self, start_wall: float, report: do.ReportEnd, memory_peak: Callable[[], int | None], cold: bool,
                   repeated: bool, wall_s: float) -> None:  # fmt: skip
        """A handler's own error without a type from the runtime shows no Status in the text."""
        used_mb = min(records.memory_mb(memory_peak()), self._function.memory_mib)
        figures = _Figures(start_wall, report, used_mb, cold, repeated)
        invocation = report.invocation
        self._record(records.End(invocation.request_id), wall_s)
        shown = "success" if report.status == "error" and not report.error_type else report.status
        self._record(records.Report(invocation.request_id, shown, report.bill, self._function.memory_mib,
                                    figures.used_mb, report.error_type, invocation.trace_id, report.overhead_ms),
                     wall_s)  # fmt: skip
        self._ended.append(figures)

    def bills(self) -> list[dict[str, Any]]:
        """The figures of the last invocations, as a story shows them."""
        self._parts.spare.use()
        function = self._function
        return [{
            "request_id": report.invocation.request_id,
            "started_at": rfc3339(start_wall),
            "duration_ms": report.bill.duration_ms,
            "billed_ms": report.bill.billed_ms,
            "start": "cold" if cold else "warm",
            "init_ms": report.bill.init_ms,
            "init_repeated": repeated,
            "status": report.status,
            "memory_mib": function.memory_mib,
            "max_memory_mib": used,
            "cost_usd": invocation_usd(report.bill.billed_ms, function.memory_mib,
                                       architecture=function.architecture, ephemeral_mib=function.ephemeral_mib,
                                       provisioned=self._init_type == "provisioned-concurrency"),
        } for start_wall, report, used, cold, repeated in self._ended]  # fmt: skip

    def entrypoint_missing(self, report: do.ReportEntrypoint) -> None:
        line = f"RequestId: {report.request_id} Error: {report.cause}\n{INVALID_ENTRYPOINT}\n"  # one event of two lines
        self._write(line, self._clock.wall())

    def close(self) -> None:
        """Let go of every pipe and of every subscriber."""
        self.telemetry.clear()
        for capture in self._captures.values():
            capture.close()
        self._captures.clear()
