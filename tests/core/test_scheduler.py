"""Which environment serves, which is started, kept and retired: situations, then random walks."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import function, invocation

from lambent.core.journal import IllegalEvent
from lambent.core.keepalive.fixed import Fixed
from lambent.core.model import Invocation
from lambent.core.scheduler import RESERVE_BYTES, SETTLE_S, Scheduler
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
    StopRequested,
    TimePassed,
)

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


def scheduler(limit: int = 10, budget: int | None = None, keep_alive_s: float = 600.0) -> Scheduler:
    return Scheduler(account_limit=limit, keep_alive=Fixed(keep_alive_s), max_age_s=14_400.0,
                     memory_budget_bytes=budget)


def feed(made: Scheduler, *events: Event) -> list[Effect]:
    """The effects of the last event, timers aside."""
    effects: list[Effect] = []
    for event in events:
        effects = made.handle(event)
        made.check()
    return [effect for effect in effects if not isinstance(effect, SetTimer)]


def one(effects: list[Effect]) -> Effect:
    assert len(effects) == 1, effects
    return effects[0]


def started(made: Scheduler, at: float, request_id: str, generation: str = "g1") -> int:
    effect = one(feed(made, InvocationArrived(at, invocation(request_id, generation=generation))))
    assert isinstance(effect, Start)
    return effect.number


def test_parallel_invocations_each_get_an_environment_and_later_ones_the_most_recently_used() -> None:
    made = scheduler()
    numbers = [started(made, 0.0, f"r{i}") for i in range(3)]
    assert len(set(numbers)) == 3
    feed(made, EnvironmentIdle(1.0, numbers[1]), EnvironmentIdle(2.0, numbers[0]), EnvironmentIdle(3.0, numbers[2]))
    effect = one(feed(made, InvocationArrived(4.0, invocation("r9"))))
    assert isinstance(effect, Assign)
    assert effect.number == numbers[2]


def test_environment_of_another_generation_never_serves() -> None:
    made = scheduler()
    old = started(made, 0.0, "r1")
    feed(made, EnvironmentIdle(1.0, old))
    assert started(made, 2.0, "r2", generation="g2") != old


def test_over_the_account_limit_an_invocation_is_throttled_with_the_reason_and_starts_nothing() -> None:
    made = scheduler(limit=1)
    number = started(made, 0.0, "r1")
    effect = one(feed(made, InvocationArrived(0.1, invocation("r2"))))
    assert isinstance(effect, Refuse)
    assert effect.reason == "ConcurrentInvocationLimitExceeded"
    feed(made, EnvironmentIdle(1.0, number))
    assert isinstance(one(feed(made, InvocationArrived(1.1, invocation("r3")))), Assign)


def test_update_retires_idle_environments_at_once_and_busy_ones_too() -> None:
    made = scheduler()
    first, second = started(made, 0.0, "r1"), started(made, 0.0, "r2")
    feed(made, EnvironmentIdle(1.0, first))
    effects = feed(made, FunctionChanged(2.0, ARN, "$LATEST", "g2"))
    assert {effect.number for effect in effects if isinstance(effect, Retire)} == {first, second}
    assert feed(made, EnvironmentIdle(3.0, second)) == []


def test_deleting_a_version_retires_its_environments_and_no_others() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    started(made, 0.0, "r2", generation="g2")
    effects = feed(made, FunctionChanged(1.0, ARN, "7", None))
    assert effects == []
    effects = feed(made, FunctionChanged(1.0, ARN, "$LATEST", "g2"))
    assert [effect.number for effect in effects if isinstance(effect, Retire)] == [number]


def test_idle_environment_is_retired_when_its_keep_alive_is_over_and_not_before() -> None:
    made = scheduler(keep_alive_s=10.0)
    number = started(made, 0.0, "r1")
    effects = made.handle(EnvironmentIdle(1.0, number))
    assert [effect.at for effect in effects if isinstance(effect, SetTimer)] == [11.0]
    assert feed(made, TimePassed(10.9)) == []
    retired = one(feed(made, TimePassed(11.0)))
    assert isinstance(retired, Retire)
    assert retired.reason == "idle"


def test_use_postpones_the_keep_alive() -> None:
    made = scheduler(keep_alive_s=10.0)
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentIdle(1.0, number), InvocationArrived(8.0, invocation("r2")), EnvironmentIdle(9.0, number))
    effects = made.handle(TimePassed(11.0))
    assert [effect.at for effect in effects if isinstance(effect, SetTimer)] == [19.0]
    assert isinstance(one(feed(made, TimePassed(19.0))), Retire)


def test_environment_over_its_maximum_age_is_retired_when_it_becomes_idle() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    retired = one(feed(made, EnvironmentIdle(14_400.0, number)))
    assert isinstance(retired, Retire)
    assert retired.reason == "age"


def test_environments_of_one_moment_are_recycled_over_the_last_tenth_of_the_maximum_age() -> None:
    made = scheduler(limit=1000)
    ages = sorted(made.members[started(made, 0.0, f"r{i}")].expires_at / 14_400 for i in range(200))
    assert 0.9 <= ages[0] < 0.905 and 0.995 < ages[-1] <= 1.0
    assert max(later - earlier for earlier, later in itertools.pairwise(ages)) < 0.002


def test_invocation_waits_for_an_environment_that_has_just_answered() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentSettling(1.0, number))
    assert feed(made, InvocationArrived(1.001, invocation("r2"))) == []
    effect = one(feed(made, EnvironmentIdle(1.002, number)))
    assert isinstance(effect, Assign)
    assert effect.invocation.request_id == "r2"


def test_invocation_that_waited_in_vain_gets_an_environment_of_its_own() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentSettling(1.0, number), InvocationArrived(1.0, invocation("r2")))
    assert isinstance(one(feed(made, TimePassed(1.0 + SETTLE_S))), Start)


def test_invocation_that_waits_for_an_environment_that_dies_gets_another() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentSettling(1.0, number), InvocationArrived(1.0, invocation("r2")))
    assert isinstance(one(feed(made, EnvironmentGone(1.001, number))), Start)


def test_memory_over_the_budget_retires_the_longest_idle_first() -> None:
    made = scheduler(budget=10 * RESERVE_BYTES)
    first, second = started(made, 0.0, "r1"), started(made, 0.0, "r2")
    feed(made, EnvironmentIdle(1.0, first), EnvironmentIdle(2.0, second))
    retired = one(feed(made, MemoryMeasured(3.0, 10 * RESERVE_BYTES + 1)))
    assert isinstance(retired, Retire)
    assert (retired.number, retired.reason) == (first, "memory")


def test_environment_that_leaves_for_memory_counts_until_it_is_gone() -> None:
    """It takes a moment until its memory is free: nobody else has to go for the same bytes."""
    made = scheduler(budget=10 * RESERVE_BYTES)
    first, second = started(made, 0.0, "r1"), started(made, 0.0, "r2")
    feed(made, EnvironmentIdle(1.0, first), EnvironmentIdle(2.0, second))
    assert isinstance(one(feed(made, MemoryMeasured(3.0, 10 * RESERVE_BYTES + 1))), Retire)
    assert feed(made, MemoryMeasured(3.1, 11 * RESERVE_BYTES)) == []
    feed(made, EnvironmentGone(3.2, first))
    retired = one(feed(made, MemoryMeasured(3.3, 11 * RESERVE_BYTES)))
    assert isinstance(retired, Retire) and retired.number == second


def test_reserve_is_held_only_while_an_environment_is_initialised() -> None:
    made = scheduler(budget=2 * RESERVE_BYTES)
    numbers = []
    for i in range(20):
        assert not made.is_tight()
        numbers.append(started(made, float(i), f"r{i}"))
        feed(made, EnvironmentIdle(i + 0.5, numbers[-1]), RetireAsked(i + 0.6, numbers[-1], "asked"))
    started(made, 30.0, "a")
    started(made, 30.0, "b")
    assert made.is_tight()


def test_refused_allocation_retires_one_idle_environment() -> None:
    made = scheduler(budget=10 * RESERVE_BYTES)
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentIdle(1.0, number))
    assert isinstance(one(feed(made, MemoryMeasured(2.0, RESERVE_BYTES, refused=True))), Retire)


def test_without_memory_an_invocation_is_refused_and_starts_nothing() -> None:
    made = scheduler(budget=RESERVE_BYTES)
    started(made, 0.0, "r1")
    effect = one(feed(made, InvocationArrived(0.1, invocation("r2"))))
    assert isinstance(effect, Refuse)
    assert effect.reason == "MemoryExhausted"


def test_stop_refuses_new_invocations_and_retires_everything() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    assert isinstance(one(feed(made, StopRequested(1.0))), Retire)
    assert isinstance(one(feed(made, InvocationArrived(1.1, invocation("r2")))), Refuse)
    feed(made, EnvironmentIdle(2.0, number), EnvironmentGone(2.1, number))
    assert made.members == {}


def test_stop_refuses_those_who_wait_for_an_environment_that_is_about_to_be_idle() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentSettling(0.1, number), InvocationArrived(0.1, invocation("r2")))
    refused, retired = feed(made, StopRequested(0.11))
    assert isinstance(refused, Refuse) and refused.invocation.request_id == "r2"
    assert isinstance(retired, Retire)
    assert feed(made, EnvironmentGone(0.12, number)) == []


def test_reserved_concurrency_is_a_ceiling_and_a_guarantee() -> None:
    made = scheduler(limit=3)
    feed(made, ReservationChanged(0.0, ARN, 1))
    number = started(made, 0.0, "r1")
    effect = one(feed(made, InvocationArrived(0.1, invocation("r2"))))
    assert isinstance(effect, Refuse)
    assert effect.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    for request_id in ("r3", "r4"):
        assert isinstance(one(feed(made, InvocationArrived(0.2, invocation(request_id, name="other")))), Start)
    effect = one(feed(made, InvocationArrived(0.3, invocation("r5", name="other"))))
    assert isinstance(effect, Refuse)
    assert effect.reason == "ConcurrentInvocationLimitExceeded"
    feed(made, EnvironmentIdle(1.0, number))
    assert isinstance(one(feed(made, InvocationArrived(1.1, invocation("r6")))), Assign)


@pytest.mark.parametrize("elsewhere", [{"account": "111111111111"}, {"region": "eu-west-1"}])
def test_each_account_and_region_has_concurrency_of_its_own(elsewhere: dict[str, Any]) -> None:
    made = scheduler(limit=2)
    feed(made, ReservationChanged(0.0, ARN, 1))
    started(made, 0.0, "r1")
    started_other = one(feed(made, InvocationArrived(0.1, invocation("r2", name="other"))))
    assert isinstance(started_other, Start)
    assert isinstance(one(feed(made, InvocationArrived(0.1, invocation("r3", name="other")))), Refuse)
    # Neither what runs here nor what is reserved here is taken from the others; the same name means another function.
    for request_id in ("r4", "r5"):
        assert isinstance(one(feed(made, InvocationArrived(0.2, invocation(request_id, **elsewhere)))), Start)
    refused = one(feed(made, InvocationArrived(0.3, invocation("r6", **elsewhere))))
    assert isinstance(refused, Refuse) and refused.reason == "ConcurrentInvocationLimitExceeded"
    feed(made, EnvironmentIdle(1.0, started_other.number))
    assert isinstance(one(feed(made, InvocationArrived(1.1, invocation("r7", **elsewhere)))), Refuse)
    assert isinstance(one(feed(made, InvocationArrived(1.1, invocation("r8", name="other")))), Assign)


def test_reserved_concurrency_of_zero_throttles_everything() -> None:
    made = scheduler()
    feed(made, ReservationChanged(0.0, ARN, 0))
    assert isinstance(one(feed(made, InvocationArrived(0.1, invocation("r1")))), Refuse)
    feed(made, ReservationChanged(0.2, ARN, None))
    assert isinstance(one(feed(made, InvocationArrived(0.3, invocation("r2")))), Start)


def provisioned(made: Scheduler, wanted: int) -> list[int]:
    effects = feed(made, ProvisionChanged(0.0, function(), wanted))
    assert all(isinstance(effect, Provision) for effect in effects)
    return [effect.number for effect in effects if isinstance(effect, Provision)]


def test_provisioned_environments_serve_only_when_all_are_ready_and_then_before_others() -> None:
    made = scheduler(limit=5)
    first, second = provisioned(made, 2)
    feed(made, EnvironmentIdle(1.0, first))
    spilled = started(made, 1.1, "r1")
    feed(made, EnvironmentIdle(1.2, spilled), EnvironmentIdle(1.3, second))
    assert made.provision(function().fleet) == (2, 2, 2, "")
    served = [one(feed(made, InvocationArrived(2.0, invocation(f"r{i}")))) for i in (2, 3, 4)]
    assert [effect.number for effect in served if isinstance(effect, Assign)] == [second, first, spilled]


def test_provisioned_capacity_is_set_aside_from_the_account() -> None:
    made = scheduler(limit=3)
    provisioned(made, 2)
    assert isinstance(one(feed(made, InvocationArrived(0.1, invocation("r1", name="other")))), Start)
    assert isinstance(one(feed(made, InvocationArrived(0.1, invocation("r2", name="other")))), Refuse)


def test_failed_init_of_a_provisioned_environment_fails_the_provision_and_stops_trying() -> None:
    made = scheduler()
    (number,) = provisioned(made, 1)
    assert feed(made, InitFailed(1.0, number), EnvironmentGone(1.1, number)) == []
    assert made.provision(function().fleet) == (1, 0, 0, "FUNCTION_ERROR_INIT_FAILURE")
    assert len(provisioned(made, 1)) == 1


def test_dead_provisioned_environment_is_replaced() -> None:
    made = scheduler()
    (number,) = provisioned(made, 1)
    feed(made, EnvironmentIdle(1.0, number))
    assert isinstance(one(feed(made, EnvironmentGone(2.0, number))), Provision)


def test_provision_taken_back_retires_its_environments() -> None:
    made = scheduler()
    numbers = provisioned(made, 2)
    feed(made, *(EnvironmentIdle(1.0, number) for number in numbers))
    effects = feed(made, ProvisionChanged(2.0, function(), 0))
    assert [effect.number for effect in effects if isinstance(effect, Retire)] == numbers


def test_news_of_an_unknown_environment_is_our_fault_and_changes_nothing() -> None:
    made = scheduler()
    with pytest.raises(IllegalEvent):
        made.handle(EnvironmentIdle(1.0, 7))
    made.check()


@settings(max_examples=600, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 1000)), max_size=120), limit=st.integers(1, 6))
def test_random_traffic_keeps_every_promise(steps: list[tuple[int, int]], limit: int) -> None:
    made = scheduler(limit=limit, budget=8 * RESERVE_BYTES, keep_alive_s=5.0)
    world = Traffic(made)
    for kind, choice in steps:
        world.step(kind, choice)
    world.feed(StopRequested(world.at))
    for number in sorted(made.members):
        world.finish(number)
    for number in sorted(made.members):
        world.lose(number)
    for _ in range(3):  # those that were started for invocations which had waited
        world.at += 1
        world.feed(TimePassed(world.at))
    assert made.pools.held == len(world.serving)
    assert all(count == 1 for count in world.fates.values())


ACCOUNTS = ("000000000000", "111111111111")


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.integers(0, 5), st.integers(0, 100)), max_size=60),
       limit=st.integers(1, 4))  # fmt: skip
def test_accounts_do_not_feel_each_other(steps: list[tuple[str, int, int]], limit: int) -> None:
    """Whatever happens to each of two accounts that share a scheduler happens to it alone with one, too."""
    shared, alone = scheduler(limit=limit), {account: scheduler(limit=limit) for account in ACCOUNTS}
    together = {account: Tenant(account, shared) for account in ACCOUNTS}
    apart = {account: Tenant(account, alone[account]) for account in ACCOUNTS}
    for at, (account, kind, choice) in enumerate(steps):
        for tenant in (together[account], apart[account]):
            tenant.step(float(at), kind, choice)
        assert together[account].seen == apart[account].seen


class Tenant:
    """One account's callers and environments. `seen` names environments by the order in which it got them."""

    def __init__(self, account: str, made: Scheduler) -> None:
        self.account = account
        self.made = made
        self.numbers: list[int] = []
        self.serving: list[int] = []
        self.seen: list[tuple[str, int | str]] = []

    def step(self, at: float, kind: int, choice: int) -> None:
        name = "fg"[choice % 2]
        asked = function(name=name, account=self.account)
        if kind == 0:
            self.feed(ReservationChanged(at, asked.function_arn, (None, 0, 1, 2)[choice % 4]))
        elif kind == 1:
            self.feed(ProvisionChanged(at, asked, choice % 3))
        elif kind == 2 and self.serving:
            self.feed(EnvironmentIdle(at, self.serving.pop(choice % len(self.serving))))
        else:
            self.feed(InvocationArrived(at, invocation(f"r{at}", name=name, account=self.account)))

    def feed(self, event: Event) -> None:
        for effect in feed(self.made, event):
            if isinstance(effect, Refuse):
                self.seen.append(("refused", effect.reason))
                continue
            assert isinstance(effect, (Assign, Start, Provision, Retire))
            if isinstance(effect, (Start, Provision)):
                self.numbers.append(effect.number)
            if not isinstance(effect, Retire):
                self.serving.append(effect.number)
            self.seen.append((type(effect).__name__, self.numbers.index(effect.number)))


