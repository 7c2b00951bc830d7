"""Which versions become Inactive, and when: situations, then random walks beside a simple model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambent.core.idleness import (
    Deactivate,
    Dropped,
    Effect,
    EnvironmentGone,
    EnvironmentMade,
    Event,
    Idleness,
    Kept,
    SetTimer,
    TimePassed,
    VersionKey,
)

AFTER_S = 100.0
ONE, OTHER = ("arn:f", "$LATEST"), ("arn:f", "1")


def feed(made: Idleness, *events: Event) -> list[Effect]:
    """The effects of the last event."""
    effects: list[Effect] = []
    for event in events:
        effects = made.handle(event)
        assert list(made.invariants()) == []
    return effects


def said(effects: list[Effect]) -> list[VersionKey | float]:
    return [effect.version if isinstance(effect, Deactivate) else effect.at for effect in effects]


def test_version_that_nobody_uses_is_deactivated_when_its_time_is_over_and_not_before() -> None:
    made = Idleness(AFTER_S)
    assert said(feed(made, Kept(1.0, ONE))) == [101.0]
    assert said(feed(made, TimePassed(100.9))) == [101.0]
    assert said(feed(made, TimePassed(101.0))) == [ONE]
    assert feed(made, TimePassed(500.0)) == []


def test_version_is_in_use_while_it_has_environments_and_idle_since_the_last_one_went() -> None:
    made = Idleness(AFTER_S)
    feed(made, Kept(0.0, ONE), EnvironmentMade(ONE, 1), EnvironmentMade(ONE, 2))
    assert feed(made, TimePassed(200.0)) == []
    assert feed(made, EnvironmentGone(210.0, ONE, 1)) == [] and made.is_used(ONE)
    assert said(feed(made, EnvironmentGone(220.0, ONE, 2))) == [320.0] and not made.is_used(ONE)
    assert said(feed(made, TimePassed(320.0))) == [ONE]


def test_environment_that_is_gone_twice_counts_once() -> None:
    made = Idleness(AFTER_S)
    feed(made, Kept(0.0, ONE), EnvironmentMade(ONE, 1), EnvironmentMade(ONE, 2))
    feed(made, EnvironmentGone(1.0, ONE, 1), EnvironmentGone(1.0, ONE, 1))
    assert made.is_used(ONE)


def test_version_without_resources_is_left_alone_and_another_one_is_not() -> None:
    made = Idleness(AFTER_S)
    feed(made, Kept(0.0, ONE), Kept(10.0, OTHER), EnvironmentMade(ONE, 1), Dropped(ONE), EnvironmentGone(20.0, ONE, 1))
    assert said(feed(made, TimePassed(100.0))) == [110.0]
    assert said(feed(made, TimePassed(110.0))) == [OTHER]


def test_version_that_is_kept_anew_begins_anew() -> None:
    made = Idleness(AFTER_S)
    feed(made, Kept(0.0, ONE), Kept(50.0, ONE))
    assert said(feed(made, TimePassed(100.0))) == [150.0]


@given(steps=st.lists(st.tuples(st.sampled_from(["kept", "dropped", "made", "gone", "passed"]),
                                st.sampled_from([ONE, OTHER]), st.integers(0, 3), st.integers(0, 60))))  # fmt: skip
def test_random_use(steps: list[tuple[str, VersionKey, int, int]]) -> None:
    """Whoever feeds TimePassed when asked for sees each version deactivated at its time, to the second."""
    made = Idleness(AFTER_S)
    at, due = 0.0, float("inf")
    idle: dict[VersionKey, float] = {}
    used: dict[VersionKey, set[int]] = {ONE: set(), OTHER: set()}
    for kind, version, number, pause in steps:
        until = at + pause
        while due <= until:
            at, due = due, float("inf")
            due = _effects(made, TimePassed(at), at, due, idle, used)
        at = until
        assert all(used[other] or since + AFTER_S > at for other, since in idle.items())
        match kind:
            case "kept":
                idle[version] = at
                event: Event = Kept(at, version)
            case "dropped":
                idle.pop(version, None)
                event = Dropped(version)
            case "made":
                used[version].add(number)
                event = EnvironmentMade(version, number)
            case "gone":
                used[version].discard(number)
                if version in idle:
                    idle[version] = at
                event = EnvironmentGone(at, version, number)
            case _:
                due = float("inf")  # a timer that is replaced
                event = TimePassed(at)
        due = _effects(made, event, at, due, idle, used)


def _effects(made: Idleness, event: Event, at: float, due: float, idle: dict[VersionKey, float],
             used: dict[VersionKey, set[int]]) -> float:  # fmt: skip
    for effect in feed(made, event):
        match effect:
            case Deactivate(version=version):
                assert not used[version] and idle.pop(version) + AFTER_S <= at
            case SetTimer(at=wanted):
                due = wanted
    return due
