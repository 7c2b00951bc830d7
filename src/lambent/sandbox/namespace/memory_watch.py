"""What the parent memory group tells of its own accord: that it refused memory, or that use has grown to a mark.

Version 1 of control groups only, by descriptors that are registered with `cgroup.event_control`; a kernel that has
these files no more, and version 2, tell nothing here, and whoever wants to know measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path


class MemoryWatch:
    """Of the v1 group in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refusals = 0
        self._refused = self._register("memory.oom_control", [""])
        self._grown = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def refusals(self) -> int | None:
        """Allocations that the group's own limit refused so far; None when it cannot be told."""
        if self._refused < 0:
            return None
        with contextlib.suppress(BlockingIOError):
            self._refusals += os.eventfd_read(self._refused)
        return self._refusals

    def call_at(self, marks: Iterable[int], on_grown: Callable[[], None]) -> None:
        """Call `on_grown` from the event loop when memory was refused, or use passed one of these numbers of bytes."""
        self._grown = self._register("memory.usage_in_bytes", [f" {mark}" for mark in marks])

        def heard() -> None:
            self.refusals()
            with contextlib.suppress(OSError):
                os.eventfd_read(self._grown)
            on_grown()

        self._loop = asyncio.get_running_loop()
        for event_fd in self._event_fds():
            self._loop.add_reader(event_fd, heard)

    def close(self) -> None:
        for event_fd in self._event_fds():
            if self._loop is not None:
                self._loop.remove_reader(event_fd)
            os.close(event_fd)
        self._grown = self._refused = -1

    def _event_fds(self) -> list[int]:
        return [event_fd for event_fd in (self._grown, self._refused) if event_fd >= 0]

    def _register(self, file: str, arguments: Iterable[str]) -> int:
        """An eventfd that counts what `file` tells; -1 where there is no such thing."""
        if not hasattr(os, "eventfd"):
            return -1
        event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            with open(self._folder / file, "rb") as source:
                for argument in arguments:
                    (self._folder / "cgroup.event_control").write_text(f"{event_fd} {source.fileno()}{argument}")
        except OSError:
            os.close(event_fd)
            return -1
        return event_fd
