"""What people have asked to go wrong, until it has: throttled invocations and failing Inits (`lambent chaos`).

A machine beside the scheduler's and the environments': `dispatcher.py` asks it about every invocation and every Init
while something is armed, and carries its answer to the one whose decision it is. What is told of it stays in a ring.
A failure of an Init is a word: `exit`, `timeout`, or the error type that a runtime reports, as AWS shows it. Crashes,
recycling and the clock are not armed: they are events of their own.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from lambent.core import outcomes
from lambent.core.model import ExitStatus, Outcome, OutcomeKind

#: The model's ThrottleReason, as the fact sheet lists it (section 18).
THROTTLE_REASONS = (
    "ConcurrentInvocationLimitExceeded", "FunctionInvocationRateLimitExceeded",
    "ReservedFunctionConcurrentInvocationLimitExceeded", "ReservedFunctionInvocationRateLimitExceeded",
    "CallerRateLimitExceeded", "ConcurrentSnapshotCreateLimitExceeded",
)  # fmt: skip
#: How an Init may fail beside `Runtime.<Reason>`.
EXIT, TIMEOUT = "exit", "timeout"
#: What a missing bootstrap is looked for as (fact sheet 2.6).
BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")
EVERY_FUNCTION = ""
#: What has been provoked and can still be told.
PROVOKED_KEPT = 256


# Events


@dataclass(slots=True, eq=False)
class ThrottleArmed:
    """Replaces what was armed for the same function. `times` None: until it is cleared."""

    at: float
    function_arn: str  #: EVERY_FUNCTION: all of them
    reason: str
    times: int | None = None


@dataclass(slots=True, eq=False)
class InitFailureArmed:
    """Replaces what was armed for the same function. Each Init counts, also the one that is run again in Invoke."""

    at: float
    function_arn: str
    failure: str
    times: int = 1


@dataclass(slots=True, eq=False)
class Cleared:
    """Nothing is armed any more; of one function, or with EVERY_FUNCTION at all."""

    at: float
    function_arn: str = EVERY_FUNCTION


@dataclass(slots=True, eq=False)
class InvocationArrived:
    at: float
    function_arn: str
    request_id: str


@dataclass(slots=True, eq=False)
class InitBegan:
    """A runtime is about to be launched."""

    at: float
    function_arn: str
    environment: str


# Effects


@dataclass(slots=True, eq=False)
class Throttle:
    reason: str


@dataclass(slots=True, eq=False)
class FailInit:
    failure: str


Event = ThrottleArmed | InitFailureArmed | Cleared | InvocationArrived | InitBegan
Effect = Throttle | FailInit
What = Literal["throttle", "init failure"]


@dataclass(slots=True, eq=False)
class Armed:
    what: What
    function_arn: str
    how: str  #: the reason of the throttle, or the failure of the Init
    left: int | None  #: None: until it is cleared


@dataclass(frozen=True, slots=True)
class Provoked:
    """Something that went wrong because it was armed. `subject`: the request id, or the environment."""

    at: float
    what: What
    function_arn: str
    how: str
    subject: str


class Chaos:
    """Everything that is armed. `handle` is the only method that changes it."""

    def __init__(self) -> None:
        self.throttles: dict[str, Armed] = {}
        self.init_failures: dict[str, Armed] = {}
        self.provoked: deque[Provoked] = deque(maxlen=PROVOKED_KEPT)

    @property
    def armed(self) -> list[Armed]:
        """What is armed, throttles first."""
        return [*self.throttles.values(), *self.init_failures.values()]

    def handle(self, event: Event) -> Effect | None:
        """Apply one event; what is to go wrong with it, if anything."""
        match event:
            case ThrottleArmed(function_arn=arn):
                self.throttles[arn] = Armed("throttle", arn, event.reason, event.times)
            case InitFailureArmed(function_arn=arn):
                self.init_failures[arn] = Armed("init failure", arn, event.failure, event.times)
            case Cleared(function_arn=arn):
                self._clear(arn)
            case InvocationArrived(function_arn=arn):
                key = arn if arn in self.throttles else EVERY_FUNCTION
                taken = self._take(self.throttles, key, event.at, arn, event.request_id)
                return Throttle(taken.how) if taken is not None else None
            case InitBegan(function_arn=arn):
                taken = self._take(self.init_failures, arn, event.at, arn, event.environment)
                return FailInit(taken.how) if taken is not None else None
        return None

    def _clear(self, function_arn: str) -> None:
        for table in (self.throttles, self.init_failures):
            if function_arn == EVERY_FUNCTION:
                table.clear()
            else:
                table.pop(function_arn, None)

    def _take(self, table: dict[str, Armed], key: str, at: float, function_arn: str, subject: str) -> Armed | None:
        armed = table.get(key)
        if armed is None:
            return None
        if armed.left is not None:
            armed.left -= 1
            if not armed.left:
                del table[key]
        self.provoked.append(Provoked(at, armed.what, function_arn, armed.how, subject))
        return armed


def is_init_failure(text: str) -> bool:
    """Whether this is a way in which an Init can be made to fail."""
    reason = text.removeprefix("Runtime.")
    return text in (EXIT, TIMEOUT) or (reason != text and reason.isascii() and reason.isalnum() and len(reason) <= 64)


def init_failure(failure: str) -> tuple[ExitStatus, Outcome | None]:
    """How the runtime ends, and what it has posted before; None when it posted nothing."""
    if failure in (EXIT, outcomes.EXIT_ERROR):
        return ExitStatus(code=1), None
    if failure == outcomes.OUT_OF_MEMORY:
        return ExitStatus(signal=9, oom=True), None
    # Members and their order are those of the Python runtime's report of an Init that failed (fact sheet 1.4).
    payload = (f'{{"errorMessage": "this Init was made to fail (lambent chaos)", "errorType": "{failure}", '
               f'"requestId": "", "stackTrace": []}}')  # fmt: skip
    return ExitStatus(code=1), Outcome(OutcomeKind.FUNCTION_ERROR, payload.encode(), error_type=failure)
