"""Platform records: what the platform itself says about an environment, as values and in AWS's two renderings.

Each record knows its text line (log format Text), its JSON telemetry event and its system log level. Which record
is written when, and where the line goes, is the driver's business; the guest's own output is in `capture`.
Facts: fact sheet sections 4.2 (events), 5.1 (lines) and 5.6 (levels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from lambent.clock import rfc3339
from lambent.core.model import Bill, InitPhase, InitType, Status
from lambent.core.subscription import Api

Level = Literal["DEBUG", "INFO", "WARN"]
_RANK: dict[str, int] = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "ERROR": 4, "FATAL": 5}


class Record(Protocol):
    """What every record can do."""

    def text(self) -> str:
        """AWS's line or lines with their newline; the empty string when the Text format has no such line."""
        ...

    def level(self) -> Level: ...

    def envelope(self, wall_s: float) -> dict[str, Any]:
        """The telemetry event: `time`, `type` and `record`, ready for JSON."""
        ...


def log_line(record: Record, wall_s: float, log_format: str = "Text", system_level: str | None = None) -> str:
    """What goes to the log group for `record`, with its newline; empty when nothing does.

    `system_level` is LoggingConfig's and counts with the JSON format only, where it defaults to INFO.
    """
    if log_format != "JSON":
        return record.text()
    if isinstance(record, End) or _RANK[record.level()] < _RANK.get(system_level or "INFO", 2):
        return ""
    return msgspec.json.encode(record.envelope(wall_s)).decode() + "\n"


@dataclass(frozen=True, slots=True)
class InitStart:
    """An Init phase began (not written for the one that an invocation repeats)."""

    init_type: InitType
    phase: InitPhase
    runtime_version: str  #: as in `python:3.12.v1`; empty when there is none to tell
    function_name: str
    function_version: str
    instance_id: str  #: the log stream's name
    memory_mib: int
    runtime_version_arn: str = ""

    def text(self) -> str:
        if not self.runtime_version or self.phase == "invoke":
            return ""
        arn = f"\tRuntime Version ARN: {self.runtime_version_arn}" if self.runtime_version_arn else ""
        return f"INIT_START Runtime Version: {self.runtime_version}{arn}\n"

    def level(self) -> Level:
        return "INFO" if self.runtime_version else "DEBUG"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record: dict[str, Any] = {"initializationType": self.init_type, "phase": self.phase}
        if self.runtime_version:
            record["runtimeVersion"] = self.runtime_version
        if self.runtime_version_arn:
            record["runtimeVersionArn"] = self.runtime_version_arn
        record["functionName"] = self.function_name
        record["functionVersion"] = self.function_version
        record["instanceId"] = self.instance_id
        record["instanceMaxMemory"] = self.memory_mib * 1024 * 1024  # recorded events have bytes, whatever AWS's page
        return _envelope(wall_s, "platform.initStart", record)


@dataclass(frozen=True, slots=True)
class InitRuntimeDone:
    """The runtime asked for its first invocation, or failed to."""

    init_type: InitType
    phase: InitPhase
    status: Status
    error_type: str = ""

    def text(self) -> str:
        return ""

    def level(self) -> Level:
        return "DEBUG" if self.status == "success" else "WARN"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record = {"initializationType": self.init_type, "phase": self.phase, "status": self.status}
        return _envelope(wall_s, "platform.initRuntimeDone", record | _error(self.status, self.error_type))


@dataclass(frozen=True, slots=True)
class InitReport:
    """An Init phase ended. The Text format shows a good one only when it was not on demand."""

    init_type: InitType
    phase: InitPhase
    status: Status
    duration_ms: float
    error_type: str = ""

    def text(self) -> str:
        head = f"INIT_REPORT Init Duration: {self.duration_ms:.2f} ms"
        if self.status == "success":
            return "" if self.init_type == "on-demand" or self.phase == "invoke" else head + "\n"
        return f"{head}\tPhase: {self.phase}\t{_status_text(self.status, self.error_type)}\n"

    def level(self) -> Level:
        if self.status != "success":
            return "WARN"
        return "DEBUG" if self.init_type == "on-demand" else "INFO"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record: dict[str, Any] = {"initializationType": self.init_type, "phase": self.phase, "status": self.status}
        record |= _error(self.status, self.error_type)
        record["metrics"] = {"durationMs": _ms(self.duration_ms)}
        return _envelope(wall_s, "platform.initReport", record)


