"""The platform's end of the launcher: a small program that clones process 1 of every sandbox into its namespaces.

The platform itself never forks: it is large, and starting a program from it blocks the event loop for milliseconds.
The launcher is `init.c` (or `init.py`), started once; what it launches is a child of the platform. A launcher that
died is started again at the next launch; what it took along fails like any other. It also lays mounts into sandboxes
that were made before it was known for whom. Counterpart: `first`, which talks to what was launched.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Sequence

from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace.plan import Step, encode

_REPLY = struct.Struct("<cII")
_NEVER_CAUGHT = {signal.SIGKILL, signal.SIGSTOP}


class Launcher:
    """Runs `argv` from the first launch to `stop`."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._socket: socket.socket | None = None
        self._pid = 0
        #: mounts that were asked for and are not answered, in order
        self._furnishing: deque[tuple[Sequence[Step], asyncio.Future[None]]] = deque()

    def launch(self, flags: int, end: socket.socket) -> None:
        """Clone a process with these namespace flags; `end` becomes its descriptor 0. Raises SandboxError."""
        self._send(struct.pack("<cQ", b"N", flags), [end.fileno()])

    async def furnish(self, steps: Sequence[Step], fds: Sequence[int]) -> None:
        """Lay mounts into a sandbox that is there already: steps `bind` and `attach`, whose sources are the host's.

        The first descriptor is its mount namespace; `attach` names the others by their place. Only as root. Raises
        SandboxError; then some of the mounts may be there, and the sandbox is of no use.
        """
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send(b"A" + encode(steps), fds)
        self._furnishing.append((steps, answer))
        await answer

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        try:
            if self._socket is None:
                self._start()
            assert self._socket is not None
            try:
                socket.send_fds(self._socket, [message], list(fds))
            except (BrokenPipeError, ConnectionResetError):
                self.stop()
                self._start()
                socket.send_fds(self._socket, [message], list(fds))
        except OSError as error:
            raise SandboxError(f"cannot launch {self._argv[0]}: {error.strerror}") from error

    def _heard(self) -> None:
        assert self._socket is not None
        try:
            reply = self._socket.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            reply = b""
        if not reply:
            self.stop()
            return
        kind, number, error = _REPLY.unpack(reply)
        steps, answer = self._furnishing.popleft()
        if answer.done():  # nobody waits any more
            return
        if kind == b"Y":
            answer.set_result(None)
        else:
            step = steps[number] if number < len(steps) else "enter the sandbox"
            answer.set_exception(SandboxError(f"{step}: {os.strerror(error)}"))

    def _start(self) -> None:
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        actions = [
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, other.fileno(), 0),
        ]
        try:
            self._pid = os.posix_spawn(
                self._argv[0], self._argv, {}, file_actions=actions, setsid=True, setsigmask=[],
                setsigdef=signal.valid_signals() - _NEVER_CAUGHT,
            )  # fmt: skip
        except OSError:
            ours.close()
            raise
        finally:
            other.close()
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._heard)

    def stop(self) -> None:
        """End the launcher. What it launched lives on."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        while self._furnishing:
            _, answer = self._furnishing.popleft()
            if not answer.done():
                answer.set_exception(SandboxError("the launcher ended"))
