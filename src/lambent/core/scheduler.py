"""The machine of all environments together: which one serves an invocation, when one is started, kept and retired.

It composes: `concurrency` says who may run, `fleet` which idle environment serves, `keepalive` how long one is kept,
`headroom` how many are started before anybody needs them.
`dispatcher.py` drives it live; a simulator can drive the same object in virtual time. Environments are numbers here;
drivers give them names. A synchronous invocation does not queue: it is assigned, started or refused at once, as on
AWS. One exception: where an environment has just answered and is about to be idle, the invocation waits for it for a
moment, or a caller that sends one request after the other would get a new environment for each.

Memory: MemorySize is a ceiling, not a reservation. Admission counts what was measured last, plus a reserve for each
environment that is being initialised; when that passes the budget, the least useful idle environments go first.

Events and effects stand in `scheduling`. Longer than 400 lines because the rules are read as one text.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from lambent.core.concurrency import Pools
from lambent.core.fleet import Fleet, FleetKey, Member, recycled_at
from lambent.core.headroom import Headroom
from lambent.core.journal import IllegalEvent, InvariantBroken, Journal
from lambent.core.keepalive.base import KeepAlive
from lambent.core.model import FunctionVersion, Invocation
from lambent.core.scheduling import (
    Assign,
    ClockAdvanced,
    Effect,
    EnvironmentGone,
    EnvironmentIdle,
    EnvironmentSettling,
    Event,
    FunctionChanged,
    InitFailed,
    InvocationArrived,
    MemoryMeasured,
    Provision,
    ProvisionChanged,
    Refuse,
    ReservationChanged,
    Retire,
    RetireAsked,
    SetTimer,
    Start,
    StartAhead,
    StopRequested,
    TimePassed,
)  # fmt: skip

#: What a starting environment is taken to need until memory is measured again (Python with its imports).
RESERVE_BYTES = 32 * 1024 * 1024
#: How long an invocation waits for an environment that is about to be idle, before one is started for it.
SETTLE_S = 0.02


class Scheduler:
    """Every fleet. `handle` is the only method that changes it."""

    def __init__(self, *, account_limit: int, keep_alive: KeepAlive, max_age_s: float,
                 memory_budget_bytes: int | None = None, headroom: Headroom | None = None) -> None:
        self.pools = Pools(account_limit)
        self.keep_alive = keep_alive
        self.max_age_s = max_age_s
        self.memory_budget_bytes = memory_budget_bytes
        self.headroom = headroom  #: None: nothing is started before it is needed
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
            self._look_ahead(event.at, fleet, invocation)
        elif fleet is not None and len(fleet.settling) > len(fleet.waiting):
            fleet.take_lease()
            due = event.at + SETTLE_S
            fleet.waiting.append((due, invocation))
            self._set_timer(due)
        else:
            self._start_for(event.at, invocation)

    def _assign(self, fleet: Fleet, invocation: Invocation) -> None:
        member = fleet.take()
        assert member is not None
        fleet.serve(member)
        self._effects.append(Assign(member.number, invocation))

    def _start_for(self, at: float, invocation: Invocation) -> None:
        fleet = self.fleets.get(invocation.function.fleet)
        if fleet is not None and fleet.ahead:
            self._assign(fleet, invocation)  # its Init has begun, so it is ready before a new one would be
        elif not self._make_room(RESERVE_BYTES):
            self._effects.append(Refuse(invocation, "MemoryExhausted"))
            return
        else:
            fleet = self._fleet(invocation.function.fleet)
            member = self._add(at, fleet)
            fleet.serve(member)
            self._effects.append(Start(member.number, invocation))
        self._look_ahead(at, fleet, invocation)

    def _look_ahead(self, at: float, fleet: Fleet, served: Invocation) -> None:
        """An invocation got an environment; start those that the next ones will need. Nobody is retired for them."""
        if self.headroom is None:
            return
        fleet.demand.served(at, fleet.running)
        if fleet.idle or fleet.obsolete or fleet.is_provided:
            return
        usable = fleet.leases.left(fleet.arn)
        for _ in range(self.headroom.missing(fleet.demand, at, spare=len(fleet.ahead), usable=usable)):
            # Twice: one more must still be possible for somebody who is there.
            if not self._has_room(2 * RESERVE_BYTES) or not self.headroom.admits(at):
                break
            member = self._add(at, fleet)
            fleet.ahead[member.number] = member
            self._effects.append(StartAhead(member.number, served.function))

    def _fleet(self, key: FleetKey) -> Fleet:
        fleet = self.fleets.get(key)
        if fleet is None:
            fleet = self.fleets[key] = Fleet(key, self.pools.of(key[0]))
        return fleet

    def _add(self, at: float, fleet: Fleet, provisioned: bool = False) -> Member:
        self._last_number += 1
        number = self._last_number
        member = Member(number, fleet, at, recycled_at(number, at, self.max_age_s), provisioned)
        fleet.members[number] = member
        self.members[number] = member
        self._starting += 1
        return member

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
            fleet.give_lease_back()
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
        fleet.ahead.pop(member.number, None)
        fleet.settling.discard(member.number)
        fleet.release(member)
        if not member.retiring:
            if fleet.obsolete or self.stopping or event.at >= member.expires_at:
                self._retire(member, "updated" if fleet.obsolete else "stopping" if self.stopping else "age")
            elif fleet.waiting and not member.provisioned:
                self._serve_waiting(event.at, member)
            else:
                self._rest(event.at, member)
        self._wait_no_longer(fleet, event.at, float("-inf"))
        if member.provisioned and not fleet.ready:
            self._judge_provision(event.at, fleet)

    def _serve_waiting(self, at: float, member: Member) -> None:
        fleet = member.fleet
        _, invocation = fleet.waiting.popleft()
        fleet.give_lease_back()  # taken when it began to wait
        fleet.serve(member)
        self._effects.append(Assign(member.number, invocation))
        self._look_ahead(at, fleet, invocation)

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
        fleet.release(member)
        if not (member.invocations or member.provisioned):
            fleet.demand.wasted(event.at)
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
                fleet.give_lease_back()
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
        elif member is not None and member.fleet.ahead.pop(event.number, None) is not None:
            member.failed = True  # the invocation that gets it has Init run again
            member.fleet.demand.wasted(event.at)

    def provision(self, key: FleetKey) -> tuple[int, int, int, str]:
        """Of one version: environments wanted, allocated, available, and why an Init failed (empty when none did)."""
        fleet = self.fleets.get(key)
        return fleet.provision() if fleet is not None else (0, 0, 0, "")

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
        spare = (member for fleet in self.fleets.values() for member in (*fleet.ahead.values(), *fleet.idle.values()))
        least = min(spare, key=self._usefulness, default=None)
        if least is None:
            return False
        self._retire(least, "memory")
        self._leaving.add(least.number)
        return True

    def _usefulness(self, member: Member) -> tuple[bool, float]:
        return member.invocations > 0, self.keep_alive.usefulness(member)  # nobody has missed the others so far

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
