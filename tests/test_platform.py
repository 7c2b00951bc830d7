"""What the composition root does itself: the listener's bounds, the token, the figures."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lambent.http1 import Request
from lambent.platform import Listener, make_token, said_at_start
from lambent.sandbox.capacity import memory_budget, memory_marks

GET = b"GET /at-once HTTP/1.1\r\nHost: x\r\n\r\n"
WAIT = b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LazyEdge:
    """Answers at once, or never."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def handle(self, request: Request) -> None:
        if request.path == "/at-once":
            request.respond(204)
        else:
            self.waiting.append(request)


@asynccontextmanager
async def listening(limit: int) -> AsyncIterator[tuple[LazyEdge, Callable[[], Any]]]:
    """The edge, and what opens one more connection."""
    edge = LazyEdge()
    listener = Listener(asyncio.get_running_loop(), limit)
    port = int((await listener.bind("127.0.0.1", 0)).rpartition(":")[2])
    await listener.serve(cast(Any, edge))
    opened: list[Streams] = []

    async def connect() -> Streams:
        opened.append(await asyncio.open_connection("127.0.0.1", port))
        return opened[-1]

    yield edge, connect
    listener.close()
    for _, writer in opened:
        writer.transport.abort()
    async with asyncio.timeout(5):
        while listener._connections:
            await asyncio.sleep(0)


async def answer(streams: Streams, request: bytes = GET) -> bytes:
    """The status line; empty when the server has closed."""
    reader, writer = streams
    writer.write(request)
    async with asyncio.timeout(5):
        try:
            return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""


async def test_over_the_limit_the_oldest_idle_connection_goes() -> None:
    async with listening(2) as (_, connect):
        first, second = await connect(), await connect()
        assert await answer(first) and await answer(second)
        third = await connect()
        assert await answer(third)
        assert await answer(first) == b""
        assert await answer(second)


async def test_when_every_connection_is_in_use_a_new_one_is_closed() -> None:
    async with listening(2) as (edge, connect):
        used = [await connect(), await connect()]
        for _, writer in used:
            writer.write(WAIT)
        async with asyncio.timeout(5):
            while len(edge.waiting) < 2:
                await asyncio.sleep(0)
        assert await answer(await connect()) == b""
        for request in edge.waiting:
            request.respond(204)
        assert await answer(used[0]) and await answer(used[1])


async def test_port_that_is_taken_is_an_error_at_once() -> None:
    taken = Listener(asyncio.get_running_loop())
    port = int((await taken.bind("127.0.0.1", 0)).rpartition(":")[2])
    await taken.serve(cast(Any, LazyEdge()))
    with pytest.raises(OSError):
        await Listener(asyncio.get_running_loop()).bind("127.0.0.1", port)
    taken.close()


async def test_address_of_version_6_is_shown_in_brackets() -> None:
    listener = Listener(asyncio.get_running_loop())
    try:
        url = await listener.bind("::1", 0)
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    assert url.startswith("http://[::1]:")
    listener.close()


def test_token_is_made_once_and_only_for_the_servers_user(tmp_path: Path) -> None:
    (tmp_path / "token.new").write_text("left by a server that was killed")
    token = make_token(tmp_path)
    assert len(token) >= 43
    assert make_token(tmp_path) == token
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_memory_budget_is_what_was_set_or_a_share_of_the_host() -> None:
    assert memory_budget(256) == 256 * 1024 * 1024
    assert memory_budget(0) > 0


@pytest.mark.parametrize(("cap_gib", "headroom_mib"), [(0.5, 64), (4, 512), (20, 512)])
def test_idle_environments_go_before_the_cap_is_reached(cap_gib: float, headroom_mib: int) -> None:
    cap = int(cap_gib * 1024**3)
    budget, marks = memory_marks(cap)
    assert cap - budget == headroom_mib * 1024**2
    assert marks == sorted(marks) and budget in marks and marks[0] < budget < marks[-1] < cap


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://127.0.0.1:4566", 0), ("http://[::1]:4566", 0), ("http://0.0.0.0:80", 1), ("http://[fe80::1%eth0]:80", 1)],
)
def test_an_address_that_others_reach_is_warned_about(url: str, said: int) -> None:
    lines = said_at_start(cast(Any, SimpleNamespace(name="namespace")), url)
    assert len(lines) == said and all("NO AUTHENTICATION" in line for line in lines)
