"""What a hostile guest tries at the Runtime API of its environment, and at that of another."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any, cast

import pytest
from fakes import Api, FakeSandbox, invocation, obliging, request, until
from stage import stage

from lambent import http1_connection
from lambent.core.model import ExitStatus
from lambent.runtimeapi.app import BODY_LIMIT
from lambent.worker import door
from lambent.worker.door import CONNECTIONS


async def test_connections_of_a_guest_are_bounded() -> None:
    alive: list[int] = []

    async def greedy(api: Api) -> ExitStatus:
        await api.connect()
        others = [api.another() for _ in range(CONNECTIONS + 4)]
        for other in others:
            await other.connect()
        for other in others:
            try:
                alive.append((await other.call("GET", "ping"))[0])
            except (ConnectionError, asyncio.IncompleteReadError):
                alive.append(0)
        for other in others:
            other.hang_up()
        return await obliging(api)

    async with stage(greedy) as made:
        await made.serve("r1")
        assert (alive.count(200), alive.count(0)) == (CONNECTIONS - 1, 5)


async def test_connections_that_come_at_once_are_all_answered_up_to_the_bound() -> None:
    heard: list[int] = []

    async def greedy(api: Api) -> ExitStatus:
        await api.connect()
        others = [api.another() for _ in range(CONNECTIONS - 1)]
        await asyncio.gather(*(other.connect() for other in others))
        heard.extend(status for status, _, _ in
                     await asyncio.gather(*(other.call("GET", "ping") for other in others)))  # fmt: skip
        for other in others:
            other.hang_up()
        return await obliging(api)

    async with stage(greedy) as made:
        await made.serve("r1")
        assert heard == [200] * (CONNECTIONS - 1)


async def test_end_of_an_environment_leaves_nothing_of_a_connection_that_was_just_accepted() -> None:
    async with stage() as made:
        await made.serve("r1")
        opened = made.driver._door
        with socket.create_connection(made.sandbox.api_socket.getsockname()) as peer:
            before = len(opened.connections)
            opened._knock()
            assert len(opened.connections) == before + 1
            opened.close()
            await until(lambda: not opened.connections and not opened._joining)
            peer.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""


async def test_lack_of_descriptors_is_told_once_and_the_connection_is_accepted_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "EXHAUSTED_S", 0.001)
    lacks = [OSError(errno.EMFILE, "Too many open files") for _ in range(3)]

    class Lacking:
        def __init__(self, real: Any) -> None:
            self.real = real

        def accept(self) -> Any:
            if lacks:
                raise lacks.pop()
            return self.real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    async with stage(create_gate=(gate := asyncio.Event())) as made:
        create = made.host.create

        async def creating(*args: Any) -> FakeSandbox:
            sandbox = await create(*args)
            sandbox.api_socket = cast(Any, Lacking(sandbox.api_socket))
            return sandbox

        monkeypatch.setattr(made.host, "create", creating)
        gate.set()
        await made.serve("r1")
        assert lacks == []
        assert made.host.complaints == ["the Runtime API of env-7 takes no connection: Too many open files"]


class _Charged:
    """A pace that lets its first guest rest for a moment, and counts them."""

    def __init__(self) -> None:
        self.times = 0

    def begin(self) -> float:
        return 0.0

    def rest(self, begun: float, size: int = 0) -> float:
        self.times += 1
        return 0.001 if self.times == 1 else 0.0


async def test_connections_that_an_environment_makes_to_itself_are_paced() -> None:
    async def again(api: Api) -> ExitStatus:
        for _ in range(3):
            assert (await api.call("GET", "ping"))[0] == 200
            api.hang_up()
        return await obliging(api)

    async with stage(again, create_gate=(gate := asyncio.Event())) as made:
        made.driver._door._share = charged = cast(Any, _Charged())
        gate.set()
        await made.serve("r1")
        assert charged.times >= 4 + 3  # each connection, and what was read from it


async def test_bodies_that_are_never_finished_take_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_connection, "LINGER_S", 30.0)  # the guest may be slow to see why nothing is read
    last: list[int] = []

    async def hoarding(api: Api) -> ExitStatus:
        others = [api.another() for _ in range(6)]
        for other in others:
            await other.send(request("POST", "runtime/init/error", b"x" * BODY_LIMIT)[:-1])
        last.append((await others[-1].answer())[0])
        assert made.driver._door.budget.held <= made.driver._door.budget.limit
        for other in others:
            other.hang_up()
        return await obliging(api)

    async with stage(hoarding) as made:
        await made.serve("r1")
        assert last == [503]


async def test_frozen_guest_with_half_a_request_can_be_thawed_and_ended() -> None:
    async def halting(api: Api) -> ExitStatus:
        half = api.another()
        await half.send(request("POST", "runtime/init/error", b"x" * 1000)[:-1])
        while True:
            await api.respond(await api.next())

    async with stage(halting) as made:
        await made.serve("r1", "r2")
        made.driver.retire("age")
        await made.ended()


@pytest.mark.parametrize("guest_uid", [1002, None], ids=["by its user", "by who has the socket"])
async def test_connection_from_another_environment_is_refused(guest_uid: int | None) -> None:
    class Peers:
        def owner(self, peer: tuple[str, int], own: tuple[str, int]) -> tuple[int, int]:
            return (1001, 1)  # nobody's inode

    pinged = asyncio.Event()

    async def foreign(api: Api) -> ExitStatus:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await api.call("GET", "ping")
        pinged.set()
        return ExitStatus(code=0)

    async with stage(foreign, guest_uid=guest_uid) as made:
        made.driver._parts.peers = Peers()  # type: ignore[assignment]
        made.driver._parts.strangers_at_start = charged = cast(Any, _Charged())
        made.start(invocation())
        await pinged.wait()
        assert (await made.reply())[1] == "Runtime.ExitError"
        assert charged.times == 2  # the first process and that of the Init that is repeated


async def test_strangers_at_the_doors_of_all_environments_have_one_pace() -> None:
    class Peers:
        def owner(self, peer: tuple[str, int], own: tuple[str, int]) -> tuple[int, int]:
            return (1001, 1)

    async with stage() as made:
        await made.serve("r1")
        made.driver._parts.peers = Peers()  # type: ignore[assignment]
        made.sandbox.guest_uid = 1002
        made.driver._parts.strangers = charged = cast(Any, _Charged())
        for _ in range(3):
            reader, writer = await asyncio.open_connection(*made.sandbox.api_socket.getsockname())
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert charged.times == 3
