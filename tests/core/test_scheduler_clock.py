"""What the scheduler does when platform time is moved on by hand."""

from __future__ import annotations

from playbook import invocation
from test_scheduler import feed, one, scheduler, started

from lambent.core.scheduler import SETTLE_S
from lambent.core.scheduling import (
    Assign,
    ClockAdvanced,
    EnvironmentIdle,
    EnvironmentSettling,
    InvocationArrived,
    Retire,
    SetTimer,
)


def test_what_was_due_meanwhile_is_retired_at_once() -> None:
    made = scheduler(keep_alive_s=600.0)
    first, second = started(made, 0.0, "r1"), started(made, 0.0, "r2")
    feed(made, EnvironmentIdle(1.0, first), EnvironmentIdle(400.0, second))
    retired = one(feed(made, ClockAdvanced(700.0, 290.0)))
    assert isinstance(retired, Retire)
    assert (retired.number, retired.reason) == (first, "idle")


def test_timer_is_set_anew_for_what_is_not_due_yet() -> None:
    made = scheduler(keep_alive_s=600.0)
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentIdle(1.0, number))
    effects = made.handle(ClockAdvanced(500.0, 490.0))
    assert [effect.at for effect in effects if isinstance(effect, SetTimer)] == [601.0]


def test_age_that_passed_meanwhile_is_told_as_age_and_a_busy_one_is_retired_when_it_is_idle() -> None:
    made = scheduler(keep_alive_s=1e6)
    idle, busy = started(made, 0.0, "r1"), started(made, 0.0, "r2")
    feed(made, EnvironmentIdle(1.0, idle))
    retired = one(feed(made, ClockAdvanced(18_000.0, 17_990.0)))
    assert isinstance(retired, Retire)
    assert (retired.number, retired.reason) == (idle, "age")
    later = one(feed(made, EnvironmentIdle(18_001.0, busy)))
    assert isinstance(later, Retire) and later.reason == "age"


def test_who_waits_for_an_environment_that_is_about_to_be_idle_goes_on_waiting() -> None:
    made = scheduler()
    number = started(made, 0.0, "r1")
    feed(made, EnvironmentSettling(1.0, number), InvocationArrived(1.0, invocation("r2")))
    effects = made.handle(ClockAdvanced(3601.0, 3600.0))
    assert [type(effect) for effect in effects] == [SetTimer]
    assert effects[0].at == 3601.0 + SETTLE_S  # type: ignore[union-attr]
    assert isinstance(one(feed(made, EnvironmentIdle(3601.001, number))), Assign)
