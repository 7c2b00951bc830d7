"""Numbers from samples: quantiles, ratios of two sides that took turns, and the lines of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def median(samples: Sequence[float]) -> float:
    return quantile(samples, 0.5)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. Figures in `unit`; `spread` is the lowest and highest ratio of a round."""

    what: str
    unit: str
    lambent: float
    wanted: str  #: in words, fit for the table
    met: bool | None  #: None: shown, nothing wanted
    emulator: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    more: str = ""  #: what else was seen

    @property
    def verdict(self) -> str:
        return "" if self.met is None else "yes" if self.met else "NO"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our figure over theirs: the middle of all rounds, and the extremes."""

    middle: float
    lowest: float
    highest: float

    @property
    def spread(self) -> tuple[float, float]:
        return (self.lowest, self.highest)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Round by round, since both sides of a round saw the same machine."""
    rounds = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Ratio(median(rounds), min(rounds), max(rounds))
