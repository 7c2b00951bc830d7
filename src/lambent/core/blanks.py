"""The machine of parked blanks: sandboxes that wait, most with a runtime in them, before anybody needs them.

A blank belongs to a *kind*: everything that a runtime cannot change about itself once it runs (interpreter, arguments,
network). It is handed to one environment and never to a second one. Each is a process of its own, never a fork, so that
no two share hash seeds or an address layout (decision 9).

How many there are follows demand: as many of a kind as were started within one second lately, at least one while
functions of the kind are in use or the server has just started with them, never more than `most` together. They are
made one after the other while nothing is being started, since they would take the processor from those who wait.
Memory comes first: when it is tight there are none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

#: Starts this close together count as one burst.
BURST_S = 1.0
#: How long a kind, and the size of its largest burst, are remembered.
REMEMBER_S = 900.0
#: Blanks are made once nothing has been started for this long,
QUIET_S = 0.05
#: or this long after the first start that left one missing, when starts never pause.
PATIENCE_S = 1.0
#: A blank that was not needed for so long is replaced, so that what waits is not what was installed long ago.
MAX_AGE_S = 3600.0
#: After one was lost (it could not be made, or somebody killed it): twice as long each time that none was of use since,
#: up to the second figure.
BACK_OFF_S = (0.5, 60.0)
#: Share of the budget for all environments above which no blank is kept.
TIGHT = 0.8

Kind = Hashable


@dataclass(slots=True, eq=False)
class KindExpected:
    """A function of this kind is ready to be called."""

    at: float
    kind: Kind


@dataclass(slots=True, eq=False)
class KindsFound:
    """So many versions of each kind were there when the server started; it cannot know which of them are used."""

    at: float
    versions: Mapping[Any, int]  #: by kind


@dataclass(slots=True, eq=False)
class EnvironmentStarting:
    """An environment of this kind is needed now."""

    at: float
    kind: Kind


@dataclass(slots=True, eq=False)
class BlankParked:
    at: float
    number: int


@dataclass(slots=True, eq=False)
class BlankLost:
    """It could not be made, or it ended by itself."""

    at: float
    number: int


@dataclass(slots=True, eq=False)
class MemoryMeasured:
    at: float
    used_bytes: int


@dataclass(slots=True, eq=False)
class TimePassed:
    at: float


@dataclass(slots=True, eq=False)
class StopRequested:
    at: float


@dataclass(slots=True, eq=False)
class Hand:
    """Give this one to the environment that is starting."""

    number: int


@dataclass(slots=True, eq=False)
class Make:
    """Ends in BlankParked or BlankLost."""

    number: int
    kind: Kind


@dataclass(slots=True, eq=False)
class End:
    number: int


@dataclass(slots=True, eq=False)
class SetTimer:
    """Feed TimePassed at that time. Replaces the one before."""

    at: float


Event = (KindExpected | KindsFound | EnvironmentStarting | BlankParked | BlankLost | MemoryMeasured | TimePassed
         | StopRequested)  # fmt: skip
Effect = Hand | Make | End | SetTimer


@dataclass(slots=True)
class _Demand:
    """What is known of one kind."""

    last_at: float
    starts: deque[float]
    burst: int = 0  #: the largest one of this period
    burst_before: int = 0  #: and of the one before
    period_from: float = 0.0
    losses: int = 0  #: since one was handed out
    not_before: float = 0.0

    def note(self, at: float) -> None:
        self.starts.append(at)
        while self.starts[0] <= at - BURST_S:
            self.starts.popleft()
        if at - self.period_from > REMEMBER_S:
            self.burst_before, self.burst, self.period_from = self.burst, 0, at
        self.burst = max(self.burst, len(self.starts))

    def wanted(self) -> int:
        return max(1, self.burst, self.burst_before)


@dataclass(slots=True)
class _Blank:
    kind: Kind
    parked_at: float | None = None  #: None while it is made


class Blanks:
    """`handle` is the only method that changes it. `most` is the upper bound of all together, 0 for none at all."""

    def __init__(self, most: int, memory_budget_bytes: int | None = None) -> None:
        self._most = most
        self._budget_bytes = memory_budget_bytes
        self._blanks: dict[int, _Blank] = {}
        self._demand: dict[Kind, _Demand] = {}  #: the most recently needed last
        self._last_number = 0
        self._last_start_at = float("-inf")
        self._missing_since: float | None = None
        self._tight = False
        self._stopped = False

    def parked(self, kind: Kind | None = None) -> int:
        """Blanks that wait, of one kind or all together."""
        return sum(blank.parked_at is not None and kind in (None, blank.kind) for blank in self._blanks.values())

    def handle(self, event: Event) -> list[Effect]:
        effects: list[Effect] = []
        if isinstance(event, StopRequested):
            self._stopped = True
        elif isinstance(event, KindExpected):
            self._need(event.kind, event.at)
        elif isinstance(event, KindsFound):
            self._found(event)
        elif isinstance(event, EnvironmentStarting):
            self._need(event.kind, event.at).note(event.at)
            self._last_start_at = event.at
            effects += self._hand(event.kind)
        elif isinstance(event, BlankParked):
            self._parked(event)
        elif isinstance(event, BlankLost):
            self._lost(event)
        elif isinstance(event, MemoryMeasured):
            self._tight = self._budget_bytes is not None and event.used_bytes > TIGHT * self._budget_bytes
        return effects + self._balance(event.at)

    def _need(self, kind: Kind, at: float) -> _Demand:
        demand = self._demand.pop(kind, None) or _Demand(at, deque(), period_from=at)
        demand.last_at = at
        self._demand[kind] = demand
        return demand

    def _found(self, event: KindsFound) -> None:
        """The most common kind first, but after those that were needed already."""
        rare_first = sorted(event.versions, key=event.versions.__getitem__)
        found = {kind: _Demand(event.at, deque(), period_from=event.at)
                 for kind in rare_first if kind not in self._demand}  # fmt: skip
        self._demand = found | self._demand

    def _hand(self, kind: Kind) -> list[Effect]:
        # The youngest first: its pages are still in the processor's cache.
        for number in reversed(self._blanks):
            blank = self._blanks[number]
            if blank.kind == kind and blank.parked_at is not None:
                del self._blanks[number]
                self._demand[kind].losses = 0
                return [Hand(number)]
        return []

    def _parked(self, event: BlankParked) -> None:
        blank = self._blanks.get(event.number)
        if blank is not None:
            blank.parked_at = event.at

    def _lost(self, event: BlankLost) -> None:
        blank = self._blanks.pop(event.number, None)
        demand = self._demand.get(blank.kind) if blank is not None else None
        if demand is not None and demand.not_before <= event.at:  # several at once count as one
            demand.not_before = event.at + min(BACK_OFF_S[0] * 2**demand.losses, BACK_OFF_S[1])
            demand.losses = min(demand.losses + 1, 30)

    def _balance(self, at: float) -> list[Effect]:
        """Too many go at once; of too few one is made at a time, when it is quiet."""
        self._forget(at)
        targets = self._targets()
        effects: list[Effect] = []
        have: dict[Kind, int] = {}
        for number, blank in list(self._blanks.items()):
            have[blank.kind] = have.get(blank.kind, 0) + 1
            old = blank.parked_at is not None and at - blank.parked_at >= MAX_AGE_S
            if have[blank.kind] > targets.get(blank.kind, 0) or old:
                have[blank.kind] -= 1
                del self._blanks[number]
                effects.append(End(number))
        missing = [kind for kind, target in targets.items() if have.get(kind, 0) < target]
        effects += self._make(missing, at)
        effects += self._timer(missing, at)
        return effects

    def _forget(self, at: float) -> None:
        for kind, demand in list(self._demand.items()):
            if at - demand.last_at >= REMEMBER_S:
                del self._demand[kind]

    def _targets(self) -> dict[Kind, int]:
        left = 0 if self._tight or self._stopped else self._most
        targets: dict[Kind, int] = {}
        for kind in reversed(self._demand):  # one for everybody before a second one for anybody
            if left:
                targets[kind] = 1
                left -= 1
        for kind in targets:
            more = min(left, self._demand[kind].wanted() - 1)
            targets[kind] += more
            left -= more
        return targets

    def _make(self, missing: list[Kind], at: float) -> list[Effect]:
        if not missing:
            self._missing_since = None
            return []
        if self._missing_since is None:
            self._missing_since = at
        making = any(blank.parked_at is None for blank in self._blanks.values())
        if making or at < self._quiet_at():
            return []
        kind = next((kind for kind in missing if self._demand[kind].not_before <= at), None)
        if kind is None:
            return []
        self._missing_since = at
        self._last_number += 1
        self._blanks[self._last_number] = _Blank(kind)
        return [Make(self._last_number, kind)]

    def _quiet_at(self) -> float:
        since = self._missing_since if self._missing_since is not None else self._last_start_at
        return min(self._last_start_at + QUIET_S, since + PATIENCE_S)

    def _timer(self, missing: list[Kind], at: float) -> list[Effect]:
        times = [blank.parked_at + MAX_AGE_S for blank in self._blanks.values() if blank.parked_at is not None]
        times += [demand.last_at + REMEMBER_S for demand in self._demand.values()]
        if missing and not any(blank.parked_at is None for blank in self._blanks.values()):
            ready = min(self._demand[kind].not_before for kind in missing)
            times.append(max(ready, self._quiet_at()))
        return [SetTimer(min(times))] if times and not self._stopped else []
