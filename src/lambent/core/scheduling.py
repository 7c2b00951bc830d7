"""The words of the scheduler: what happens to it, and what it asks for. What follows from it is `scheduler`'s part."""

from __future__ import annotations

from dataclasses import dataclass

from lambent.core.model import FunctionVersion, Invocation

# Events


@dataclass(slots=True, eq=False)
class InvocationArrived:
    at: float
    invocation: Invocation


@dataclass(slots=True, eq=False)
class EnvironmentIdle:
    """An environment finished its Init or its invocation and is frozen."""

    at: float
    number: int


@dataclass(slots=True, eq=False)
class EnvironmentSettling:
    """An environment has answered its caller and will be idle as soon as its runtime asks for more."""

    at: float
    number: int


@dataclass(slots=True, eq=False)
class EnvironmentGone:
    at: float
    number: int


@dataclass(slots=True, eq=False)
class FunctionChanged:
    """One version now serves from another generation of code or configuration; None: it is deleted."""

    at: float
    function_arn: str
    version: str
    generation: str | None


@dataclass(slots=True, eq=False)
class ReservationChanged:
    """A function's reserved concurrency; None: it has none."""

    at: float
    function_arn: str
    concurrency: int | None


@dataclass(slots=True, eq=False)
class ProvisionChanged:
    """How many provisioned environments a version is to have. Asking again clears an earlier failure."""

    at: float
    function: FunctionVersion
    wanted: int


@dataclass(slots=True, eq=False)
class InitFailed:
    """One that nobody waits for could not be initialised. EnvironmentGone follows, or, on demand, EnvironmentIdle."""

    at: float
    number: int


@dataclass(slots=True, eq=False)
class MemoryMeasured:
    at: float
    used_bytes: int
    refused: bool = False  #: an allocation was refused since the last measurement


@dataclass(slots=True, eq=False)
class RetireAsked:
    at: float
    number: int
    reason: str


@dataclass(slots=True, eq=False)
class TimePassed:
    at: float


@dataclass(slots=True, eq=False)
class ClockAdvanced:
    """Platform time was moved on by hand; `at` is the time from now on."""

    at: float
    seconds: float


@dataclass(slots=True, eq=False)
class StopRequested:
    """The platform ends: no more invocations, every environment goes once it is idle."""

    at: float


# Effects


@dataclass(slots=True, eq=False)
class Assign:
    number: int
    invocation: Invocation


@dataclass(slots=True, eq=False)
class Start:
    """Make an environment for an invocation. Ends in EnvironmentIdle or EnvironmentGone."""

    number: int
    invocation: Invocation


@dataclass(slots=True, eq=False)
class Provision:
    """Make an environment ahead of invocations. Ends in EnvironmentIdle or EnvironmentGone."""

    number: int
    function: FunctionVersion


@dataclass(slots=True, eq=False)
class StartAhead:
    """Make one for invocations that are expected. It may be assigned before it ends, as `Start` does."""

    number: int
    function: FunctionVersion


@dataclass(slots=True, eq=False)
class Refuse:
    invocation: Invocation
    reason: str


@dataclass(slots=True, eq=False)
class Retire:
    """Ends in EnvironmentGone; a running invocation is finished first."""

    number: int
    reason: str


@dataclass(slots=True, eq=False)
class SetTimer:
    """Feed TimePassed at that time. Replaces the one before."""

    at: float


Event = (InvocationArrived | EnvironmentSettling | EnvironmentIdle | EnvironmentGone | FunctionChanged
         | ReservationChanged | ProvisionChanged | InitFailed | MemoryMeasured | RetireAsked
         | TimePassed | ClockAdvanced | StopRequested)  # fmt: skip
Effect = Assign | Start | Provision | StartAhead | Refuse | Retire | SetTimer
