"""Where sandbox tests take place: every backend in every way in which it is used, with a check that nothing is left.

A test is a coroutine that gets a started backend; `Arena.play` runs it, as root, or in a forked child under an
unprivileged uid for the rootless arenas, and then compares processes, mounts, control groups and loop devices with
what was there before.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import encodings.ascii
import encodings.idna
import encodings.latin_1  # noqa: F401  the unprivileged child may not be able to import any more
import functools
import glob
import itertools
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lambent.core.model import ExitStatus
from lambent.sandbox import proctable
from lambent.sandbox.base import Process, ProcessSpec, Sandbox, SandboxSpec
from lambent.sandbox.namespace import NamespaceBackend, cgroup
from lambent.sandbox.process import ProcessBackend

uvloop.new_event_loop().close()  # opens a pipe for the life of the process, which is no leak of ours

NOBODY = 65534
GIB = 1024**3
_instances = itertools.count(1)
Scenario = Callable[["Stage"], Awaitable[None]]


@dataclass
class Stage:
    """What a scenario works with."""

    backend: Any
    folder: Path
    rootless: bool
    furnished: bool = False
    deaths: list[str] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def spec(self, **changes: Any) -> SandboxSpec:
        values: dict[str, Any] = {"id": f"env-{next(self._ids)}", "task": self.task, "memory_mib": 256, "tmp_mib": 512}
        return SandboxSpec(**(values | changes))

    @property
    def task(self) -> Path:
        return self.folder / "task"

    async def create(self, **changes: Any) -> Any:
        spec = self.spec(**changes)
        if self.furnished and self.backend.can_furnish(spec):
            return await self.furnish(spec)
        return await self.backend.create(spec, self.deaths.append)

    async def furnish(self, spec: SandboxSpec) -> Any:
        """A sandbox of `spec` that was made before it was known what it would be, with a process waiting in it."""
        blank = dataclasses.replace(spec, task=None, opt=None, task_code=None, opt_code=None, memory_mib=128,
                                    tmp_mib=512)  # fmt: skip
        sandbox = await self.backend.create(blank, self.deaths.append)
        exits: list[ExitStatus] = []
        await sandbox.park(ProcessSpec(("/bin/cat",), {}, "/"), exits.append)
        await self.backend.furnish(sandbox, spec)
        assert await finish(sandbox, "/bin/cat", env={"A": "1", "B": ""}) == (ExitStatus(code=0), "A=1\0B=")
        assert exits == []
        return sandbox


class Guest:
    """A running process of a sandbox whose output is read by the line."""

    def __init__(self, process: Process, exited: asyncio.Future[ExitStatus]) -> None:
        self.pid = process.pid
        self.exited = exited
        self._output = _Pipe(process.output)

    async def line(self) -> str:
        return await asyncio.wait_for(self._output.line(), 20)

    async def end(self) -> tuple[ExitStatus, str]:
        """Exit status and the rest of the output."""
        async with asyncio.timeout(30):
            output = await self._output.rest()
            return await self.exited, output

    def close(self) -> None:
        self._output.close()


class _Pipe:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = b""
        self._open = True

    async def line(self) -> str:
        while b"\n" not in self._data and await self._more():
            pass
        text, _, self._data = self._data.partition(b"\n")
        return text.decode()

    async def rest(self) -> str:
        while self._open and await self._more():
            pass
        self.close()
        return self._data.decode(errors="replace")

    async def _more(self) -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._fd, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._fd)
        chunk = os.read(self._fd, 65536)
        self._data += chunk
        return bool(chunk)

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._fd)


async def start(sandbox: Sandbox, *argv: str, cwd: str = "/", env: dict[str, str] | None = None) -> Guest:
    exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    # A second call would raise InvalidStateError in the loop and so fail the test.
    return Guest(await sandbox.run(ProcessSpec(argv, env or {}, cwd=cwd), exited.set_result), exited)


async def shell(sandbox: Sandbox, script: str, *arguments: str) -> Guest:
    return await start(sandbox, "/bin/sh", "-c", script, "sh", *arguments)


async def finish(sandbox: Sandbox, *argv: str, **options: Any) -> tuple[ExitStatus, str]:
    return await (await start(sandbox, *argv, **options)).end()


async def output(sandbox: Sandbox, script: str, *arguments: str) -> str:
    """What a shell script prints; it must succeed."""
    status, out = await (await shell(sandbox, script, *arguments)).end()
    assert status == ExitStatus(code=0), (status, out)
    return out


PYTHON = "/usr/bin/python3"


async def python(sandbox: Sandbox, program: str, *arguments: str) -> tuple[ExitStatus, str]:
    return await finish(sandbox, PYTHON, "-I", "-c", program, *arguments)


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    """For what the kernel does a moment later, such as the end of a freeze."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.002)
    return True


