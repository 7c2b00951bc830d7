"""The namespace backend beyond the common contract: limits, what guests see of themselves, death and leftovers."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from lambent.core.model import ExitStatus
from lambent.sandbox import proctable, promptness
from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace import cgroup, mounts, plan
from lambent.sandbox.namespace.cgroup_files import field
from sandbox.arena import (
    ARENAS,
    GIB,
    NOBODY,
    PYTHON,
    Arena,
    Guest,
    Stage,
    eventually,
    finish,
    loops_below,
    output,
    python,
    shell,
    start,
    without,
)

PROCESS, ROOT, ROOT_PYTHON, ROOTLESS = ARENAS[:4]
BUSY = "while :; do :; done"
KEEPS = "import time; x = b'x' * (80 << 20); print('kept', flush=True); time.sleep(100)"
MIB = 1024 * 1024

needs_groups = pytest.mark.skipif(
    bool(os.geteuid()) or any("no " in line for line in cgroup.detect_here().missing()),
    reason="needs root and memory, cpu and pids control groups",
)


@pytest.fixture(params=(ROOT, ROOTLESS), ids=lambda arena: arena.name)
def arena(request: pytest.FixtureRequest) -> Arena:
    chosen: Arena = request.param
    return chosen


@needs_groups
def test_a_process_over_the_memory_limit_is_killed_and_marked() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=128)
        status, _ = await python(sandbox, "x = b'x' * (64 << 20); print(len(x))")
        assert status == ExitStatus(code=0)
        status, _ = await python(sandbox, "x = b'x' * (256 << 20); print(len(x))")
        assert status == ExitStatus(signal=9, oom=True)
        status, _ = await finish(sandbox, "/bin/sh", "-c", "kill -9 $$")
        assert status == ExitStatus(signal=9, oom=False)
        assert (sandbox.usage().memory_peak_bytes or 0) > 100 * MIB
        assert stage.deaths == []
        assert stage.backend.memory_events() == 0  # its own limit, not that of all together
        await sandbox.destroy("test")

    ROOT.play(scenario)


@needs_groups
def test_the_cap_of_all_environments_is_counted_when_it_refuses() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=256)
        status, _ = await python(sandbox, "x = b'x' * (200 << 20); print(len(x))")
        assert status == ExitStatus(signal=9, oom=True)
        assert stage.backend.memory_events() >= 1
        await sandbox.destroy("test")
        assert stage.backend.memory_bytes() < 64 * MIB

    ROOT.play(scenario, memory_cap_bytes=64 * MIB)


@needs_groups
@needs_groups
def test_an_expendable_sandbox_is_ended_before_one_that_needs_its_memory() -> None:
    async def scenario(stage: Stage) -> None:
        idle, busy = await stage.create(memory_mib=512), await stage.create(memory_mib=512)
        keeps = await start(idle, PYTHON, "-c", KEEPS)
        assert await keeps.line() == "kept"
        idle.freeze()
        idle.expendable(True)
        status, out = await python(busy, "x = b'x' * (150 << 20); print('done')")
        assert (status, out) == (ExitStatus(code=0), "done\n")
        assert (await keeps.end())[0] == ExitStatus(signal=9, oom=True)
        assert stage.backend.memory_events() >= 1
        for sandbox in (idle, busy):
            await sandbox.destroy("test")

    ROOT.play(scenario, memory_cap_bytes=200 * MIB)


@needs_groups
def test_growth_past_a_mark_is_told() -> None:
    async def scenario(stage: Stage) -> None:
        grown: list[int | None] = []
        stage.backend.watch_memory([64 * MIB], lambda: grown.append(stage.backend.memory_bytes()))
        sandbox = await stage.create(memory_mib=512)
        assert await output(sandbox, "echo small") == "small\n" and grown == []
        status, _ = await python(sandbox, "x = b'x' * (100 << 20)")
        assert status == ExitStatus(code=0)
        assert await eventually(lambda: bool(grown))
        await sandbox.destroy("test")

    if cgroup.detect_here().v1.get("memory") is None:
        pytest.skip("needs control groups of version 1 for memory, which tell of growth")
    ROOT.play(scenario)


def test_a_small_function_fills_400_mib_of_tmp() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=128)
        status, out = await finish(
            sandbox, "/bin/dd", "if=/dev/zero", "of=/tmp/large", "bs=1M", "count=400", "status=none"
        )
        assert (status, out) == (ExitStatus(code=0), "")
        assert await output(sandbox, "stat -c %s /tmp/large") == f"{400 * MIB}\n"
        await sandbox.destroy("test")

    ROOT.play(scenario, tmp="ext4")


@pytest.mark.parametrize("tmp", ["ext4", "tmpfs"])
def test_tmp_is_as_large_as_asked_for_and_then_full(tmp: str) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=1024, tmp_mib=64)
        program = "import os; s = os.statvfs('/tmp'); print(s.f_bavail * s.f_frsize, s.f_favail)"
        _, out = await python(sandbox, program)
        available, inodes = map(int, out.split())
        assert 62 * MIB <= available <= 66 * MIB and inodes > 1000
        script = "dd if=/dev/zero of=/tmp/large bs=1M count=80 status=none; stat -c %s /tmp/large"
        _, out = await (await shell(sandbox, script)).end()
        complaint, _, size = out.strip().rpartition("\n")
        assert "No space left on device" in complaint
        assert 60 * MIB <= int(size) <= 66 * MIB
        await sandbox.destroy("test")

    ROOT.play(scenario, tmp=tmp)


@needs_groups
def test_a_fork_bomb_stops_at_the_process_limit() -> None:
    program = """
