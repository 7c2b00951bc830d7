"""Delivery to a subscriber that is well, slow, broken or frozen."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from lambent.clock import Clock
from lambent.core.subscription import Api, Category, Subscription
from lambent.telemetry import delivery, events
from lambent.telemetry.delivery import Subscriber
from lambent.telemetry.events import Telemetry
from lambent.telemetry.records import LogsDropped


class Listener:
    """An HTTP listener that answers as it is told and keeps what it was sent."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.requests = 0
        self.statuses: list[int] = []  #: for the next requests; 200 when empty
        self.held: asyncio.Event | None = None  #: answers wait for it
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
            batch = json.loads(await reader.readexactly(length))
            self.requests += 1
            if self.held is not None:
                await self.held.wait()
            status = self.statuses.pop(0) if self.statuses else 200
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nOK".encode())
            await writer.drain()
            if status == 200:
                self.batches.put_nowait(batch)
        except OSError:
            pass  # the other end gave up
        finally:
            writer.close()

    async def connect(self, port: int) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        except BaseException:
            made.close()
            raise
        return made

    async def next(self) -> list[Any]:
        async with asyncio.timeout(30):
            return await self.batches.get()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


def wanted(listener: Listener, *, items: int = 1000, size: int = 262_144, timeout_s: float = 30.0) -> Subscription:
    return Subscription("telemetry", "2022-07-01", ("platform", "function"), items, size, timeout_s, "HTTP",
                        listener.port)


def subscriber(listener: Listener, subscription: Subscription) -> Subscriber:
    return Subscriber(subscription, listener.connect, Clock())


async def test_events_are_gathered_until_there_are_enough() -> None:
    async with listening() as listener:
        one = subscriber(listener, wanted(listener, items=3))
        for number in range(4):
            one.offer(b"%d" % number)
        assert await listener.next() == [0, 1, 2]
        one.flush()
        assert await listener.next() == [3]
        one.close()


async def test_events_are_gathered_until_they_are_large_enough() -> None:
    async with listening() as listener:
        one = subscriber(listener, wanted(listener, size=100))
        one.offer(json.dumps("x" * 60).encode())
        one.offer(json.dumps("y" * 60).encode())
        assert await listener.next() == ["x" * 60]
        one.flush()
        assert await listener.next() == ["y" * 60]
        one.close()


async def test_events_are_sent_when_their_time_is_over() -> None:
    async with listening() as listener:
        one = subscriber(listener, wanted(listener, timeout_s=0.03))
        one.offer(b"1")
        one.offer(b"2")
        assert await listener.next() == [1, 2]
        one.close()


async def test_refused_batch_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BACKOFF_S", 0.001)
    async with listening() as listener:
        listener.statuses = [500, 503]
        one = subscriber(listener, wanted(listener))
        one.offer(b"1")
        one.flush()
        assert await listener.next() == [1]
        assert listener.requests == 3
        one.close()


async def test_batch_that_is_never_taken_is_dropped_and_confessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BACKOFF_S", 0.001)
    async with listening() as listener:
        listener.statuses = [500] * delivery.ATTEMPTS
        one = subscriber(listener, wanted(listener, timeout_s=0.03))
        one.offer(b"11")
        one.offer(b"22")
        while listener.requests < delivery.ATTEMPTS:
            await asyncio.sleep(0.001)
        one.offer(b"33")
        confession, event = await listener.next()
        assert event == 33
        assert confession["type"] == "platform.logsDropped"
        assert (confession["record"]["droppedRecords"], confession["record"]["droppedBytes"]) == (2, 4)
        one.close()


async def test_slow_subscriber_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "QUEUE_BYTES", 50)
    async with listening() as listener:
        listener.held = asyncio.Event()
        one = subscriber(listener, wanted(listener, timeout_s=0.03))
        for _ in range(30):
            one.offer(b"12345")
        one.flush()
        while not listener.requests:
            await asyncio.sleep(0.001)
        listener.held.set()
        confession, *taken = await listener.next()
        assert taken == [12345] * 10
        assert confession["record"]["droppedRecords"] == 20
        one.close()


async def test_nothing_is_sent_while_frozen_and_what_is_due_right_after() -> None:
    async with listening() as listener:
        one = subscriber(listener, wanted(listener, timeout_s=0.02))
        one.pause()
        one.offer(b"1")
        one.flush()
        await asyncio.sleep(0.05)
        assert listener.requests == 0
        one.resume()
        assert await listener.next() == [1]
        one.close()