@dataclass(frozen=True, slots=True)
class Start:
    """An invocation reached the runtime."""

    request_id: str
    version: str
    trace_id: str = ""  #: the X-Amzn-Trace-Id header
    function_arn: str = ""  #: unqualified; part of events since 2026 (recorded)

    def text(self) -> str:
        return f"START RequestId: {self.request_id} Version: {self.version}\n"

    def level(self) -> Level:
        return "INFO"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record: dict[str, Any] = {"requestId": self.request_id}
        if self.function_arn:
            record["functionArn"] = self.function_arn
        record["version"] = self.version
        return _envelope(wall_s, "platform.start", record | _tracing(self.trace_id))


@dataclass(frozen=True, slots=True)
class RuntimeDone:
    """The runtime is through with an invocation: it asked for the next one, or it ended."""

    request_id: str
    status: Status
    duration_ms: float
    produced_bytes: int
    error_type: str = ""
    trace_id: str = ""
    response_ms: float | None = None  #: from the beginning to the response; None without one
    transfer_ms: float = 0.0  #: from the response's first byte to its last; 0 when it was buffered
    start_wall_s: float = 0.0  #: when the invocation began

    def text(self) -> str:
        return ""

    def level(self) -> Level:
        return "DEBUG" if self.status == "success" else "WARN"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record: dict[str, Any] = {"requestId": self.request_id, "status": self.status}
        record |= _error(self.status, self.error_type)
        record["metrics"] = {"durationMs": _ms(self.duration_ms), "producedBytes": self.produced_bytes}
        if self.response_ms is not None:
            responded_ms = self.response_ms + self.transfer_ms
            overhead_ms = max(0.0, self.duration_ms - responded_ms)
            record["spans"] = [
                _span("responseLatency", self.start_wall_s, self.response_ms),
                _span("responseDuration", self.start_wall_s + self.response_ms / 1000, self.transfer_ms),
                _span("runtimeOverhead", self.start_wall_s + responded_ms / 1000, overhead_ms),
            ]
        return _envelope(wall_s, "platform.runtimeDone", record | _tracing(self.trace_id))


@dataclass(frozen=True, slots=True)
class End:
    """The Invoke phase is over, extensions included. The JSON format has no such line."""

    request_id: str

    def text(self) -> str:
        return f"END RequestId: {self.request_id}\n"

    def level(self) -> Level:
        return "INFO"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        return _envelope(wall_s, "platform.end", {"requestId": self.request_id})


