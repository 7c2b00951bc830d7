"""Removes code that nobody needs any more, while the server runs: zips, unpacked packages, merged layers.

`store/references.py` tells of a name when its last holder lets go. Files are taken away by a rename on the event loop,
after a last look at the references, and deleted in a thread; so whoever needs the same code again at that moment finds
either all of it or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from lambent.store.blobs import Blobs
from lambent.worker.packages import PackageStore, delete_all


class Collector:
    """Owns one task while there is something to remove."""

    def __init__(self, blobs: Blobs, packages: PackageStore, report: Callable[[str, BaseException], None]) -> None:
        self._blobs = blobs
        self._packages = packages
        self._report = report
        self._free: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Remove what an earlier server left, then listen."""
        in_use = set(self._blobs.references)
        await asyncio.to_thread(self._blobs.sweep, in_use)
        await self._packages.collect(in_use)
        self._blobs.references.freed = self._freed

    async def stop(self) -> None:
        """Finish what is being removed. What becomes free from now on is swept at the next start."""
        self._blobs.references.freed = lambda _: None
        if self._task is not None:
            await self._task

    def _freed(self, name: str) -> None:
        self._free.add(name)
        if self._task is None:
            self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        try:
            while self._free:
                doomed = [path for name in self._free for path in self._take_away(name)]
                self._free.clear()
                await asyncio.to_thread(delete_all, doomed)
        except Exception as error:
            self._report("removal of code that nobody needs", error)
        finally:
            self._task = None

    def _take_away(self, name: str) -> list[Path]:
        if name in self._blobs.references:
            return []  # somebody needs it again
        folders = self._packages.take_away(name)
        return folders if name.startswith("opt-") else folders + self._blobs.take_away(name)
