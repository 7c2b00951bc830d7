"""HTTP/1.1 over real sockets on loopback; then what a connection writes and when, seen from a recording transport."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lambent.http1 import Request, render
from lambent.http1_connection import Connection
from lambent.http1_parse import MAX_HEAD_BYTES, MAX_HEADERS, PACE_SAVED_S, PACE_SHARE, Budget, Pace, Reader

LIMIT = 1000


class Server:
    """Answers with what `reply` does, and keeps what it was asked and what connections there are."""

    def __init__(self, reply: Callable[[Request], None] | None = None, *, timeout_s: float | None = 60.0,
                 limit: int = LIMIT, budget: Budget | None = None) -> None:
        self.reply = reply or (lambda request: request.respond(200, request.path.encode()))
        self.requests: list[Request] = []
        self.connections: set[Connection] = set()
        self.timeout_s = timeout_s
        self.limit = limit
        self.budget = budget
        self.port = 0

    def connect(self) -> Connection:
        made = Connection(self._handle, asyncio.get_running_loop(), self.limit, self.connections.discard,
                          timeout_s=self.timeout_s, budget=self.budget)
        self.connections.add(made)
        return made

    def _handle(self, request: Request) -> None:
        self.requests.append(request)
        self.reply(request)


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            size = int(headers.get("content-length", "0")) if method != "HEAD" else 0
            return int(head[0].split(" ")[1]), headers, await self.reader.readexactly(size)

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.send(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(30):
            return await self.reader.read()


@asynccontextmanager
async def serving(reply: Callable[[Request], None] | None = None,
                  **options: Any) -> AsyncIterator[tuple[Server, Client]]:
    """A server and a client that is connected to it. Afterwards no connection is left and no budget is held."""
    server = Server(reply, **options)
    listening = await asyncio.get_running_loop().create_server(server.connect, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    client = await connected(server)
    try:
        yield server, client
    finally:
        client.writer.transport.abort()
        listening.close()
        await until(lambda: not server.connections)
    if server.budget is not None:
        assert server.budget.held == 0


async def connected(server: Server) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", server.port))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


def get(path: str, *lines: str, method: str = "GET") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: x", *lines, "")).encode("latin-1")


def post(path: str, body: bytes, *lines: str) -> bytes:
    return get(path, f"Content-Length: {len(body)}", *lines, method="POST") + body


# Requests and answers


async def test_connection_is_kept_for_the_next_request() -> None:
    async with serving() as (server, client):
        for path in ("/a", "/b"):
            status, headers, body = await client.ask(get(path + "?x=%20y"))
            assert (status, body) == (200, path.encode())
            assert "connection" not in headers
        assert [request.query for request in server.requests] == ["x=%20y", "x=%20y"]
        assert server.requests[0].peer == client.writer.get_extra_info("sockname")
        assert server.requests[0].local == ("127.0.0.1", server.port)


async def test_connection_close_is_honoured_after_the_answer() -> None:
    async with serving() as (server, client):
        client.send(get("/a", "Connection: close") + get("/never"))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"Connection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1") == len(server.requests) == 1


async def test_pipelined_requests_are_answered_in_order_although_the_first_takes_longest() -> None:
    async with serving(lambda request: None) as (server, client):
        client.send(get("/1") + post("/2", b"two") + get("/3"))
        for number in (1, 2, 3):
            await until(lambda: len(server.requests) == number)  # noqa: B023
            server.requests[-1].respond(200, str(number).encode())
            assert (await client.answer())[2] == str(number).encode()
        assert [request.path for request in server.requests] == ["/1", "/2", "/3"]
        assert server.requests[1].body == b"two"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_answer_without_a_body_leaves_the_connection_in_step(method: str, status: int) -> None:
    async with serving(lambda request: request.respond(status, b"body")) as (_, client):
        client.send(get("/", method=method) * 2)
        for _ in range(2):
            answered, headers, body = await client.answer(method)
            assert (answered, body) == (status, b"")
            assert headers.get("content-length") == ("4" if status == 200 else None)


async def test_repeated_headers_are_joined_and_cookies_by_a_semicolon() -> None:
    async with serving() as (server, client):
        await client.ask(get("/", "X-A: 1", "Cookie: a=1", "x-a: 2", "Cookie: b=2", "X-A: 3"))
        assert server.requests[0].headers == {"host": "x", "x-a": "1,2,3", "cookie": "a=1; b=2"}


async def test_body_in_chunks_arrives_whole_and_trailers_do_not_pass_for_headers() -> None:
    async with serving() as (server, client):
        chunks = b"3\r\nabc\r\n" + b"2;note=x\r\nde\r\n" * 3 + b"0\r\nHost: evil\r\nX-New: 1\r\n\r\n"
        await client.ask(get("/", "Transfer-Encoding: chunked", method="POST") + chunks)
        assert server.requests[0].body == b"abcdedede"
        assert server.requests[0].headers["host"] == "x" and "x-new" not in server.requests[0].headers


async def test_peer_that_expects_a_continue_gets_it_before_the_answer() -> None:
    async with serving() as (_, client):
        client.send(get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert await client.answer() == (100, {}, b"")
        assert (await client.ask(b"abc"))[0] == 200


async def test_continue_does_not_overtake_the_answer_before_it() -> None:
    async with serving(lambda request: None) as (server, client):
        client.send(get("/1") + get("/2", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        await until(lambda: len(server.requests) == 1)
        server.requests[0].respond(200, b"one")
        assert (await client.answer())[2] == b"one"
        assert (await client.answer())[0] == 100
        client.send(b"abc")
        await until(lambda: len(server.requests) == 2)
        assert server.requests[1].body == b"abc"


@pytest.mark.parametrize("body", [b"", b"abc"])
async def test_offer_of_another_protocol_is_declined_and_the_request_served_with_its_body(body: bytes) -> None:
    """Java's HttpClient offers h2c with its first request."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    async with serving() as (server, client):
        client.send(post("/1", body, *offer) + get("/2") + post("/3", body, *offer))
        assert [(await client.answer())[2] for _ in range(3)] == [b"/1", b"/2", b"/3"]
        assert [request.body for request in server.requests] == [body, b"", body]
        assert server.requests[0].headers["upgrade"] == "h2c"


