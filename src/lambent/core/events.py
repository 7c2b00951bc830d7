"""What can happen to an execution environment. Its counterpart is `effects`; the machine between is `environment`.

Every event carries `at`, seconds on the platform's monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from lambent.core.model import ExitStatus, Invocation, Outcome

RUNTIME = "runtime"  #: the participant that every environment has; others are extensions, by name


@dataclass(slots=True, eq=False)
class Started:
    """The scheduler wants this environment, for an invocation or ahead of one."""

    at: float
    invocation: Invocation | None = None


@dataclass(slots=True, eq=False)
class SandboxCreated:
    at: float
    #: file names in /opt/extensions, each to be launched as an external extension
    extensions: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class SandboxFailed:
    """The host could not create, launch, freeze or thaw, or the sandbox died by itself."""

    at: float
    reason: str


@dataclass(slots=True, eq=False)
class ExtensionRegistered:
    at: float
    participant: str
    invoke: bool  #: subscribed to INVOKE
    shutdown: bool  #: subscribed to SHUTDOWN


@dataclass(slots=True, eq=False)
class NextRequested:
    at: float
    participant: str = RUNTIME


@dataclass(slots=True, eq=False)
class ResponsePosted:
    at: float
    request_id: str
    outcome: Outcome


@dataclass(slots=True, eq=False)
class ResponseStarted:
    """The head of a streamed response came. Its bytes go past the machine, from the guest to the caller."""

    at: float
    request_id: str
    content_type: str  #: empty when the runtime named none


@dataclass(slots=True, eq=False)
class ResponseEnded:
    """The end of a streamed response: whole, cut off, or with an error in its trailers."""

    at: float
    request_id: str
    outcome: Outcome  #: without a payload when it is a response
    produced_bytes: int = 0  #: that came before the end


@dataclass(slots=True, eq=False)
class ResponseRefused:
    """The response named a mode that there is not: that is the caller's outcome, and the runtime has no way on."""

    at: float
    request_id: str
    outcome: Outcome


@dataclass(slots=True, eq=False)
class ErrorPosted:
    """The handler failed, or its response was too large: a result, not a reason to reset."""

    at: float
    request_id: str
    outcome: Outcome  #: its error type is that of the runtime's header; empty when it sent none


@dataclass(slots=True, eq=False)
class InitErrorPosted:
    at: float
    outcome: Outcome


@dataclass(slots=True, eq=False)
class ExtensionInitErrorPosted:
    """A registered extension cannot begin its work. `error_type` is what it named."""

    at: float
    participant: str
    error_type: str


@dataclass(slots=True, eq=False)
class ExtensionExitErrorPosted:
    """An extension cannot go on. `error_type` is what it named."""

    at: float
    participant: str
    error_type: str


@dataclass(slots=True, eq=False)
class ProcessExited:
    at: float
    exit: ExitStatus
    participant: str = RUNTIME


@dataclass(slots=True, eq=False)
class EntrypointMissing:
    """There was nothing to launch as the runtime: no executable bootstrap."""

    at: float
    candidates: tuple[str, ...]


@dataclass(slots=True, eq=False)
class InvocationAssigned:
    at: float
    invocation: Invocation


@dataclass(slots=True, eq=False)
class DeadlinePassed:
    at: float
    epoch: int


@dataclass(slots=True, eq=False)
class RetireRequested:
    at: float
    reason: str
    force: bool = False  #: do not wait for a running invocation


@dataclass(slots=True, eq=False)
class ProcessesEnded:
    """Every guest process is gone (the answer to Terminate)."""

    at: float


@dataclass(slots=True, eq=False)
class ClockAdvanced:
    """Platform time was moved on by hand. It changes nothing here; the story is to tell it."""

    at: float
    seconds: float


@dataclass(slots=True, eq=False)
class InitFailureProvoked:
    """The Init that has just begun is to fail, and the runtime was not launched. `failure`: see `chaos`."""

    at: float
    failure: str


@dataclass(slots=True, eq=False)
class CrashProvoked:
    """The runtime or an external extension is to be killed now."""

    at: float
    participant: str = RUNTIME


Event = (Started | SandboxCreated | SandboxFailed | ExtensionRegistered | NextRequested | ResponsePosted
         | ResponseStarted | ResponseEnded | ResponseRefused | ErrorPosted | InitErrorPosted | ProcessExited
         | EntrypointMissing | InvocationAssigned | DeadlinePassed | RetireRequested | ProcessesEnded
         | ExtensionInitErrorPosted | ExtensionExitErrorPosted | ClockAdvanced | InitFailureProvoked
         | CrashProvoked)  # fmt: skip
