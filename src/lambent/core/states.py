"""Where participants stand and how they may move: the phases, the states, and the tables of legal calls.

What follows from a move is `environment`'s to say. `docs/states.md` is written from these tables and that machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lambent.core.events import (
    ClockAdvanced,
    CrashProvoked,
    EntrypointMissing,
    ErrorPosted,
    ExtensionExitErrorPosted,
    ExtensionInitErrorPosted,
    ExtensionRegistered,
    InitErrorPosted,
    InvocationAssigned,
    NextRequested,
    ProcessesEnded,
    ResponseEnded,
    ResponsePosted,
    ResponseRefused,
    ResponseStarted,
    SandboxCreated,
    SandboxFailed,
    Started,
)


class Phase(Enum):
    INIT = "init"
    IDLE = "idle"
    INVOKE = "invoke"
    RESET = "reset"
    SHUTDOWN = "shutdown"
    GONE = "gone"


class State(Enum):
    """Where one participant stands."""

    ABSENT = "absent"  #: not started, or its exit is known
    STARTED = "started"
    REGISTERED = "registered"  #: extensions only
    READY = "ready"  #: waits in Next
    BUSY = "busy"  #: was handed an invocation
    RESPONDING = "responding"  #: runtime only: in the middle of a streamed response
    RESPONDED = "responded"  #: runtime only: answered, not yet back in Next
    REFUSED = "refused"  #: runtime only: what it answered was refused for good, and whatever it asks for is, too
    FAILED = "failed"  #: posted an init error; it exits next
    EXITING = "exiting"  #: extensions only: posted an exit error; it exits next


# How one participant moves by its own calls: (state, event) -> state. Everything else is refused.

RUNTIME_TABLE: dict[tuple[State, type], State] = {
    (State.STARTED, NextRequested): State.READY,
    (State.STARTED, InitErrorPosted): State.FAILED,
    (State.READY, NextRequested): State.READY,  # asking again is allowed; it blocks again
    (State.BUSY, NextRequested): State.BUSY,  # it is handed the same once more (core/states.go of AWS's emulator)
    (State.BUSY, ResponsePosted): State.RESPONDED,
    (State.BUSY, ErrorPosted): State.RESPONDED,
    (State.BUSY, ResponseStarted): State.RESPONDING,
    # Nothing leads on from there (rapi/handler/invocationresponse.go returns before the response is marked as sent).
    (State.BUSY, ResponseRefused): State.REFUSED,
    (State.RESPONDING, ResponseEnded): State.RESPONDED,
    (State.RESPONDED, NextRequested): State.READY,
}
# An extension that waits in Next may not ask again, and of an error posted twice the first one counts (AWS's published
# emulator, core/externalagent_states.go and internalagent_states.go).
EXTENSION_TABLE: dict[tuple[State, type], State] = {
    (State.STARTED, ExtensionRegistered): State.REGISTERED,
    (State.REGISTERED, NextRequested): State.READY,
    (State.BUSY, NextRequested): State.READY,
    (State.REGISTERED, ExtensionInitErrorPosted): State.FAILED,
    (State.REGISTERED, ExtensionExitErrorPosted): State.EXITING,
    (State.READY, ExtensionExitErrorPosted): State.EXITING,
    (State.BUSY, ExtensionExitErrorPosted): State.EXITING,
    (State.FAILED, ExtensionInitErrorPosted): State.FAILED,
    (State.EXITING, ExtensionExitErrorPosted): State.EXITING,
}

#: Exit codes by which a sandbox says that there was nothing to execute.
NOT_LAUNCHED = (126, 127)

#: In which phases an event may come; those of a participant depend on its state instead.
PHASES: dict[type, frozenset[Phase]] = {
    Started: frozenset({Phase.INIT}),
    SandboxCreated: frozenset({Phase.INIT}),
    SandboxFailed: frozenset(set(Phase) - {Phase.GONE}),
    EntrypointMissing: frozenset({Phase.INIT, Phase.INVOKE}),
    InvocationAssigned: frozenset({Phase.INIT, Phase.IDLE, Phase.RESET}),
    ProcessesEnded: frozenset({Phase.RESET, Phase.SHUTDOWN}),
    ClockAdvanced: frozenset(set(Phase) - {Phase.GONE}),
    CrashProvoked: frozenset({Phase.INIT, Phase.IDLE, Phase.INVOKE}),
}


@dataclass(slots=True)
class Extension:
    """An extension as the machine sees it."""

    state: State
    external: bool
    invoke: bool = False
    shutdown: bool = False
    unlaunched: bool = False  #: there was nothing to execute
    error_type: str = ""  #: what its record says beside its state: what it posted, or why it could not be executed

    @property
    def events(self) -> tuple[str, ...]:
        return ("INVOKE",) * self.invoke + ("SHUTDOWN",) * self.shutdown

    @property
    def words(self) -> str:
        """Its state as `platform.extension` has it. One that has crashed is shown where it stood."""
        return "LaunchError" if self.unlaunched else _EXTENSION_WORDS[self.state]


_EXTENSION_WORDS = {State.STARTED: "Started", State.REGISTERED: "Registered", State.READY: "Ready",
                    State.FAILED: "InitError", State.EXITING: "ExitError"}  # fmt: skip


class Stopping(Enum):
    """How far a reset or a shutdown has come."""

    RUNTIME = "runtime"  #: SIGTERM sent, the runtime may end by itself
    EXTENSIONS = "extensions"  #: SHUTDOWN delivered, extensions may end by themselves
    KILLED = "killed"  #: Terminate is under way
