"""StartLiveTail through boto3: what a session is told, what is left out, and how it ends."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError
from control_plane import Plane, running

from lambent.clock import Clock
from lambent.control import live_tail
from lambent.telemetry.logs import LogStore
from lambent.telemetry.logstores import LogStores

GROUP = "/aws/lambda/f"
ARN = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[LogStores]:
    stores = LogStores(tmp_path, Clock())
    yield stores
    await stores.stop()


@pytest.fixture
async def store(stores: LogStores) -> LogStore:
    store = stores.of("000000000000", "us-east-1")
    store.create_group(GROUP)
    store.create_group("other")
    return store


@pytest.fixture
async def plane(tmp_path: Path, stores: LogStores, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Plane]:
    monkeypatch.setenv("AWS_DISABLE_HOST_PREFIX_INJECTION", "true")
    monkeypatch.setattr(live_tail, "TICK_S", 0.02)
    async with running(tmp_path) as plane:
        plane.app._context = dataclasses.replace(plane.app._context, logs=stores)
        yield plane


def now_ms() -> int:
    return int(Clock().wall() * 1000)


class Session:
    """The caller's end, in a thread: `tell` runs something on the server's loop."""

    def __init__(self, client: Any, loop: asyncio.AbstractEventLoop, **asked: Any) -> None:
        self.loop = loop
        self.stream = client.start_live_tail(**{"logGroupIdentifiers": [ARN], **asked})["responseStream"]
        self.events: Iterator[dict[str, Any]] = iter(self.stream)
        self.start = next(self.events)["sessionStart"]

    def tell(self, action: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(action)

    def update(self) -> dict[str, Any]:
        update: dict[str, Any] = next(self.events)["sessionUpdate"]
        return update

    def told(self, count: int) -> list[str]:
        """This many messages, however many updates they take."""
        found: list[str] = []
        while len(found) < count:
            found += [event["message"] for event in self.update()["sessionResults"]]
        return found


async def test_events_are_told_as_they_come(plane: Plane, store: LogStore) -> None:
    loop = asyncio.get_running_loop()
    store.append(GROUP, "a", now_ms(), "before\n")

    def append() -> None:
        store.append("other", "a", now_ms(), "elsewhere\n")
        store.append(GROUP, "a", now_ms(), "one\n")
        store.append(GROUP, "b", 123, "two\n")

    def script(client: Any) -> None:
        session = Session(client, loop)
        assert session.start["logGroupIdentifiers"] == [ARN] and session.start["sessionId"]
        assert session.update() == {"sessionMetadata": {"sampled": False}, "sessionResults": []}
        session.tell(append)
        found: list[dict[str, Any]] = []
        while len(found) < 2:
            found += session.update()["sessionResults"]
        assert [(event["logStreamName"], event["message"]) for event in found] == [("a", "one\n"), ("b", "two\n")]
        assert found[1]["timestamp"] == 123 and found[1]["logGroupIdentifier"] == ARN
        session.stream.close()

    await plane.drive(script, "logs")


@pytest.mark.parametrize("asked", [
    {"logEventFilterPattern": "ERROR -expected"}, {"logStreamNames": ["wanted"]}, {"logStreamNamePrefixes": ["want"]}])
async def test_only_what_was_asked_for(plane: Plane, store: LogStore, asked: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()

    def append() -> None:
        store.append(GROUP, "unwanted", now_ms(), "fine\n")
        store.append(GROUP, "unwanted", now_ms(), "ERROR expected\n")
        store.append(GROUP, "wanted", now_ms(), "ERROR here\n")

    def script(client: Any) -> None:
        session = Session(client, loop, **asked)
        session.tell(append)
        assert session.told(1) == ["ERROR here\n"]
        session.stream.close()

    await plane.drive(script, "logs")


async def test_more_than_500_in_a_second_are_sampled(plane: Plane, store: LogStore) -> None:
    loop = asyncio.get_running_loop()

    def append() -> None:
        for number in range(600):
            store.append(GROUP, "a", now_ms(), f"{number}\n")

    def script(client: Any) -> None:
        session = Session(client, loop)
        session.tell(append)
        while not (update := session.update())["sessionResults"]:
            assert update["sessionMetadata"]["sampled"] is False
        assert (len(update["sessionResults"]), update["sessionMetadata"]["sampled"]) == (500, True)
        assert session.update() == {"sessionMetadata": {"sampled": False}, "sessionResults": []}
        session.stream.close()

    await plane.drive(script, "logs")


async def test_session_ends_after_its_time(
    plane: Plane, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_tail, "SESSION_TICKS", 2)
    loop = asyncio.get_running_loop()

    def script(client: Any) -> None:
        session = Session(client, loop)
        session.update()
        session.update()
        with pytest.raises(EventStreamError, match="SessionTimeoutException"):
            session.update()
        session.stream.close()

    await plane.drive(script, "logs")
    assert store._taps == []


async def test_session_ends_with_the_server(plane: Plane, store: LogStore) -> None:
    loop = asyncio.get_running_loop()

    def script(client: Any) -> None:
        session = Session(client, loop)
        asyncio.run_coroutine_threadsafe(plane.app.stop(), loop).result(10)
        assert all(event["sessionUpdate"]["sessionResults"] == [] for event in session.events)
        session.stream.close()

    await plane.drive(script, "logs")


async def test_sessions_are_counted_until_their_caller_hangs_up(
    plane: Plane, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_tail, "SESSIONS", 1)
    loop = asyncio.get_running_loop()

    def script(client: Any) -> None:
        session = Session(client, loop)
        with pytest.raises(client.exceptions.LimitExceededException):
            Session(client, loop)
        session.stream.close()
        while True:  # until the server has seen it; the test's own timeout ends this
            try:
                Session(client, loop).stream.close()
                return
            except client.exceptions.LimitExceededException:
                pass

    await plane.drive(script, "logs")


@pytest.mark.parametrize(("asked", "code", "message"), [
    ({"logGroupIdentifiers": [ARN.replace("/f", "/absent")]}, "ResourceNotFoundException", "does not exist"),
    ({"logGroupIdentifiers": [ARN.replace("us-east-1", "eu-west-1")]}, "ResourceNotFoundException", "does not exist"),
    ({"logGroupIdentifiers": [GROUP]}, "InvalidParameterException", "is not the ARN of a log group"),
    ({"logGroupIdentifiers": [ARN + ":*"]}, "InvalidParameterException", "logGroupIdentifiers"),
    ({"logStreamNames": ["a"], "logStreamNamePrefixes": ["b"]}, "InvalidParameterException", "Cannot specify both"),
    ({"logGroupIdentifiers": [ARN, ARN.replace(GROUP, "other")], "logStreamNames": ["a"]},
     "InvalidParameterException", "single log group"),
    ({"logEventFilterPattern": "{ $.a = "}, "InvalidParameterException", "Invalid filter pattern"),
    ({"logGroupIdentifiers": []}, "InvalidParameterException", "logGroupIdentifiers"),
])  # fmt: skip
async def test_what_cannot_be_tailed_is_refused(
    plane: Plane, store: LogStore, asked: dict[str, Any], code: str, message: str
) -> None:
    loop = asyncio.get_running_loop()

    def script(client: Any) -> None:
        with pytest.raises(ClientError) as caught:
            Session(client, loop, **asked)
        error = caught.value.response["Error"]
        assert error["Code"] == code and message in error["Message"]

    await plane.drive(script, "logs")
    assert store._taps == []


async def test_a_slow_reader_loses_the_oldest_events(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tail, "KEPT_EVENTS", 3)
    written: list[bytes] = []

    class Peer:
        on_flow: Callable[[bool], None]
        gone = False

        def begin(self, *_: object) -> None:
            pass

        def write(self, data: bytes) -> None:
            written.append(data)

        def finish(self) -> None:
            pass

    peer = Peer()
    asked = live_tail._Asked({GROUP: ARN}, {"logGroupIdentifiers": [ARN]}, None)
    session = live_tail._Session(peer, store, asked, lambda _: None)  # type: ignore[arg-type]
    peer.on_flow(False)
    written.clear()
    for number in range(5):
        store.append(GROUP, "a", now_ms(), f"event {number}")
    session._tick()
    assert written == []
    peer.on_flow(True)
    session._tick()
    session.end()
    [update] = written
    assert [f"event {number}".encode() in update for number in range(5)] == [False, False, True, True, True]
    assert b'"sampled":true' in update
