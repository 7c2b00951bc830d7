"""The door to one environment's Runtime API: who may come in, how many, and what they can make us hold.

`driver` opens and closes it; what is said inside is `runtimeapi.app`'s part.
"""

from __future__ import annotations

import asyncio

from lambent.http1_connection import Connection
from lambent.http1_parse import Budget, Pace
from lambent.runtimeapi.app import BODY_LIMIT, RuntimeApi
from lambent.runtimeapi.peer import holds_socket
from lambent.sandbox.base import Sandbox
from lambent.worker.parts import Parts

#: Open connections to one environment's Runtime API: enough for a runtime and ten extensions, and a bound for what a
#: hostile guest can make us hold.
CONNECTIONS = 20
#: What they may make us hold together: a response that comes in, an event that is not read yet, and a bit.
API_BYTES = 3 * BODY_LIMIT


class Door:
    """Listens on the socket of a sandbox, from `open` to `close`."""

    def __init__(self, api: RuntimeApi, parts: Parts) -> None:
        self.connections: set[Connection] = set()
        self.budget = Budget(API_BYTES)
        self._api = api
        self._parts = parts
        self._share = Pace(parts.clock.monotonic)
        self._sandbox: Sandbox | None = None
        self._server: asyncio.Server | None = None
        self._closed = False

    async def open(self, sandbox: Sandbox) -> None:
        """Raises OSError, also when the socket is taken away meanwhile."""
        self._sandbox = sandbox
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=sandbox.api_socket)
        if self._closed:
            self._server.close()

    def close(self) -> None:
        self._closed = True
        if self._server is not None:
            self._server.close()
        self.send_away()

    def send_away(self) -> None:
        """Whoever is connected now; others may come."""
        for connection in list(self.connections):
            connection.abort()

    def _connection(self) -> Connection:
        connection = Connection(self._api.on_request, asyncio.get_running_loop(), BODY_LIMIT, self.connections.discard,
                                self._stranger, timeout_s=None, budget=self.budget, streamed=self._api.streamed,
                                share=self._share)  # fmt: skip
        self.connections.add(connection)
        return connection

    def _stranger(self, connection: Connection) -> str | None:
        """Refuse a connection that does not come from this environment, or that is one too many.

        The kernel tells the peer's user, which is the environment's own; where all are the server's (rootless), who
        has its socket open.
        """
        if len(self.connections) > CONNECTIONS:
            return "too many connections"
        sandbox = self._sandbox
        if sandbox is None or self._parts.peers is None or self._parts.backend.name == "process":
            return None
        if self._parts.network == "isolated":
            return None  # nobody else is on that network
        own = sandbox.api_address.rsplit(":", 1)
        uid, inode = self._parts.peers.owner(connection.peer, (own[0], int(own[1]))) or (None, 0)
        if sandbox.guest_uid is not None:
            return None if uid == sandbox.guest_uid else f"uid {uid}"
        return None if any(holds_socket(pid, inode) for pid in sandbox.usage().pids) else "a process outside"
