"""Keep every idle environment for the same time; under pressure the longest idle goes first (LRU)."""

from __future__ import annotations

from lambent.core.keepalive.base import Idle


class Fixed:
    """AWS's time is not documented; five to seven minutes and more were observed (fact sheet 1.8)."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def idle_until(self, environment: Idle) -> float:
        return environment.idle_since + self.seconds

    def usefulness(self, environment: Idle) -> float:
        return environment.idle_since
