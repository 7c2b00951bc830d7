"""The platform's end of the launcher: a small program that clones process 1 of every sandbox into its namespaces.

The platform itself never forks: it is large, and starting a program from it blocks the event loop for milliseconds.
The launcher is `init.c` (or `init.py`), started once; what it launches is a child of the platform. A launcher that
died is started again at the next launch; a launch that it took along fails like any other. Counterpart: `first`,
which talks to what was launched.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Sequence

from lambent.sandbox.base import SandboxError

_NEVER_CAUGHT = {signal.SIGKILL, signal.SIGSTOP}


class Launcher:
    """Runs `argv` from the first launch to `stop`."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._socket: socket.socket | None = None
        self._pid = 0

    def launch(self, flags: int, end: socket.socket) -> None:
        """Clone a process with these namespace flags; `end` becomes its descriptor 0. Raises SandboxError."""
        try:
            if self._socket is None:
                self._start()
            try:
                self._send(flags, end)
            except (BrokenPipeError, ConnectionResetError):
                self.stop()
                self._start()
                self._send(flags, end)
        except OSError as error:
            raise SandboxError(f"cannot launch {self._argv[0]}: {error.strerror}") from error

    def _send(self, flags: int, end: socket.socket) -> None:
        assert self._socket is not None
        socket.send_fds(self._socket, [struct.pack("<cQ", b"N", flags)], [end.fileno()])

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

    def stop(self) -> None:
        """End the launcher. What it launched lives on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
