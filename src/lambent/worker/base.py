"""The Worker contract: one machine's environments, as the dispatcher sees them. A future process boundary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lambent.core.model import FunctionVersion, Invocation, Outcome


class PreparationFailed(Exception):
    """A function cannot be made ready. `code` is a StateReasonCode of the model, `reason` one line for its owner."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(slots=True, eq=False)
class Served:
    """Where and how an invocation was served, for the headers of its answer."""

    environment_id: str
    cold: bool
    log_tail: bytes = b""  #: the last 4 KB of the log, when the invocation asked for it


class Source(Protocol):
    """The guest's end of a streamed response, for whoever takes it. Calls may be repeated and may come too late."""

    def pause(self) -> None:
        """Send no more for now. What was read already still comes: at most what one read of a socket gives."""
        ...

    def resume(self) -> None: ...


#: Takes the bytes of a streamed response as they come. What it cannot pass on at once, it bounds with `Source.pause`.
Sink = Callable[[bytes], None]


class Owner(Protocol):
    """The dispatcher, as a worker reports to it. Every call is made from the event loop."""

    def streaming(self, invocation: Invocation, content_type: str, served: Served, source: Source) -> Sink:
        """The response begins, for an invocation whose caller streams. `replied` follows, once the sink has all."""
        ...

    def replied(self, invocation: Invocation, outcome: Outcome, served: Served) -> None: ...

    def settling(self, number: int) -> None:
        """The caller has its answer, and the environment will be idle once its runtime asks for more."""
        ...

    def idle(self, number: int) -> None: ...

    def init_failed(self, number: int) -> None:
        """An environment that nobody waits for could not be initialised; `gone` follows, or, on demand, `idle`."""
        ...

    def init_failure(self, function: FunctionVersion, environment_id: str) -> str | None:
        """How the Init that is about to launch its runtime is to fail (`core.chaos`); None: it is not to."""
        ...

    def gone(self, number: int) -> None:
        """The environment can serve nobody any more. Its destruction may still be under way."""
        ...


class Worker(Protocol):
    def start(self, number: int, invocation: Invocation) -> None: ...

    def provision(self, number: int, function: FunctionVersion) -> None:
        """Initialise an environment that no invocation waits for."""
        ...

    def start_ahead(self, number: int, function: FunctionVersion) -> None:
        """The same for invocations that are expected: on demand, and it may be assigned before it is idle."""
        ...

    def assign(self, number: int, invocation: Invocation) -> None: ...

    def retire(self, number: int, reason: str, *, force: bool = False) -> None: ...

    def crash(self, number: int, participant: str) -> bool:
        """Kill the runtime or an external extension of an environment; False when there is no such process."""
        ...

    def at_rest(self, number: int) -> bool:
        """Whether an environment is idle, or not there any more."""
        ...

    def environments(self) -> list[dict[str, Any]]:
        """Every environment that exists: its id, function, version and phase."""
        ...

    def look(self, tell: Callable[[list[dict[str, Any]]], None], *, pss: bool = False) -> None:
        """Hand `tell` the same with all that `/_lambent/environments` shows, from the event loop, a little later.

        With `pss` also the proportional memory of each as `pss_bytes`.
        """
        ...

    def story(self, environment_id: str) -> dict[str, Any] | None:
        """The life of one environment, also of a recently ended one; None when it is not known."""
        ...

    def stories(self, function_arn: str) -> list[dict[str, Any]]:
        """The lives of all environments of a function that are known, the oldest first."""
        ...

    def find(self, environment_id: str) -> int | None:
        """The number of a living environment, by its id or its number alone."""
        ...

    def memory(self) -> tuple[int, bool] | None:
        """Bytes charged to all environments, and whether one was refused memory since the last call; None: unknown."""
        ...

    def expect_shortage(self, short: bool) -> None:
        """Whether all environments together are close to what they may use."""
        ...

    async def prepare(self, function: FunctionVersion) -> FunctionVersion:
        """Unpack the code and make the runtime ready, or raise PreparationFailed."""
        ...

    async def stop(self) -> None:
        """Wait until every environment is destroyed. May be cancelled and called again."""
        ...