import os, time
count = 0
try:
    while count < 3000:
        if os.fork() == 0:
            time.sleep(100)
        count += 1
except OSError as error:
    print(count, error.errno, flush=True)
time.sleep(100)
"""

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=1024)
        guest = await start(sandbox, PYTHON, "-I", "-c", program)
        count, error = map(int, (await guest.line()).split())
        assert 900 < count < 1024 and error == 11
        await sandbox.kill()
        guest.close()
        assert await output(sandbox, "echo alive") == "alive\n"
        await sandbox.destroy("test")

    ROOT.play(scenario)


@needs_groups
def test_a_sandbox_in_the_background_has_the_least_weight_of_all() -> None:
    async def scenario(stage: Stage) -> None:
        weights = []
        for background in (True, False):
            sandbox = await stage.create(background=background)
            cpu = sandbox.holdings.group._by_facility["cpu"]
            weights += [int((cpu / name).read_text()) for name in ("cpu.shares", "cpu.weight") if (cpu / name).exists()]
            await sandbox.destroy("test")
        assert weights in ([2, 1024], [1, 100])

    ROOT.play(scenario)


@needs_groups
def test_who_gives_way_weighs_a_quarter_until_it_does_not_any_more() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        cpu = sandbox.holdings.group._by_facility["cpu"]
        file = next(cpu / name for name in ("cpu.shares", "cpu.weight") if (cpu / name).exists())
        weights = [int(file.read_text())]
        for giving in (True, False):
            sandbox.give_way(giving)
            weights.append(int(file.read_text()))
        assert weights in ([1024, 256, 1024], [100, 25, 100])
        await sandbox.destroy("test")

    ROOT.play(scenario)


def cpu_group() -> str:
    """Of this process, below the hierarchy's mount point."""
    rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return next(path for _, names, path in rows if "cpu" in names.split(","))


