"""The platform's end of process 1: hand it the plan, ask it to run, signal and end guests.

One message each way per action over a SOCK_SEQPACKET pair; the kernel adds the sender's process id as we see it,
which is how host pids of guests become known. Nothing here blocks: replies arrive through the event loop. What is
in a plan is `plan`'s part, what the replies mean for a sandbox is `sandbox`'s. Counterparts: `init.c`, `init.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lambent.sandbox.base import ProcessSpec, SandboxError
from lambent.sandbox.namespace.launcher import Launcher
from lambent.sandbox.namespace.plan import Step, encode

#: What one message may hold; process 1 has a buffer of twice that, the socket's default one is larger too.
MESSAGE_BYTES = 128 * 1024
#: The host is beyond help if a plan takes this long.
PLAN_TIMEOUT_S = 30.0
#: To ask again for a descriptor when the server has none left.
RETRY_S = 0.05

_SO_PASSCRED, _SCM_CREDENTIALS, _CREDENTIALS = 16, 2, struct.Struct("iII")
_REPLY = struct.Struct("<cII")
_LAUNCH, _READY = 0xFFFFFFFE, 0xFFFFFFFF


@dataclass(slots=True)
class _Started:
    """A process that was asked for: until `pid` is known nobody has been told about it."""

    answer: asyncio.Future[int]
    on_exit: Callable[[int], None]
    pid: int = 0


class FirstProcess:
    """One process 1.

    `on_gone` is called once when it and everything below it has ended; `thaw` whenever guests were killed, since
    what a v1 freezer holds does not even die of SIGKILL.
    """

    def __init__(self, on_gone: Callable[[], None], thaw: Callable[[], None]) -> None:
        self.pid = 0  #: host pid, 0 before it is known
        self.gone = False
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._socket, self._other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_PASSCRED, 1)
        self._launched = False
        self._killed = False
        self._pidfd = -1  #: only while its end is awaited: an idle sandbox needs no descriptor for it
        self._started: dict[int, _Started] = {}
        self._next_token = 1
        self._plan: Sequence[Step] = ()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] | None = None  #: while guests are being killed
        self._thaw = thaw
        self._on_map: Callable[[int], None] = _nothing
        self.listening: socket.socket | None = None  #: opened inside the sandbox, if the plan says so

    def launch(self, launcher: Launcher, namespaces: int) -> None:
        """Have it cloned into these namespaces. It waits there for its plan, which can be made meanwhile."""
        launcher.launch(namespaces, self._other)
        self._launched = True
        self._other.close()

    async def carry_out(self, plan: Sequence[Step], fds: Sequence[int], on_map: Callable[[int], None]) -> None:
        """Have the plan carried out, whose first step named the namespaces.

        `on_map(pid)` writes the id maps of that process; it may raise OSError. Raises SandboxError naming the step
        that failed.
        """
        self._plan = plan
        self._on_map = on_map
        body = b"P" + encode(plan[1:])
        if len(body) > MESSAGE_BYTES:
            raise SandboxError(f"the plan takes {len(body)} bytes, more than {MESSAGE_BYTES}")
        with contextlib.suppress(OSError):  # what could not be launched is told by its own reason, which is read next
            socket.send_fds(self._socket, [body], list(fds))
        self._loop.add_reader(self._socket.fileno(), self._readable)
        try:
            async with asyncio.timeout(PLAN_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            raise SandboxError(f"the sandbox was not ready after {PLAN_TIMEOUT_S:g} s") from None

    def send_groups(self, entrances: Sequence[tuple[bytes, int]]) -> None:
        """Where guests are to enter; descriptors are copied."""
        self._send(b"C" + b"".join(letter for letter, _ in entrances), [fd for _, fd in entrances])

    async def run(self, spec: ProcessSpec, output: int, on_exit: Callable[[int], None], orders: int = -1) -> int:
        """Start a guest and return its host pid. `on_exit(wait status)` is called once, later.

        The pid is 0 of one that was killed before it could tell; then `on_exit` was called already.

        `output` becomes its standard output and its standard error, `orders` its standard input if there is one.
        """
        token = self._next_token
        self._next_token = token % 0xFFFFFFFF + 1
        variables = [f"{name}={value}" for name, value in spec.environment.items()]
        texts = [os.fsencode(text) for text in (spec.cwd, *spec.argv, *variables)]
        if any(b"\0" in text for text in texts):
            raise SandboxError("a path, argument or variable contains a zero byte")
        head = struct.pack("<III", token, len(spec.argv), len(variables))
        started = _Started(self._loop.create_future(), on_exit)
        self._send(b"R" + head + b"".join(text + b"\0" for text in texts), [output] if orders < 0 else [output, orders])
        self._started[token] = started
        return await started.answer

    def signal(self, pid: int, signum: int) -> None:
        for token, started in self._started.items():
            if pid and started.pid == pid:
                self._send(struct.pack("<cII", b"G", token, signum))

    def stop_all(self, stopped: bool) -> None:
        """SIGSTOP or SIGCONT to every guest at once: the kernel walks the whole pid namespace."""
        self._send(b"F" if stopped else b"T")

    async def end_guests(self) -> None:
        """SIGKILL to every guest; returns when all are reaped."""
        if self._ended is None:
            self._ended = self._loop.create_future()
            self._send(b"K")
        await asyncio.shield(self._ended)

    def kill(self) -> None:
        """End process 1 and, by the kernel, everything in the sandbox."""
        self._killed = True
        if self.gone:
            return
        if self.pid:  # a child that nobody has waited for yet, so the number is its own
            os.kill(self.pid, signal.SIGKILL)
            self._ends()
        elif self._launched and self._socket.fileno() >= 0:
            # Its pid is still to come, and only who has it can wait for it: let it find the socket closed.
            self._socket.shutdown(socket.SHUT_WR)
        else:
            self._finish()

    def has_ended(self) -> bool:
        """Asked of the kernel: whether it is dead, also when the event loop has not heard of it yet."""
        if self.gone or not self.pid:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def pids(self) -> tuple[int, ...]:
        """Host pids of the guests that were asked for and are not known to have ended."""
        return tuple(started.pid for started in self._started.values() if started.pid)

    def _send(self, body: bytes, fds: Sequence[int] = ()) -> None:
        if len(body) > MESSAGE_BYTES:
            raise SandboxError(f"arguments and variables take {len(body)} bytes, more than {MESSAGE_BYTES}")
        try:
            socket.send_fds(self._socket, [body], list(fds))
        except OSError as error:
            raise SandboxError(f"process 1 of the sandbox cannot be reached: {error.strerror}") from error

    def _readable(self) -> None:
        while self._socket.fileno() >= 0:
            try:
                body, ancillary, _, _ = self._socket.recvmsg(64, 256, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it ended without reading all; what it said before is still there
            except OSError:
                body, ancillary = b"", []
            if not body:
                self._ends()
                return
            pid, fds = _unpack(ancillary)
            kind, first, second = _REPLY.unpack(body)
            self._heard(kind, first, second, pid, fds)

    def _heard(self, kind: bytes, first: int, second: int, pid: int, fds: list[int]) -> None:
        if kind == b"X":
            self._exited(first, second)
        elif kind == b"S":
            self._running(first, pid)
        elif kind == b"F":
            started = self._started.pop(first, None)
            if started is not None:
                _fail(started.answer, f"cannot start the process: {os.strerror(second)}")
        elif kind == b"k":
            self._thaw()
        elif kind == b"Z":
            if self._ended is not None:
                self._ended.set_result(None)
                self._ended = None
        elif kind == b"I":
            self._born(pid)
        elif kind == b"M":
            self._map(pid)
        elif kind == b"L":
            self.listening = socket.socket(fileno=fds[0])
        elif kind == b"E":
            _fail(self._ready, f"{self._step(first)}: {os.strerror(second)}")
        elif kind == b"Y" and not self._ready.done():
            self._ready.set_result(None)

    def _step(self, number: int) -> str:
        """What was tried, for a person; the two highest numbers stand for what comes before and after the steps."""
        if number == _LAUNCH or number + 1 >= len(self._plan):
            return "get ready" if number == _READY else "new namespaces"
        return str(self._plan[number + 1])

    def _born(self, pid: int) -> None:
        """Process 1 is a child of ours (CLONE_PARENT), so its pid is not reused before we waited for it."""
        self.pid = pid
        if self._killed:
            self.kill()

    def _map(self, pid: int) -> None:
        try:
            self._on_map(pid)
            self._send(b"m")
        except (OSError, SandboxError) as error:
            _fail(self._ready, f"cannot map user ids: {error}")

    def _running(self, token: int, pid: int) -> None:
        started = self._started.get(token)
        if started is not None:
            started.pid = pid
            if not started.answer.done():
                started.answer.set_result(pid)

    def _exited(self, token: int, status: int) -> None:
        """Also of one that never said that it runs: each says so itself, and somebody may kill it just before that.

        What it does itself until then ends in F or is no signal.
        """
        started = self._started.pop(token, None)
        if started is None:
            return
        if not started.answer.done():
            if not os.WIFSIGNALED(status):
                _fail(started.answer, "the process ended before it started")
                return
            started.answer.set_result(0)
        started.on_exit(status)

    def _close_socket(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _ends(self) -> None:
        """Process 1 is ending or will be: hear of it when the kernel has ended everything below it, too."""
        if self.gone or self._pidfd >= 0:
            return
        self._close_socket()
        self._thaw()
        if not self.pid:
            self._finish()
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # no descriptor is free for now
            self._loop.call_later(RETRY_S, self._ends)
        else:
            self._loop.add_reader(self._pidfd, self._finish)

    def _finish(self) -> None:
        """Everything in the sandbox is dead: wait for our children, answer whoever still waits."""
        if self.gone:
            return
        self.gone = True
        self._close_socket()
        self._other.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            _wait(self.pid)
        _fail(self._ready, "process 1 of the sandbox ended")
        for token, started in list(self._started.items()):
            if started.answer.done():
                self._exited(token, signal.SIGKILL)
            else:
                _fail(started.answer, "process 1 of the sandbox ended")
        if self._ended is not None:
            self._ended.set_result(None)
            self._ended = None
        self._on_gone()


def _unpack(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    pid = 0
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SCM_CREDENTIALS:
            pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
    return pid, fds


def _fail(future: asyncio.Future[None] | asyncio.Future[int], reason: str) -> None:
    if not future.done():
        future.set_exception(SandboxError(reason))
        future.exception()  # nobody may be waiting any more


def _wait(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _nothing(*_: object) -> None:
    pass
