"""Time, asked for in one place.

Two kinds of it. **The host's** goes as the host's clocks go: how long something took, and the deadlines of Init, Invoke
and Shutdown, which guests see and measure themselves. **Platform time** is the host's and an offset that tests and
`lambent chaos advance` can move, to make hours pass at once: every keep-alive, maximum age and retention deadline reads
it, and so do timestamps. Guests' clocks do not move. Whoever waits for a moment of platform time watches the clock.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime

#: Called with the seconds that platform time has just moved on by.
Watcher = Callable[[float], None]
#: So far ahead of the host's can platform time be: ten years, which covers every retention that the API knows.
OFFSET_S_MAX = 10 * 366 * 86_400.0
#: Advances that `wall_at` tells apart. When there are more, the oldest two count as one.
ADVANCES_KEPT = 10_000


class Clock:
    """The host's clocks, and platform time. Seconds everywhere."""

    __slots__ = ("_moments", "_offsets", "_watchers", "offset_s")

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._watchers: list[Watcher] = []
        #: when the offset was moved (monotonic), and what it was from then on
        self._moments: list[float] = []
        self._offsets: list[float] = []

    def monotonic(self) -> float:
        """The host's time, for durations and for deadlines that guests live by; its zero has no meaning."""
        return time.monotonic()

    def platform(self) -> float:
        """Platform time, for keep-alive, age and everything else that may be made to pass; its zero has no meaning."""
        return time.monotonic() + self.offset_s

    def wall(self) -> float:
        """Platform time as seconds since the epoch, UTC."""
        return time.time() + self.offset_s

    def host_wall(self) -> float:
        """The host's time as seconds since the epoch, UTC: as guests, callers and other servers have it."""
        return time.time()

    def wall_at(self, moment: float) -> float:
        """What `wall` was when `monotonic` was this."""
        before = bisect_right(self._moments, moment)
        offset_s = self._offsets[before - 1] if before else 0.0
        return moment + (time.time() - time.monotonic()) + offset_s

    def watch(self, watcher: Watcher) -> None:
        """Be told of every advance, in the order of watching."""
        self._watchers.append(watcher)

    def advance(self, seconds: float) -> None:
        """Let platform time pass at once. Raises ValueError: it never goes back, and not beyond OFFSET_S_MAX."""
        if not math.isfinite(seconds) or seconds <= 0:
            raise ValueError("platform time can only be moved on, by a number of seconds greater than 0")
        if self.offset_s + seconds > OFFSET_S_MAX:
            raise ValueError(f"platform time cannot be more than {OFFSET_S_MAX / 86_400:.0f} days ahead of the host's")
        self.offset_s += seconds
        self._moments.append(time.monotonic())
        self._offsets.append(self.offset_s)
        if len(self._moments) > ADVANCES_KEPT:
            del self._moments[1], self._offsets[0]
        for watcher in self._watchers:
            watcher(seconds)


def rfc3339(wall_s: float) -> str:
    """A wall-clock time as RFC 3339 text in UTC with milliseconds, as in `2026-11-21T09:00:00.123Z`."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def lambda_time(wall_s: float) -> str:
    """The same in the form that the Lambda API has for it: `2026-11-21T09:00:00.123+0000`."""
    return rfc3339(wall_s).replace("Z", "+0000")
