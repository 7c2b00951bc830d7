"""How many environments are started ahead of invocations: what AWS calls proactive initialisation (decision 13).

A policy that sees figures and returns figures. The scheduler tells it of every invocation that on-demand concurrency
serves, and asks when one of them has left nobody idle behind. What memory, leases and provisioned environments allow is
the scheduler's to say.
"""

from __future__ import annotations

from collections import deque

from lambent.core.concurrency import Rate

#: What invocations of the last minute say about the next ones.
WINDOW_S = 60.0
#: One is kept ahead for so many that were served at once, and one in any case.
SERVED_PER_SPARE = 4
#: Starts ahead per second, of all fleets together: each takes the processor from those who are served while its Init
#: runs. Whoever comes when there are no more gets an environment as if there were no head-room.
STARTS_PER_S = 10
#: After one was wasted (its Init failed, or it went before anybody came): twice as long each time that none was of use
#: since, up to the second figure.
BACK_OFF_S = (1.0, 300.0)


class Demand:
    """What is known of one fleet."""

    __slots__ = ("_not_before", "_peaks", "_recurs", "_served_at", "_wasted")

    def __init__(self) -> None:
        self._served_at = float("-inf")
        self._recurs = False  #: the last invocation was not the first one within the window
        #: (time, concurrency) of those invocations of the window since which there was none with as much
        self._peaks: deque[tuple[float, int]] = deque()
        self._wasted = 0  #: since one was of use
        self._not_before = float("-inf")

    @property
    def wanted(self) -> int:
        """How many are to be idle, or on their way to it, as of the last invocation."""
        return max(1, self._peaks[0][1] // SERVED_PER_SPARE) if self._recurs else 0

    def served(self, at: float, concurrency: int) -> None:
        """An invocation got an environment; `concurrency` counts it."""
        self._recurs = at - self._served_at <= WINDOW_S
        self._served_at = at
        peaks = self._peaks
        while peaks and peaks[-1][1] <= concurrency:
            peaks.pop()
        peaks.append((at, concurrency))
        while peaks[0][0] < at - WINDOW_S:
            peaks.popleft()

    def of_use(self) -> None:
        """One that was started ahead was ready when it was needed."""
        self._wasted = 0

    def wasted(self, at: float) -> None:
        """One that was started ahead has failed, or is gone and has never served."""
        if at >= self._not_before:  # several at once count as one
            self._not_before = at + min(BACK_OFF_S[0] * 2**self._wasted, BACK_OFF_S[1])
            self._wasted = min(self._wasted + 1, 30)

    def backs_off(self, at: float) -> bool:
        return at < self._not_before


class Headroom:
    """The rule, and what all fleets share."""

    __slots__ = ("_rate",)

    def __init__(self) -> None:
        self._rate = Rate()

    def missing(self, demand: Demand, at: float, *, spare: int, usable: int) -> int:
        """How many more to start ahead than the `spare` ones. `usable`: leases that the function could still get."""
        if demand.backs_off(at):
            return 0
        return max(0, min(demand.wanted, usable) - spare)

    def admits(self, at: float) -> bool:
        """Whether one may be started now; it is counted then."""
        return self._rate.admits(at, STARTS_PER_S)
