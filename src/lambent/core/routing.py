"""Which version an invocation through a weighted alias gets. The random number is the caller's, so this is pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def choose(main: T, others: Iterable[tuple[T, float]], number: float) -> T:
    """`main`, or one of `others` with the probability of its weight (0 to 1) for a uniform number in [0, 1)."""
    for other, weight in others:
        if number < weight:
            return other
        number -= weight
    return main
