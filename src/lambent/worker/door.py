"""The door to one environment's Runtime API: who may come in, how many, and what they can make us hold.

`driver` opens and closes it; what is said inside is `runtimeapi.app`'s part. Connections are accepted here and not by
the event loop's server, since others may knock as fast as they can: whoever is turned away costs little, and all of
them together no more than a share of the server's time (`Pace`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from lambent.http1_connection import Connection
from lambent.http1_parse import Budget, Pace
from lambent.runtimeapi.app import BODY_LIMIT, RuntimeApi
from lambent.sandbox.base import Sandbox
from lambent.worker.guests import is_of
from lambent.worker.parts import Parts

#: Open connections to one environment's Runtime API: enough for a runtime and ten extensions, and a bound for what a
#: hostile guest can make us hold.
CONNECTIONS = 20
#: What they may make us hold together: a response that comes in, an event that is not read yet, and a bit.
API_BYTES = 3 * BODY_LIMIT
#: After the system had no descriptor or memory for a connection.
EXHAUSTED_S = 1.0


class Door:
    """Listens on the socket of a sandbox, from `open` to `close`."""

    def __init__(self, api: RuntimeApi, parts: Parts) -> None:
        self.connections: set[Connection] = set()
        self.budget = Budget(API_BYTES)
        self._api = api
        self._parts = parts
        self._share = Pace(parts.clock.monotonic)
        self._strangers = Pace(parts.clock.monotonic)
        self._loop = asyncio.get_running_loop()
        self._sandbox: Sandbox | None = None
        self._joining: set[asyncio.Task[None]] = set()  #: accepted, and not connections yet
        self._reopening: asyncio.TimerHandle | None = None  #: nobody is accepted until then

    def open(self, sandbox: Sandbox) -> None:
        """The socket listens already: whoever came before waits in its backlog."""
        self._sandbox = sandbox
        self._loop.add_reader(sandbox.api_socket, self._knock)

    def close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        elif self._sandbox is not None:
            self._loop.remove_reader(self._sandbox.api_socket)
        self._sandbox = self._reopening = None
        for task in self._joining:
            task.cancel()
        self.send_away()

    def send_away(self) -> None:
        """Whoever is connected now; others may come."""
        for connection in list(self.connections):
            connection.abort()

    def _knock(self) -> None:
        assert self._sandbox is not None
        begun = self._strangers.begin()
        try:
            accepted, peer = self._sandbox.api_socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # gone again
        except OSError as error:
            self._parts.complain(f"the Runtime API of {self._sandbox.id} takes no connection: {error.strerror}")
            self._rest(EXHAUSTED_S)
            return
        if len(self.connections) + len(self._joining) < CONNECTIONS and self._is_own(self._sandbox, peer):
            accepted.setblocking(False)
            task = self._loop.create_task(self._join(accepted))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)
        else:
            accepted.close()
            self._rest(self._strangers.rest(begun))

    def _rest(self, seconds: float) -> None:
        """Accept nobody for a while; they wait in the backlog."""
        if seconds > 0 and self._sandbox is not None:
            self._loop.remove_reader(self._sandbox.api_socket)
            self._reopening = self._loop.call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        assert self._sandbox is not None
        self._reopening = None
        self._loop.add_reader(self._sandbox.api_socket, self._knock)

    async def _join(self, accepted: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # it has hung up
                await self._loop.connect_accepted_socket(self._connection, accepted)
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _connection(self) -> Connection:
        connection = Connection(self._api.on_request, self._loop, BODY_LIMIT, self.connections.discard,
                                timeout_s=None, budget=self.budget, streamed=self._api.streamed,
                                share=self._share)  # fmt: skip
        self.connections.add(connection)
        return connection

    def _is_own(self, sandbox: Sandbox, peer: tuple[str, int]) -> bool:
        """Whether a connection comes from this environment.

        The kernel tells the peer's user, which is the environment's own; where all are the server's (rootless), who
        has its socket open.
        """
        if self._parts.peers is None or self._parts.backend.name == "process":
            return True
        if self._parts.network == "isolated":
            return True  # nobody else is on that network
        own = sandbox.api_address.rsplit(":", 1)
        return is_of(sandbox, self._parts.peers.owner(peer, (own[0], int(own[1]))))
