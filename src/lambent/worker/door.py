"""The door to one environment's Runtime API: who may come in, how many, and what they can make us hold.

`driver` opens and closes it; what is said inside is `runtimeapi.app`'s part. Connections are accepted here and not by
the event loop's server, since others may knock as fast as they can: whoever is turned away costs little, and all of
them together, at whatever doors, no more than a share of the server's time (`Pace`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

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
#: Of one turn of the loop. A stranger takes 22 us; where its processes are to be looked at (rootless), milliseconds.
TURN_S = 7e-4
#: What it costs to make a connection of what was accepted.
JOINING_S = 1e-4
#: Shorter ones are saved up: the loop counts in milliseconds.
LEAST_REST_S = 1e-3
#: After the system had no descriptor or memory for a connection.
EXHAUSTED_S = 1.0


class Door:
    """Listens on the socket of a sandbox, from `open` to `close`."""

    def __init__(self, api: RuntimeApi, parts: Parts, starting: Callable[[], bool]) -> None:
        """`starting` tells whether the environment's own connections are due, as in Init."""
        self.connections: set[Connection] = set()
        self.budget = Budget(API_BYTES)
        self._api = api
        self._parts = parts
        self._starting = starting
        self._clock = parts.clock
        self._share = Pace(parts.clock.monotonic)
        self._loop = asyncio.get_running_loop()
        self._sandbox: Sandbox | None = None
        self._joining: set[asyncio.Task[None]] = set()  #: accepted, and not connections yet
        self._reopening: asyncio.TimerHandle | None = None  #: nobody is accepted until then
        self._lacking = False  #: somebody could not be accepted, and nobody was since

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
        self.send_away()

    def send_away(self) -> None:
        """Whoever is connected now; others may come."""
        for connection in list(self.connections):
            connection.abort()

    def _knock(self) -> None:
        """Look at who has come, until one of ours has, nobody is left, or others are to have the loop."""
        sandbox = self._sandbox
        assert sandbox is not None
        strangers = self._parts.strangers_at_start if self._starting() else self._parts.strangers
        seconds = 0.0
        until = self._clock.monotonic() + TURN_S
        while (begun := self._clock.monotonic()) < until:
            try:
                accepted, peer = sandbox.api_socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                self._lack(error)
                return
            own = len(self.connections) < CONNECTIONS and self._is_own(sandbox, peer)
            if own:
                self._lacking = False
                self._let_in(accepted)
                seconds = max(seconds, self._share.rest(begun - JOINING_S))
            else:
                accepted.close()
                seconds = max(seconds, strangers.rest(begun))
            if seconds >= LEAST_REST_S:
                self._rest(seconds)
                return
            if own:
                return  # it is made a connection in the next turn, and each takes its time

    def _lack(self, error: OSError) -> None:
        """The system has no descriptor or memory left. It is told once until one of ours comes in again."""
        assert self._sandbox is not None
        if not self._lacking:
            self._lacking = True
            self._parts.complain(f"the Runtime API of {self._sandbox.id} takes no connection: {error.strerror}")
        self._rest(EXHAUSTED_S)

    def _let_in(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        task = self._loop.create_task(self._join(self._connection(), accepted))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    def _rest(self, seconds: float) -> None:
        """Accept nobody for a while; they wait in the backlog."""
        assert self._sandbox is not None
        self._loop.remove_reader(self._sandbox.api_socket)
        self._reopening = self._loop.call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        assert self._sandbox is not None
        self._reopening = None
        self._loop.add_reader(self._sandbox.api_socket, self._knock)

    async def _join(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # it cannot be served
            accepted.close()
            self.connections.discard(connection)

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
