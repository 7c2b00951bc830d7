"""The nouns of the platform as frozen values. No behaviour beyond arithmetic on their own fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

InitType = Literal["on-demand", "provisioned-concurrency", "snap-start"]
InitPhase = Literal["init", "invoke"]
Status = Literal["success", "failure", "error", "timeout"]


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """What an environment is made from: one version's code and configuration, never changed after it is made."""

    account: str
    region: str
    name: str
    version: str  #: `$LATEST` or a number
    generation: str  #: differs whenever code or configuration does; environments of another one are obsolete
    runtime: str  #: AWS's identifier, as in `python3.12`
    handler: str
    code_sha256: str  #: hex digest of the zip
    timeout_s: int = 3
    memory_mib: int = 128
    ephemeral_mib: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    log_group: str = ""
    log_format: Literal["Text", "JSON"] = "Text"
    application_log_level: str | None = None
    system_log_level: str | None = None
    architecture: str = "x86_64"
    role: str = ""  #: ARN of the execution role, whose credentials its environments have
    #: the host's minor version stands in for the asked one (`--nearest-runtime`)
    actual_runtime: str | None = None

    @property
    def function_arn(self) -> str:
        """The unqualified ARN."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"

    @property
    def fleet(self) -> tuple[str, str, str]:
        """The key of the environments that may serve each other's invocations."""
        return (self.function_arn, self.version, self.generation)


@dataclass(slots=True, eq=False)
class Invocation:
    """One request to run a function once. Compared by identity; `request_id` is unique.

    The driver empties `payload` once it is delivered and answered, for the journals' sake.
    """

    request_id: str
    function: FunctionVersion
    payload: bytes
    invoked_arn: str  #: as the caller named it
    trace_id: str = ""
    client_context: str = ""  #: decoded JSON text
    #: Not the caller's: SDKs of AWS send octet-stream, and AWS's Python client would then hand bytes to the handler.
    content_type: str = "application/json"
    #: The reply waits until the phase is over and REPORT is written (LogType=Tail).
    reply_after_report: bool = False
    #: The caller takes a response as it is made. Without it a streamed response is collected first.
    streams: bool = False


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: exactly one of `code` and `signal`. `oom`: the kernel killed it for memory.

    `unlaunched`: why it could not be executed, where more is known than the code says: of an extension in the words of
    the C library, of a custom runtime with what was tried before them (`fork/exec /var/task/bootstrap: ...`).
    """

    code: int | None = None
    signal: int | None = None
    oom: bool = False
    unlaunched: str = ""

    def describe(self) -> str:
        """In the words that AWS prints after `Runtime exited`; the empty string for exit code 0."""
        if self.signal is not None:
            return "signal: " + _SIGNALS.get(self.signal, f"signal {self.signal}")
        return f"exit status {self.code}" if self.code else ""


#: Names as Go prints them, since AWS's supervisor is a Go program.
_SIGNALS = {
    1: "hangup", 2: "interrupt", 3: "quit", 4: "illegal instruction", 5: "trace/breakpoint trap", 6: "aborted",
    7: "bus error", 8: "floating point exception", 9: "killed", 10: "user defined signal 1",
    11: "segmentation fault", 12: "user defined signal 2", 13: "broken pipe", 14: "alarm clock", 15: "terminated",
    31: "bad system call",
}  # fmt: skip


class OutcomeKind(Enum):
    RESPONSE = "response"  #: the handler's result
    FUNCTION_ERROR = "function_error"  #: X-Amz-Function-Error: Unhandled
    REFUSED = "refused"  #: throttled: 429 with a reason
    PLATFORM_ERROR = "platform_error"  #: our fault: 500


@dataclass(slots=True, eq=False)
class Outcome:
    """How an invocation ended, as the caller is to see it.

    The driver empties `payload` once the caller has it: journals keep outcomes, and must not keep megabytes.
    """

    kind: OutcomeKind
    payload: bytes = b""
    content_type: str = "application/json"
    #: for FUNCTION_ERROR the error type, for REFUSED the throttle reason, for PLATFORM_ERROR the cause in words
    error_type: str = ""


@dataclass(frozen=True, slots=True)
class Bill:
    """The figures of a REPORT. Durations in milliseconds, to the microsecond as in AWS's events."""

    duration_ms: float
    billed_ms: int
    init_ms: float | None = None


def bill(duration_s: float, init_s: float | None, init_type: InitType) -> Bill:
    """Duration rounded up to a millisecond; since August 2025 an on-demand Init is billed with it (fact sheet 5.1)."""
    duration_ms = milliseconds(duration_s)
    init_ms = None if init_s is None else milliseconds(init_s)
    charged = duration_ms + (init_ms if init_ms is not None and init_type == "on-demand" else 0.0)
    return Bill(duration_ms, max(1, math.ceil(round(charged, 3))), init_ms)


def milliseconds(duration_s: float) -> float:
    """A duration as it is told: in milliseconds, to the microsecond."""
    return round(duration_s * 1000, 3)
