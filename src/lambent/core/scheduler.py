"""The machine of all environments together: which one serves an invocation, when one is started, kept and retired.

It composes: `concurrency` says who may run, `fleet` which idle environment serves, `keepalive` how long one is kept.
`dispatcher.py` drives it live; a simulator can drive the same object in virtual time. Environments are numbers here;
drivers give them names. A synchronous invocation does not queue: it is assigned, started or refused at once, as on
AWS. One exception: where an environment has just answered and is about to be idle, the invocation waits for it for a
moment, or a caller that sends one request after the other would get a new environment for each.

Memory: MemorySize is a ceiling, not a reservation. Admission counts what was measured last, plus a reserve for each
environment started since; when that passes the budget, the least useful idle environments go first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lambent.core.concurrency import Leases
from lambent.core.fleet import Fleet, FleetKey, Member
from lambent.core.journal import IllegalEvent, InvariantBroken, Journal
from lambent.core.keepalive.base import KeepAlive
from lambent.core.model import Invocation

#: What a starting environment is taken to need until memory is measured again (Python with its imports).
RESERVE_BYTES = 32 * 1024 * 1024
#: Environments are recycled up to this share earlier than the maximum age, so that they do not go all at once.
AGE_JITTER = 0.1

#: How long an invocation waits for an environment that is about to be idle, before one is started for it.
SETTLE_S = 0.02

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


Event = (InvocationArrived | EnvironmentSettling | EnvironmentIdle | EnvironmentGone | FunctionChanged | MemoryMeasured
         | RetireAsked | TimePassed | StopRequested)  # fmt: skip
Effect = Assign | Start | Refuse | Retire | SetTimer


class Scheduler:
    """Every fleet. `handle` is the only method that changes it."""

    def __init__(self, *, account_limit: int, keep_alive: KeepAlive, max_age_s: float,
                 memory_budget_bytes: int | None = None) -> None:
        self.leases = Leases(account_limit)
        self.keep_alive = keep_alive
        self.max_age_s = max_age_s
        self.memory_budget_bytes = memory_budget_bytes
        self.journal = Journal()
        self.fleets: dict[FleetKey, Fleet] = {}
        self.members: dict[int, Member] = {}
        self.stopping = False
        self._last_number = 0
        self._memory_bytes = 0  #: measured, plus the reserve of what was started since
        #: (time, number): at most one entry for each member; read lazily, an early one is pushed back
        self._timers: list[tuple[float, int]] = []
        self._timer_at = float("inf")
        self._effects: list[Effect] = []

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and say what to do. Raises IllegalEvent and changes nothing."""
        if isinstance(event, (EnvironmentIdle, EnvironmentGone)) and event.number not in self.members:
            raise IllegalEvent(f"{event!r} names no environment\n{self.journal}")
        effects: list[Effect] = []
        self._effects = effects
        _RULES[type(event)](self, event)
        self.journal.add(event, "", "", tuple(effects))
        return effects

    # Assignment

    def _invocation_arrived(self, event: InvocationArrived) -> None:
        invocation = event.invocation
        reason = "ServiceStopping" if self.stopping else self.leases.refusal()
        if reason is not None:
            self._effects.append(Refuse(invocation, reason))
            return
        fleet = self.fleets.get(invocation.function.fleet)
        member = fleet.take() if fleet is not None else None
        if member is not None:
            self.leases.take()
            member.busy = True
            member.invocations += 1
            self._effects.append(Assign(member.number, invocation))
            return
        if fleet is not None and len(fleet.settling) > len(fleet.waiting):
            self.leases.take()
            due = event.at + SETTLE_S
            fleet.waiting.append((due, invocation))
            self._set_timer(due)
            return
        self._start_for(event.at, invocation)

    def _start_for(self, at: float, invocation: Invocation) -> None:
        if not self._make_room(RESERVE_BYTES):
            self._effects.append(Refuse(invocation, "MemoryExhausted"))
            return
        key = invocation.function.fleet
        self.leases.take()
        self._start(at, self.fleets.get(key) or self._fleet(key), invocation)

    def _environment_settling(self, event: EnvironmentSettling) -> None:
        member = self.members.get(event.number)
        if member is not None and member.busy and not member.retiring:
            member.fleet.settling.add(member.number)

    def _wait_no_longer(self, at: float, fleet: Fleet) -> None:
        """Start environments for those who waited in vain."""
        while fleet.waiting and fleet.waiting[0][0] <= at:
            _, invocation = fleet.waiting.popleft()
            self.leases.give_back()
            self._start_for(at, invocation)
        if fleet.waiting:
            self._set_timer(fleet.waiting[0][0])

    def _fleet(self, key: FleetKey) -> Fleet:
        fleet = self.fleets[key] = Fleet(key)
        return fleet

    def _start(self, at: float, fleet: Fleet, invocation: Invocation) -> None:
        self._last_number += 1
        number = self._last_number
        jitter = (number * 2654435761 % 2**32) / 2**32  # a multiplicative hash: spread, and the same at each replay
        expires_at = at + self.max_age_s * (1 - AGE_JITTER * jitter)
        member = Member(number, fleet, at, expires_at, invocations=1)
        fleet.members[number] = member
        self.members[number] = member
        self._memory_bytes += RESERVE_BYTES
        self._effects.append(Start(number, invocation))

    # Idle, kept, gone

    def _environment_idle(self, event: EnvironmentIdle) -> None:
        member = self.members[event.number]
        if not member.busy:
            return
        member.busy = False
        member.fleet.settling.discard(member.number)
        self.leases.give_back()
        if member.retiring:
            self._wait_no_longer_than_settling(event.at, member.fleet)
            return
        if member.fleet.obsolete or self.stopping or event.at >= member.expires_at:
            self._retire(member, "obsolete" if member.fleet.obsolete else "stopping" if self.stopping else "age")
            self._wait_no_longer_than_settling(event.at, member.fleet)
            return
        if member.fleet.waiting:
            _, invocation = member.fleet.waiting.popleft()  # its lease was taken when it began to wait
            member.busy = True
            member.invocations += 1
            self._effects.append(Assign(member.number, invocation))
            return
        member.idle_since = event.at
        member.fleet.idle[member.number] = member
        if not member.timed:
            member.timed = True
            self._push_timer(member)

    def _wait_no_longer_than_settling(self, at: float, fleet: Fleet) -> None:
        """Nobody waits for more environments than are about to be idle."""
        while len(fleet.waiting) > len(fleet.settling):
            _, invocation = fleet.waiting.pop()
            self.leases.give_back()
            self._start_for(at, invocation)

    def _environment_gone(self, event: EnvironmentGone) -> None:
        member = self.members.pop(event.number)
        fleet = member.fleet
        fleet.settling.discard(member.number)
        if member.busy:
            self.leases.give_back()
        fleet.idle.pop(member.number, None)
        del fleet.members[member.number]
        self._wait_no_longer_than_settling(event.at, fleet)
        if not fleet.members:
            self.fleets.pop(fleet.key, None)

    def _retire(self, member: Member, reason: str) -> None:
        if not member.retiring:
            member.retiring = True
            member.fleet.idle.pop(member.number, None)
            self._effects.append(Retire(member.number, reason))

    def _retire_asked(self, event: RetireAsked) -> None:
        member = self.members.get(event.number)
        if member is not None:
            self._retire(member, event.reason)

    def _function_changed(self, event: FunctionChanged) -> None:
        for fleet in list(self.fleets.values()):
            arn, version, generation = fleet.key
            if arn == event.function_arn and version == event.version and generation != event.generation:
                fleet.obsolete = True
                for member in list(fleet.members.values()):
                    self._retire(member, "updated" if event.generation is not None else "deleted")

    def _stop_requested(self, event: StopRequested) -> None:
        self.stopping = True
        for member in list(self.members.values()):
            self._retire(member, "stopping")

    # Time

    def _due(self, member: Member) -> float:
        return min(self.keep_alive.idle_until(member), member.expires_at)

    def _push_timer(self, member: Member) -> None:
        due = self._due(member)
        heapq.heappush(self._timers, (due, member.number))
        self._set_timer(due)

    def _set_timer(self, due: float) -> None:
        if due < self._timer_at:
            self._timer_at = due
            self._effects.append(SetTimer(due))

    def _time_passed(self, event: TimePassed) -> None:
        while self._timers and self._timers[0][0] <= event.at:
            _, number = heapq.heappop(self._timers)
            member = self.members.get(number)
            if member is None:
                continue
            member.timed = False
            if member.busy or member.retiring:
                continue  # its next idleness sets a timer again
            due = self._due(member)
            if due <= event.at:
                self._retire(member, "age" if member.expires_at <= event.at else "idle")
            else:
                member.timed = True
                heapq.heappush(self._timers, (due, number))
        self._timer_at = float("inf")
        for fleet in list(self.fleets.values()):
            if fleet.waiting:
                self._wait_no_longer(event.at, fleet)
        if self._timers:
            self._set_timer(self._timers[0][0])

    # Memory

    def _memory_measured(self, event: MemoryMeasured) -> None:
        self._memory_bytes = event.used_bytes
        if event.refused:
            self._retire_least_useful()
        self._make_room(0)

    def _make_room(self, wanted_bytes: int) -> bool:
        """Retire idle environments until the budget would hold; False when it never will.

        What a retired environment frees is only known by the next measurement, so each is taken to free the reserve.
        """
        if self.memory_budget_bytes is None:
            return True
        while self._memory_bytes + wanted_bytes > self.memory_budget_bytes:
            if not self._retire_least_useful():
                return False
            self._memory_bytes -= RESERVE_BYTES
        return True

    def _retire_least_useful(self) -> bool:
        idle = (member for fleet in self.fleets.values() for member in fleet.idle.values())
        least = min(idle, key=self.keep_alive.usefulness, default=None)
        if least is None:
            return False
        self._retire(least, "memory")
        return True

    # What must hold after every event

    def invariants(self) -> Iterator[str]:
        """Broken promises, as sentences; none when all is well."""
        busy = sum(member.busy for member in self.members.values())
        waiting = sum(len(fleet.waiting) for fleet in self.fleets.values())
        if busy + waiting != self.leases.held:
            yield f"{self.leases.held} leases are held by {busy} busy environments and {waiting} who wait"
        if self.leases.held > self.leases.account_limit:
            yield f"{self.leases.held} leases over the limit of {self.leases.account_limit}"
        for key, fleet in self.fleets.items():
            yield from fleet.invariants()
            if not fleet.members:
                yield f"fleet {key} is empty"
        for member in self.members.values():
            if member.fleet.idle.get(member.number) is member and not member.timed:
                yield f"environment {member.number} is idle without a timer"

    def check(self) -> None:
        """Raise InvariantBroken, with the story, if any promise is broken."""
        broken = list(self.invariants())
        if broken:
            raise InvariantBroken("; ".join(broken) + f"\n{self.journal}")


_RULES: dict[type, Callable[[Scheduler, Any], None]] = {
    InvocationArrived: Scheduler._invocation_arrived,
    EnvironmentSettling: Scheduler._environment_settling,
    EnvironmentIdle: Scheduler._environment_idle,
    EnvironmentGone: Scheduler._environment_gone,
    FunctionChanged: Scheduler._function_changed,
    MemoryMeasured: Scheduler._memory_measured,
    RetireAsked: Scheduler._retire_asked,
    TimePassed: Scheduler._time_passed,
    StopRequested: Scheduler._stop_requested,
}
