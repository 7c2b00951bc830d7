"""Byte code made ahead: once for each package and runtime, gone with the package, and nothing that a package does to it
costs anybody else."""

from __future__ import annotations

import asyncio
import io
import marshal
import os
import random
import signal
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from lambent.core.model import ExitStatus
from lambent.runtimes.prepared import PreparedRuntime
from lambent.sandbox.base import Process, ProcessSpec, SandboxError, SandboxSpec
from lambent.store.blobs import Blobs
from lambent.worker import codes as module
from lambent.worker.codes import Codes, write_image
from lambent.worker.packages import PackageStore, delete_all

RUNTIME = PreparedRuntime("python3.12", "python3.12", "python", "3.12", (), "/py", Path("/cache/python3.12-abc"), "v")
LARGE = "x = 1\n" * 1000


def record(path: str, code: bytes) -> bytes:
    return len(path.encode()).to_bytes(2, "little") + len(code).to_bytes(4, "little") + path.encode() + code


def read(image: Path) -> dict[str, bytes]:
    """Every module of an image with its code, as `code_image.py` finds it."""
    content = image.read_bytes()
    if not content:
        return {}
    begin, length = int.from_bytes(content[:8], "little"), int.from_bytes(content[8:16], "little")
    index = marshal.loads(content[begin : begin + length])
    return {f"{folder}/{name}": content[start : start + size]
            for folder, files in index.items() for name, (start, size) in marshal.loads(files).items()}  # fmt: skip


def written(tmp_path: Path, said: bytes) -> dict[str, bytes]:
    output, theirs = os.pipe()
    with open(theirs, "wb") as file:
        file.write(said)
    image = tmp_path / "image"
    image.unlink(missing_ok=True)
    write_image(output, image)
    return read(image)


class Compiling:
    """A backend whose sandboxes hold a compiler that says `says`; with `hangs` it then waits to be ended."""

    shows_code = True

    def __init__(self) -> None:
        self.says = record("/var/task/app.py", b"code")
        self.fails: Exception | None = None
        self.ends = ExitStatus(code=0)
        self.hangs = False
        self.specs: list[SandboxSpec] = []
        self.commands: list[tuple[str, ...]] = []
        self.started = asyncio.Event()
        self.living = self.most_living = 0
        self._end = -1

    async def create(self, spec: SandboxSpec, on_death: Callable[[str], None]) -> Compiling:
        if self.fails:
            raise self.fails
        self.specs.append(spec)
        self.living += 1
        self.most_living = max(self.most_living, self.living)
        return self

    async def run(self, spec: ProcessSpec, on_exit: Callable[..., None]) -> Process:
        self.commands.append(spec.argv)
        output, self._end = os.pipe()
        os.write(self._end, self.says)
        if not self.hangs:
            os.close(self._end)
            on_exit(self.ends)
        self.started.set()
        return Process(1, output)

    def limit_cpu(self, limited: bool) -> None:
        pass

    def expendable(self, expendable: bool) -> None:
        pass

    async def destroy(self, reason: str) -> None:
        self.living -= 1
        if self.hangs:
            os.close(self._end)


class Host:
    def __init__(self, folder: Path) -> None:
        self.blobs = Blobs(folder / "blobs")
        self.packages = PackageStore(folder, self.blobs)
        self.backend = Compiling()
        self.codes = Codes(self.packages, cast(Any, self.backend), "run")
        self.store = folder / "packages"

    async def unpacked(self, source: str = LARGE) -> str:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(zipfile.ZipInfo("app.py"), source)  # of 1980: the same source is the same package
        name = self.blobs.put(buffer.getvalue())
        await self.packages.unpack(name)
        return name

    async def settled(self) -> None:
        if self.codes._task is not None:
            await asyncio.wait([self.codes._task])

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.store / ".code").glob("*/*"))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    yield made
    await made.codes.stop()
    assert made.backend.living == 0 and not list(made.store.glob(".tmp-*"))
    assert not list(made.packages.references)


async def test_code_is_made_once_for_each_package_place_and_runtime(host: Host) -> None:
    name = await host.unpacked()
    assert host.codes.of(name, "/var/task", RUNTIME) is None
    assert host.codes.of(name, "/var/task", RUNTIME) is None
    assert host.codes.of(name, "/opt", RUNTIME) is None
    other = replace(RUNTIME, line="3.13", runtime_dir=Path("/cache/python3.13-def"))
    assert host.codes.of(name, "/var/task", other) is None
    await host.settled()
    image = host.codes.of(name, "/var/task", RUNTIME)
    assert image is not None and read(image) == {"/var/task/app.py": b"code"}
    assert image.stat().st_mode & 0o777 == 0o444
    assert host.codes.of(name, "/opt", RUNTIME) not in (None, image)
    assert [command[0] for command in host.backend.commands] == [
        f"/var/lang/bin/python3.{minor}" for minor in (12, 12, 13)]  # fmt: skip
    assert [command[-1] for command in host.backend.commands] == ["/var/task", "/opt", "/var/task"]
    assert host.backend.most_living == 1 and len({spec.id for spec in host.backend.specs}) == 3
    for spec in host.backend.specs:
        assert spec.network == "isolated" and spec.background and spec.task == spec.opt == host.packages.path(name)


