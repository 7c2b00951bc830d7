"""Bodies that are taken as they come, and answers that are sent as they are made, over real sockets on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from lambent.http1 import Request, Streamed
from lambent.http1_connection import Connection

HEAD = b"POST /stream HTTP/1.1\r\nHost: x\r\nX-Stream: yes\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"


class Taken:
    """A body as it came."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.data = bytearray()
        self.trailers: Mapping[str, str] | None = None
        self.is_lost = False
        self.calls = 0

    def chunk(self, data: bytes) -> None:
        self.calls += 1
        if data.endswith(b"fault"):
            raise ValueError("a fault of ours")
        self.data += data

    def end(self, trailers: Mapping[str, str]) -> None:
        self.trailers = dict(trailers)
        self.request.respond(202, b"taken")

    def lost(self) -> None:
        self.is_lost = True


class Server:
    def __init__(self, reply: Callable[[Request], None]) -> None:
        self.reply = reply
        self.taken: list[Taken] = []
        self.whole: list[Request] = []
        self.connections: set[Connection] = set()

    def connect(self) -> Connection:
        connection = Connection(self._handle, asyncio.get_running_loop(), 1000, self.connections.discard,
                                streamed=Streamed("x-stream", self._open))  # fmt: skip
        self.connections.add(connection)
        return connection

    def _open(self, request: Request) -> Taken | None:
        if request.headers["x-stream"] != "yes":
            return None
        self.taken.append(Taken(request))
        return self.taken[-1]

    def _handle(self, request: Request) -> None:
        self.whole.append(request)
        self.reply(request)


@asynccontextmanager
async def serving(reply: Callable[[Request], None] = lambda request: request.respond(200, b"whole"),
                  ) -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:  # fmt: skip
    server = Server(reply)
    listening = await asyncio.get_running_loop().create_server(server.connect, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.sockets[0].getsockname()[1])
    try:
        yield server, reader, writer
    finally:
        writer.transport.abort()
        listening.close()
        await until(lambda: not server.connections)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def read(reader: asyncio.StreamReader, end: bytes) -> bytes:
    async with asyncio.timeout(30):
        return await reader.readuntil(end)


async def test_body_is_handed_on_as_it_comes_and_answered_at_its_end() -> None:
    async with serving() as (server, reader, writer):
        writer.write(HEAD + b"3\r\none\r\n")
        await until(lambda: bool(server.taken) and server.taken[0].data == b"one")
        assert server.taken[0].request.path == "/stream"
        assert server.taken[0].trailers is None
        writer.write(b"3\r\ntwo\r\n0\r\nX-Why: because\r\nX-Stream: no\r\n\r\n" + PLAIN)
        assert (await read(reader, b"taken")).startswith(b"HTTP/1.1 202 ")
        assert server.taken[0].data == b"onetwo"
        assert server.taken[0].trailers == {"x-why": "because", "x-stream": "no"}
        await read(reader, b"whole")


