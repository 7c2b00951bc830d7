"""The two pure machines alone: what one warm invocation costs to decide, without a socket, a clock or a sandbox.

Budget of the design (section 8): three events for each machine, 25 microseconds for both. The journals are part of
it. What the drivers add around the machines is in `warm`.
"""

from __future__ import annotations

import time
import tracemalloc

from bench.measure import Line
from lambent.core import events, scheduling
from lambent.core.environment import Environment
from lambent.core.journal import STEPS_KEPT
from lambent.core.keepalive.fixed import Fixed
from lambent.core.model import FunctionVersion, Invocation, Outcome, OutcomeKind
from lambent.core.scheduler import Scheduler
from lambent.core.states import Phase

BUDGET_US = 25.0
BUDGET_EVENTS = 3
ROUNDS = 15
CALLS = 2000

_FUNCTION = FunctionVersion("000000000000", "us-east-1", "trivial", "$LATEST", "1", "python3.12", "app.handler",
                            "0" * 64, timeout_s=30, memory_mib=1769)  # fmt: skip


class Pair:
    """A scheduler with one idle environment, fed as `dispatcher` and `worker.driver` feed them."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(account_limit=1000, keep_alive=Fixed(600.0), max_age_s=1e9)
        self.environment = Environment(30)
        self.at = 0.0
        first = self._invocation("0")
        [start] = self.scheduler.handle(scheduling.InvocationArrived(self.at, first))
        assert isinstance(start, scheduling.Start)
        self.number = start.number
        self.environment.handle(events.Started(self.at, first))
        self.environment.handle(events.SandboxCreated(self.at))
        self.environment.handle(events.NextRequested(self.at))
        self._answer("0")

    @staticmethod
    def _invocation(request_id: str) -> Invocation:
        return Invocation(request_id, _FUNCTION, b"{}", _FUNCTION.function_arn)

    def call(self, request_id: str) -> None:
        """One warm invocation, from its arrival until its environment is idle again."""
        self.at += 0.001
        invocation = self._invocation(request_id)
        self.scheduler.handle(scheduling.InvocationArrived(self.at, invocation))
        self.environment.handle(events.InvocationAssigned(self.at, invocation))
        self._answer(request_id)

    def _answer(self, request_id: str) -> None:
        machine = self.environment
        response = events.ResponsePosted(self.at, request_id, Outcome(OutcomeKind.RESPONSE, b"{}"))
        if machine.refusal(response) is None:  # the Runtime API asks before it feeds
            machine.handle(response)
        self.scheduler.handle(scheduling.EnvironmentSettling(self.at, self.number))
        following = events.NextRequested(self.at)
        if machine.refusal(following) is None:
            machine.handle(following)
        self.scheduler.handle(scheduling.EnvironmentIdle(self.at, self.number))


def measure() -> list[Line]:
    """Events, microseconds and bytes of a warm invocation."""
    pair = Pair()
    assert pair.environment.phase is Phase.IDLE
    before = (_steps(pair.environment), _steps(pair.scheduler))
    pair.call("counted")
    ours = (_steps(pair.environment) - before[0], _steps(pair.scheduler) - before[1])
    us = min(_microseconds() for _ in range(ROUNDS))
    return [
        Line("events of a warm invocation, environment and scheduler", "events", max(ours),
             f"at most {BUDGET_EVENTS} each", max(ours) <= BUDGET_EVENTS, more=f"{ours[0]} and {ours[1]}"),
        Line("both machines, one warm invocation", "us", us, f"at most {BUDGET_US:g} us", us <= BUDGET_US,
             more=f"{_bytes_kept():.0f} bytes kept in the journals, of {STEPS_KEPT} steps each"),
    ]  # fmt: skip


def _steps(machine: Environment | Scheduler) -> int:
    return sum(1 for _ in machine.journal.steps())


def _microseconds() -> float:
    pair = Pair()
    names = [str(number) for number in range(CALLS)]
    begun = time.perf_counter_ns()
    for name in names:
        pair.call(name)
    return (time.perf_counter_ns() - begun) / CALLS / 1000


def _bytes_kept() -> float:
    """What an invocation adds while the rings of the journals still fill."""
    calls = STEPS_KEPT // BUDGET_EVENTS - 5
    pair = Pair()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(calls):
            pair.call(str(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / calls
