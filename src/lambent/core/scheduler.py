"""The machine of all environments together: which one serves an invocation, when one is started, kept and retired.

It composes: `concurrency` says who may run, `fleet` which idle environment serves, `keepalive` how long one is kept.
`dispatcher.py` drives it live; a simulator can drive the same object in virtual time. Environments are numbers here;
drivers give them names. A synchronous invocation does not queue: it is assigned, started or refused at once, as on
AWS. One exception: where an environment has just answered and is about to be idle, the invocation waits for it for a
moment, or a caller that sends one request after the other would get a new environment for each.

Memory: MemorySize is a ceiling, not a reservation. Admission counts what was measured last, plus a reserve for each
environment that is being initialised; when that passes the budget, the least useful idle environments go first.

Longer than 400 lines because vocabulary and rules are read as one text.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lambent.core.concurrency import Pools
from lambent.core.fleet import Fleet, FleetKey, Member
from lambent.core.journal import IllegalEvent, InvariantBroken, Journal
from lambent.core.keepalive.base import KeepAlive
from lambent.core.model import FunctionVersion, Invocation

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
    """A provisioned environment could not be initialised; EnvironmentGone follows."""

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
Effect = Assign | Start | Provision | Refuse | Retire | SetTimer


class Scheduler:
    """Every fleet. `handle` is the only method that changes it."""

    def __init__(self, *, account_limit: int, keep_alive: KeepAlive, max_age_s: float,
                 memory_budget_bytes: int | None = None) -> None:
        self.pools = Pools(account_limit)
        self.keep_alive = keep_alive
        self.max_age_s = max_age_s
        self.memory_budget_bytes = memory_budget_bytes
        self.journal = Journal()
        self.fleets: dict[FleetKey, Fleet] = {}
        self.members: dict[int, Member] = {}
        self.stopping = False
        #: what to start more of; for every fleet that wants provisioned environments
        self._provisioned_functions: dict[FleetKey, FunctionVersion] = {}
        self._last_number = 0
        self._measured_bytes = 0
        self._starting = 0  #: members that are being initialised, of which a measurement has not seen everything
        self._leaving: set[int] = set()  #: members retired for memory that still have it
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
        self.journal.add(event, None, None, tuple(effects))
        return effects

    # Assignment

    def _invocation_arrived(self, event: InvocationArrived) -> None:
        invocation = event.invocation
        if self.stopping:
            self._effects.append(Refuse(invocation, "ServiceStopping"))
            return
        fleet = self.fleets.get(invocation.function.fleet)
        if fleet is not None and fleet.ready and fleet.idle_provisioned:
            self._assign(fleet, invocation)
            return
        arn = invocation.function.function_arn
        leases = fleet.leases if fleet is not None else self.pools.of(arn)
        reason = leases.refusal(arn, event.at)
        if reason is not None:
            self._effects.append(Refuse(invocation, reason))
        elif fleet is not None and fleet.idle:
            self._assign(fleet, invocation)
        elif fleet is not None and len(fleet.settling) > len(fleet.waiting):
            leases.take(arn)
            due = event.at + SETTLE_S
            fleet.waiting.append((due, invocation))
            self._set_timer(due)
        else:
            self._start_for(event.at, invocation)

    def _assign(self, fleet: Fleet, invocation: Invocation) -> None:
        member = fleet.take()
        assert member is not None
        member.busy = True
        member.invocations += 1
        if not member.provisioned:
            member.leased = True
            fleet.leases.take(fleet.arn)
        self._effects.append(Assign(member.number, invocation))

    def _start_for(self, at: float, invocation: Invocation) -> None:
        if not self._make_room(RESERVE_BYTES):
            self._effects.append(Refuse(invocation, "MemoryExhausted"))
            return
        fleet = self._fleet(invocation.function.fleet)
        member = self._add(at, fleet)
        member.invocations = 1
        member.leased = True
        fleet.leases.take(fleet.arn)
        self._effects.append(Start(member.number, invocation))

    def _fleet(self, key: FleetKey) -> Fleet:
        fleet = self.fleets.get(key)
        if fleet is None:
            fleet = self.fleets[key] = Fleet(key, self.pools.of(key[0]))
        return fleet

    def _add(self, at: float, fleet: Fleet, provisioned: bool = False) -> Member:
        self._last_number += 1
        number = self._last_number
        jitter = (number * 2654435761 % 2**32) / 2**32  # a multiplicative hash: spread, and the same at each replay
        expires_at = at + self.max_age_s * (1 - AGE_JITTER * jitter)
        member = Member(number, fleet, at, expires_at, provisioned)
        fleet.members[number] = member
        self.members[number] = member
        self._starting += 1
        return member

    def _release(self, member: Member) -> None:
        if member.leased:
            member.leased = False
            member.fleet.leases.give_back(member.fleet.arn)

    def _environment_settling(self, event: EnvironmentSettling) -> None:
        member = self.members.get(event.number)
        if member is not None and member.busy and not member.retiring:
            self._is_up(member)
            member.fleet.settling.add(member.number)

    def _is_up(self, member: Member) -> None:
        if member.starting:
            member.starting = False
            self._starting -= 1

    def _wait_no_longer(self, fleet: Fleet, at: float, until: float) -> None:
        """Start environments for those whose time is over, and for those who wait for more than will be idle."""
        while fleet.waiting and (fleet.waiting[0][0] <= until or len(fleet.waiting) > len(fleet.settling)):
            _, invocation = fleet.waiting.popleft()
            fleet.leases.give_back(fleet.arn)
            self._start_for(at, invocation)
        if fleet.waiting:
            self._set_timer(fleet.waiting[0][0])

    # Idle, kept, gone

    def _environment_idle(self, event: EnvironmentIdle) -> None:
        member = self.members[event.number]
        if not member.busy:
            return
        fleet = member.fleet
        member.busy = False
        self._is_up(member)
        fleet.settling.discard(member.number)
        self._release(member)
        if not member.retiring:
            if fleet.obsolete or self.stopping or event.at >= member.expires_at:
                self._retire(member, "updated" if fleet.obsolete else "stopping" if self.stopping else "age")
            elif fleet.waiting and not member.provisioned:
                self._serve_waiting(member)
            else:
                self._rest(event.at, member)
        self._wait_no_longer(fleet, event.at, float("-inf"))
        if member.provisioned and not fleet.ready:
            self._judge_provision(event.at, fleet)

    def _serve_waiting(self, member: Member) -> None:
        _, invocation = member.fleet.waiting.popleft()  # its lease was taken when it began to wait
        member.busy = True
        member.leased = True
        member.invocations += 1
        self._effects.append(Assign(member.number, invocation))

    def _rest(self, at: float, member: Member) -> None:
        member.idle_since = at
        member.fleet.put(member)
        if not member.timed:
            member.timed = True
            self._push_timer(member)

    def _environment_gone(self, event: EnvironmentGone) -> None:
        member = self.members.pop(event.number)
        self._leaving.discard(event.number)
        fleet = member.fleet
        self._is_up(member)
        fleet.settling.discard(member.number)
        self._release(member)
        fleet.drop(member)
        del fleet.members[member.number]
        self._wait_no_longer(fleet, event.at, float("-inf"))
        self._judge_provision(event.at, fleet)
        self._forget_if_empty(fleet)

    def _forget_if_empty(self, fleet: Fleet) -> None:
        if not fleet.members and not fleet.wanted:
            self.fleets.pop(fleet.key, None)

    def _retire(self, member: Member, reason: str) -> None:
        if not member.retiring:
            member.retiring = True
            member.fleet.drop(member)
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
                self._want(fleet, 0)
                for member in list(fleet.members.values()):
                    self._retire(member, "updated" if event.generation is not None else "deleted")
                self._forget_if_empty(fleet)

    def _stop_requested(self, event: StopRequested) -> None:
        self.stopping = True
        for fleet in list(self.fleets.values()):
            for _, invocation in fleet.waiting:
                fleet.leases.give_back(fleet.arn)
                self._effects.append(Refuse(invocation, "ServiceStopping"))
            fleet.waiting.clear()
            self._want(fleet, 0)
            self._forget_if_empty(fleet)
        for member in list(self.members.values()):
            self._retire(member, "stopping")

    # Reserved and provisioned concurrency

    def _reservation_changed(self, event: ReservationChanged) -> None:
        self.pools.of(event.function_arn).reserve(event.function_arn, event.concurrency)

    def _provision_changed(self, event: ProvisionChanged) -> None:
        if self.stopping:
            return
        fleet = self._fleet(event.function.fleet)
        self._provisioned_functions[fleet.key] = event.function
        fleet.failure = ""
        if event.wanted > fleet.wanted:
            fleet.ready = False
        self._want(fleet, event.wanted)
        self._judge_provision(event.at, fleet)
        self._forget_if_empty(fleet)

    def _want(self, fleet: Fleet, wanted: int) -> None:
        if fleet.wanted == wanted:
            return
        fleet.wanted = wanted
        if not wanted:
            fleet.ready = False
            self._provisioned_functions.pop(fleet.key, None)
        total = sum(other.wanted for other in self.fleets.values() if other.arn == fleet.arn)
        fleet.leases.set_aside(fleet.arn, total)

    def _judge_provision(self, at: float, fleet: Fleet) -> None:
        """Start what is missing, retire what is too much, and see whether all are ready."""
        kept = fleet.provisioned()
        for member in sorted(kept, key=lambda m: m.busy)[: max(0, len(kept) - fleet.wanted)]:
            self._retire(member, "not provisioned any more")
        if fleet.wanted and not fleet.failure and not self.stopping:
            function = self._provisioned_functions[fleet.key]
            for _ in range(fleet.wanted - len(kept)):
                self._effects.append(Provision(self._add(at, fleet, provisioned=True).number, function))
        if fleet.wanted and len(fleet.idle_provisioned) >= fleet.wanted:
            fleet.ready = True

    def _init_failed(self, event: InitFailed) -> None:
        member = self.members.get(event.number)
        if member is not None and member.provisioned:
            member.retiring = True  # its machine ends it by itself
            member.fleet.failure = "FUNCTION_ERROR_INIT_FAILURE"
            member.fleet.ready = False

    def provision(self, key: FleetKey) -> tuple[int, int, int, str]:
        """Of one version: environments wanted, allocated, available, and why an Init failed (empty when none did)."""
        fleet = self.fleets.get(key)
        if fleet is None:
            return 0, 0, 0, ""
        kept = fleet.provisioned()
        initialised = sum(1 for member in kept if not member.busy or member.invocations)
        return fleet.wanted, len(kept), initialised if fleet.ready else 0, fleet.failure

    # Time

    def _due(self, member: Member) -> float:
        if member.provisioned:
            return member.expires_at
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
                self._wait_no_longer(fleet, event.at, event.at)
        if self._timers:
            self._set_timer(self._timers[0][0])

    def _clock_advanced(self, event: ClockAdvanced) -> None:
        """What was due meanwhile is due now. Who waits for a settling environment has not waited any longer."""
        for fleet in self.fleets.values():
            for index, (until, invocation) in enumerate(fleet.waiting):
                fleet.waiting[index] = (until + event.seconds, invocation)
        self._time_passed(TimePassed(event.at))

    # Memory

    def _memory_measured(self, event: MemoryMeasured) -> None:
        self._measured_bytes = event.used_bytes
        if event.refused:
            self._retire_least_useful()
        self._make_room(0)

    def is_tight(self) -> bool:
        """Whether one more environment might be too much as far as is known: a reason to measure anew."""
        return not self._has_room(RESERVE_BYTES)

    def is_short(self) -> bool:
        """Whether so much is used that an environment that works could take the rest before anybody is retired."""
        return not self._has_room((self.memory_budget_bytes or 0) // 4)

    def _has_room(self, wanted_bytes: int) -> bool:
        if self.memory_budget_bytes is None:
            return True
        expected = self._measured_bytes + (self._starting - len(self._leaving)) * RESERVE_BYTES
        return expected + wanted_bytes <= self.memory_budget_bytes

    def _make_room(self, wanted_bytes: int) -> bool:
        """Retire idle environments until the budget would hold; False when it never will.

        What a retired environment frees is only known by the next measurement, so each is taken to free the reserve.
        """
        while not self._has_room(wanted_bytes):
            if not self._retire_least_useful():
                return False
        return True

    def _retire_least_useful(self) -> bool:
        idle = (member for fleet in self.fleets.values() for member in fleet.idle.values())
        least = min(idle, key=self.keep_alive.usefulness, default=None)
        if least is None:
            return False
        self._retire(least, "memory")
        self._leaving.add(least.number)
        return True

    # What must hold after every event

    def invariants(self) -> Iterator[str]:
        """Broken promises, as sentences; none when all is well."""
        leased = sum(member.leased for member in self.members.values())
        waiting = sum(len(fleet.waiting) for fleet in self.fleets.values())
        if leased + waiting != self.pools.held:
            yield f"{self.pools.held} leases are held by {leased} environments and {waiting} who wait"
        yield from self.pools.invariants()
        if sum(member.starting for member in self.members.values()) != self._starting:
            yield f"{self._starting} environments are counted as starting"
        for key, fleet in self.fleets.items():
            yield from fleet.invariants()
            if not fleet.members and not fleet.wanted:
                yield f"fleet {key} is empty"
        for member in self.members.values():
            if member.fleet.is_idle(member) and not member.timed:
                yield f"environment {member.number} is idle without a timer"
            if member.starting and not member.busy:
                yield f"environment {member.number} is idle and still starting"
            if member.leased and (not member.busy or member.provisioned):
                yield f"environment {member.number} holds a lease that it does not need"

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
    ReservationChanged: Scheduler._reservation_changed,
    ProvisionChanged: Scheduler._provision_changed,
    InitFailed: Scheduler._init_failed,
    RetireAsked: Scheduler._retire_asked,
    TimePassed: Scheduler._time_passed,
    ClockAdvanced: Scheduler._clock_advanced,
    StopRequested: Scheduler._stop_requested,
}
