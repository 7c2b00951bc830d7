"""Lets sandboxes that work for long give way to those that have just begun (`core.precedence`)."""

from __future__ import annotations

import asyncio

from lambent.core.precedence import AFTER_S, Precedence
from lambent.sandbox.base import Sandbox


class Turns:
    """On one event loop. One timer, only while somebody works; it comes AFTER_S apart however many begin between."""

    __slots__ = ("_precedence", "_timer")

    def __init__(self) -> None:
        self._precedence = Precedence[Sandbox]()
        self._timer: asyncio.TimerHandle | None = None

    def began(self, sandbox: Sandbox) -> None:
        """An invocation, an Init, or what an extension does in the end."""
        loop = asyncio.get_running_loop()
        if self._precedence.began(sandbox, loop.time()):
            sandbox.give_way(False)
        if self._timer is None:
            self._timer = loop.call_later(AFTER_S, self._time_passed)

    @property
    def only_one(self) -> bool:
        """Whether there is a single sandbox that works."""
        return self._precedence.working == 1

    def rests(self, sandbox: Sandbox) -> None:
        """It is frozen."""
        self._precedence.rests(sandbox)

    def gone(self, sandbox: Sandbox) -> None:
        """It is about to be destroyed."""
        self._precedence.gone(sandbox)

    def _time_passed(self) -> None:
        loop = asyncio.get_running_loop()
        for sandbox in self._precedence.due(loop.time()):
            sandbox.give_way(True)
        at = self._precedence.next_at
        self._timer = None if at is None else loop.call_at(at, self._time_passed)