@dataclass(frozen=True)
class Arena:
    """One backend in one way of use. `options` go to its constructor."""

    name: str
    kind: str  #: process, namespace or rootless
    options: dict[str, Any] = field(default_factory=dict)
    uvloop: bool = True
    furnished: bool = False  #: sandboxes are made as blanks first
    before: Callable[[], None] | None = None  #: for rootless: what root arranges in the child

    @property
    def isolating(self) -> bool:
        return self.kind != "process"

    @property
    def limiting(self) -> bool:
        """Has control groups."""
        return self.kind == "namespace"

    def play(self, scenario: Scenario, **options: Any) -> None:
        _cache()
        if self.kind == "namespace" and os.geteuid() != 0:
            pytest.skip("needs root")
        instance = f"test-{os.getpid()}-{next(_instances)}"
        folder = Path(tempfile.mkdtemp(prefix=f"lambent-{instance}-"))
        folder.chmod(0o755)
        (folder / "task").mkdir()
        try:
            before = _left(instance, folder)
            if self.kind == "rootless" and os.geteuid() == 0:
                os.chown(folder, NOBODY, NOBODY)
                os.chown(folder / "task", NOBODY, NOBODY)
                _play_in_child(lambda: self._play(instance, folder, scenario, options), NOBODY, self.before)
            else:
                self._play(instance, folder, scenario, options)
            after = _left(instance, folder)
            changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
            assert not changed, changed
        finally:
            shutil.rmtree(folder)

    def backend(self, instance: str, folder: Path, options: dict[str, Any] | None = None) -> Any:
        if self.kind == "process":
            return ProcessBackend(instance, folder / "work")
        cache = _cache() / str(os.geteuid())
        given: dict[str, Any] = {"memory_cap_bytes": 4 * GIB, "tmp": "auto", "cache_dir": cache}
        given |= self.options | (options or {})
        return NamespaceBackend(instance, folder / "work", **given)

    def _play(self, instance: str, folder: Path, scenario: Scenario, options: dict[str, Any]) -> None:
        async def whole() -> None:
            backend = self.backend(instance, folder, options)
            await backend.start()
            try:
                await asyncio.wait_for(scenario(Stage(backend, folder, self.kind == "rootless", self.furnished)), 60)
            finally:
                await backend.stop()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop if self.uvloop else None) as runner:
            runner.run(whole())


@functools.cache
def _cache() -> Path:
    """Where process 1 is built, once for each uid that these tests run under."""
    folder = Path(tempfile.mkdtemp(prefix="lambent-test-cache-"))
    folder.chmod(0o755)
    for uid in {os.geteuid(), NOBODY} if os.geteuid() == 0 else {os.geteuid()}:
        (folder / str(uid)).mkdir(mode=0o700)
        os.chown(folder / str(uid), uid, -1)
    atexit.register(shutil.rmtree, folder)
    return folder


def _play_in_child(play: Callable[[], None], uid: int, before: Callable[[], None] | None = None) -> None:
    """In a forked child, since a process cannot become root again. `before` is done in it while it still is root."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            if before is not None:
                before()
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            play()
            os._exit(0)
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-60000:])
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as pipe:
        report = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    if report or status:
        pytest.fail(f"under uid {uid}: {report or status}", pytrace=False)


def _left(instance: str, folder: Path) -> dict[str, Any]:
    """What sandboxes could leave on this host, as far as it can be theirs."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        mounted = mounts.read()
    patterns = [f"/sys/fs/cgroup/{below}lambent-{instance}" for below in ("", "*/", "*/*/")]
    return {
        "children": sorted(row.pid for row in proctable.descendants(parents=[os.getpid()])),
        "mounts": mounted,
        "groups": [name for pattern in patterns for name in glob.glob(pattern)],
        "loops": loops_below(folder),
        "work": sorted(path.name for path in (folder / "work").glob("*") if path.name != "cache"),
        "files": _open_files(),
    }


def loops_below(folder: Path) -> list[str]:
    """Backing files in this folder of loop devices in use."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # somebody else's, just detached
            found.append(Path(path).read_text(encoding="utf-8"))
    return [text for text in found if str(folder) in text]


def _open_files() -> dict[int, str]:
    found = {}
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        with contextlib.suppress(OSError):  # the one that listed them is closed
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def without(*facilities: str) -> cgroup.Layout:
    """This host's layout less some of it; `unified` takes the v2 tree away."""
    layout = cgroup.detect_here()
    v1 = {name: path for name, path in layout.v1.items() if name not in facilities}
    if "unified" in facilities:
        return cgroup.Layout(v1)
    return cgroup.Layout(v1, layout.unified, layout.unified_controllers - set(facilities))


ARENAS = (
    Arena("process", "process", uvloop=False),
    Arena("namespace", "namespace"),
    Arena("namespace-python", "namespace", {"python_init": True, "tmp": "tmpfs"}, uvloop=False),
    Arena("rootless", "rootless"),
    Arena("furnished", "namespace", furnished=True),
    Arena("furnished-python", "namespace", {"python_init": True}, uvloop=False, furnished=True),
)
