"""Work that nobody waits for, left until a guest works: then the server would only wait for its result.

A caller who calls again at once would otherwise wait for what is written of the call before.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable

#: What no guest's work makes room for is done this soon.
AT_MOST_S = 0.005


class SpareTime:
    """Pieces of work in the order in which they were left. On one event loop."""

    __slots__ = ("_left", "_timer")

    def __init__(self) -> None:
        self._left: deque[Callable[[], None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def leave(self, work: Callable[[], None]) -> None:
        """Do it later: at the next `use`, or AT_MOST_S from now."""
        self._left.append(work)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(AT_MOST_S, self._time_passed)

    def use(self) -> None:
        """Do all that was left: a guest works now, or somebody is about to look for what comes of it."""
        while self._left:
            work = self._left.popleft()
            try:
                work()
            except Exception:  # ours, and nothing to do with whoever happens to be here
                traceback.print_exc()

    def _time_passed(self) -> None:
        self._timer = None
        self.use()
