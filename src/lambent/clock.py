"""Time, asked for in one place.

Wall time goes into headers, logs and ids; monotonic time into deadlines. Both move by one offset, which tests and
`lambent chaos` may advance to make hours pass: every keep-alive, retry, age and retention deadline reads this clock.
The clocks that guests see never move with it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Wall and monotonic time with a common offset in seconds."""

    __slots__ = ("offset_s",)

    def __init__(self) -> None:
        self.offset_s = 0.0

    def monotonic(self) -> float:
        """Seconds for deadlines; its zero has no meaning."""
        return time.monotonic() + self.offset_s

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> None:
        """Let platform time pass at once. Time never goes back."""
        if seconds < 0:
            raise ValueError("platform time cannot go back")
        self.offset_s += seconds


def rfc3339(wall_s: float) -> str:
    """A wall-clock time as RFC 3339 text in UTC with milliseconds, as in `2026-11-21T09:00:00.123Z`."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def lambda_time(wall_s: float) -> str:
    """The same in the form that the Lambda API has for it: `2026-11-21T09:00:00.123+0000`."""
    return rfc3339(wall_s).replace("Z", "+0000")