async def test_code_outlives_the_server_and_goes_with_its_package(host: Host, tmp_path: Path) -> None:
    name = await host.unpacked()
    host.codes.of(name, "/var/task", RUNTIME)
    await host.settled()
    later = Host(tmp_path)
    assert later.codes.of(name, "/var/task", RUNTIME) is not None and later.backend.specs == []
    delete_all(later.packages.take_away(name))
    assert host.files() == [] and not (host.store / name).exists()
    again = await later.unpacked()
    assert again == name and later.codes.of(name, "/var/task", RUNTIME) is None
    await later.settled()
    (host.store / name).rename(tmp_path / "lost")  # a kill between the two renames
    await later.packages.collect(set())
    assert host.files() == []


async def test_code_of_an_interpreter_that_was_replaced_goes(host: Host) -> None:
    name = await host.unpacked()
    host.codes.of(name, "/var/task", RUNTIME)
    host.codes.of(name, "/opt", RUNTIME)
    await host.settled()
    host.codes.of(name, "/var/task", replace(RUNTIME, runtime_dir=Path("/cache/python3.12-new")))
    await host.settled()
    assert host.files() == ["opt-python3.12-abc", "var-task-python3.12-new"]


async def test_a_package_is_needed_while_it_is_compiled(host: Host) -> None:
    host.backend.hangs = True
    name = await host.unpacked()
    host.codes.of(name, "/var/task", RUNTIME)
    assert name in host.packages.references
    freed: list[str] = []
    host.packages.references.freed = freed.append
    await host.backend.started.wait()
    await host.codes.stop()
    assert freed == [name] and host.files() == []
    assert host.codes.of(name, "/var/task", RUNTIME) is None and host.codes._task is None


async def test_what_does_not_end_is_ended_and_what_it_said_by_then_is_used(
        host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.01)
    host.backend.hangs = True
    name = await host.unpacked()
    host.codes.of(name, "/var/task", RUNTIME)
    await host.settled()
    image = host.codes.of(name, "/var/task", RUNTIME)
    assert image is not None and read(image) == {"/var/task/app.py": b"code"}


@pytest.mark.parametrize(("ends", "kept"), [(ExitStatus(signal=signal.SIGSEGV), True), (ExitStatus(code=1), True),
                                            (ExitStatus(signal=signal.SIGKILL, oom=True), False)])  # fmt: skip
async def test_what_a_crash_left_is_used_and_what_a_lack_of_memory_left_is_not(
        host: Host, ends: ExitStatus, kept: bool) -> None:
    host.backend.ends = ends
    name = await host.unpacked()
    host.codes.of(name, "/var/task", RUNTIME)
    await host.settled()
    assert (host.codes.of(name, "/var/task", RUNTIME) is not None) is kept


async def test_nothing_is_made_where_it_is_of_no_use(host: Host) -> None:
    small = await host.unpacked("x = 1\n")
    node = replace(RUNTIME, family="nodejs")
    assert host.codes.of(small, "/var/task", RUNTIME) is None and host.codes.of(small, "/var/task", node) is None
    await host.settled()
    assert host.codes.of(small, "/var/task", RUNTIME) is None and host.backend.specs == []
    assert host.codes._task is None, "it is not looked at a second time"
    large = await host.unpacked()
    host.backend.shows_code = False
    assert host.codes.of(large, "/var/task", RUNTIME) is None and host.codes._task is None


async def test_a_host_that_cannot_is_asked_once_and_the_next_package_is_compiled(
        host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = await host.unpacked(), await host.unpacked(LARGE + "y = 2\n")
    host.backend.fails = SandboxError("no more sandboxes")
    host.codes.of(first, "/var/task", RUNTIME)
    await host.settled()
    assert capsys.readouterr().err == "lambent: code is not compiled ahead: no more sandboxes\n"
    host.backend.fails = None
    assert host.codes.of(first, "/var/task", RUNTIME) is None and host.codes._task is None
    host.codes.of(second, "/var/task", RUNTIME)
    await host.settled()
    assert host.codes.of(second, "/var/task", RUNTIME) is not None


def test_an_image_holds_what_was_said_in_whole_records(tmp_path: Path) -> None:
    first, second = record("/var/task/a.py", b"one"), record("/var/task/pkg/b.py", b"")
    both = {"/var/task/a.py": b"one", "/var/task/pkg/b.py": b""}
    assert written(tmp_path, first + second) == both
    assert written(tmp_path, b"") == {}
    for end in range(len(second)):
        assert written(tmp_path, first + second[:end]) == {"/var/task/a.py": b"one"}
    assert written(tmp_path, first + b"\xff" * 100) == {"/var/task/a.py": b"one"}


def test_forged_records_make_an_image_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = random.Random(5)
    for _ in range(200):
        written(tmp_path, bytes(source.randrange(4) for _ in range(source.randrange(400))))
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    assert len(written(tmp_path, b"".join(record(f"/{number}", b"") for number in range(10)))) == 3
    monkeypatch.setattr(module, "MOST_READ_BYTES", 40)
    assert list(written(tmp_path, record("/a", b"c" * 20) + record("/b", b"c" * 20))) == ["/a"]
    assert list(written(tmp_path, record("no slash", b"c") + record("", b""))) == ["/no slash", "/"]
    assert "/\ufffd" in written(tmp_path, b"\2\0\0\0\0\0/\xff")
