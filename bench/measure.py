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
    """One line of the table. Figures in `unit`; `spread` is the lowest and highest ratio of a round to the emulator.

    `around` has nine tenths of our samples, `samples` of them; `ministack` is the figure of that peer.
    """

    what: str
    unit: str
    lambent: float
    wanted: str  #: in words, fit for the table
    met: bool | None  #: None: shown, nothing wanted
    emulator: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    more: str = ""  #: what else was seen
    around: tuple[float, float] | None = None
    samples: int = 0
    ministack: float | None = None

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


def around(samples: Sequence[float]) -> tuple[float, float]:
    """Where nine tenths of the samples lie."""
    return (quantile(samples, 0.05), quantile(samples, 0.95))


def rounds(samples: Sequence[float], size: int) -> list[float]:
    """The median of every `size` samples in turn, the last of them of what is left."""
    return [median(samples[at : at + size]) for at in range(0, len(samples), size)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Round by round, since both sides of a round saw the same machine."""
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    return Ratio(median(each), min(each), max(each))
