"""The small parts of the sandboxes: generated files, user ids, the process table, building process 1, the choice."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lambent import settings
from lambent.sandbox import detect, proctable
from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace import build, guest_view, users
from lambent.sandbox.namespace.tmp_images import TmpImages, TmpMount
from sandbox.arena import ARENAS, GIB, Stage, shell

CPUINFO = """processor\t: 4
model name\t: Some CPU
siblings\t: 8
core id\t\t: 4
cpu cores\t: 4

processor\t: 5
model name\t: Some CPU
siblings\t: 8
core id\t\t: 5
cpu cores\t: 4

"""


@pytest.mark.parametrize(
    ("memory_mib", "cores"),
    [(128, 2), (1769, 2), (3008, 2), (3009, 3), (5307, 3), (5308, 4), (7077, 5), (8845, 5), (8846, 6), (10240, 6)],
)
def test_cores_grow_with_memory_as_on_aws(memory_mib: int, cores: int) -> None:
    assert guest_view.visible_cores(memory_mib, 64) == cores
    assert guest_view.visible_cores(memory_mib, 1) == 1


def test_generated_files_show_one_size_throughout() -> None:
    files = guest_view.files(512, 2, "host-1", "nameserver 192.0.2.1\n", {"cpuinfo": CPUINFO, "stat": "btime 99\n"})
    assert files["proc/meminfo"].splitlines()[0].split() == [b"MemTotal:", b"524288", b"kB"]
    assert b"SwapTotal:             0 kB" in files["proc/meminfo"]
    assert [line for line in files["proc/cpuinfo"].splitlines() if b"processor" in line] == [
        b"processor\t: 0", b"processor\t: 1"
    ]  # fmt: skip
    assert files["proc/cpuinfo"].count(b"siblings\t: 2") == files["proc/cpuinfo"].count(b"cpu cores\t: 2") == 2
    assert b"cpu1 " in files["proc/stat"] and b"cpu2 " not in files["proc/stat"] and b"btime 99" in files["proc/stat"]
    assert files["sys/devices/system/cpu/online"] == b"0-1\n"
    assert b"sbx_user1051:x:993:990:" in files["etc/passwd"] and b"127.0.0.1 host-1\n" in files["etc/hosts"]
    assert files["etc/resolv.conf"] == b"nameserver 192.0.2.1\n"


def test_a_host_with_one_core_shows_one() -> None:
    files = guest_view.files(10_240, 1, "h", "", {"cpuinfo": CPUINFO, "stat": ""})
    assert files["sys/devices/system/cpu/online"] == b"0\n" and files["proc/cpuinfo"].count(b"processor") == 1


def test_user_ids_are_not_reused_at_once_and_differ_by_instance() -> None:
    ids = users.UserIds("one")
    first, second = ids.take(), ids.take()
    ids.give_back(first)
    assert len({first, second, ids.take()}) == 3
    assert users.FIRST <= first < 2**31
    assert users.UserIds("two").take() // users.BLOCK != first // users.BLOCK or users.UserIds("two").take() != first


def test_user_ids_come_back_when_the_block_went_round_and_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "BLOCK", 3)
    ids = users.UserIds("one")
    taken = [ids.take() for _ in range(3)]
    with pytest.raises(RuntimeError):
        ids.take()
    ids.give_back(taken[1])
    assert ids.take() == taken[1]


def test_a_process_with_a_confusing_name_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "100"])
    try:
        row = proctable.read(child.pid)
        assert row is not None and row.parent == os.getpid() and row.session == os.getsid(0)
        assert child.pid in [found.pid for found in proctable.descendants(parents=[os.getpid()])]
    finally:
        child.kill()
        child.wait()
    assert proctable.read(child.pid) is None


def test_process_1_is_built_once(tmp_path: Path) -> None:
    if build.argv(tmp_path / "cache")[0] == sys.executable:
        pytest.skip("needs a C compiler")
    (program,) = build.argv(tmp_path / "cache")
    made = os.stat(program)
    assert build.argv(tmp_path / "cache") == (program,) and os.stat(program).st_ino == made.st_ino
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(program).name]
    os.chmod(program, 0o777)  # somebody else could have written it
    build.argv(tmp_path / "cache")
    assert os.stat(program).st_ino != made.st_ino


def test_without_a_compiler_process_1_is_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "inherited_environment", lambda: {"PATH": str(tmp_path)})
    argv = build.argv(tmp_path / "cache")
    assert argv[0] == sys.executable and argv[-1].endswith("init.py")


def test_the_choice_of_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert detect.choose_backend("process", "i", tmp_path, GIB, "auto").name == "process"
    assert detect.choose_backend("auto", "i", tmp_path, GIB, "auto").name == "namespace"
    assert detect.choose_backend("namespace", "i", tmp_path, GIB, "auto").name == "namespace"
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="needs Linux"):
        detect.choose_backend("auto", "i", tmp_path, GIB, "auto")
    assert detect.choose_backend("process", "i", tmp_path, GIB, "auto").name == "process"
    assert [capability.available for capability in detect.probe()] == [False]


def test_the_probe_names_each_capability_once_with_a_remedy_for_what_is_missing() -> None:
    found = detect.probe()
    names = [capability.name for capability in found]
    assert len(set(names)) == len(names) and {"user namespace", "freeze", "memory limit", "snapshot"} <= set(names)
    for capability in found:
        assert capability.detail
        assert capability.available or capability.remedy


def test_a_forbidden_namespace_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "_unshare", lambda flags: errno.EPERM)
    forbidden = {capability.name: capability for capability in detect.probe()}["mount namespace"]
    assert not forbidden.available and forbidden.detail == "Operation not permitted" and forbidden.remedy


async def test_images_without_their_tool_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *arguments, **options: None)
    with pytest.raises(SandboxError, match="install e2fsprogs"):
        await TmpImages(tmp_path / "images").start()
    assert not (tmp_path / "images").exists()


def test_only_its_own_mount_is_held_again(tmp_path: Path) -> None:
    """What is held when a sandbox ends is shut down: never the host's own /tmp, where a plan had not come so far."""
    mount = TmpMount(os.open(tmp_path, os.O_RDONLY))
    mount.let_go()
    mount.hold_again(Path("/proc"))
    mount.hold_again(tmp_path / "gone")
    assert mount.fd == -1
    mount.hold_again(tmp_path)
    assert os.path.samestat(os.fstat(mount.fd), tmp_path.stat())
    mount.let_go()