async def test_answer_to_a_peer_that_has_hung_up_does_nothing() -> None:
    async with serving(lambda request: None) as (server, client):
        client.send(get("/1") + get("/2"))
        await until(lambda: len(server.requests) == 1)
        server.requests[0].respond(200)
        await until(lambda: len(server.requests) == 2)
        client.writer.transport.abort()
        await until(lambda: server.requests[1].gone)
        server.requests[1].respond(200)


@pytest.mark.parametrize("answered", ["before", "after"])
async def test_nothing_is_left_of_a_connection_whose_peer_has_hung_up_without_a_garbage_collection(
    answered: str,
) -> None:
    def left() -> int:
        return sum(isinstance(one, Connection | Request | Reader) for one in gc.get_objects())

    async with serving(lambda request: None) as (server, _):
        gc.collect()
        before = left()
        gc.disable()
        try:
            peer = await connected(server)
            peer.send(post("/", b"x" * LIMIT))
            await until(lambda: len(server.requests) == 1)
            if answered == "before":
                server.requests[0].respond(200)
            peer.writer.transport.abort()
            await until(lambda: len(server.connections) == 1)
            server.requests.pop().respond(200)
            await until(lambda: left() == before)
        finally:
            gc.enable()


async def test_connection_that_is_dropped_before_it_is_made_is_not_read() -> None:
    async with serving() as (server, _):
        made: list[Connection] = []

        def connect() -> Connection:
            made.append(server.connect())
            made[0].abort()
            return made[0]

        listening = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)
        peer = Client(*await asyncio.open_connection(*listening.sockets[0].getsockname()))
        peer.send(get("/"))
        with contextlib.suppress(ConnectionResetError):
            assert await peer.rest() == b""
        assert server.requests == [] and made[0].closed
        listening.close()
        peer.writer.transport.abort()


