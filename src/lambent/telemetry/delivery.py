"""Delivery of telemetry to one subscriber: gathered by items, bytes and time, sent by HTTP or TCP, retried, bounded.

One batch is under way at a time. What comes meanwhile waits, up to QUEUE_BYTES; beyond that it is dropped and counted,
and the subscriber is told with `platform.logsDropped` once it keeps up again. Nothing is sent while the environment
is frozen: a batch that was under way is sent again after the thaw. How a connection to the environment is opened,
and to whom it may lead, is the counterpart's, `worker.reach`. Of an answer only the status counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import socket

import msgspec

from lambent.clock import Clock, rfc3339
from lambent.core.subscription import Subscription

Connect = Callable[[int], Awaitable[socket]]
"""Open a connection to this port of the environment. Raises OSError."""

#: What may wait for a slow subscriber.
QUEUE_BYTES = 4 * 1024 * 1024
ATTEMPTS = 3
ATTEMPT_S = 5.0
BACKOFF_S = 0.1  #: before the second attempt; doubled for each further one
#: Of an answer's body no more than this is read, and nothing is kept.
ANSWER_BYTES = 64 * 1024
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *([0-9]{1,9})\r\n")
_SLOW = "Some logs were dropped because the downstream consumer is slower than the logs production rate"


@dataclass(slots=True)
class Backlog:
    """Events, as JSON, from before somebody subscribed to them."""

    events: list[bytes] = field(default_factory=list)
    bytes: int = 0
    dropped_records: int = 0
    dropped_bytes: int = 0


class Subscriber:
    """One subscription and what waits for it.

    One that `replaces` another waits for its whole time first, however much there is to send: so a guest that
    subscribes again and again does not make us gather a batch and connect each time.
    """

    def __init__(self, subscription: Subscription, connect: Connect, clock: Clock, *, replaces: bool = False) -> None:
        self.subscription = subscription
        self._connect = connect
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._under_way: list[bytes] = []
        self._oldest_at = 0.0  #: when the first of those that wait came
        self._dropped_records = 0
        self._dropped_bytes = 0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._hurried = False  #: asked to send everything while a batch was under way
        self._patient = replaces
        self._stream: asyncio.StreamWriter | None = None  #: TCP only

    def offer(self, event: bytes) -> None:
        """Take an event, as JSON. It is sent with others, or dropped."""
        if self._waiting_bytes + len(event) > QUEUE_BYTES:
            self._drop(1, len(event))
            return
        if not self._waiting:
            self._oldest_at = self._clock.monotonic()
        self._waiting.append(event)
        self._waiting_bytes += len(event)
        if self._has_enough() and not self._patient:
            self.flush()
        elif self._timer is None and self._task is None and self._thawed.is_set():
            self._timer = self._loop.call_later(self.subscription.timeout_s, self.flush)

    def flush(self) -> None:
        """Send what waits, now, unless the environment is frozen or a batch is under way."""
        self._stop_timer()
        self._patient = False
        self._hurried = self._task is not None
        if self._waiting and self._task is None and self._thawed.is_set():
            self._task = self._loop.create_task(self._work())

    def pause(self) -> None:
        """The environment is about to be frozen."""
        self._thawed.clear()
        self._stop_timer()

    def resume(self) -> None:
        """It was thawed. What has waited for its time, frozen or not, is sent at once."""
        self._thawed.set()
        if self._waiting and self._task is None:
            due_s = self._oldest_at + self.subscription.timeout_s - self._clock.monotonic()
            if due_s <= 0:
                self.flush()
            else:
                self._timer = self._loop.call_later(due_s, self.flush)

    def begin(self, backlog: Backlog) -> None:
        """Take what was told before somebody subscribed; at most QUEUE_BYTES."""
        self._waiting.extend(backlog.events)
        self._waiting_bytes = backlog.bytes
        self._oldest_at = self._clock.monotonic()
        self._drop(backlog.dropped_records, backlog.dropped_bytes)
        if self._has_enough() and not self._patient:
            self.flush()
        else:
            self.resume()

    def take_over(self, earlier: Subscriber) -> None:
        """What waits for an earlier subscription, or is under way for it, waits for this one."""
        self._waiting, earlier._waiting = earlier._waiting, deque()
        self._waiting.extendleft(reversed(earlier._under_way))
        self._waiting_bytes = earlier._waiting_bytes + sum(map(len, earlier._under_way))
        self._oldest_at = self._clock.monotonic()
        self._dropped_records, self._dropped_bytes = earlier._dropped_records, earlier._dropped_bytes
        if self._waiting:
            self.resume()

    def close(self) -> None:
        """The subscriber's process is gone."""
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        self._waiting.clear()
        self._close_stream()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self, records: int, size: int) -> None:
        self._dropped_records += records
        self._dropped_bytes += size

    async def _work(self) -> None:
        try:
            while self._waiting:
                self._under_way = self._take()
                await self._deliver(self._under_way)
                self._under_way = []
                await self._thawed.wait()
                if not self._is_due():
                    break
        finally:
            self._task = None
        if self._waiting and self._timer is None:
            self.resume()

    def _has_enough(self) -> bool:
        asked = self.subscription
        return len(self._waiting) >= asked.max_items or self._waiting_bytes >= asked.max_bytes

    def _is_due(self) -> bool:
        late = self._clock.monotonic() - self._oldest_at >= self.subscription.timeout_s
        return self._hurried or late or self._has_enough()

    def _take(self) -> list[bytes]:
        asked, batch, size = self.subscription, [], 0
        if self._dropped_records and "platform" in asked.categories:
            batch.append(self._confession())
            size = len(batch[0])
        while self._waiting and len(batch) < asked.max_items:
            if batch and size + len(self._waiting[0]) > asked.max_bytes:
                break
            event = self._waiting.popleft()
            size += len(event)
            self._waiting_bytes -= len(event)
            batch.append(event)
        self._oldest_at = self._clock.monotonic()
        return batch

    def _confession(self) -> bytes:
        record = {"droppedBytes": self._dropped_bytes, "droppedRecords": self._dropped_records, "reason": _SLOW}
        self._dropped_bytes = self._dropped_records = 0
        return msgspec.json.encode(
            {"time": rfc3339(self._clock.wall()), "type": "platform.logsDropped", "record": record})

    async def _deliver(self, batch: list[bytes]) -> None:
        send = self._post if self.subscription.protocol == "HTTP" else self._write
        failures = 0
        while True:
            await self._thawed.wait()
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    await send(batch)
                return
            except (OSError, ValueError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                self._close_stream()
                if self._thawed.is_set():  # else it could not answer
                    failures += 1
            if failures >= ATTEMPTS:
                self._drop(len(batch), sum(map(len, batch)))
                return
            await asyncio.sleep(BACKOFF_S * 2**failures)

    async def _post(self, batch: list[bytes]) -> None:
        """One request on a connection of its own. Raises OSError, ValueError or EOFError when it is not accepted."""
        asked = self.subscription
        body = b"[" + b",".join(batch) + b"]"
        reader, writer = await asyncio.open_connection(sock=await self._connect(asked.port))
        try:
            head = (f"{asked.method} {asked.path} HTTP/1.1\r\nHost: {asked.host}:{asked.port}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n")
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.") or answer[9:10] != b"2":
                raise ValueError(f"the subscriber answered {answer[:80]!r}")
            length = _LENGTH.search(answer)
            if length is not None:  # else it might see its own answer break off
                await reader.readexactly(min(int(length[1]), ANSWER_BYTES))
        finally:
            writer.transport.abort()

    async def _write(self, batch: list[bytes]) -> None:
        if self._stream is None:
            _, self._stream = await asyncio.open_connection(sock=await self._connect(self.subscription.port))
        self._stream.write(b"\n".join(batch) + b"\n")
        await self._stream.drain()

    def _close_stream(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(RuntimeError):
                self._stream.transport.abort()
            self._stream = None
