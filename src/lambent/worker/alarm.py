"""One environment's deadline: one timer, pushed back lazily, since nearly every deadline is cleared before it passes.

Setting and clearing, twice for each invocation, touches the event loop only when the timer would come too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lambent.clock import Clock


class Alarm:
    """Calls `passed(now, epoch)` once the deadline set last has passed, unless it was cleared. Seconds of `clock`."""

    __slots__ = ("_at", "_clock", "_deadline", "_loop", "_passed", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, passed: Callable[[float, int], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._passed = passed
        self._deadline: tuple[float, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0  #: when the timer comes

    def set(self, deadline: float, epoch: int) -> None:
        """Replace the deadline."""
        self._deadline = (deadline, epoch)
        if self._timer is None or self._at > deadline:
            self._arm(deadline)

    def clear(self) -> None:
        """There is no deadline now."""
        self._deadline = None

    def end(self) -> None:
        """Never call again."""
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = at
        self._timer = self._loop.call_later(max(0.0, at - self._clock.monotonic()), self._fired)

    def _fired(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        deadline, epoch = self._deadline
        now = self._clock.monotonic()
        if now < deadline:
            self._arm(deadline)
        else:
            self._deadline = None
            self._passed(now, epoch)
