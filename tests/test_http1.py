"""What a connection writes, and when: looked at from a transport that records each write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lambent.http1 import Connection, Request

FIRST = b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport without a wire."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closing = True


class Ends:
    """A connection whose requests gather in `requests`; those to /first get an answer that may wait."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.transport = Recorder()
        self.connection = Connection(self._on_request, asyncio.get_running_loop(), 1024)
        self.connection.connection_made(self.transport)

    def _on_request(self, request: Request) -> None:
        self.requests.append(request)
        if request.path == "/first":
            request.respond_raw(b"one ", may_wait=True)


@pytest.fixture
async def ends() -> Ends:
    return Ends()


async def test_an_answer_that_may_wait_goes_out_at_once_when_nothing_follows(ends: Ends) -> None:
    ends.connection.data_received(FIRST)
    assert ends.transport.writes == [b"one "]
    ends.connection.data_received(SECOND)
    ends.requests[1].respond_raw(b"two")
    assert ends.transport.writes == [b"one ", b"two"]


async def test_an_answer_that_may_wait_goes_out_with_the_next_when_the_peer_has_asked_for_it(ends: Ends) -> None:
    ends.connection.data_received(FIRST + SECOND)
    assert ends.transport.writes == []
    ends.requests[1].respond_raw(b"two")
    assert ends.transport.writes == [b"one two"]


async def test_half_a_following_request_holds_nothing_back(ends: Ends) -> None:
    ends.connection.data_received(FIRST + SECOND[:10])
    assert ends.transport.writes == [b"one "]
    ends.connection.data_received(SECOND[10:])
    assert [request.path for request in ends.requests] == ["/first", "/second"]


async def test_a_broken_following_request_loses_no_answer(ends: Ends) -> None:
    ends.connection.data_received(FIRST + b"no http at all\r\n\r\n")
    [written] = ends.transport.writes
    assert written.startswith(b"one HTTP/1.1 400 ")
    assert ends.transport.closing


async def test_the_last_answer_before_a_close_does_not_wait(ends: Ends) -> None:
    ends.connection.data_received(FIRST.replace(b"Host: x", b"Connection: close"))
    assert ends.transport.writes == [b"one "]
    assert ends.transport.closing


async def test_requests_sent_at_once_are_answered_one_after_the_other(ends: Ends) -> None:
    ends.connection.data_received(SECOND + FIRST + SECOND)
    assert [request.path for request in ends.requests] == ["/second"]
    ends.requests[0].respond_raw(b"zero ")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [request.path for request in ends.requests] == ["/second", "/first", "/second"]
    ends.requests[2].respond_raw(b"two")
    assert ends.transport.writes == [b"zero ", b"one two"]
