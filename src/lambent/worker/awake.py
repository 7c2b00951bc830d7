"""Keeps the event loop from sleeping while an answer is due any moment (decision 14).

To fall asleep and to be woken takes as long as the trivial work of a guest, and about the processor time of staying
awake for it. So for AWAKE_S the loop asks the kernel for events without waiting; from then on it sleeps, as ever.
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter

#: A short function answers within this time of the end of what the server has to do meanwhile.
AWAKE_S = 60e-6
#: An environment whose last answer took longer, with both wake-ups, is not waited for like this.
PROMPT_S = 200e-6


class Awake:
    """One event loop. Nothing happens where the guest could not run meanwhile, for lack of a second processor."""

    __slots__ = ("_possible", "_turning", "_until")

    def __init__(self, processors: int | None = None) -> None:
        self._possible = (processors or _processors()) > 1
        self._turning = False
        self._until = 0.0

    def expect(self) -> None:
        """An answer is due."""
        if self._possible:
            self._until = perf_counter() + AWAKE_S
            if not self._turning:
                self._turning = True
                asyncio.get_running_loop().call_soon(self._turn)

    def came(self) -> None:
        """The answer is here, or is not waited for any more."""
        self._until = 0.0

    def _turn(self) -> None:
        if perf_counter() < self._until:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._turning = False


class Answers:
    """Of one environment: whether the next one is worth staying awake for."""

    __slots__ = ("_asked_at", "_awake", "_took_s")

    def __init__(self, awake: Awake) -> None:
        self._awake = awake
        self._asked_at = 0.0
        self._took_s = float("inf")  #: the last one

    def asked(self, *, alone: bool) -> None:
        """The guest works on an invocation; `alone`: on the only one under way, so nobody else needs the time."""
        self._asked_at = perf_counter()
        if alone and self._took_s < PROMPT_S:
            self._awake.expect()

    def answered(self) -> None:
        """The guest did, or somebody in its place."""
        self._took_s = perf_counter() - self._asked_at
        self._awake.came()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