@needs_groups
@pytest.mark.skipif("cpu" not in cgroup.detect_here().v1, reason="needs version 1 of the cpu control groups")
def test_the_server_has_a_group_of_its_own_for_the_processor_as_long_as_it_runs() -> None:
    top, before = cgroup.detect_here().v1["cpu"], cpu_group()
    first, second = (cgroup.Groups(name, cgroup.detect_here(), 1 << 30) for name in ("older", "newer"))
    try:
        first.prepare()
        assert cpu_group() == "/lambent-older-server"
        assert (top / "lambent-older-server" / "cpu.shares").read_text() == "10240\n"
        assert (top / "lambent-older" / "cpu.shares").read_text() == "128\n"
        second.prepare()
        assert cpu_group() == "/lambent-newer-server"
        first.remove()  # whose group the other one would have come back to
    finally:
        second.remove()
        first.remove()
    assert cpu_group() in (before, "/") and not list(top.glob("lambent-*er-server"))


SLICES = """
import ctypes, os, struct
def slice_ns():
    answer = ctypes.create_string_buffer(56)
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    assert ctypes.CDLL(None).syscall(number, 0, answer, 56, 0) == 0
    return struct.unpack_from("<IIQiIQ", answer)[5]
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, b"%d" % slice_ns())
    os._exit(0)
print(slice_ns(), os.read(read, 99).decode(), flush=True)
"""


@pytest.mark.parametrize("kind", [ROOT, ROOT_PYTHON, ROOTLESS], ids=lambda arena: arena.name)
def test_a_runtime_gets_the_processor_as_soon_as_it_wakes_and_what_it_starts_does_not(kind: Arena) -> None:
    if mounts.kernel_release() < (6, 12):
        pytest.skip("needs Linux 6.12, which knows slices of tasks")

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        status, said = await python(sandbox, SLICES)
        first, child = map(int, said.split())
        assert status == ExitStatus(code=0) and first == promptness.SLICE_NS < child
        await sandbox.destroy("test")

    kind.play(scenario)


@needs_groups
def test_cpu_follows_memory_size_once_limited() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=442)  # a quarter of a core
        cpu = sandbox.holdings.group._by_facility["cpu"]
        guest = await shell(sandbox, f"echo up; {BUSY}")
        assert await guest.line() == "up"
        sandbox.limit_cpu(True)
        await asyncio.sleep(0.05)
        begun, used = time.monotonic(), _rate(sandbox)
        await asyncio.sleep(0.5)
        assert _rate(sandbox, used) / (time.monotonic() - begun) < 0.3
        # On a busy host it may get less than the limit for a while.
        assert await eventually(lambda: bool(field((cpu / "cpu.stat").read_text(), "nr_throttled")))
        sandbox.limit_cpu(False)
        used = _rate(sandbox)
        assert await eventually(lambda: _rate(sandbox, used) > 0.1)
        await sandbox.kill()
        guest.close()
        await sandbox.destroy("test")

    ROOT.play(scenario)


def _rate(sandbox: Any, since: float = 0.0) -> float:
    return (sandbox.usage().cpu_us or 0) / 1_000_000 - since


@pytest.mark.parametrize("freezer", ["v1 freezer", "SIGSTOP"])
def test_without_a_v2_tree_the_next_best_freezer_is_used(freezer: str) -> None:
    layout = without("unified", "freezer") if freezer == "SIGSTOP" else without("unified")
    if freezer == "v1 freezer" and "freezer" not in layout.v1:
        pytest.skip("needs the v1 freezer")

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, f"setsid sh -c '{BUSY}' & echo up; {BUSY}")
        assert await guest.line() == "up"
        sandbox.freeze()
        assert await eventually(sandbox.is_frozen)
        before = sandbox.usage().cpu_us
        await asyncio.sleep(0.05)
        assert sandbox.usage().cpu_us == before
        sandbox.thaw()
        assert await eventually(lambda: (sandbox.usage().cpu_us or 0) > (before or 0))
        sandbox.freeze()
        assert await eventually(sandbox.is_frozen)
        await sandbox.kill()
        guest.close()
        assert not sandbox.is_frozen()
        second = await shell(sandbox, f"echo up; {BUSY}")
        assert await second.line() == "up"
        sandbox.freeze()
        await sandbox.destroy("test")
        second.close()

    ROOT.play(scenario, layout=layout)