async def test_second_answer_to_a_request_is_ignored() -> None:
    def twice(request: Request) -> None:
        request.respond(200, b"first")
        request.respond(500, b"second")
        request.respond_raw(b"third")

    async with serving(twice) as (_, client):
        client.send(get("/", "Connection: close"))
        assert (await client.rest()).endswith(b"first")


async def test_fault_of_ours_is_a_500_with_a_traceback_not_the_peers_fault(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(request: Request) -> None:
        raise RuntimeError("broken on purpose")

    async with serving(fail) as (_, client):
        assert (await client.ask(get("/")))[0] == 500
        assert (await client.ask(get("/")))[0] == 500
    assert "broken on purpose" in capsys.readouterr().err


# What a peer must not do


@pytest.mark.parametrize("bad", [
    b"no http at all\r\n\r\n",
    b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
    b"GET / HTTP/1.1\nA: b\n\n",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
])  # fmt: skip
async def test_malformed_request_is_400_and_ends_the_connection(bad: bytes) -> None:
    async with serving() as (server, client):
        client.send(bad + get("/smuggled"))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n") and b"Connection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert server.requests == []


async def test_malformed_request_waits_until_the_one_before_it_is_answered() -> None:
    async with serving(lambda request: None) as (server, client):
        client.send(get("/1") + b"no http at all\r\n\r\n")
        await until(lambda: len(server.requests) == 1)
        server.requests[0].respond(200, b"one")
        assert (await client.answer())[2] == b"one"
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("framing", ["Content-Length: 1001", "Transfer-Encoding: chunked"])
async def test_body_over_the_limit_is_flagged_with_its_size_and_the_connection_goes_on(framing: str) -> None:
    body = b"x" * 1001
    if "chunked" in framing:
        body = b"3e9\r\n" + body + b"\r\n0\r\n\r\n"
    async with serving() as (server, client):
        assert (await client.ask(get("/big", framing, method="POST") + body))[0] == 200
        assert (server.requests[0].oversize, server.requests[0].body) == (1001, b"")
        await client.ask(post("/fits", b"x" * 1000))
        assert (server.requests[1].oversize, len(server.requests[1].body)) == (0, 1000)


@pytest.mark.parametrize("head", [
    b"GET /" + b"a" * MAX_HEAD_BYTES,
    b"GET / HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES + 400_000),
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEADERS + 2),
    b"\r\n" * MAX_HEAD_BYTES,
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * (MAX_HEAD_BYTES + 400_000),
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * (MAX_HEADERS + 2),
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"b" * (MAX_HEAD_BYTES + 400_000),
], ids=["target", "value", "lines", "nothing", "extension", "trailers", "trailer"])  # fmt: skip
async def test_head_without_an_end_is_431(head: bytes) -> None:
    async with serving() as (server, client):
        client.send(head)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
        assert server.requests == []


async def test_head_just_below_the_limit_is_served() -> None:
    async with serving() as (server, client):
        assert (await client.ask(get("/", "X: " + "a" * (MAX_HEAD_BYTES - 100))))[0] == 200
        assert len(server.requests[0].headers["x"]) == MAX_HEAD_BYTES - 100


async def test_request_that_is_not_completed_in_time_is_408() -> None:
    async with serving(timeout_s=0.03) as (server, client):
        client.send(get("/whole") + b"GET /half")
        assert (await client.answer())[2] == b"/whole"
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        assert len(server.requests) == 1


async def test_idle_connection_and_a_slow_answer_are_no_timeout() -> None:
    async with serving(lambda request: None, timeout_s=0.01) as (server, client):
        await asyncio.sleep(0.03)
        client.send(get("/"))
        await until(lambda: len(server.requests) == 1)
        await asyncio.sleep(0.03)
        server.requests[0].respond(200, b"late")
        assert (await client.answer())[2] == b"late"


