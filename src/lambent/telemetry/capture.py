"""Capture: what a guest writes to its standard output and error, cut into lines, as long as the pipe lives.

Promises: the pipe is always drained, also while the environment is frozen, so a guest never waits for a reader;
one loop turn handles at most CHUNK_BYTES and LINES_PER_TURN; memory is bounded by one line and one chunk; over the
rate lines are dropped and counted, and one record says so. Every line handed on ends with a newline, as every
CloudWatch event of a function does (fact sheet 5). Decoding, time stamps and storage are the counterpart's, `logs`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from lambent.telemetry.records import LogsDropped

CHUNK_BYTES = 64 * 1024  # what a pipe holds by default
LINES_PER_TURN = 96  # less than half a millisecond of the loop
LINES_PER_DRAIN = 2048
#: What is read and handed on at most when the processes have ended; a guest can make its pipe hold 1 MiB.
CLOSE_BYTES = 1024 * 1024
LINES_PER_CLOSE = 16384
#: A longer line becomes several events (CloudWatch's classic limit of one event).
LINE_BYTES = 256 * 1024

RATE_BYTES_PER_S = 10 * 1024 * 1024
BURST_BYTES = 32 * 1024 * 1024
#: What a line costs at least: a flood of empty lines is as dear to the loop as one of long ones.
LINE_COST_BYTES = 512
#: While lines are being dropped a chunk is taken this often, so that a flood cannot keep the loop busy.
DROP_PAUSE_S = 0.001


class Allowance:
    """How much an environment may write: a token bucket in bytes, shared by its captures."""

    __slots__ = ("_at", "_burst", "_left", "_monotonic", "rate")

    def __init__(self, monotonic: Callable[[], float], rate: int = RATE_BYTES_PER_S, burst: int = BURST_BYTES) -> None:
        self._monotonic = monotonic
        self._burst = float(burst)
        self._left = float(burst)
        self._at = monotonic()
        self.rate = rate  #: bytes per second

    def take(self, size: int) -> bool:
        """Pay for a line of `size` bytes; False when there is not enough left."""
        cost = size if size > LINE_COST_BYTES else LINE_COST_BYTES
        if self._left < cost:
            self._refill()
            if self._left < cost:
                return False
        self._left -= cost
        return True

    def has_recovered(self) -> bool:
        """Half of the burst is there again. The gap keeps drop notices about a second apart."""
        self._refill()
        return self._left >= self._burst / 2

    def _refill(self) -> None:
        now = self._monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self.rate)
        self._at = now


class Capture:
    """The reader of one pipe. Owns `fd`, which must be non-blocking, and closes it.

    `on_line` gets each line, newline included, from the event loop or from within `drain`, `flush` and `close`;
    `on_dropped` gets, in between, what was not handed on.
    `on_end` is called once when every writer has closed the pipe.
    """

    __slots__ = ("_allowance", "_buffer", "_continue", "_dropped_bytes", "_dropped_lines", "_dropping", "_fd", "_loop",
                 "_on_dropped", "_on_end", "_on_line", "_reading", "_scanned", "ended")  # fmt: skip

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop, on_line: Callable[[bytes], None],
                 on_dropped: Callable[[LogsDropped], None], allowance: Allowance,
                 on_end: Callable[[], None] | None = None) -> None:  # fmt: skip
        self._fd = fd
        self._loop = loop
        self._on_line = on_line
        self._on_dropped = on_dropped
        self._on_end = on_end
        self._allowance = allowance
        self._buffer = bytearray()
        self._scanned = 0  #: no newline in the buffer before this offset
        self._dropping = False
        self._dropped_lines = 0
        self._dropped_bytes = 0
        self._reading = False
        self._continue: asyncio.Handle | None = None
        self.ended = False
        self._resume()

    def drain(self, limit: int = CHUNK_BYTES) -> None:
        """Take what is in the pipe now, at most `limit` bytes, and hand on its whole lines. Never waits."""
        if not self._buffer:  # nearly always there is nothing
            taken = self._read(min(limit, CHUNK_BYTES))
            if not taken:
                return
            limit -= taken
        self._take(limit, LINES_PER_DRAIN)
        if self._backlog():
            self._pause(0.0)

    def flush(self) -> None:
        """A record follows: hand on an unfinished last line, and say how many lines were dropped so far."""
        if self._buffer:
            if self._backlog():
                return
            line = bytes(self._buffer) + b"\n"
            self._buffer.clear()
            self._scanned = 0
            self._hand_on(line)
        self._tell_dropped()

    def close(self) -> None:
        """The processes have ended: take the rest, let go of the pipe. Idempotent."""
        if self._fd < 0:
            return
        self._take(CLOSE_BYTES, LINES_PER_CLOSE)
        if self._backlog():
            self._drop_whole_lines()
        self.flush()
        self._stop()
        os.close(self._fd)
        self._fd = -1

    # reading

    def _take(self, limit: int, lines: int) -> None:
        lines -= self._split(lines)
        while limit > 0 and lines > 0:
            taken = self._read(min(limit, CHUNK_BYTES))
            if taken == 0:
                break
            limit -= taken
            lines -= self._split(lines)

    def _turn(self) -> None:
        self._continue = None
        if not self._backlog():
            self._read(CHUNK_BYTES)
        self._split(LINES_PER_TURN)
        if self._backlog():
            self._pause(0.0)
        elif self._dropping:
            self._pause(DROP_PAUSE_S)
        else:
            self._resume()

    def _read(self, size: int) -> int:
        """Bytes taken; 0 when there are none now or ever again. Called only when no whole line is waiting."""
        if self._fd < 0 or self.ended:
            return 0
        try:
            data = os.read(self._fd, size)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data = b""  # nobody can write to it any more
        if not data:
            self._end()
            return 0
        self._buffer += data
        return len(data)

    def _end(self) -> None:
        self.ended = True
        self._stop()
        self.flush()
        if self._on_end is not None:
            self._on_end()

    def _resume(self) -> None:
        if not self._reading and not self.ended and self._fd >= 0:
            self._reading = True
            self._loop.add_reader(self._fd, self._turn)

    def _pause(self, delay_s: float) -> None:
        """Read no further for a turn or a while; the guest's writes wait in the pipe."""
        self._stop()
        if self.ended or self._fd < 0:
            return
        self._continue = (
            self._loop.call_later(delay_s, self._turn) if delay_s else self._loop.call_soon(self._turn)
        )

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)
        if self._continue is not None:
            self._continue.cancel()
            self._continue = None

    # lines

    def _backlog(self) -> bool:
        """A whole line is waiting in the buffer."""
        buffer = self._buffer
        return len(buffer) >= LINE_BYTES or buffer.find(b"\n", self._scanned) >= 0

    def _split(self, lines: int) -> int:
        """Hand on at most `lines` lines of the buffer; how many there were."""
        if self._dropping:
            if not self._allowance.has_recovered():
                return self._drop_whole_lines()
            self._dropping = False
            self._tell_dropped()
        buffer, start, done = self._buffer, 0, 0
        scanned = self._scanned
        try:
            while done < lines and not self._dropping:
                end = buffer.find(b"\n", scanned)
                if end >= 0 and end - start < LINE_BYTES:
                    line = bytes(buffer[start : end + 1])
                    start = end + 1
                elif len(buffer) - start >= LINE_BYTES:
                    line = bytes(buffer[start : start + LINE_BYTES]) + b"\n"
                    start += LINE_BYTES
                else:
                    scanned = len(buffer)
                    break
                scanned = start
                done += 1
                self._hand_on(line)
        finally:
            del buffer[:start]
            self._scanned = scanned - start
        return done

    def _hand_on(self, line: bytes) -> None:
        if self._allowance.take(len(line)):
            self._on_line(line)
            return
        self._dropping = True
        self._dropped_lines += 1
        self._dropped_bytes += len(line)

    def _drop_whole_lines(self) -> int:
        """Count and forget every whole line of the buffer, at the cost of a memory scan; how many there were."""
        buffer = self._buffer
        end = buffer.rfind(b"\n") + 1
        count = buffer.count(b"\n", 0, end)
        if len(buffer) - end >= LINE_BYTES:
            end = len(buffer)
            count += 1
        del buffer[:end]
        self._scanned = len(buffer)
        self._dropped_lines += count
        self._dropped_bytes += end
        return count

    def _tell_dropped(self) -> None:
        if self._dropped_lines:
            reason = f"written faster than {self._allowance.rate} bytes per second"
            dropped = LogsDropped(self._dropped_lines, self._dropped_bytes, reason)
            self._dropped_lines = self._dropped_bytes = 0
            self._on_dropped(dropped)
