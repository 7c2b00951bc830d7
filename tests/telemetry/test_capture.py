"""Capture over real pipes: lines, boundaries, floods, the end of a writer."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

import pytest

from lambent.telemetry.capture import LINE_BYTES, LINE_COST_BYTES, LINES_PER_TURN, Allowance, Capture
from lambent.telemetry.records import LogsDropped


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pipe:
    """A captured pipe and what came out of it."""

    def __init__(self, rate: int = 10**7, burst: int = 10**7) -> None:
        read, self.write_end = os.pipe()
        os.set_blocking(read, False)
        self.lines: list[bytes] = []
        self.ends = 0
        self.time = Time()
        self.capture = Capture(read, asyncio.get_running_loop(), self.lines.append, self._dropped,
                               Allowance(self.time, rate, burst), self._ended)  # fmt: skip

    def _dropped(self, dropped: LogsDropped) -> None:
        self.lines.append(dropped.text().encode())

    def _ended(self) -> None:
        self.ends += 1

    def write(self, data: bytes) -> None:
        os.write(self.write_end, data)

    def hang_up(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    made = Pipe()
    yield made
    made.hang_up()
    made.capture.close()


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_lines_arrive_whole_while_nobody_asks(pipe: Pipe) -> None:
    pipe.write(b"one\ntw")
    await turns()
    assert pipe.lines == [b"one\n"]
    pipe.write(b"o\n\n")
    await turns()
    assert pipe.lines == [b"one\n", b"two\n", b"\n"]


async def test_drain_takes_what_is_there_without_a_loop_turn(pipe: Pipe) -> None:
    pipe.write(b"before the response\nhalf")
    pipe.capture.drain()
    assert pipe.lines == [b"before the response\n"]
    pipe.capture.flush()
    assert pipe.lines[1:] == [b"half\n"]


async def test_drain_stops_at_its_limit(pipe: Pipe) -> None:
    pipe.write(b"aaa\nbbb\n")
    pipe.capture.drain(limit=4)
    assert pipe.lines == [b"aaa\n"]
    await turns()
    assert pipe.lines == [b"aaa\n", b"bbb\n"]


async def test_end_of_the_writer_flushes_the_unfinished_line(pipe: Pipe) -> None:
    pipe.write(b"last words")
    pipe.hang_up()
    await turns(4)
    assert pipe.lines == [b"last words\n"]
    assert pipe.capture.ended and pipe.ends == 1


async def test_close_takes_the_rest_and_frees_the_descriptor(pipe: Pipe) -> None:
    pipe.write(b"a\n" * 5000 + b"end")
    pipe.hang_up()
    pipe.capture.close()
    assert pipe.lines == [b"a\n"] * 5000 + [b"end\n"]
    pipe.capture.close()


async def test_overlong_line_becomes_several_events(pipe: Pipe) -> None:
    data = b"x" * (LINE_BYTES + 10) + b"\n"
    for start in range(0, len(data), 32768):
        pipe.write(data[start : start + 32768])
        await turns()
    assert [len(line) for line in pipe.lines] == [LINE_BYTES + 1, 11]
    assert b"".join(line[:-1] for line in pipe.lines) == data[:-1]


async def test_one_turn_handles_a_bounded_number_of_lines(pipe: Pipe) -> None:
    pipe.write(b"\n" * 5000)
    seen: list[int] = []
    while len(pipe.lines) < 5000:
        await asyncio.sleep(0)
        seen.append(len(pipe.lines))
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(steps) <= LINES_PER_TURN


async def test_over_the_rate_lines_are_counted_and_one_line_says_so() -> None:
    pipe = Pipe(rate=1000, burst=10 * LINE_COST_BYTES)
    pipe.write(b"line\n" * 25)
    await turns(4)
    assert pipe.lines == [b"line\n"] * 10
    pipe.write(b"more\n")
    pipe.capture.drain()
    pipe.time.now += 60
    pipe.write(b"calm again\n")
    pipe.capture.drain()
    assert pipe.lines[10].startswith(b"LOGS_DROPPED\tRecords: 16\tBytes: 80\t")
    assert pipe.lines[11:] == [b"calm again\n"]
    pipe.hang_up()
    pipe.capture.close()


async def test_flood_keeps_memory_bounded_and_the_guest_running() -> None:
    pipe = Pipe(rate=1, burst=LINE_COST_BYTES)
    loop = asyncio.get_running_loop()
    chunk = b"flood\n" * 5000

    def flood() -> None:
        for _ in range(100):
            pipe.write(chunk)

    await loop.run_in_executor(None, flood)
    pipe.hang_up()
    while not pipe.ends:
        await asyncio.sleep(0.001)
    pipe.capture.close()
    assert pipe.lines[0] == b"flood\n"
    assert len(pipe.lines) == 2
    assert pipe.lines[1].startswith(b"LOGS_DROPPED\tRecords: 499999\tBytes: 2999994\t")


async def test_two_captures_share_one_allowance() -> None:
    first = Pipe(rate=1, burst=2 * LINE_COST_BYTES)
    second = Pipe()
    second.capture._allowance = first.capture._allowance
    first.write(b"a\nb\n")
    first.capture.drain()
    second.write(b"c\n")
    second.capture.drain()
    second.capture.flush()
    assert first.lines == [b"a\n", b"b\n"]
    assert [line[:12] for line in second.lines] == [b"LOGS_DROPPED"]
    for pipe in (first, second):
        pipe.hang_up()
        pipe.capture.close()


async def test_failing_consumer_loses_one_line_and_not_the_order(pipe: Pipe) -> None:
    seen: list[bytes] = []

    def consume(line: bytes) -> None:
        if line == b"bad\n":
            raise RuntimeError("consumer")
        seen.append(line)

    pipe.capture._on_line = consume
    pipe.write(b"good\nbad\nbetter\n")
    with pytest.raises(RuntimeError):
        pipe.capture.drain()
    pipe.capture.drain()
    assert seen == [b"good\n", b"better\n"]
