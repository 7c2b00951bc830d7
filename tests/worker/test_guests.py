"""Who talks to the server's port: a guest is told by its user, or by who has the socket open."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from lambent.runtimeapi.peer import PeerLookup
from lambent.sandbox.base import Seen, Usage
from lambent.sandbox.proctable import Table
from lambent.worker.guests import Guests


class Environment:
    """As much of a sandbox as is asked for, with processes of this test's choice."""

    def __init__(self, guest_uid: int | None, *pids: int) -> None:
        self.guest_uid = guest_uid
        self.pids = pids
        self.threads: list[int] = []

    def look(self) -> Any:
        def look(table: Table) -> Seen:
            self.threads.append(threading.get_ident())
            if not self.pids:
                raise RuntimeError("cannot look")
            return Seen(Usage(None, None, None, self.pids), False)

        return look


@pytest.fixture
def pair() -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Addresses of a connection, whose two ends this process holds."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(
        listening.getsockname()
    ) as ours, listening.accept()[0]:
        yield ours.getsockname(), listening.getsockname()


async def is_guest(pair: tuple[tuple[str, int], tuple[str, int]], *environments: Environment) -> bool:
    peers = PeerLookup()
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    Guests(peers, lambda: cast(Any, environments)).ask(*pair, told.set_result)
    try:
        return await asyncio.wait_for(told, 20)
    finally:
        peers.close()


async def test_a_users_own_environments_are_told_without_a_look(pair: Any) -> None:
    other = Environment(None, os.getpid())
    assert await is_guest(pair, other, Environment(os.getuid()))
    assert not await is_guest(pair, Environment(os.getuid() + 1))
    assert not await is_guest(pair)
    assert other.threads == []


async def test_where_all_are_one_user_who_holds_the_socket_is_found_in_a_thread(pair: Any) -> None:
    absent, holder = Environment(None, 2**22 + 1), Environment(None, 2**22 + 1, os.getpid())
    assert await is_guest(pair, absent, Environment(os.getuid() + 1), holder)
    assert not await is_guest(pair, absent)
    assert threading.get_ident() not in {*absent.threads, *holder.threads}


async def test_a_connection_that_nobody_has_is_no_guests() -> None:
    assert not await is_guest((("127.0.0.1", 1), ("127.0.0.1", 2)), Environment(None, os.getpid()))


async def test_a_look_that_fails_lets_nobody_in(pair: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert await is_guest(pair, Environment(None))
    assert "cannot look" in capfd.readouterr().err