async def test_chunks_that_come_together_are_handed_on_together() -> None:
    async with serving() as (server, reader, writer):
        writer.write(HEAD)
        await until(lambda: bool(server.taken))
        writer.write(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
        await read(reader, b"taken")
        assert server.taken[0].data == b"x" * 10_000
        assert server.taken[0].calls < 100


async def test_body_may_be_longer_than_what_is_gathered() -> None:
    async with serving() as (server, reader, writer):
        writer.write(HEAD.replace(b"Transfer-Encoding: chunked", b"Content-Length: 5000") + b"x" * 5000)
        await read(reader, b"taken")
        assert len(server.taken[0].data) == 5000


async def test_body_that_nobody_takes_is_gathered_with_its_trailers() -> None:
    async with serving() as (server, reader, writer):
        writer.write(HEAD.replace(b"yes", b"no") + b"3\r\none\r\n0\r\nX-Why: because\r\n\r\n")
        await read(reader, b"whole")
        assert server.whole[0].body == b"one"
        assert server.whole[0].trailers == {"x-why": "because"}


async def test_body_behind_an_unanswered_request_is_gathered_until_its_turn_comes() -> None:
    held: list[Request] = []
    async with serving(held.append) as (server, _, writer):
        writer.write(PLAIN + HEAD + b"3\r\none\r\n0\r\n\r\n")
        await until(lambda: len(held) == 1)
        held[0].respond(200, b"first")
        await until(lambda: len(held) == 2)
        assert held[1].body == b"one"
        assert not server.taken


async def test_hang_up_in_the_middle_is_told() -> None:
    async with serving() as (server, _, writer):
        writer.write(HEAD + b"3\r\none\r\n")
        await until(lambda: bool(server.taken) and server.taken[0].data == b"one")
        writer.transport.abort()
        await until(lambda: server.taken[0].is_lost)
        assert server.taken[0].trailers is None


@pytest.mark.parametrize(("broken", "status"), [(b"zz\r\n", b"400"), (b"5\r\nfault\r\n", b"500")])
async def test_broken_body_and_fault_of_ours_end_the_body_and_the_connection(
        broken: bytes, status: bytes, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    async with serving() as (server, reader, writer):
        writer.write(HEAD + b"3\r\none\r\n" + broken)
        assert (await read(reader, b"\r\n")).startswith(b"HTTP/1.1 " + status)
        assert server.taken[0].is_lost
        async with asyncio.timeout(30):
            await reader.read()
    assert ("a fault of ours" in capsys.readouterr().err) == (status == b"500")


async def test_paused_body_stays_with_the_peer_and_comes_whole_afterwards() -> None:
    size = 8 * 1024 * 1024
    async with serving() as (server, reader, writer):
        writer.write(HEAD)
        await until(lambda: bool(server.taken))
        taken = server.taken[0]
        taken.request.pause()
        writer.write(b"%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n")
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(taken.data) < 1024 * 1024
        taken.request.resume()
        await read(reader, b"taken")
        assert len(taken.data) == size


# Answers


async def test_answer_is_sent_as_it_is_made_and_the_connection_is_kept() -> None:
    begun: list[Request] = []
    async with serving(begun.append) as (_, reader, writer):
        for _ in range(2):
            writer.write(PLAIN)
            await until(lambda: bool(begun))
            request = begun.pop()
            request.begin(200, (("X-One", "1"),), "text/plain")
            head = await read(reader, b"\r\n\r\n")
            assert b"Transfer-Encoding: chunked\r\n" in head
            assert b"Content-Type: text/plain\r\n" in head
            assert b"Content-Length" not in head
            request.write(b"one")
            assert await read(reader, b"one\r\n") == b"3\r\none\r\n"
            request.write(b"")  # an empty chunk would be the end
            request.write(b"x" * 17)
            request.finish()
            assert await read(reader, b"0\r\n\r\n") == b"11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
            request.write(b"too late")
            request.finish()


async def test_answer_to_http_1_0_is_ended_by_the_close() -> None:
    def reply(request: Request) -> None:
        request.begin(200)
        request.write(b"one")
        request.finish()

    async with serving(reply) as (_, reader, writer):
        writer.write(PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"))
        async with asyncio.timeout(30):
            answer = await reader.read()
        assert answer.endswith(b"Connection: close\r\n\r\none")
        assert b"chunked" not in answer


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_answer_that_has_no_body_stays_in_step(method: bytes, status: int) -> None:
    def reply(request: Request) -> None:
        request.begin(status if request.path == "/first" else 200)
        request.write(b"one")
        request.finish()

    async with serving(reply) as (_, reader, writer):
        writer.write(PLAIN.replace(b"GET /plain", method + b" /first") + PLAIN)
        assert b" %d " % status in await read(reader, b"\r\n\r\n")
        assert (await read(reader, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await read(reader, b"0\r\n\r\n") == b"3\r\none\r\n0\r\n\r\n"


async def test_answer_that_is_broken_off_has_no_end() -> None:
    def reply(request: Request) -> None:
        request.begin(200)
        request.write(b"one")
        request.break_off()

    async with serving(reply) as (_, reader, writer):
        writer.write(PLAIN)
        async with asyncio.timeout(30):
            assert (await reader.read()).endswith(b"\r\n\r\n3\r\none\r\n")


async def test_bad_header_is_refused_before_anything_is_sent() -> None:
    def reply(request: Request) -> None:
        with pytest.raises(ValueError, match="line break"):
            request.begin(200, (("X-Split", "a\r\nb"),))
        request.respond(502)

    async with serving(reply) as (_, reader, writer):
        writer.write(PLAIN)
        assert (await read(reader, b"\r\n")).startswith(b"HTTP/1.1 502 ")


async def test_peer_that_reads_too_slowly_is_told_to_whoever_makes_the_answer() -> None:
    told: list[bool] = []
    begun: list[Request] = []
    async with serving(begun.append) as (_, reader, writer):
        writer.write(PLAIN)
        await until(lambda: bool(begun))
        request = begun[0]
        request.on_flow = told.append
        request.begin(200)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0
        while not told:
            request.write(bytes(65536))
            sent += 65536
            await asyncio.sleep(0)
        assert told == [False]
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = 0
        async with asyncio.timeout(30):
            while received < sent:
                received += len(await reader.read(1 << 20))
        await until(lambda: told == [False, True])


async def test_peer_that_hangs_up_holds_nobody_back() -> None:
    told: list[bool] = []
    begun: list[Request] = []
    async with serving(begun.append) as (server, _, writer):
        writer.write(PLAIN)
        await until(lambda: bool(begun))
        begun[0].on_flow = told.append
        begun[0].begin(200)
        writer.transport.abort()
        await until(lambda: not server.connections)
        assert told[-1:] == [True]
        assert begun[0].gone
        begun[0].write(b"to nobody")
        begun[0].finish()
