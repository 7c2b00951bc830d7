"""Byte code of packages and layers, compiled by the interpreter that will run them, when nobody waits for it.

A function's files are shown as they were deployed, so every cold start would compile all that it imports. Here the
sources of a package are compiled once per runtime, into one file beside the package (`PackageStore.code_path`) which is
shown below /var/runtime; `runtimes/bootstrap/python/code_image.py` takes the code from there. A cold start that comes
before compiles for itself.

What is compiled is anybody's. So the compiler runs in a sandbox like the function's own, without network, one at a
time, with the least claim on the processor, and bounded in time, memory and output. Of what it says the platform reads
lengths and paths, nothing more; whoever makes a compiler say something else has forged the code of their own package,
which nobody but its own environments is ever shown.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import sys
import traceback
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from lambent.core.model import ExitStatus
from lambent.runtimes.prepared import PreparedRuntime
from lambent.sandbox.base import Places, Process, ProcessSpec, Sandbox, SandboxBackend, SandboxError, SandboxSpec
from lambent.worker.packages import MAX_ENTRIES, PackageStore

#: Sources that are not worth a sandbox: a start compiles them in two or three milliseconds.
LEAST_SOURCE_BYTES: Final = 4096
#: What one package may cost; the compiler's own bound of processor time is met long before, if the host has any to
#: spare. What was compiled by then is used, the rest is compiled at each start.
TIMEOUT_S: Final = 600.0
END_S: Final = 10.0
MOST_READ_BYTES: Final = 128 << 20
#: Buys 0.29 of a core (fact sheet 9.1); the compiler itself has bounds for what it reads.
MEMORY_MIB: Final = 512
_HEAD = 16


@dataclass(frozen=True, slots=True)
class _Work:
    """One folder of the package store, as it will be shown at `place`."""

    name: str
    place: str
    runtime: PreparedRuntime

    @property
    def label(self) -> str:
        """Names the image: byte code is of one place and one build of an interpreter."""
        assert self.runtime.runtime_dir is not None
        return f"{self.place.strip('/').replace('/', '-')}-{self.runtime.runtime_dir.name}"


class Codes:
    """The images of a worker's packages. Belongs to the event loop; owns one task while there is work."""

    def __init__(self, packages: PackageStore, backend: SandboxBackend, run: str) -> None:
        self._packages = packages
        self._backend = backend
        self._run = run
        self._queue: deque[_Work] = deque()
        self._known: set[tuple[str, str]] = set()  #: waiting, under way, or given up until the next start
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._compiled = 0

    def of(self, name: str, place: str, runtime: PreparedRuntime) -> Path | None:
        """The image of an unpacked package; None as long as there is none, and then one is made soon."""
        if runtime.compiler is None or not self._backend.shows_code:
            return None
        work = _Work(name, place, runtime)
        path = self._packages.code_path(name, work.label)
        try:
            return path if os.stat(path).st_size else None  # empty: there was nothing to compile
        except OSError:
            self._expect(work)
        return None

    def _expect(self, work: _Work) -> None:
        if self._stopping or (work.name, work.label) in self._known:
            return
        self._known.add((work.name, work.label))
        self._packages.references.hold((work.name,))
        self._queue.append(work)
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Give up what is not done yet."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._queue:
            self._packages.references.release((self._queue.popleft().name,))

    async def _work(self) -> None:
        try:
            while self._queue:
                work = self._queue.popleft()
                try:
                    await self._make(work)
                    self._known.discard((work.name, work.label))
                except (OSError, SandboxError) as error:
                    print(f"lambent: code is not compiled ahead: {error}", file=sys.stderr, flush=True)
                except Exception as error:
                    traceback.print_exception(error)
                finally:
                    self._packages.references.release((work.name,))
        finally:
            self._task = None

    async def _make(self, work: _Work) -> None:
        """Raises OSError or SandboxError; there is no image then."""
        temporary = self._packages.temporary()
        try:
            if await asyncio.to_thread(_is_worth_it, self._packages.path(work.name)):
                await self._compile(work, temporary)
            else:
                await asyncio.to_thread(temporary.touch)
            await asyncio.to_thread(self._packages.keep_code, temporary, work.name, work.label)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    async def _compile(self, work: _Work, image: Path) -> None:
        self._compiled += 1
        package = self._packages.path(work.name)
        spec = SandboxSpec(id=f"{self._run}-code-{self._compiled}", task=package, opt=package, memory_mib=MEMORY_MIB,
                           tmp_mib=512, runtime=work.runtime.runtime_dir, lang=work.runtime.lang, network="isolated",
                           background=True)  # fmt: skip
        sandbox = await self._backend.create(spec, _nothing)
        exits: asyncio.Queue[ExitStatus] = asyncio.Queue()
        try:
            process = await _start(sandbox, work, exits)
        except BaseException:
            await sandbox.destroy("no compiler runs in it")
            raise
        reading = asyncio.create_task(asyncio.to_thread(write_image, process.output, image))
        try:
            killed = await _is_killed(reading, exits)
        finally:
            await sandbox.destroy("the code is compiled")
            await asyncio.wait([reading], timeout=END_S)  # it is at its end, since nobody is left who could write
        if killed or not reading.done():
            # For lack of memory, which may be another one's doing: half an image must not stay.
            raise SandboxError(f"the compiler of {work.name} was killed")
        reading.result()


