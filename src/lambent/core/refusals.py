"""What is not possible now: the half of `environment` that judges an event before it is applied.

What a guest may get wrong is answered with the Runtime API's or the Extensions API's error type (fact sheet 2.3 and
3.5); for every other event any word says that it cannot be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambent import limits
from lambent.core.events import (
    RUNTIME,
    CrashProvoked,
    EntrypointMissing,
    ErrorPosted,
    Event,
    ExtensionExitErrorPosted,
    ExtensionInitErrorPosted,
    ExtensionRegistered,
    InitErrorPosted,
    InitFailureProvoked,
    InvocationAssigned,
    NextRequested,
    ResponseEnded,
    ResponsePosted,
    ResponseRefused,
    ResponseStarted,
    Started,
)
from lambent.core.states import EXTENSION_TABLE, PHASES, RUNTIME_TABLE, State

if TYPE_CHECKING:
    from lambent.core.environment import Environment


def refusal(machine: Environment, event: Event) -> str | None:
    """Why this event is not possible now, as the Runtime API's error type; None when it is."""
    kind = type(event)
    if isinstance(event, (NextRequested, InitErrorPosted, ExtensionInitErrorPosted, ExtensionExitErrorPosted)):
        participant = getattr(event, "participant", RUNTIME)
        if participant == RUNTIME:
            known = (machine.runtime, kind) in RUNTIME_TABLE
            over = machine.runtime is State.BUSY and machine.ending is not None
            return None if known and not over else "InvalidStateTransition"
        extension = machine.extensions.get(participant)
        known = extension is not None and (extension.state, kind) in EXTENSION_TABLE
        return None if known else "Extension.InvalidExtensionState"
    if isinstance(event, (ResponsePosted, ErrorPosted, ResponseStarted, ResponseEnded, ResponseRefused)):
        wanted = State.RESPONDING if kind is ResponseEnded else State.BUSY
        # Judged before the state, as by AWS's router; while processes are ended the last invocation is still that one.
        current = machine.assigned.request_id if machine.assigned is not None else None
        if event.request_id != current and (current is not None or machine.ending is None):
            return "InvalidRequestID"
        if machine.runtime is not wanted or machine.assigned is None or machine.ending is not None:
            return "InvalidStateTransition"
        if kind is ResponseStarted and not machine.assigned.streams:
            return "InvalidStateTransition"  # it is collected instead
        return None
    if isinstance(event, ExtensionRegistered):
        return _register_refusal(machine, event)
    allowed = PHASES.get(kind)
    if allowed is not None and machine.phase not in allowed:
        return "InvalidStateTransition"
    if isinstance(event, InvocationAssigned) and (machine.assigned is not None or machine.retiring is not None):
        return "InvalidStateTransition"
    if isinstance(event, Started) and machine.started:
        return "InvalidStateTransition"
    if isinstance(event, EntrypointMissing) and not machine.initialising:
        return "InvalidStateTransition"
    if isinstance(event, InitFailureProvoked) and not (machine.initialising and machine.runtime is State.STARTED):
        return "InvalidStateTransition"
    if isinstance(event, CrashProvoked) and not _is_process(machine, event.participant):
        return "InvalidStateTransition"
    return None


def _is_process(machine: Environment, participant: str) -> bool:
    """Whether it was launched and has not ended. Internal extensions are threads of the runtime."""
    if participant == RUNTIME:
        return machine.runtime is not State.ABSENT
    extension = machine.extensions.get(participant)
    return extension is not None and extension.external


def _register_refusal(machine: Environment, event: ExtensionRegistered) -> str | None:
    """In the order of AWS's published emulator (rapi/handler/agentregister.go, core/registrations.go)."""
    extension = machine.extensions.get(event.participant)
    if extension is not None and extension.external:
        if (extension.state, ExtensionRegistered) not in EXTENSION_TABLE:
            return "Extension.InvalidExtensionState"
        return None if machine.initialising else "Extension.RegistrationClosed"
    if event.shutdown:
        return "Extension.InvalidEventType"
    if not machine.initialising or machine.runtime not in (State.ABSENT, State.STARTED):
        return "Extension.RegistrationClosed"
    if event.participant == RUNTIME:  # its calls would pass for the runtime's
        return "Extension.InvalidExtensionName"
    if len(machine.extensions) >= limits.MAX_EXTENSIONS:  # also those that are launched and have not registered yet
        return "Extension.TooManyExtensions"
    return None if extension is None else "Extension.InvalidExtensionState"