class Traffic:
    """Callers and environments. Each invocation has exactly one fate: assigned, started for, or refused."""

    def __init__(self, made: Scheduler) -> None:
        self.made = made
        self.at = 0.0
        self.asked = 0
        self.generation = 1
        self.serving: dict[int, Invocation] = {}
        self.initialising: set[int] = set()
        self.fates: Counter[str] = Counter()

    def feed(self, event: Event) -> None:
        self.note(self.made.handle(event))
        self.made.check()

    def note(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign(number=number, invocation=served) | Start(number=number, invocation=served):
                    assert number not in self.serving, "one invocation at a time"
                    self.serving[number] = served
                    self.fates[served.request_id] += 1
                case Provision(number=number):
                    self.initialising.add(number)
                case Refuse(invocation=refused):
                    self.fates[refused.request_id] += 1
                case _:
                    pass

    def finish(self, number: int) -> None:
        if number in self.serving or number in self.initialising:
            self.serving.pop(number, None)
            self.initialising.discard(number)
            self.feed(EnvironmentIdle(self.at, number))

    def lose(self, number: int) -> None:
        self.serving.pop(number, None)
        self.initialising.discard(number)
        self.feed(EnvironmentGone(self.at, number))

    def step(self, kind: int, choice: int) -> None:
        self.at += 2.0 if kind in (8, 9) else 0.01
        numbers = sorted(self.made.members)
        if kind == 10:
            self.feed(ReservationChanged(self.at, ARN, (None, 0, 1, 2)[choice % 4]))
            return
        if kind == 11:
            wanted = function(generation=f"g{self.generation}")
            self.feed(ProvisionChanged(self.at, wanted, choice % 3))
            return
        if kind < 4 or not numbers:
            self.asked += 1
            self.feed(InvocationArrived(self.at, invocation(f"r{self.asked}", generation=f"g{self.generation}")))
            return
        number = numbers[choice % len(numbers)]
        match kind:
            case 4:
                if number in self.serving:
                    self.feed(EnvironmentSettling(self.at, number))
            case 5:
                self.finish(number)
            case 6:
                self.lose(number)
            case 7:
                self.feed(RetireAsked(self.at, number, "asked"))
            case 8:
                self.feed(TimePassed(self.at))
            case 13:
                self.at += choice
                self.feed(ClockAdvanced(self.at, float(choice)))
            case 12:
                if number in self.initialising:
                    self.feed(InitFailed(self.at, number))
                    (self.lose if self.made.members[number].provisioned else self.finish)(number)
            case _:
                self.generation += 1
                self.feed(FunctionChanged(self.at, ARN, "$LATEST", f"g{self.generation}"))