def test_the_process_backend_ends_what_a_killed_server_left(tmp_path: Path) -> None:
    process = ARENAS[0]
    (tmp_path / "task").mkdir()
    reading, writing = os.pipe()
    server = os.fork()
    if server == 0:

        async def serve() -> None:
            backend = process.backend("dead", tmp_path)
            await backend.start()
            sandbox = await backend.create(Stage(backend, tmp_path, False).spec(), lambda reason: None)
            guest = await shell(sandbox, "sleep 100 & echo up; wait")
            await guest.line()
            os.write(writing, " ".join(map(str, sandbox.usage().pids)).encode())
            await asyncio.get_running_loop().create_future()

        try:
            asyncio.run(serve())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        pids = [int(word) for word in pipe.read(1000).split()]
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    assert len(pids) == 2

    async def next_start() -> None:
        backend = process.backend("dead", tmp_path)
        await backend.start()
        for pid in pids:
            row = proctable.read(pid)
            assert row is None or row.state in "ZX"
        await backend.stop()

    asyncio.run(next_start())
    assert list((tmp_path / "work").iterdir()) == []


PROMPT = """
import ctypes, os, struct
from lambent.sandbox import promptness

def slice_ns():
    answer = ctypes.create_string_buffer(56)
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, 0, answer, 56, 0) == 0
    return struct.unpack_from("<IIQiIQ", answer)[5]

usual = slice_ns()
assert promptness.ask()
print(usual, slice_ns(), flush=True)
if os.fork() == 0:
    print(slice_ns(), flush=True)
    os._exit(0)
os.wait()
"""


def test_the_server_asks_for_the_processor_soon_and_nobody_inherits_it() -> None:
    if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 12):
        pytest.skip("needs Linux 6.12, which knows slices of tasks")
    done = subprocess.run([sys.executable, "-c", PROMPT], capture_output=True, text=True, check=True)
    usual, own, inherited = map(int, done.stdout.split())
    assert own < usual == inherited