@pytest.mark.parametrize(("headers", "content_type"), [
    ((("X-A", "b\r\nX-Evil: 1"),), None),
    ((("X-A", "b\nX-Evil: 1"),), None),
    ((("X-A\r\nX-Evil", "1"),), None),
    ((), "text/plain\r\nX-Evil: 1"),
    ((("X-A", "lone \ud800"),), None),
])  # fmt: skip
async def test_header_that_would_break_the_answer_apart_is_refused(headers: tuple[tuple[str, str], ...],
                                                                   content_type: str | None) -> None:
    with pytest.raises(ValueError):
        render(200, b"", headers, content_type)
    async with serving(lambda request: request.respond(200, b"x", headers, content_type)) as (_, client):
        status, answered, _ = await client.ask(get("/"))
        assert status == 502
        assert not any("evil" in name for name in answered)


# What a peer can make us hold


async def test_pipelined_requests_are_read_only_as_fast_as_they_are_answered() -> None:
    async with serving(lambda request: None, limit=1_000_000, budget=Budget(4_000_000)) as (server, client):
        client.send(post("/", b"x" * 1_000_000) * 20)
        for number in range(1, 21):
            await until(lambda: len(server.requests) == number)  # noqa: B023
            assert server.budget is not None and server.budget.held <= 3_000_000
            server.requests[-1].respond(200)
            assert (await client.answer())[0] == 200


async def test_answers_that_nobody_reads_stop_the_reading_of_more_requests() -> None:
    big = b"x" * 1_000_000
    async with serving(lambda request: request.respond(200, big), budget=Budget(30_000_000)) as (server, client):
        client.writer.transport.set_write_buffer_limits(high=1 << 30)
        client.send(get("/") * 50_000)
        answered = 0
        while answered != len(server.requests) or not answered:  # until nothing moves any more
            answered = len(server.requests)
            await asyncio.sleep(0.01)
        assert answered < 40
        for _ in range(100):
            assert (await client.answer())[2] == big


async def test_peer_that_reads_nothing_of_its_answer_is_dropped() -> None:
    big = b"x" * 50_000_000
    async with serving(lambda request: request.respond(200, big), timeout_s=0.05) as (server, client):
        client.send(get("/"))
        await until(lambda: len(server.requests) == 1)
        await until(lambda: not server.connections)


async def test_slow_reader_that_gets_on_is_not_dropped() -> None:
    big = b"x" * 20_000_000
    async with serving(lambda request: request.respond(200, big), timeout_s=0.05) as (_, client):
        client.send(get("/", "Connection: close"))
        received = 0
        async with asyncio.timeout(30):
            while data := await client.reader.read(1_000_000):
                received += len(data)
                await asyncio.sleep(0.003)
        assert received > len(big)


async def test_body_that_the_budget_does_not_allow_is_503_and_frees_what_came_of_it() -> None:
    async with serving(lambda request: None, budget=Budget(1500)) as (server, client):
        other = await connected(server)
        client.send(post("/1", b"x" * 1000))
        await until(lambda: len(server.requests) == 1)
        other.send(post("/2", b"x" * 1000))
        assert (await other.rest()).startswith(b"HTTP/1.1 503 ")
        assert server.budget is not None and server.budget.held == 1000
        server.requests[0].drop_body()
        assert server.budget.held == 0
        third = await connected(server)
        third.send(post("/3", b"x" * 1000))
        await until(lambda: len(server.requests) == 2)
        third.writer.transport.abort()
        other.writer.transport.abort()
        await until(lambda: len(server.connections) == 1)
        assert server.budget.held == 1000  # it still waits for its answer
        server.requests[1].respond(200)


async def test_dropped_connection_hands_on_none_of_the_requests_that_wait_on_it() -> None:
    async with serving(lambda request: None, budget=Budget(5000)) as (server, client):
        client.send(get("/1") + post("/2", b"x") + b"POST /3 HTTP/1.1\r\nContent-Length: 10\r\n\r\nx")
        await until(lambda: len(server.requests) == 1)
        [connection] = server.connections
        server.requests[0].respond(200)  # the next one is due in the next turn of the loop
        connection.abort()
        assert server.requests[0].gone
        await until(lambda: not server.connections)
        assert [request.path for request in server.requests] == ["/1"]


