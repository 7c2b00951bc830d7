"""Stand-ins for what is around a driver: a sandbox whose processes are coroutines, and the hosts of its owner.

The sandbox keeps the contract of `sandbox.base`, with a real Runtime API socket and real pipes, so that guests can be
written as scripts and every failure can be provoked.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from lambent.clock import Clock
from lambent.core.model import ExitStatus, FunctionVersion, Invocation, Outcome
from lambent.runtimes.prepared import BootstrapMissing, PreparedRuntime
from lambent.sandbox.base import Places, Process, ProcessSpec, SandboxError, SandboxSpec, Seen, Usage
from lambent.sandbox.proctable import Table
from lambent.worker.awake import Awake
from lambent.worker.base import Served, Sink, Source
from lambent.worker.blanks import Blanks
from lambent.worker.codes import Codes
from lambent.worker.driver import Driver
from lambent.worker.parts import Parts
from lambent.worker.spare import SpareTime
from lambent.worker.turns import Turns

#: A guest: it runs until it returns its exit status, or is killed.
Guest = Callable[["Api"], Awaitable[ExitStatus]]


class Api:
    """A guest's connection to its Runtime API, and its standard output."""

    def __init__(self, address: tuple[str, int], stdout: int) -> None:
        self._address = address
        self._stdout = stdout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._others: list[Api] = []

    def another(self) -> Api:
        """One more connection of the same process."""
        self._others.append(Api(self._address, self._stdout))
        return self._others[-1]

    def print(self, text: str) -> None:
        os.write(self._stdout, text.encode() + b"\n")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams

    async def send(self, data: bytes) -> None:
        _, writer = await self.connect()
        writer.write(data)
        await writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with lower-case names, and body of the next answer."""
        reader, _ = await self.connect()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", "0")))

    async def call(self, method: str, path: str, body: bytes = b"",
                   **headers: str) -> tuple[int, dict[str, str], bytes]:
        await self.send(request(method, path, body, **headers))
        return await self.answer()

    async def next(self) -> str:
        """Ask for work; the request id of what comes."""
        status, headers, _ = await self.call("GET", "runtime/invocation/next")
        assert status == 200
        return headers["lambda-runtime-aws-request-id"]

    async def respond(self, request_id: str, body: bytes = b'"ok"') -> int:
        return (await self.call("POST", f"runtime/invocation/{request_id}/response", body))[0]

    def exit(self) -> None:
        """What the kernel does when a process ends."""
        for api in (self, *self._others):
            api.hang_up()

    def hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    version = "2020-01-01" if path.startswith("extension/") else "2018-06-01"
    lines = [f"{method} /{version}/{path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


async def obliging(api: Api) -> ExitStatus:
    """Answers every invocation."""
    while True:
        assert await api.respond(await api.next()) == 202


class FakeSandbox:
    """See `sandbox.base.Sandbox`. `fail` holds what a method raises when it is called next; `log` what was called.

    A method with a gate in `gates` waits there after it was called (`run`: when the process runs already).
    """

    guest_uid: int | None = None

    def __init__(self, spec: SandboxSpec, on_death: Callable[[str], None], guests: list[Guest]) -> None:
        self.id = spec.id
        self.places = Places()
        self.dead = False
        self.on_death = on_death
        self.log: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.signals: list[int] = []
        self.gave_way: list[bool] = []
        self._guests = guests
        self._frozen = False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._last_pid = 1000
        self.api_socket = socket.create_server(("127.0.0.1", 0))
        self.api_socket.setblocking(False)
        self._address: tuple[str, int] = self.api_socket.getsockname()
        self.api_address = f"127.0.0.1:{self._address[1]}"

    def _called(self, what: str) -> None:
        self.log.append(what)
        if what in self.fail:
            raise self.fail.pop(what)

    async def _gate(self, what: str) -> None:
        if what in self.gates:
            await self.gates[what].wait()

    async def run(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> Process:
        self._called("run")
        if self.dead or self._frozen:
            raise SandboxError(f"sandbox {self.id} has ended or is frozen")
        self._last_pid += 1
        pid = self._last_pid
        output, end = os.pipe()
        os.set_blocking(output, False)
        guest = self._guests.pop(0) if len(self._guests) > 1 else self._guests[0]
        self._tasks[pid] = asyncio.create_task(self._play(guest, pid, end, on_exit))
        try:
            await self._gate("run")
        except SandboxError:
            os.close(output)
            raise
        return Process(pid, output)

    async def _play(self, guest: Guest, pid: int, end: int, on_exit: Callable[[ExitStatus], None]) -> None:
        exit = ExitStatus(signal=9)
        api = Api(self._address, end)
        try:
            exit = await guest(api)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            api.exit()
            os.close(end)
            del self._tasks[pid]
            on_exit(exit)

    def freeze(self) -> None:
        self._called("freeze")
        self._frozen = not self.dead

    def thaw(self) -> None:
        self._called("thaw")
        self._frozen = False

    def is_frozen(self) -> bool:
        return self._frozen

    def limit_cpu(self, limited: bool) -> None:
        self._called("limit_cpu")

    def give_way(self, giving: bool) -> None:
        self.gave_way.append(giving)

    def expendable(self, expendable: bool) -> None:
        self._called("expendable" if expendable else "precious")

    def signal(self, pid: int, signum: int) -> None:
        if pid in self._tasks:
            self.signals.append(signum)
            if signum == signal.SIGKILL:
                self._tasks[pid].cancel()

    def usage(self) -> Usage:
        return Usage(1 << 20, 2 << 20, 5, tuple(self._tasks))

    def look(self) -> Callable[[Table], Seen]:
        seen = Seen(self.usage(), self._frozen)
        return lambda _: seen

    def memory_peak(self) -> int | None:
        return 2 << 20

    async def kill(self) -> None:
        self._called("kill")
        await self._gate("kill")
        await self._end_tasks()
        self._frozen = False

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def die(self) -> None:
        """Process 1 has ended by itself."""
        self.dead = True
        for task in self._tasks.values():
            task.cancel()
        self.on_death("process 1 of the sandbox ended")

    async def destroy(self, reason: str) -> None:
        self.log.append(f"destroy: {reason}")
        self.dead = True
        await self._end_tasks()
        self.api_socket.close()


@dataclass
class FakeHost:
    """What a driver's `Parts` need, all in one: backend, packages, runtimes, logs and owner, with what happens."""

    guests: list[Guest] = field(default_factory=lambda: [obliging])
    name: str = "fake"
    shows_code: bool = False
    create_error: Exception | None = None
    create_gate: asyncio.Event | None = None
    sandbox_fails: dict[str, Exception] = field(default_factory=dict)
    sandbox_gates: dict[str, asyncio.Event] = field(default_factory=dict)
    guest_uid: int | None = None
    log_error: Exception | None = None
    bootstrap_missing: bool = False
    extension_names: tuple[str, ...] = ()
    init_failures: list[str] = field(default_factory=list)
    on_idle: Callable[[], None] = lambda: None
    sandboxes: list[FakeSandbox] = field(default_factory=list)
    spare: SpareTime = field(default_factory=SpareTime)
    awake: Awake = field(default_factory=Awake)
    written: list[str] = field(default_factory=list)
    replies: list[tuple[str, Outcome, bytes, Served]] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    # a backend

    async def create(self, spec: SandboxSpec, on_death: Callable[[str], None]) -> FakeSandbox:
        if self.create_gate is not None:
            await self.create_gate.wait()
        if self.create_error is not None:
            raise self.create_error
        sandbox = FakeSandbox(spec, on_death, self.guests)
        sandbox.fail = self.sandbox_fails
        sandbox.gates = self.sandbox_gates
        sandbox.guest_uid = self.guest_uid
        self.sandboxes.append(sandbox)
        return sandbox

    # packages and runtimes

    async def unpack(self, sha256: str) -> Path:
        return Path("/")

    async def opt(self, layers: tuple[str, ...]) -> None:
        return None

    def opt_path(self, layers: tuple[str, ...]) -> None:
        return None

    def path(self, sha256: str) -> Path:
        if self.bootstrap_missing:
            raise BootstrapMissing(("/var/task/bootstrap",))
        return Path("/")

    async def prepare(self, identifier: str) -> PreparedRuntime:
        return self.get(identifier)

    def get(self, identifier: str) -> PreparedRuntime:
        return PreparedRuntime(identifier, identifier, "python", "3.12", (), "/", None, "python:3.12.v1")

    # logs

    @property
    def lines(self) -> list[str]:
        """What is in the log, for whoever looks."""
        self.spare.use()
        return self.written

    def of(self, account: str, region: str) -> FakeHost:
        return self

    def append(self, group: str, stream: str, timestamp_ms: int, message: str) -> None:
        self.written.append(message)
        if self.log_error is not None and message.startswith("REPORT"):
            raise self.log_error

    # an owner

    def replied(self, invocation: Invocation, outcome: Outcome, served: Served) -> None:
        self.replies.append((invocation.request_id, outcome, outcome.payload, served))
        self.happened.append(f"replied {invocation.request_id}")

    def streaming(self, invocation: Invocation, content_type: str, served: Served, source: Source) -> Sink:
        raise AssertionError("no invocation here streams")

    def settling(self, number: int) -> None:
        self.happened.append("settling")

    def idle(self, number: int) -> None:
        self.happened.append("idle")
        self.on_idle()

    def init_failed(self, number: int) -> None:
        self.happened.append("init failed")

    def init_failure(self, function: FunctionVersion, environment_id: str) -> str | None:
        return self.init_failures.pop(0) if self.init_failures else None

    def gone(self, number: int) -> None:
        self.happened.append("gone")

    def ended(self, driver: Driver) -> None:
        driver.chronicle.close()
        self.happened.append("ended")

    def parts(self) -> Parts:
        host = cast(Any, self)
        blanks = Blanks(backend=host, clock=Clock(), run="run", most=0, memory_budget_bytes=None)
        codes = Codes(host, host, "run")
        made = _Parts(Clock(), host, host, host, host, host, "host", None, blanks, codes, self.ended, self.spare,
                      Turns(), self.awake)  # fmt: skip
        made.host = self
        return made


class _Parts(Parts):
    host: FakeHost

    def complain(self, line: str) -> None:
        self.host.complaints.append(line)

    def extensions(self, function: FunctionVersion) -> tuple[str, ...]:
        return self.host.extension_names


def function(name: str = "f") -> FunctionVersion:
    return FunctionVersion("000000000000", "us-east-1", name, "$LATEST", "g1", "python3.12", "app.handler", "0" * 64,
                           log_group=f"/aws/lambda/{name}")  # fmt: skip


def invocation(request_id: str = "r1", *, tail: bool = False, payload: bytes = b"{}") -> Invocation:
    made = function()
    return Invocation(request_id, made, payload, made.function_arn, reply_after_report=tail)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)