@dataclass(frozen=True, slots=True)
class Report:
    """What an invocation took and what it is billed for."""

    request_id: str
    status: Status
    bill: Bill
    memory_mib: int
    max_memory_mib: int  #: high-water mark of the environment
    error_type: str = ""
    trace_id: str = ""
    overhead_ms: float | None = None  #: how long extensions went on after the runtime; None without extensions

    def text(self) -> str:
        bill = self.bill
        init = "" if bill.init_ms is None else f"Init Duration: {bill.init_ms:.2f} ms\t"
        # The good line ends in a TAB, the failed one does not.
        status = "" if self.status == "success" else _status_text(self.status, self.error_type)
        return (
            f"REPORT RequestId: {self.request_id}\tDuration: {bill.duration_ms:.2f} ms\t"
            f"Billed Duration: {bill.billed_ms} ms\tMemory Size: {self.memory_mib} MB\t"
            f"Max Memory Used: {self.max_memory_mib} MB\t{init}{status}\n{_xray(self.trace_id)}"
        )

    def level(self) -> Level:
        return "INFO" if self.status == "success" else "WARN"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "durationMs": _ms(self.bill.duration_ms),
            "billedDurationMs": self.bill.billed_ms,
            "memorySizeMB": self.memory_mib,
            "maxMemoryUsedMB": self.max_memory_mib,
        }
        if self.bill.init_ms is not None:
            metrics["initDurationMs"] = _ms(self.bill.init_ms)
        record: dict[str, Any] = {"requestId": self.request_id, "metrics": metrics, "status": self.status}
        record |= _error(self.status, self.error_type) | _tracing(self.trace_id)
        if self.overhead_ms is not None:
            record["spans"] = [_span("extensionOverhead", wall_s - self.overhead_ms / 1000, self.overhead_ms)]
        return _envelope(wall_s, "platform.report", record)


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension registered, or failed to."""

    name: str
    state: str  #: as in `Ready`
    events: tuple[str, ...] = ()
    error_type: str = ""

    def text(self) -> str:
        error = f"\tError Type: {self.error_type}" if self.error_type else ""
        return f"EXTENSION\tName: {self.name}\tState: {self.state}\tEvents: [{', '.join(self.events)}]{error}\n"

    def level(self) -> Level:
        return "WARN" if self.error_type else "INFO"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record: dict[str, Any] = {"name": self.name, "state": self.state, "events": list(self.events)}
        if self.error_type:
            record["errorType"] = self.error_type
        return _envelope(wall_s, "platform.extension", record)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """An extension subscribed to telemetry, by the Telemetry API or by the older Logs API."""

    name: str
    api: Api
    categories: tuple[str, ...]

    def text(self) -> str:
        types = ", ".join(category.capitalize() for category in self.categories)
        return f"{self.api.upper()}\tName: {self.name}\tState: Subscribed\tTypes: [{types}]\n"

    def level(self) -> Level:
        return "INFO"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record = {"name": self.name, "state": "Subscribed", "types": list(self.categories)}
        return _envelope(wall_s, f"platform.{self.api}Subscription", record)


@dataclass(frozen=True, slots=True)
class Fault:
    """A process could not go on, in words: `RequestId: <id> Error: <message>` and the error type below it."""

    request_id: str
    message: str
    error_type: str = ""

    def text(self) -> str:
        below = f"\n{self.error_type}" if self.error_type else ""
        return f"RequestId: {self.request_id} Error: {self.message}{below}\n"

    def level(self) -> Level:
        return "WARN"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        return _envelope(wall_s, "platform.fault", self.text().rstrip("\n"))


@dataclass(frozen=True, slots=True)
class LogsDropped:
    """Lines of the guest were not kept, because they came too fast. AWS's Text format has no such line."""

    dropped_records: int
    dropped_bytes: int
    reason: str

    def text(self) -> str:
        return (
            f"LOGS_DROPPED\tRecords: {self.dropped_records}\tBytes: {self.dropped_bytes}\tReason: {self.reason}\n"
        )

    def level(self) -> Level:
        return "WARN"

    def envelope(self, wall_s: float) -> dict[str, Any]:
        record = {
            "droppedBytes": self.dropped_bytes,
            "droppedRecords": self.dropped_records,
            "reason": self.reason,
        }
        return _envelope(wall_s, "platform.logsDropped", record)


def memory_mb(memory_bytes: int | None) -> int:
    """Bytes as REPORT shows them: whole MB (of 2^20), rounded up; 0 when not known."""
    return math.ceil((memory_bytes or 0) / (1024 * 1024))


def _envelope(wall_s: float, kind: str, record: dict[str, Any] | str) -> dict[str, Any]:
    return {"time": rfc3339(wall_s), "type": kind, "record": record}


def _error(status: Status, error_type: str) -> dict[str, Any]:
    return {"errorType": error_type} if status != "success" and error_type else {}


def _tracing(trace_id: str) -> dict[str, Any]:
    """Told of invocations only whose caller has them traced, like the line below REPORT."""
    if "Sampled=1" not in trace_id:
        return {}
    # No segment is made here, so the caller's is the span that an extension hangs its own below.
    span = _trace_fields(trace_id).get("Parent", "")
    return {"tracing": ({"spanId": span} if span else {}) | {"type": "X-Amzn-Trace-Id", "value": trace_id}}


def _xray(trace_id: str) -> str:
    """The line below REPORT for an invocation whose caller has it traced; it is part of the same event."""
    if "Sampled=1" not in trace_id:
        return ""
    fields = _trace_fields(trace_id)
    return f"XRAY TraceId: {fields.get('Root', '')}\tSegmentId: {fields.get('Parent', '')}\tSampled: true\t\n"


def _trace_fields(trace_id: str) -> dict[str, str]:
    return {name: value for name, _, value in (field.partition("=") for field in trace_id.split(";"))}


def _span(name: str, start_wall_s: float, duration_ms: float) -> dict[str, Any]:
    return {"name": name, "start": rfc3339(start_wall_s), "durationMs": _ms(duration_ms)}


def _status_text(status: Status, error_type: str) -> str:
    # A timeout is shown without its type, whatever the event says (recorded lines).
    named = f"\tError Type: {error_type}" if error_type and status != "timeout" else ""
    return f"Status: {status}{named}"


def _ms(value: float) -> float:
    return round(float(value), 3)  # to the microsecond, as recorded