async def _start(sandbox: Sandbox, work: _Work, exits: asyncio.Queue[ExitStatus]) -> Process:
    sandbox.limit_cpu(True)
    assert work.runtime.compiler is not None
    environment = work.runtime.default_environment(Places())
    process = await sandbox.run(ProcessSpec((*work.runtime.compiler, work.place), environment, "/"), exits.put_nowait)
    sandbox.expendable(True)
    return process


async def _is_killed(reading: asyncio.Task[None], exits: asyncio.Queue[ExitStatus]) -> bool:
    """Wait for the compiler's end, or until it took too long; whether somebody else ended it."""
    await asyncio.wait([reading], timeout=TIMEOUT_S)
    if not reading.done():
        return False
    try:
        return (await asyncio.wait_for(exits.get(), END_S)).signal == signal.SIGKILL
    except TimeoutError:  # it closed its output and goes on
        return False


def _is_worth_it(package: Path) -> bool:
    """Blocks."""
    size = 0
    for folder, _, files in os.walk(package):
        for name in files:
            if name.endswith(".py"):
                size += os.stat(os.path.join(folder, name)).st_size
                if size >= LEAST_SOURCE_BYTES:
                    return True
    return False


def write_image(output: int, image: Path) -> None:
    """Read the records of `compile_code.py` from a pipe up to its end, or to the first that is none, and write the
    image that `code_image.py` describes; an empty file if there is no record. Blocks; closes the pipe. Raises OSError.
    """
    os.set_blocking(output, True)
    with open(output, "rb") as records, open(image, "xb") as file:
        _copy(records, file)


def _copy(records: IO[bytes], image: IO[bytes]) -> None:
    folders: dict[str, dict[str, tuple[int, int]]] = {}
    end, read = _HEAD, 0
    image.seek(end)
    for _ in range(MAX_ENTRIES):
        head = records.read(6)
        path_length, length = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:], "little")
        read += 6 + path_length + length
        if len(head) < 6 or read > MOST_READ_BYTES:
            break
        path, code = records.read(path_length), records.read(length)
        if len(path) < path_length or len(code) < length:
            break
        folder, _, name = path.decode("utf-8", "replace").rpartition("/")
        folders.setdefault(folder, {})[name] = (end, length)
        folders.setdefault(folder.rpartition("/")[0], {})  # whose finder loads the packages in it
        image.write(code)
        end += length
    if folders:
        # Version 2 is read by every Python 3.
        index = marshal.dumps({folder: marshal.dumps(files, 2) for folder, files in folders.items()}, 2)
        image.write(index)
        image.seek(0)
        image.write(end.to_bytes(8, "little") + len(index).to_bytes(8, "little"))


def _nothing(_: str) -> None:
    """The sandbox died: its end shows in the output."""
