"""Parked blanks: how many there are, when they are made, and that each is handed out once."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lambent.core.blanks import (
    BACK_OFF_S,
    MAX_AGE_S,
    PATIENCE_S,
    QUIET_S,
    REMEMBER_S,
    BlankLost,
    BlankParked,
    Blanks,
    End,
    EnvironmentStarting,
    Hand,
    KindExpected,
    KindsFound,
    Make,
    MemoryMeasured,
    SetTimer,
    StopRequested,
    TimePassed,
)


class Player:
    """Plays a worker that makes what it is asked for at once; `made` and `handed` are numbers."""

    def __init__(self, most: int, budget: int | None = None) -> None:
        self.machine = Blanks(most, budget)
        self.parked: dict[int, Any] = {}
        self.handed: list[int] = []
        self.ended: list[int] = []
        self.timer: float | None = None

    def feed(self, event: Any, parking: bool = True) -> list[Any]:
        effects = self.machine.handle(event)
        for effect in effects:
            if isinstance(effect, Hand):
                self.handed.append(effect.number)
                del self.parked[effect.number]
            elif isinstance(effect, End):
                self.ended.append(effect.number)
                self.parked.pop(effect.number, None)
            elif isinstance(effect, SetTimer):
                self.timer = effect.at
        for effect in effects:
            if isinstance(effect, Make) and parking:
                self.parked[effect.number] = effect.kind
                self.feed(BlankParked(event.at, effect.number))
        return effects

    def kinds(self) -> list[Any]:
        return sorted(self.parked.values())


def test_a_function_that_is_ready_gets_one_blank() -> None:
    player = Player(most=8)
    player.feed(KindExpected(0.0, "python"))
    player.feed(KindExpected(0.1, "python"))
    assert player.kinds() == ["python"]


def test_a_server_that_starts_with_functions_has_one_for_each_kind_the_most_common_first() -> None:
    player = Player(most=2)
    player.feed(KindsFound(0.0, {"node": 3, "rare": 1, "python": 9}))
    assert player.kinds() == ["node", "python"]
    player.feed(TimePassed(REMEMBER_S))
    assert player.kinds() == []  # nobody came


def test_what_is_needed_already_goes_before_what_was_found() -> None:
    player = Player(most=1)
    player.feed(KindExpected(0.0, "called"))
    player.feed(KindsFound(0.1, {"python": 9, "called": 1}))
    assert player.kinds() == ["called"]
    player.feed(EnvironmentStarting(0.2, "python"))
    player.feed(TimePassed(0.2 + QUIET_S))
    assert player.kinds() == ["python"]


def test_a_start_takes_the_blank_and_a_new_one_is_made_once_it_is_quiet() -> None:
    player = Player(most=8)
    player.feed(KindExpected(0.0, "python"))
    player.feed(EnvironmentStarting(10.0, "python"))
    assert (player.handed, player.kinds()) == ([1], [])
    assert player.timer == 10.0 + QUIET_S
    player.feed(TimePassed(10.0 + QUIET_S))
    assert player.kinds() == ["python"]


def test_a_start_of_another_kind_takes_nothing() -> None:
    player = Player(most=8)
    player.feed(KindExpected(0.0, "python"))
    player.feed(EnvironmentStarting(10.0, "node"))
    assert player.handed == []


def test_after_a_burst_there_are_as_many_as_it_had_starts() -> None:
    player = Player(most=8)
    for number in range(5):
        player.feed(EnvironmentStarting(1.0 + number / 100, "python"))
    assert player.kinds() == []  # they would take the processor from those who wait
    player.feed(TimePassed(1.04 + QUIET_S))
    assert player.kinds() == ["python"] * 5


def test_the_bound_is_shared_and_everybody_gets_one_first() -> None:
    player = Player(most=3)
    for number in range(9):
        player.feed(EnvironmentStarting(1.0 + number / 100, "python"))
    player.feed(EnvironmentStarting(1.2, "node"))
    player.feed(TimePassed(2.0))
    assert player.kinds() == ["node", "python", "python"]


def test_starts_without_a_pause_do_not_keep_blanks_from_being_made_for_ever() -> None:
    player = Player(most=8)
    at = 0.0
    while not player.parked and at < 10 * PATIENCE_S:
        player.feed(EnvironmentStarting(at, "python"))
        at += QUIET_S / 2
    assert PATIENCE_S <= at < 2 * PATIENCE_S


def test_one_is_made_at_a_time() -> None:
    player = Player(most=8)
    player.feed(KindExpected(0.0, "python"), parking=False)
    effects = player.feed(KindExpected(0.0, "node"), parking=False)
    assert not [effect for effect in effects if isinstance(effect, Make)]


def test_a_kind_that_nobody_needs_any_more_is_forgotten() -> None:
    player = Player(most=8)
    player.feed(KindExpected(0.0, "python"))
    assert player.timer == REMEMBER_S
    player.feed(TimePassed(REMEMBER_S))
    assert (player.kinds(), player.ended) == ([], [1])


def test_a_burst_is_forgotten_after_two_periods_of_smaller_ones() -> None:
    player = Player(most=8)
    for number in range(5):
        player.feed(EnvironmentStarting(number / 100, "python"))
    for period in range(1, 7):
        player.feed(EnvironmentStarting(period * REMEMBER_S * 0.6, "python"))
        player.feed(TimePassed(period * REMEMBER_S * 0.6 + 1))
    assert player.kinds() == ["python"]


def test_an_old_blank_is_replaced() -> None:
    player = Player(most=8)
    player.feed(KindExpected(0.0, "python"))
    at = 0.0
    while at < MAX_AGE_S:
        at += REMEMBER_S / 2
        player.feed(KindExpected(at, "python"))
    assert (player.ended, player.kinds()) == ([1], ["python"])


def test_when_memory_is_tight_there_are_none_until_it_is_not() -> None:
    player = Player(most=8, budget=1000)
    player.feed(KindExpected(0.0, "python"))
    player.feed(MemoryMeasured(1.0, 900))
    assert player.kinds() == []
    player.feed(KindExpected(2.0, "python"))
    assert player.kinds() == []
    player.feed(MemoryMeasured(3.0, 100))
    assert player.kinds() == ["python"]


def test_one_that_was_lost_is_made_again_later_each_time() -> None:
    machine = Blanks(8)
    [made] = [effect for effect in machine.handle(KindExpected(0.0, "python")) if isinstance(effect, Make)]
    at, number, waits = 0.0, made.number, []
    for _ in range(9):
        effects = machine.handle(BlankLost(at, number))
        [timer] = [effect for effect in effects if isinstance(effect, SetTimer)]
        assert not [effect for effect in effects if isinstance(effect, Make)]
        waits.append(timer.at - at)
        at = timer.at
        machine.handle(KindExpected(at - 0.01, "python"))
        [number] = [effect.number for effect in machine.handle(TimePassed(at)) if isinstance(effect, Make)]
    assert [round(wait, 3) for wait in waits] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert BACK_OFF_S == (0.5, 60.0)


def test_none_at_all_when_the_bound_is_zero() -> None:
    machine = Blanks(0)
    effects = machine.handle(KindExpected(0.0, "python")) + machine.handle(EnvironmentStarting(1.0, "python"))
    assert not [effect for effect in effects if isinstance(effect, (Make, Hand))]


class Walk(RuleBasedStateMachine):
    """Random sequences of everything that can happen."""

    MOST = 4

    def __init__(self) -> None:
        super().__init__()
        self.machine = Blanks(self.MOST, 1000)
        self.at = 0.0
        self.making: dict[int, str] = {}
        self.parked: dict[int, str] = {}
        self.seen: set[int] = set()
        self.stopped = False

    def feed(self, event: Any, kind: str = "") -> None:
        for effect in self.machine.handle(event):
            if isinstance(effect, Make):
                assert not self.stopped and effect.number not in self.seen
                self.seen.add(effect.number)
                self.making[effect.number] = str(effect.kind)
            elif isinstance(effect, Hand):
                assert self.parked.pop(effect.number) == kind
            elif isinstance(effect, End):
                assert (self.parked.pop(effect.number, None) or self.making.pop(effect.number, None)) is not None
            else:
                assert effect.at > self.at - 1e-9

    @rule(kind=st.sampled_from("abc"), pause=st.sampled_from((0.0, 0.01, 0.3, 5.0)))
    def start(self, kind: str, pause: float) -> None:
        self.at += pause
        had = kind in self.parked.values()
        before = len(self.parked)
        self.feed(EnvironmentStarting(self.at, kind), kind)
        assert len(self.parked) < before or not had  # who can be served is served

    @rule(kind=st.sampled_from("abc"))
    def expect(self, kind: str) -> None:
        self.feed(KindExpected(self.at, kind))

    @rule(versions=st.dictionaries(st.sampled_from("abc"), st.integers(1, 9)))
    def find(self, versions: dict[str, int]) -> None:
        self.feed(KindsFound(self.at, versions))

    @precondition(lambda self: self.making)
    @rule(lost=st.booleans(), data=st.data())
    def made(self, lost: bool, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.making)))
        kind = self.making.pop(number)
        if lost:
            self.feed(BlankLost(self.at, number))
        else:
            self.parked[number] = kind
            self.feed(BlankParked(self.at, number))

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def killed(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.parked)))
        del self.parked[number]
        self.feed(BlankLost(self.at, number))

    @rule(used=st.sampled_from((0, 900)))
    def measured(self, used: int) -> None:
        self.feed(MemoryMeasured(self.at, used))
        assert not used or not (self.parked or self.making)

    @rule(pause=st.sampled_from((0.0, 0.06, 1.0, 700.0, 4000.0)))
    def wait(self, pause: float) -> None:
        self.at += pause
        self.feed(TimePassed(self.at))

    @rule()
    def stop(self) -> None:
        self.feed(StopRequested(self.at))
        self.stopped = True

    @invariant()
    def never_too_many(self) -> None:
        assert len(self.parked) + len(self.making) <= self.MOST
        assert not self.stopped or not self.parked
        assert self.machine.parked() == len(self.parked)


TestWalk = Walk.TestCase
