"""What is started ahead of invocations: the rule, what the scheduler makes of it, then random walks."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import function, invocation
from test_scheduler import ARN, Traffic, feed

from lambent.core.headroom import BACK_OFF_S, STARTS_PER_S, WINDOW_S, Demand, Headroom
from lambent.core.keepalive.fixed import Fixed
from lambent.core.scheduler import RESERVE_BYTES, Scheduler
from lambent.core.scheduling import (
    Assign,
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
    ReservationChanged,
    Retire,
    Start,
    StartAhead,
    StopRequested,
    TimePassed,
)


def demand(*served: tuple[float, int]) -> Demand:
    made = Demand()
    for at, concurrency in served:
        made.served(at, concurrency)
    return made


# The rule


@pytest.mark.parametrize(
    ("served", "wanted"),
    [
        ([(0.0, 1)], 0),
        ([(0.0, 1), (WINDOW_S, 1)], 1),
        ([(0.0, 1), (WINDOW_S + 0.1, 1)], 0),
        ([(0.0, 7), (1.0, 7)], 1),
        ([(0.0, 8), (1.0, 3)], 2),
        ([(0.0, 8), (1.0, 40), (2.0, 8)], 10),
        ([(0.0, 40), (1.0, 8), (WINDOW_S, 1)], 10),
        ([(0.0, 40), (1.0, 8), (WINDOW_S + 0.5, 1)], 2),
        ([(0.0, 40), (1.0, 8), (WINDOW_S + 0.9, 2), (WINDOW_S + 1.1, 1)], 1),
    ],
)
def test_a_quarter_of_the_largest_concurrency_of_a_minute_is_kept_ready(
    served: list[tuple[float, int]], wanted: int
) -> None:
    assert demand(*served).wanted == wanted


@given(served=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 50)), min_size=1, max_size=40))
def test_the_largest_concurrency_is_that_of_every_invocation_within_the_minute(served: list[tuple[float, int]]) -> None:
    at, made, seen = 0.0, Demand(), list[tuple[float, int]]()
    for later, concurrency in served:
        before, at = at, at + later
        made.served(at, concurrency)
        seen.append((at, concurrency))
        recent = max(concurrency for when, concurrency in seen if when >= at - WINDOW_S)
        recurs = len(seen) > 1 and at - before <= WINDOW_S
        assert made.wanted == (max(1, recent // 4) if recurs else 0)


@pytest.mark.parametrize(
    ("spare", "usable", "missing"),
    [(0, 100, 5), (2, 100, 3), (5, 100, 0), (9, 100, 0), (0, 3, 3), (2, 1, 0), (0, -2, 0)],
)
def test_no_more_are_missing_than_could_be_used(spare: int, usable: int, missing: int) -> None:
    twenty = demand((0.0, 19), (1.0, 20))
    assert Headroom().missing(twenty, 1.0, spare=spare, usable=usable) == missing


def test_who_was_started_in_vain_is_followed_later_and_later_until_one_is_of_use() -> None:
    made, at = demand((0.0, 1), (1.0, 1)), 1.0
    for doubled in (1, 2, 4, 8):
        made.wasted(at)
        made.wasted(at + 0.1)  # of the same moment
        after = at + BACK_OFF_S[0] * doubled
        assert made.backs_off(after - 0.01) and not made.backs_off(after)
        at = after
    assert Headroom().missing(made, at - 0.01, spare=0, usable=9) == 0
    assert Headroom().missing(made, at, spare=0, usable=9) == 1
    for _ in range(40):
        made.wasted(at)
        at += BACK_OFF_S[1]
        assert not made.backs_off(at)
    made.of_use()
    made.wasted(at)
    assert not made.backs_off(at + BACK_OFF_S[0])


def test_only_so_many_are_admitted_in_a_second() -> None:
    made = Headroom()
    assert [made.admits(5.0) for _ in range(STARTS_PER_S + 2)] == [True] * STARTS_PER_S + [False] * 2
    later = 5.0 + 1.5 / STARTS_PER_S
    assert made.admits(later) and not made.admits(later)


# What the scheduler makes of it


def scheduler(limit: int = 100, budget: int | None = None, keep_alive_s: float = 600.0) -> Scheduler:
    return Scheduler(account_limit=limit, keep_alive=Fixed(keep_alive_s), max_age_s=14_400.0,
                     memory_budget_bytes=budget, headroom=Headroom())  # fmt: skip


def arrives(made: Scheduler, at: float, name: str = "f", generation: str = "g1") -> list[Effect]:
    return feed(made, InvocationArrived(at, invocation(f"r{at}", name=name, generation=generation)))


def shown(effects: list[Effect]) -> list[tuple[str, int]]:
    return [(type(effect).__name__, effect.number) for effect in effects
            if isinstance(effect, (Start, Assign, StartAhead, Provision, Retire))]  # fmt: skip


def in_use(made: Scheduler, name: str = "f") -> int:
    """One invocation was served at 1.0; its environment is idle."""
    effect = arrives(made, 0.0, name)[0]
    assert isinstance(effect, Start)
    feed(made, EnvironmentIdle(1.0, effect.number))
    return effect.number


def test_second_invocation_of_a_minute_has_another_environment_made_ready_and_the_first_does_not() -> None:
    made = scheduler()
    assert in_use(made) == 1
    effects = arrives(made, 2.0)
    assert shown(effects) == [("Assign", 1), ("StartAhead", 2)]
    ahead = effects[1]
    assert isinstance(ahead, StartAhead) and ahead.function.fleet == function().fleet
    feed(made, EnvironmentIdle(2.5, 2))
    assert shown(arrives(made, 3.0)) == [("Assign", 2), ("StartAhead", 3)]


def test_rare_invocations_have_nothing_made_ready() -> None:
    made = scheduler()
    in_use(made)
    assert shown(arrives(made, WINDOW_S + 0.1)) == [("Assign", 1)]


def test_without_head_room_nothing_is_started_before_it_is_needed() -> None:
    made = Scheduler(account_limit=100, keep_alive=Fixed(600.0), max_age_s=14_400.0)
    in_use(made)
    assert shown(arrives(made, 2.0)) == [("Assign", 1)]
    assert shown(arrives(made, 2.1)) == [("Start", 2)]


def test_one_caller_keeps_the_environment_it_had_and_nothing_more_is_started() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    feed(made, EnvironmentIdle(2.1, 1), EnvironmentIdle(2.5, 2))  # the one that never served is the younger one
    for at in (3.0, 4.0, 5.0):
        assert shown(arrives(made, at)) == [("Assign", 1)]
        feed(made, EnvironmentIdle(at + 0.5, 1))


def test_invocation_joins_the_one_whose_init_has_run_the_longest_instead_of_starting_another() -> None:
    made = scheduler()
    in_use(made)
    assert shown(arrives(made, 2.0)) == [("Assign", 1), ("StartAhead", 2)]
    assert shown(arrives(made, 2.1)) == [("Assign", 2), ("StartAhead", 3)]
    feed(made, EnvironmentIdle(2.9, 2))
    assert (made.members[2].invocations, made.pools.held) == (1, 1)
    for step in range(8):
        arrives(made, 10.0 + step)
    first, second = made.members[1].fleet.ahead
    assert first < second and shown(arrives(made, 20.0))[0] == ("Assign", first)


def test_cold_burst_of_a_function_in_use_keeps_a_quarter_more_than_it_needs() -> None:
    made = scheduler()
    in_use(made)
    started = [name for step in range(20) for name, _ in shown(arrives(made, 2.0 + step / 4))]
    assert started.count("Assign") == 20 and started.count("Start") == 0
    assert started.count("StartAhead") == 19 + 5  # 20 run, and a quarter of them is ready


def test_who_waited_for_a_settling_environment_counts_too() -> None:
    made = scheduler()
    arrives(made, 0.0)
    feed(made, EnvironmentSettling(1.0, 1))
    assert arrives(made, 1.001) == []
    assert shown(feed(made, EnvironmentIdle(1.002, 1))) == [("Assign", 1), ("StartAhead", 2)]


def test_of_those_who_waited_together_one_gets_what_was_started_ahead_when_another_was_served() -> None:
    made = scheduler()
    arrives(made, 0.0), arrives(made, 0.5)
    feed(made, EnvironmentSettling(1.0, 1), EnvironmentSettling(1.0, 2))
    assert arrives(made, 1.001) == arrives(made, 1.002) == []
    ahead = [member.number for member in made.members.values() if not member.invocations]
    effects = shown(feed(made, TimePassed(2.0)))
    assert ahead == [3]
    assert effects == [("Assign", 3), ("StartAhead", 4), ("Assign", 4), ("StartAhead", 5)]


def test_what_is_not_needed_goes_when_its_keep_alive_is_over() -> None:
    made = scheduler(keep_alive_s=10.0)
    in_use(made)
    arrives(made, 2.0)
    feed(made, EnvironmentIdle(2.5, 2), EnvironmentIdle(5.0, 1))
    assert shown(feed(made, TimePassed(12.5))) == [("Retire", 2)]


@pytest.mark.parametrize("bound", ["account", "reservation"])
def test_no_more_are_made_ready_than_may_run(bound: str) -> None:
    made = scheduler(limit=2 if bound == "account" else 100)
    if bound == "reservation":
        feed(made, ReservationChanged(0.0, ARN, 2))
    in_use(made)
    assert shown(arrives(made, 2.0)) == [("Assign", 1), ("StartAhead", 2)]
    assert shown(arrives(made, 2.1)) == [("Assign", 2)]


def test_no_more_are_started_in_a_second_than_the_host_bears() -> None:
    made = scheduler(limit=1000)
    in_use(made)
    started = [name for step in range(30) for name, _ in shown(arrives(made, 2.0 + step / 1e6))]
    assert (started.count("StartAhead"), started.count("Start")) == (STARTS_PER_S, 30 - 1 - STARTS_PER_S)


def test_nobody_is_retired_for_them_and_room_is_left_for_somebody_who_is_there() -> None:
    made = scheduler(budget=4 * RESERVE_BYTES)
    in_use(made), in_use(made, "other")
    feed(made, MemoryMeasured(1.5, 2 * RESERVE_BYTES + 1))
    assert shown(arrives(made, 2.0)) == [("Assign", 1)]
    feed(made, EnvironmentIdle(2.1, 1), MemoryMeasured(2.2, 2 * RESERVE_BYTES))
    assert shown(arrives(made, 3.0)) == [("Assign", 1), ("StartAhead", 3)]
    assert not made.is_tight()


@pytest.mark.parametrize("ready", [True, False])
def test_what_nobody_has_asked_for_makes_room_before_what_was_used(ready: bool) -> None:
    made = scheduler(budget=4 * RESERVE_BYTES)
    in_use(made), in_use(made, "other")
    assert shown(arrives(made, 2.0)) == [("Assign", 1), ("StartAhead", 3)]
    if ready:
        feed(made, EnvironmentIdle(2.1, 3))
    feed(made, MemoryMeasured(2.2, (4 if ready else 3) * RESERVE_BYTES))
    effects = arrives(made, 2.3, "third")
    assert shown(effects) == [("Retire", 3), ("Start", 4)]
    assert isinstance(effects[0], Retire) and effects[0].reason == "memory"


def test_update_retires_what_is_being_made_ready_and_an_old_invocation_has_nothing_made() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    assert shown(feed(made, FunctionChanged(2.1, ARN, "$LATEST", "g2"))) == [("Retire", 1), ("Retire", 2)]
    assert shown(arrives(made, 2.2)) == [("Start", 3)]
    assert shown(arrives(made, 2.3)) == [("Start", 4)]
    assert shown(arrives(made, 2.4, generation="g2")) == [("Start", 5)]
    assert shown(arrives(made, 2.5, generation="g2")) == [("Start", 6), ("StartAhead", 7)]


def test_stop_retires_what_is_being_made_ready() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    assert shown(feed(made, StopRequested(2.1))) == [("Retire", 1), ("Retire", 2)]
    feed(made, EnvironmentGone(2.2, 2), EnvironmentIdle(2.3, 1), EnvironmentGone(2.4, 1))
    assert made.members == {}


def test_provisioned_environments_are_head_room_themselves_until_they_do_not_suffice() -> None:
    made = scheduler()
    in_use(made)
    assert shown(feed(made, ProvisionChanged(1.5, function(), 1))) == [("Provision", 2)]
    assert shown(arrives(made, 2.0)) == [("Assign", 1)]  # the provisioned one is on its way
    feed(made, EnvironmentIdle(2.1, 1), EnvironmentIdle(2.2, 2))
    assert shown(arrives(made, 3.0)) == [("Assign", 2)]
    assert shown(arrives(made, 3.1)) == [("Assign", 1), ("StartAhead", 3)]
    feed(made, EnvironmentIdle(3.2, 3), EnvironmentIdle(3.3, 2))
    assert made.provision(function().fleet) == (1, 1, 1, "")


def test_who_waited_while_provisioned_environments_became_ready_has_nothing_made() -> None:
    made = scheduler()
    in_use(made)
    feed(made, ProvisionChanged(1.5, function(), 1))
    arrives(made, 2.0)
    feed(made, EnvironmentSettling(2.1, 1))
    assert arrives(made, 2.101) == []
    feed(made, EnvironmentIdle(2.102, 2))
    assert shown(feed(made, EnvironmentIdle(2.103, 1))) == [("Assign", 1)]


def test_failed_init_is_not_tried_again_at_once_and_its_environment_is_the_last_one_to_serve() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    assert feed(made, InitFailed(2.5, 2)) == []
    feed(made, EnvironmentIdle(2.6, 2), EnvironmentIdle(2.6, 1))
    assert shown(arrives(made, 2.7)) == [("Assign", 1)]
    assert shown(arrives(made, 2.8)) == [("Assign", 2)]  # and Init runs again for it
    assert shown(arrives(made, 2.9)) == [("Start", 3)]
    assert shown(arrives(made, 2.5 + BACK_OFF_S[0])) == [("Start", 4), ("StartAhead", 5)]
    feed(made, InitFailed(5.0, 5), EnvironmentIdle(5.1, 5))
    assert shown(arrives(made, 5.2)) == [("Assign", 5)]  # it was ready for nobody, and says nothing of the next one
    assert shown(arrives(made, 5.0 + 2 * BACK_OFF_S[0] - 0.1)) == [("Start", 6)]
    assert shown(arrives(made, 5.0 + 2 * BACK_OFF_S[0])) == [("Start", 7), ("StartAhead", 8)]


def test_one_that_is_gone_before_anybody_came_is_not_replaced_at_once() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    assert feed(made, EnvironmentGone(2.1, 2)) == []
    assert shown(arrives(made, 2.2)) == [("Start", 3)]
    assert shown(arrives(made, 2.1 + BACK_OFF_S[0])) == [("Start", 4), ("StartAhead", 5)]


def test_one_that_was_of_use_ends_the_doubling() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    feed(made, EnvironmentGone(2.1, 2))
    assert shown(arrives(made, 4.0)) == [("Start", 3), ("StartAhead", 4)]
    feed(made, EnvironmentIdle(4.1, 4))
    assert shown(arrives(made, 4.2)) == [("Assign", 4), ("StartAhead", 5)]
    feed(made, EnvironmentGone(4.3, 5))
    assert shown(arrives(made, 4.3 + BACK_OFF_S[0])) == [("Start", 6), ("StartAhead", 7)]


def test_failed_init_of_one_that_was_asked_for_meanwhile_is_its_invocation_s() -> None:
    made = scheduler()
    in_use(made)
    arrives(made, 2.0)
    assert shown(arrives(made, 2.1)) == [("Assign", 2), ("StartAhead", 3)]
    feed(made, InitFailed(2.2, 2))
    assert shown(arrives(made, 2.3)) == [("Assign", 3), ("StartAhead", 4)]


# Random walks


class Expecting(Traffic):
    """Traffic on a scheduler with head-room. Whatever is started ahead had to be allowed just then."""

    def __init__(self, made: Scheduler) -> None:
        super().__init__(made)
        self.starts: deque[float] = deque()

    def feed(self, event: Event) -> None:
        effects = self.made.handle(event)
        self.made.check()
        for effect in effects:
            if isinstance(effect, Assign):
                self.initialising.discard(effect.number)
            if isinstance(effect, StartAhead):
                self.initialising.add(effect.number)
                self.judge(effect, effects)
        self.note(effects)

    def judge(self, effect: StartAhead, effects: list[Effect]) -> None:
        made, member = self.made, self.made.members[effect.number]
        fleet = member.fleet
        assert not made.stopping and not fleet.obsolete and fleet.key == effect.function.fleet
        # Of several who waited together, one may get in the same step what was started when another was served.
        given = any(isinstance(other, Assign) and other.number == effect.number for other in effects)
        assert (member.number in fleet.ahead) is not given and member.leased is given and not member.provisioned
        assert not fleet.idle
        assert len(fleet.ahead) <= fleet.leases.left(fleet.arn)
        assert not any(isinstance(other, Retire) for other in effects) or any(isinstance(e, Start) for e in effects)
        self.starts.append(self.at)
        while self.starts[0] < self.at - 1.0:
            self.starts.popleft()
        assert len(self.starts) <= 2 * STARTS_PER_S  # what a full bucket holds, and what runs into it meanwhile


WALK = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 1000)), max_size=120)


@settings(max_examples=800, deadline=None)
@given(steps=WALK, limit=st.integers(1, 12), budget=st.sampled_from([None, 4, 8, 16]))
def test_random_traffic_keeps_every_promise(steps: list[tuple[int, int]], limit: int, budget: int | None) -> None:
    made = scheduler(limit, None if budget is None else budget * RESERVE_BYTES, keep_alive_s=5.0)
    world = Expecting(made)
    for kind, choice in steps:
        if kind == 14:
            world.feed(MemoryMeasured(world.at, choice % 10 * RESERVE_BYTES, refused=choice % 7 == 0))
        elif kind == 15:
            world.step(0, choice)  # more invocations than in the walks without head-room
        else:
            world.step(kind, choice)
    world.feed(StopRequested(world.at))
    assert not any(fleet.ahead for fleet in made.fleets.values())
    for number in sorted(made.members):
        world.lose(number)
    assert made.pools.held == 0 and made.members == {}
    assert all(count == 1 for count in world.fates.values())