# When it is written


FIRST = b"POST /first HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport without a wire."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closing = False
        self.reading = True

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closing = True

    def write_eof(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        """Noted only: whoever calls `data_received` decides."""
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Ends:
    """A connection whose requests gather in `requests`; those to /first get an answer that may wait."""

    def __init__(self, limit: int = 1024, share: Pace | None = None) -> None:
        self.requests: list[Request] = []
        self.transport = Recorder()
        self.connection = Connection(self._on_request, asyncio.get_running_loop(), limit, share=share)
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


async def test_flood_of_tiny_requests_is_read_in_many_turns_of_the_loop_and_in_order() -> None:
    ends = Ends()
    tiny = b"POST /first HTTP/1.1\r\nX-Number: %d\r\nContent-Length: 1\r\n\r\nx"
    flood = b"".join(tiny % number for number in range(4000))
    ends.connection.data_received(flood[:200_000])
    assert 0 < len(ends.requests) < 1000
    ends.connection.data_received(flood[200_000:])  # an event loop that had more in hand already
    turns = 0
    while len(ends.requests) < 4000 and turns < 1000:
        turns += 1
        await asyncio.sleep(0)
    assert [int(request.headers["x-number"]) for request in ends.requests] == list(range(4000))
    assert b"".join(ends.transport.writes) == b"one " * 4000
    assert turns > 3


async def test_body_in_tiny_chunks_is_read_in_many_turns_of_the_loop() -> None:
    ends = Ends(10_000)
    ends.connection.data_received(b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    ends.connection.data_received(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n" + SECOND)
    ends.connection.data_received(b"1\r\n\r\n")  # no request: told after both are answered
    assert [request.path for request in ends.requests] == []
    for _ in range(100):
        await asyncio.sleep(0)
    assert ends.requests[0].body == b"x" * 10_000
    for request in (0, 1):
        ends.requests[request].respond_raw(b"ok ")
        await asyncio.sleep(0)
    assert b"".join(ends.transport.writes).startswith(b"ok ok HTTP/1.1 400 ")


def test_a_share_of_time_is_saved_up_used_and_waited_for() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])

    def work(seconds: float) -> float:
        begun = pace.begin()
        now[0] += seconds
        return pace.rest(begun)

    assert work(PACE_SAVED_S / 2) == 0.0
    assert work(PACE_SAVED_S) == pytest.approx(PACE_SAVED_S / 2 / PACE_SHARE)
    now[0] += PACE_SAVED_S / 2 / PACE_SHARE
    assert work(0.001) > 0.0
    now[0] += 10.0
    begun = pace.begin()
    assert pace.rest(begun, 1024) == 0.0
    assert pace.rest(begun, 2**30) > 1.0  # bytes cost time before they are handed over
    now[0] += 10.0
    assert work(PACE_SAVED_S) == pytest.approx(0.0, abs=1e-9)
    assert work(0.001) == pytest.approx(0.001 / PACE_SHARE)


async def test_who_has_used_up_its_share_is_read_no_further_until_it_has_some_again() -> None:
    """Two connections with one share: neither the rest of what came nor anything new is read meanwhile."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    ends, other = Ends(10_000, pace), Ends(10_000, pace)
    pace.rest(-PACE_SAVED_S)  # all that was saved up has gone
    now[0] += 1e-9
    ends.connection.data_received(b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000)
    other.connection.data_received(SECOND)
    assert [request.path for request in other.requests] == ["/second"]
    assert (ends.transport.reading, ends.requests) == (False, [])
    await until(lambda: ends.transport.reading)
    ends.connection.data_received(b"0\r\n\r\n")
    await until(lambda: bool(ends.requests))
    assert ends.requests[0].body == b"x" * 5000