def test_without_control_groups_the_backend_says_what_is_missing() -> None:
    async def scenario(stage: Stage) -> None:
        said = "\n".join(stage.backend.limits_said)
        for word in ("memory", "cpu", "pids", "SIGSTOP", "/tmp"):
            assert word in said
        sandbox = await stage.create()
        assert await output(sandbox, "echo works") == "works\n"
        await sandbox.destroy("test")

    ROOTLESS.play(scenario)


def test_a_delegated_group_freezes_without_root() -> None:
    unified = cgroup.detect_here().unified
    if os.geteuid() or unified is None:
        pytest.skip("needs root and a v2 tree")
    delegated = unified / f"delegated-{os.getpid()}"

    def enter() -> None:
        delegated.mkdir()
        for path in (delegated, delegated / "cgroup.procs", delegated / "cgroup.subtree_control"):
            os.chown(path, NOBODY, NOBODY)
        (delegated / "cgroup.procs").write_text(str(os.getpid()))

    async def scenario(stage: Stage) -> None:
        assert "SIGSTOP" not in "".join(stage.backend.limits_said)
        sandbox = await stage.create()
        guest = await shell(sandbox, f"({BUSY}) & echo up; {BUSY}")
        assert await guest.line() == "up"
        sandbox.freeze()
        assert await eventually(sandbox.is_frozen)
        assert mounts.read_text(f"/proc/{guest.pid}/cgroup").count(delegated.name) == 1
        await sandbox.kill()
        guest.close()
        await sandbox.destroy("test")

    try:
        Arena("delegated", "rootless", before=enter).play(scenario)
    finally:
        if delegated.exists():
            delegated.rmdir()


