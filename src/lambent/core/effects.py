"""What an execution environment's machine asks for. Its counterpart is `events`; `worker/driver.py` performs them.

Those that can fail come back as the event SandboxFailed.
"""

from __future__ import annotations

from dataclasses import dataclass

from lambent.core.events import RUNTIME
from lambent.core.model import Bill, InitPhase, Invocation, Outcome, Status


@dataclass(slots=True, eq=False)
class CreateSandbox:
    """Answered by SandboxCreated."""


@dataclass(slots=True, eq=False)
class Launch:
    """Start the runtime or an external extension; its end comes back as ProcessExited."""

    participant: str


@dataclass(slots=True, eq=False)
class Deliver:
    """Answer a participant's pending Next with an invocation. Always before the thaw that lets it be read."""

    invocation: Invocation
    deadline: float
    participant: str = RUNTIME


@dataclass(slots=True, eq=False)
class DeliverShutdown:
    """Answer an extension's pending Next with SHUTDOWN."""

    participant: str
    reason: str  #: spindown, timeout or failure
    deadline: float


@dataclass(slots=True, eq=False)
class OpenStream:
    """The caller's answer begins; what the guest sends from now on is passed on. At most one, before the Reply."""

    invocation: Invocation
    content_type: str


@dataclass(slots=True, eq=False)
class Reply:
    """The caller's answer, or its end when it was streamed. Exactly one for each invocation."""

    invocation: Invocation
    outcome: Outcome


@dataclass(slots=True, eq=False)
class SetDeadline:
    """Feed DeadlinePassed with this epoch at that time. Replaces the one before."""

    deadline: float
    epoch: int


@dataclass(slots=True, eq=False)
class ClearDeadline:
    """No deadline until the next SetDeadline."""


@dataclass(slots=True, eq=False)
class Freeze:
    pass


@dataclass(slots=True, eq=False)
class Thaw:
    pass


@dataclass(slots=True, eq=False)
class LimitCpu:
    """The CPU share that the memory size buys, or while Init runs all that the host has."""

    limited: bool


@dataclass(slots=True, eq=False)
class SignalRuntime:
    """SIGTERM to the runtime, or SIGKILL when it has used up its share of the time."""

    kill: bool = False


@dataclass(slots=True, eq=False)
class KillProcess:
    """SIGKILL to one participant, as somebody asked or in a shutdown; its end comes back as ProcessExited."""

    participant: str


@dataclass(slots=True, eq=False)
class Terminate:
    """SIGKILL to every guest process; answered by ProcessesEnded."""


@dataclass(slots=True, eq=False)
class Destroy:
    """Take the sandbox away. The machine's last effect."""

    reason: str


@dataclass(slots=True, eq=False)
class Announce:
    """Tell the scheduler that this environment is idle and may be assigned."""


@dataclass(slots=True, eq=False)
class AnnounceInitFailed:
    """Tell the scheduler that an environment which nobody waits for could not be initialised. On demand it is kept."""


@dataclass(slots=True, eq=False)
class ReportInitStart:
    phase: InitPhase


@dataclass(slots=True, eq=False)
class ReportInit:
    phase: InitPhase
    duration_ms: float
    status: Status
    error_type: str


@dataclass(slots=True, eq=False)
class ReportInitRuntimeDone:
    """The runtime's part of Init is over: it asked for work, or it failed."""

    phase: InitPhase
    status: Status
    error_type: str


@dataclass(slots=True, eq=False)
class ReportExtension:
    """An extension is ready, or Init failed and this is how far it came."""

    name: str
    state: str  #: in AWS's words, as in `Ready`
    events: tuple[str, ...]  #: what it subscribed to
    error_type: str


@dataclass(slots=True, eq=False)
class ReportRuntimeDone:
    """The runtime's part of an invocation is over; extensions may go on."""

    invocation: Invocation
    status: Status
    error_type: str
    duration_ms: float
    response_ms: float | None  #: from the beginning to the response's first byte; None without one
    transfer_ms: float  #: from its first byte to its last; 0 when it was buffered
    produced_bytes: int  #: of the response; the driver adds those of a stream that did not come to its end


@dataclass(slots=True, eq=False)
class ReportStart:
    invocation: Invocation


@dataclass(slots=True, eq=False)
class ReportEnd:
    invocation: Invocation
    bill: Bill
    status: Status
    error_type: str
    overhead_ms: float | None = None  #: how long extensions went on after the runtime; None without extensions


@dataclass(slots=True, eq=False)
class ReportEntrypoint:
    """The log line about a bootstrap that is missing or cannot be executed."""

    request_id: str
    cause: str


Effect = (CreateSandbox | Launch | Deliver | DeliverShutdown | OpenStream | Reply | SetDeadline | ClearDeadline
          | Freeze | Thaw | LimitCpu | SignalRuntime | KillProcess | Terminate | Destroy | Announce | AnnounceInitFailed
          | ReportInitStart | ReportInit | ReportStart | ReportEnd | ReportEntrypoint
          | ReportInitRuntimeDone | ReportExtension | ReportRuntimeDone)  # fmt: skip