async def test_batch_that_a_freeze_interrupts_is_not_held_against_the_subscriber(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "ATTEMPT_S", 0.2)
    monkeypatch.setattr(delivery, "BACKOFF_S", 0.001)
    async with listening() as listener:
        listener.held = asyncio.Event()
        one = subscriber(listener, wanted(listener))
        one.offer(b"1")
        one.flush()
        while not listener.requests:
            await asyncio.sleep(0.001)
        one.pause()
        await asyncio.sleep(0.8)  # longer than all attempts together
        assert listener.requests == 1
        listener.held.set()
        one.resume()
        assert 1 in await listener.next()
        one.close()


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 302 Found\r\n\r\n", b"x" * 100_000])
async def test_odd_answers_are_failures_and_nothing_more(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BACKOFF_S", 0.001)
    asked = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        asked.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listener = Listener()
    listener.port = server.sockets[0].getsockname()[1]
    one = subscriber(listener, wanted(listener))
    one.offer(b"1")
    one.flush()
    async with asyncio.timeout(30):
        for _ in range(delivery.ATTEMPTS):
            await asked.acquire()
    one.close()
    server.close()


async def test_lines_of_json_are_objects_for_the_newer_schema_only() -> None:
    async with listening() as listener:
        telemetry = Telemetry(Clock(), "JSON")
        telemetry.begin()
        telemetry.emit({"time": "t", "type": "function", "record": '{"level":"INFO"}\n'})
        telemetry.emit({"time": "t", "type": "function", "record": "{no\n"})
        for name, schema in (("new", "2022-12-13"), ("old", "2022-07-01")):
            asked = Subscription("telemetry", schema, ("function",), 1000, 262_144, 30.0, "HTTP", listener.port)
            telemetry.subscribe(name, asked, listener.connect)
            telemetry.flush()
            seen = [event["record"] for event in await listener.next()]
            assert seen == [{"level": "INFO"} if name == "new" else '{"level":"INFO"}\n', "{no\n"]
        telemetry.clear()


async def test_a_fault_and_an_end_are_told_to_the_logs_api_only() -> None:
    """AWS's Rust library refuses a whole batch for an event that the Telemetry API's reference does not list."""
    async with listening() as listener:
        telemetry = Telemetry(Clock(), "Text")
        telemetry.begin()
        telemetry.emit({"time": "t", "type": "platform.fault", "record": "RequestId: 1 Process exited\n"})
        telemetry.emit({"time": "t", "type": "platform.end", "record": {"requestId": "1"}})
        telemetry.emit({"time": "t", "type": "platform.start", "record": {"requestId": "1", "version": "2"}})
        telemetry.emit(LogsDropped(1, 2, "fast").envelope(0.0))
        told = {}
        apis: list[tuple[Api, str]] = [("telemetry", "2022-12-13"), ("logs", "2020-08-15")]
        for api, schema in apis:
            asked = Subscription(api, schema, ("platform",), 1000, 262_144, 30.0, "HTTP", listener.port)
            telemetry.subscribe(api, asked, listener.connect)
            telemetry.flush()
            told[api] = [event["type"] for event in await listener.next()]
        telemetry.clear()
    both = ["platform.start", "platform.logsDropped"]
    assert told == {"telemetry": both, "logs": ["platform.fault", "platform.end", *both]}


async def test_who_subscribes_again_is_told_the_rest_and_nothing_twice() -> None:
    async with listening() as listener:
        telemetry = Telemetry(Clock(), "Text")
        telemetry.begin()
        asked = wanted(listener)

        def emit(record: str) -> None:
            telemetry.emit({"time": "t", "type": "function", "record": record})

        emit("told")
        telemetry.subscribe("one", asked, listener.connect)
        telemetry.flush()
        assert [event["record"] for event in await listener.next()] == ["told"]
        while telemetry._subscribers["one"]._under_way:  # until the answer has arrived
            await asyncio.sleep(0)
        emit("waits")
        for path in ("/a", "/b"):
            telemetry.subscribe("one", replace(asked, path=path), listener.connect)
        emit("new")
        telemetry.flush()
        assert [event["record"] for event in await listener.next()] == ["waits", "new"]
        telemetry.subscribe("one", replace(asked, categories=("function",)), listener.connect)
        telemetry.flush()
        assert [event["record"] for event in await listener.next()] == ["told", "waits", "new"]
        telemetry.clear()


async def test_batch_that_is_under_way_when_somebody_subscribes_again_is_sent_to_the_new_place() -> None:
    async with listening() as listener:
        telemetry = Telemetry(Clock(), "Text")
        telemetry.begin()
        asked, called = wanted(listener, timeout_s=0.02), asyncio.Event()

        async def nowhere(port: int) -> socket.socket:
            called.set()
            await asyncio.Event().wait()
            raise AssertionError("it waits for ever")

        telemetry.subscribe("one", asked, nowhere)
        telemetry.emit({"time": "t", "type": "function", "record": "kept"})
        telemetry.flush()
        await called.wait()
        telemetry.subscribe("one", asked, listener.connect)
        assert [event["record"] for event in await listener.next()] == ["kept"]
        telemetry.clear()


@pytest.mark.parametrize("categories", [("platform", "function"), ("function",)], ids=["the same", "others"])
async def test_who_subscribes_again_with_much_to_be_told_is_sent_it_when_the_time_is_over(
    categories: tuple[Category, ...],
) -> None:
    async with listening() as listener:
        telemetry = Telemetry(Clock(), "Text")
        telemetry.begin()
        asked = wanted(listener, items=3)

        async def at_once(port: int) -> socket.socket:
            raise AssertionError("nobody has waited for that one")

        telemetry.subscribe("one", asked, listener.connect)
        for number in range(2):
            telemetry.emit({"time": "t", "type": "function", "record": f"{number}"})
        for _ in range(3):
            telemetry.subscribe("one", replace(asked, categories=categories), at_once)
            telemetry.emit({"time": "t", "type": "function", "record": "more than wanted at once"})
        telemetry.subscribe("one", replace(asked, categories=categories, timeout_s=0.02), listener.connect)
        told = await listener.next() + await listener.next()
        assert [event["record"] for event in told] == ["0", "1"] + ["more than wanted at once"] * 3
        telemetry.clear()


async def test_what_an_init_tells_is_kept_for_later_subscribers_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EARLY_BYTES", 3500)
    async with listening() as listener:
        telemetry = Telemetry(Clock(), "Text")
        telemetry.begin()
        for number in range(9):
            telemetry.emit({"time": "t", "type": "function", "record": f"{number}" * 1000})
        telemetry.subscribe("one", wanted(listener), listener.connect)
        telemetry.flush()
        confession, *told = await listener.next()
        assert [event["record"][0] for event in told] == ["0", "1", "2"]
        assert confession["record"]["droppedRecords"] == 6
        telemetry.clear()
