"""What log streams have gathered, on its way to the disk.

Lines stay in memory until a thread puts them into their files, at most FLUSH_DELAY_S later, in batches of which one is
under way at a time. All but the writing happens on the event loop's thread. Which line goes into which segment is
decided in `logs`; how a file is written, in `segments`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lambent.telemetry import segments
from lambent.telemetry.segments import Segment, Write

log = logging.getLogger(__name__)

FLUSH_DELAY_S = 0.05
#: What may wait for a disk that does not answer; beyond it events are dropped and counted.
UNWRITTEN_BYTES = 64 * 1024 * 1024


class LogWriter:
    """The writer of one store."""

    def __init__(self) -> None:
        self.lost_events = 0  #: dropped because the disk was full or too slow
        self.trouble = ""  #: why the last write failed; empty when it did not
        self._unwritten = 0  #: bytes
        self._queue: list[Segment] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[list[str]] | None = None
        self._executor = ThreadPoolExecutor(1, "logs")

    def begin(self) -> None:
        """On the event loop. What was gathered before waits until then."""
        self._loop = asyncio.get_running_loop()
        if self._queue:
            self._schedule()

    async def stop(self) -> None:
        """Write what is left, and end the thread."""
        while self.busy:
            self.hand_over()
            if self._writing is not None:
                await asyncio.wait([self._writing])
        self._loop = None
        self._executor.shutdown()

    @property
    def busy(self) -> bool:
        return self._writing is not None or bool(self._queue)

    def takes(self) -> bool:
        """Whether there is room for one more event; else it is lost, and counted."""
        if self._unwritten > UNWRITTEN_BYTES:
            self.lost_events += 1
            return False
        return True

    def gathered(self, segment: Segment, size: int) -> None:
        """`segment` has `size` more bytes in its lines."""
        self._unwritten += size
        if not segment.queued:
            segment.queued = True
            self._queue.append(segment)
            if self._timer is None and self._writing is None and self._loop is not None:
                self._schedule()

    def forget(self, segment: Segment) -> None:
        """Its file is to be no more."""
        self._unwritten -= sum(map(len, segment.sending)) + sum(map(len, segment.lines))
        segment.sending, segment.lines = [], []
        if segment.queued:
            self._queue.remove(segment)

    def after_that(self, work: Callable[..., object], *arguments: Any) -> None:
        """Have `work` done in the thread, behind all writes that were handed over."""
        self._executor.submit(work, *arguments)

    def _schedule(self) -> None:
        assert self._loop is not None
        self._timer = self._loop.call_later(FLUSH_DELAY_S, self.hand_over)

    def hand_over(self) -> None:
        """Give the thread everything that has gathered. One batch is under way at a time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None or not self._queue:
            return
        batch = []
        for segment in self._queue:
            segment.queued = False
            segment.sending, segment.lines = segment.lines, []
            batch.append(Write(segment, segment.path, segment.written, segment.sending, segment.last_ms))
        self._queue = []
        loop = self._loop or asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, segments.write_all, batch)
        self._writing.add_done_callback(lambda done: self._settle(batch, done.result()))

    def _settle(self, batch: list[Write], results: list[str]) -> None:
        self._writing = None
        trouble = ""
        for write, error in zip(batch, results, strict=True):
            segment, size = write.segment, sum(map(len, write.lines))
            if segment.sending is not write.lines:
                continue  # its group was deleted meanwhile
            self._unwritten -= size
            segment.sending = []
            if error:
                trouble = error
                segment.size -= size
                self.lost_events += len(write.lines)
            else:
                segment.written += size
        if trouble and trouble != self.trouble:
            log.warning("log events are lost: %s", trouble)
        self.trouble = trouble
        if self._queue:
            self._schedule()