def test_a_guest_sees_its_own_size(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(memory_mib=512)
        assert (await output(sandbox, "head -1 /proc/meminfo")).split() == ["MemTotal:", str(512 * 1024), "kB"]
        cores = min(2, os.cpu_count() or 1)
        assert await output(sandbox, "grep -c ^processor /proc/cpuinfo") == f"{cores}\n"
        assert await output(sandbox, "grep -c '^cpu[0-9]' /proc/stat") == f"{cores}\n"
        program = "import os; print(os.cpu_count(), os.sysconf('SC_NPROCESSORS_ONLN'))"
        assert (await python(sandbox, program))[1] == f"{cores} {cores}\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_a_guest_is_nobody_in_particular(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox, other = await stage.create(), await stage.create()
        assert await output(sandbox, "id -u; id -g; id -un; id -G") == "993\n990\nsbx_user1051\n990\n" or stage.rootless
        status = await output(sandbox, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
        figures = {line.split()[0]: line.split()[1] for line in status.splitlines()}
        assert {name: int(value, 16) for name, value in figures.items() if name.startswith("Cap")} == dict.fromkeys(
            ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"), 0
        )
        assert figures["NoNewPrivs:"] == "1" and figures["Seccomp:"] == "2"
        if stage.rootless:
            assert sandbox.guest_uid is other.guest_uid is None
        else:
            assert sandbox.guest_uid != other.guest_uid
            guest = await shell(sandbox, "echo up; exec sleep 100")
            assert await guest.line() == "up"
            assert os.stat(f"/proc/{guest.pid}").st_uid == sandbox.guest_uid
            await sandbox.kill()
            guest.close()
        assert await output(sandbox, "hostname; cat /etc/hostname") == "169-254-100-1\n169-254-100-1\n"
        own, _, _ = sandbox.api_address.partition(":")  # so that environments can listen on one port
        assert (await output(sandbox, "getent hosts sandbox.localdomain")).split()[0] == own
        limits = "ulimit -n; ulimit -u; ulimit -c; ulimit -s; ulimit -l"
        assert (await finish(sandbox, "/bin/bash", "-c", limits))[1] == "1024\n1024\n0\n8192\n64\n"
        await sandbox.destroy("test")
        await other.destroy("test")

    arena.play(scenario)


def test_an_isolated_sandbox_has_loopback_and_the_runtime_api_only(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(network="isolated")
        assert sandbox.api_address == "127.0.0.1:9001"
        names = await output(sandbox, "cut -d: -f1 -s /proc/net/dev | tr -d ' '")
        assert names == "lo\n"
        outward = (
            "import socket\n"
            "try: socket.create_connection(('192.0.2.1', 80), 2)\n"
            "except OSError as error: print(error.errno)"
        )
        assert (await python(sandbox, outward))[1] == "101\n"
        call = "import socket; s = socket.create_connection(('127.0.0.1', 9001)); s.sendall(b'x'); print(s.recv(1))"
        guest = await start(sandbox, PYTHON, "-I", "-c", call)
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(sandbox.api_socket)
        with connection:
            connection.setblocking(False)
            assert await loop.sock_recv(connection, 1) == b"x"
            await loop.sock_sendall(connection, b"y")
        assert (await guest.end())[1] == "b'y'\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_only_tmp_can_be_written(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        (stage.task / "open").mkdir(mode=0o777)
        (stage.task / "open").chmod(0o777)
        sandbox = await stage.create()
        program = """
import os
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(top, name) not in ("/proc", "/usr")]
    for name in [".", *files]:
        path = os.path.join(top, name)
        try:
            if name == ".":
                os.mkdir(path + "/probe")
                print(top)
            elif not os.path.islink(path) and not path.startswith("/dev/"):
                open(path, "ab").close()
                print(path)
        except OSError:
            pass
"""
        assert (await python(sandbox, program))[1] == "/tmp\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_every_step_that_fails_leaves_nothing(arena: Arena) -> None:
    broken = 0
    wrong = plan.Step("enter", (), (b"/no/such/folder",))

    def build(spec: Any, host: Any, choices: Any) -> list[plan.Step]:
        steps = plan.build(spec, host, choices)
        if spec.id == "trial":
            return steps
        kinds = [index for index, step in enumerate(steps) if index and step.name != steps[index - 1].name]
        places = [*kinds, len(steps)]
        return [*steps[: places[broken]], wrong, *steps[places[broken] :]] if broken < len(places) else steps

    async def scenario(stage: Stage) -> None:
        nonlocal broken
        while True:
            try:
                sandbox = await stage.create()
            except SandboxError as error:
                assert "enter /no/such/folder: No such file or directory" in str(error)
                assert "\n" not in str(error)
                assert stage.deaths == []
                broken += 1
                continue
            assert await output(sandbox, "echo whole") == "whole\n"
            await sandbox.destroy("test")
            break

    arena.play(scenario, build_plan=build)


def test_the_end_of_process_1_ends_everything_and_is_reported(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, f"head -c 9000000 /dev/zero >/tmp/written; echo up; {BUSY}")
        assert await guest.line() == "up"
        os.kill(sandbox.first.pid, signal.SIGKILL)
        assert (await guest.end())[0] == ExitStatus(signal=9)
        assert await eventually(lambda: bool(stage.deaths))
        assert stage.deaths == ["process 1 of the sandbox ended"] and sandbox.dead
        assert (sandbox.usage().cpu_us or 0) >= 0
        with pytest.raises(SandboxError):
            await start(sandbox, "/bin/true")
        await sandbox.kill()
        await sandbox.destroy("test")
        assert len(stage.deaths) == 1

    arena.play(scenario)


@needs_groups
@pytest.mark.parametrize("arena", [ROOT, ROOT_PYTHON], ids=lambda arena: arena.name)
def test_a_process_that_is_killed_before_it_says_that_it_runs_has_run_and_ended(arena: Arena) -> None:
    """It is born into a frozen group, so that the kill comes first for certain."""

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        starting = await _start_frozen(sandbox)
        os.kill(sandbox.usage().pids[0], signal.SIGKILL)
        sandbox.holdings.group.freeze(False)  # the v1 freezer does not let go of the dead
        guest = await asyncio.wait_for(starting, 20)
        assert await guest.end() == (ExitStatus(signal=9), "")
        sandbox.signal(guest.pid, signal.SIGTERM)  # means nobody
        assert await finish(sandbox, "/bin/true") == (ExitStatus(code=0), "")
        await sandbox.destroy("test")

    arena.play(scenario)


@needs_groups
def test_a_process_that_has_not_started_when_process_1_ends_never_did() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        starting = await _start_frozen(sandbox)
        os.kill(sandbox.first.pid, signal.SIGKILL)
        with pytest.raises(SandboxError, match="process 1 of the sandbox ended"):
            await asyncio.wait_for(starting, 20)
        await sandbox.destroy("test")

    ROOT.play(scenario)


async def _start_frozen(sandbox: Any) -> asyncio.Task[Guest]:
    sandbox.holdings.group.freeze(True)
    starting = asyncio.create_task(start(sandbox, "/bin/true"))
    assert await eventually(lambda: bool(sandbox.usage().pids)) and not starting.done()
    return starting


def test_the_end_is_heard_of_without_a_free_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = [OSError(errno.EMFILE, "Too many open files")] * 2
    real = os.pidfd_open

    def opened(pid: int) -> int:
        if lacking:
            raise lacking.pop()
        return real(pid)

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        monkeypatch.setattr(os, "pidfd_open", opened)
        await sandbox.destroy("test")
        assert sandbox.first.gone and not lacking

    ROOT.play(scenario)


def test_nothing_runs_in_the_hosts_own_process_ids() -> None:
    """Process 1 signals everybody with -1, which out of a namespace would be the whole host."""

    def build(spec: Any, host: Any, choices: Any) -> list[plan.Step]:
        steps = plan.build(spec, host, choices)
        if spec.id != "trial":
            steps[0] = plan.Step("namespaces", (steps[0].numbers[0] & ~plan.NEW_PID,))
        return steps

    async def scenario(stage: Stage) -> None:
        with pytest.raises(SandboxError, match="new namespaces: Operation not permitted"):
            await stage.create()

    for arena in (ROOT, ROOT_PYTHON):
        arena.play(scenario, build_plan=build)


def test_a_launcher_that_died_is_started_again(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        first = await stage.create()
        os.kill(stage.backend._launcher._pid, signal.SIGKILL)
        os.waitid(os.P_PID, stage.backend._launcher._pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        second = await stage.create()
        assert await output(first, "echo one") + await output(second, "echo two") == "one\ntwo\n"
        await first.destroy("test")
        await second.destroy("test")

    arena.play(scenario)


def _server_that_is_killed(arena: Arena, instance: str, folder: Path, **options: Any) -> list[int]:
    """Host pids of the processes of a frozen sandbox whose server was killed; all are watched before."""
    reading, writing = os.pipe()
    server = os.fork()
    if server == 0:

        async def serve() -> None:
            backend = arena.backend(instance, folder, options)
            await backend.start()
            sandbox = await backend.create(Stage(backend, folder, False).spec(), lambda reason: None)
            guest = await shell(sandbox, f"({BUSY}) & echo up; {BUSY}")
            await guest.line()
            sandbox.freeze()
            pids = [sandbox.first.pid, *sandbox.usage().pids]
            os.write(writing, " ".join(map(str, pids)).encode())
            await asyncio.get_running_loop().create_future()

        try:
            asyncio.run(serve())
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        pids = [int(word) for word in pipe.read(1000).split()]
    watched = [os.pidfd_open(pid) for pid in pids]
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    try:
        for fd in watched:
            assert select.select([fd], [], [], 10)[0], "a process outlived its server"
    finally:
        for fd in watched:
            os.close(fd)
    return pids


@pytest.mark.parametrize("freezer", ["v2", "v1 freezer", "SIGSTOP"])
def test_a_killed_server_takes_its_sandboxes_with_it_and_the_next_start_cleans_up(freezer: str, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    layout = {"v2": without(), "v1 freezer": without("unified"), "SIGSTOP": without("unified", "freezer")}[freezer]
    instance = f"dead-{os.getpid()}"
    (tmp_path / "task").mkdir()
    before = time.monotonic()
    pids = _server_that_is_killed(ROOT, instance, tmp_path, layout=layout)
    assert len(pids) >= 3
    groups = cgroup.Groups(instance, layout, GIB)
    assert [child.name for folder in groups.folders() for child in folder.glob("*/")] != []

    async def next_start() -> None:
        backend = ROOT.backend(instance, tmp_path, {"layout": layout})
        await backend.start()
        assert [child.name for folder in groups.folders() for child in folder.glob("*/")] == []
        await backend.stop()

    asyncio.run(next_start())
    assert loops_below(tmp_path) == []
    assert [folder for folder in groups.folders() if folder.exists()] == []
    assert not (tmp_path / "work" / f"namespace-{instance}").exists()
    assert time.monotonic() - before < 15


def test_a_host_that_cannot_isolate_says_so_in_one_line(arena: Arena) -> None:
    def build(spec: Any, host: Any, choices: Any) -> list[plan.Step]:
        return [plan.build(spec, host, choices)[0], plan.Step("tmpfs", (0,), (b"/no/such/folder", b""))]

    async def scenario(stage: Stage) -> None:
        raise AssertionError("it must not start")

    def refuse() -> None:
        arena.play(scenario, build_plan=build)

    if arena.kind == "rootless" and os.geteuid() == 0:
        with pytest.raises(pytest.fail.Exception, match=r"this host cannot isolate environments: .*--sandbox process"):
            refuse()
    else:
        with pytest.raises(SandboxError, match=r"this host cannot isolate environments: .*--sandbox process"):
            refuse()


#: Says for whom a signal waits: `SigPnd` is the thread's own, `ShdPnd` is for any thread of the process.
WAITS_FOR = """
import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("up", flush=True)
while signal.SIGTERM not in signal.sigpending():
    time.sleep(0.01)
status = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
print(*[name for name in ("SigPnd", "ShdPnd") if int(status[name], 16) >> 14 & 1])
"""


#: Its first thread ends, the others go on.
GOES_ON = """
import ctypes, os, threading, time
threading.Thread(target=time.sleep, args=(100,)).start()
print("up", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


@pytest.mark.parametrize("arena", [PROCESS, ROOT, ROOT_PYTHON, ROOTLESS], ids=lambda arena: arena.name)
def test_a_process_whose_first_thread_has_ended_can_be_killed(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await start(sandbox, PYTHON, "-c", GOES_ON)
        assert await guest.line() == "up"
        assert await eventually(lambda: (row := proctable.read(guest.pid)) is not None and row.state == "Z")
        sandbox.signal(guest.pid, signal.SIGKILL)
        assert (await guest.end())[0] == ExitStatus(signal=9)
        await sandbox.destroy("test")

    arena.play(scenario)


@pytest.mark.parametrize("arena", [PROCESS, ROOT, ROOT_PYTHON, ROOTLESS], ids=lambda arena: arena.name)
def test_a_signal_is_for_the_first_thread_which_runs_pythons_handlers(arena: Arena) -> None:
    """For any thread of a process that is just being thawed the kernel may take another one."""

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await start(sandbox, PYTHON, "-c", WAITS_FOR)
        assert await guest.line() == "up"
        sandbox.signal(guest.pid, signal.SIGTERM)
        assert (await guest.end())[1] == "SigPnd\n"
        await sandbox.destroy("test")

    arena.play(scenario)
