"""The host's time and platform time, which only an advance tells apart."""

from __future__ import annotations

import pytest

from lambent import clock as module
from lambent.clock import OFFSET_S_MAX, Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the host's clocks say: monotonic; the wall clock is a thousand seconds ahead of it."""
    held = [50.0]
    monkeypatch.setattr("lambent.clock.time.monotonic", lambda: held[0])
    monkeypatch.setattr("lambent.clock.time.time", lambda: held[0] + 1000)
    return held


def test_advance_moves_platform_time_and_not_the_hosts(now: list[float]) -> None:
    clock = Clock()
    clock.advance(3600)
    assert (clock.monotonic(), clock.host_wall()) == (50.0, 1050.0)
    assert (clock.platform(), clock.wall()) == (3650.0, 4650.0)


def test_watchers_are_told_in_order_when_the_clock_has_moved(now: list[float]) -> None:
    clock = Clock()
    told: list[tuple[str, float, float]] = []
    clock.watch(lambda seconds: told.append(("first", seconds, clock.platform())))
    clock.watch(lambda seconds: told.append(("second", seconds, clock.platform())))
    clock.advance(5)
    assert told == [("first", 5, 55.0), ("second", 5, 55.0)]


def test_moments_keep_the_wall_time_that_they_had(now: list[float]) -> None:
    clock = Clock()
    for at in (60.0, 70.0):
        now[0] = at
        clock.advance(3600)
    assert [clock.wall_at(at) for at in (55.0, 60.0, 65.0, 70.0)] == [1055.0, 4660.0, 4665.0, 8270.0]


def test_moments_before_many_advances_are_still_told(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADVANCES_KEPT", 3)
    clock = Clock()
    for _ in range(10):
        now[0] += 1
        clock.advance(100)
    assert clock.wall_at(50.5) == 1050.5
    assert [clock.wall_at(at) - 1000 - at for at in (58.0, 59.0, 60.0)] == [800, 900, 1000]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), OFFSET_S_MAX + 1])
def test_time_goes_neither_back_nor_out_of_the_calendar(seconds: float) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="platform time"):
        clock.advance(seconds)
    assert clock.offset_s == 0
