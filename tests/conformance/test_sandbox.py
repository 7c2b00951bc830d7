"""What every sandbox backend promises, asked of each one: without isolation, as root with both process 1 programs,
and rootless under an unprivileged uid."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from lambent.core.model import ExitStatus
from lambent.sandbox import proctable
from lambent.sandbox.base import SandboxError
from sandbox.arena import ARENAS, Arena, Stage, eventually, finish, output, shell, start

BUSY = "while :; do :; done"


@pytest.fixture(params=ARENAS, ids=lambda arena: arena.name)
def arena(request: pytest.FixtureRequest) -> Arena:
    chosen: Arena = request.param
    return chosen


def test_exit_statuses(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        assert (await finish(sandbox, "/bin/true"))[0] == ExitStatus(code=0)
        assert (await finish(sandbox, "/bin/sh", "-c", "exit 3"))[0] == ExitStatus(code=3)
        assert (await finish(sandbox, "/bin/sh", "-c", "kill -SEGV $$"))[0] == ExitStatus(signal=11)
        await sandbox.destroy("test")

    arena.play(scenario)


def test_programs_that_cannot_run_exit_as_in_a_shell(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        (stage.task / "plain").write_text("not executable")
        (stage.task / "garbage").write_bytes(b"\x7fELF garbage")
        (stage.task / "garbage").chmod(0o755)
        sandbox = await stage.create()
        missing = await finish(sandbox, "/bin/no-such-program")
        assert missing == (ExitStatus(code=127), "/bin/no-such-program: No such file or directory\n")
        status, error = await finish(sandbox, sandbox.places.task + "/plain")
        assert status == ExitStatus(code=126) and error.endswith("Permission denied\n") and error.count("\n") == 1
        status, error = await finish(sandbox, sandbox.places.task + "/garbage")
        assert status == ExitStatus(code=126) and error.endswith("Exec format error\n")
        status, error = await finish(sandbox, "/bin/true", cwd="/no/such/folder")
        assert status.code in (126, 127) and error.endswith("No such file or directory\n")
        await sandbox.destroy("test")

    arena.play(scenario)


def test_a_guest_gets_its_environment_and_nothing_else(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        _, out = await finish(sandbox, "/usr/bin/env", env={"A": "1", "B": "two words", "C": ""})
        assert sorted(out.splitlines()) == ["A=1", "B=two words", "C="]
        # the listing itself needs one
        assert (await output(sandbox, "echo /proc/self/fd/*")).split() == [f"/proc/self/fd/{fd}" for fd in range(4)]
        assert await output(sandbox, "readlink /proc/self/fd/0; cat; umask") == "/dev/null\n0022\n"
        masks = _signal_masks(await output(sandbox, "cat /proc/self/status"))
        # Without isolation nobody undoes what a shell ignores for its background jobs.
        kept = _own_signal_masks() if stage.backend.name == "process" else (0, 0)
        assert [mask & ~own for mask, own in zip(masks, kept, strict=True)] == [0, 0]
        await sandbox.destroy("test")

    arena.play(scenario)


def _signal_masks(status: str) -> tuple[int, int]:
    """Blocked and ignored signals."""
    rows = dict(line.split(":", 1) for line in status.splitlines())
    return int(rows["SigBlk"], 16), int(rows["SigIgn"], 16)


def _own_signal_masks() -> tuple[int, int]:
    return _signal_masks(Path("/proc/self/status").read_text())


def test_output_and_errors_come_through_one_pipe_in_their_order(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, "echo out; echo err >&2; echo again >/dev/stdout; echo last >&2; exec sleep 100")
        assert [await guest.line() for _ in range(4)] == ["out", "err", "again", "last"]
        sandbox.signal(guest.pid, signal.SIGTERM)
        assert await guest.end() == (ExitStatus(signal=15), "")
        await sandbox.destroy("test")

    arena.play(scenario)


def test_code_and_layers_are_there_and_tmp_is_writable(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        for name in ("task", "opt", "runtime"):
            (stage.folder / name).mkdir(exist_ok=True)
            (stage.folder / name / "who").write_text(name)
        sandbox = await stage.create(opt=stage.folder / "opt", runtime=stage.folder / "runtime")
        places = sandbox.places
        script = 'cat "$1/who" "$2/who" "$3/who" && echo x > "$4/file" && cat "$4/file"'
        out = await output(sandbox, script, places.task, places.opt, places.runtime, places.tmp)
        assert out == "taskoptruntimex\n"
        assert await output(sandbox, 'cd "$1" && pwd', places.tmp) == places.tmp + "\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_byte_code_lies_over_the_runtime_s_empty_files_where_the_backend_shows_it(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        runtime = stage.folder / "runtime"
        runtime.mkdir()
        (runtime / ".task").touch()
        (runtime / ".opt").touch()
        for name in ("code", "more"):
            (stage.folder / name).write_text(name)
        script = 'cat "$1/.task" "$1/.opt"; if (echo x >"$1/.task") 2>/dev/null; then echo written; fi'
        for changes, shown in (({}, ""), ({"task_code": stage.folder / "code"}, "code"),
                               ({"task_code": stage.folder / "code", "opt_code": stage.folder / "more"}, "codemore")):
            sandbox = await stage.create(runtime=runtime, **changes)
            if stage.backend.shows_code:
                assert await output(sandbox, script, sandbox.places.runtime) == shown
            else:
                assert await output(sandbox, 'cat "$1/.task" "$1/.opt"', sandbox.places.runtime) == ""
            await sandbox.destroy("test")
        assert (stage.folder / "code").read_text() == "code"

    arena.play(scenario)


def test_the_interpreter_is_composed_from_its_parts(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        parts = stage.folder / "parts"
        (parts / "lib").mkdir(parents=True)
        (parts / "lib" / "module").write_text("module")
        (parts / "python3").write_text("#!/bin/sh\necho started\n")
        (parts / "python3").chmod(0o755)
        lang = ((parts / "python3", "bin/python3"), (parts / "lib", "lib/python3"))
        sandbox = await stage.create(lang=lang)
        assert (await finish(sandbox, sandbox.places.lang + "/bin/python3"))[1] == "started\n"
        assert await output(sandbox, 'cat "$1/lib/python3/module"', sandbox.places.lang) == "module"
        await sandbox.destroy("test")
        whole = await stage.create(lang=((parts, ""),))
        assert await output(whole, 'cat "$1/lib/module"', whole.places.lang) == "module"
        await whole.destroy("test")

    arena.play(scenario)


def test_tmp_survives_a_reset_and_processes_do_not(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, 'echo kept > "$1/file"; echo ready; exec sleep 100', sandbox.places.tmp)
        assert await guest.line() == "ready"
        await sandbox.kill()
        assert guest.exited.done() and guest.exited.result() == ExitStatus(signal=9)
        guest.close()
        assert sandbox.usage().pids == ()
        assert await output(sandbox, 'cat "$1/file"', sandbox.places.tmp) == "kept\n"
        other = await stage.create()
        assert await output(other, 'ls "$1"', other.places.tmp) == ""
        await other.destroy("test")
        await sandbox.destroy("test")

    arena.play(scenario)


def test_processes_run_side_by_side_and_one_can_be_signalled(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        stays = await shell(sandbox, "echo up; read line; echo never")  # stdin is empty, so read fails at once
        assert (await stays.end())[1] == "up\nnever\n"
        first = await shell(sandbox, "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done")
        second = await shell(sandbox, "echo up; exec sleep 100")
        assert await first.line() == await second.line() == "up"
        sandbox.signal(first.pid, signal.SIGTERM)
        assert await first.end() == (ExitStatus(code=7), "bye\n")
        assert not second.exited.done()
        sandbox.signal(first.pid, signal.SIGTERM)  # it is gone: nothing happens
        await sandbox.kill()
        assert (await second.end())[0] == ExitStatus(signal=9)
        await sandbox.destroy("test")

    arena.play(scenario)


def test_kill_ends_children_and_sessions_too(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, f"setsid sh -c '{BUSY}' & sh -c 'sleep 100; true' & echo up; wait")
        assert await guest.line() == "up"
        assert await eventually(lambda: len(sandbox.usage().pids) >= 4)
        pids = sandbox.usage().pids
        assert guest.pid in pids
        await sandbox.kill()
        assert not any(_runs(pid) for pid in pids)
        await sandbox.kill()  # with nobody there
        assert (await guest.end())[0] == ExitStatus(signal=9)
        await sandbox.destroy("test")

    arena.play(scenario)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_frozen_sandbox_gets_no_cpu_and_goes_on_after_the_thaw(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, f"({BUSY}) & echo up; i=0; while :; do i=$((i+1)); done")
        assert await guest.line() == "up"
        assert not sandbox.is_frozen()
        sandbox.freeze()
        assert await eventually(sandbox.is_frozen)
        before = sandbox.usage().cpu_us
        await asyncio.sleep(0.1)
        assert sandbox.usage().cpu_us == before
        sandbox.freeze()  # once more changes nothing
        assert sandbox.is_frozen()
        with pytest.raises(SandboxError, match="frozen"):
            await start(sandbox, "/bin/true")
        sandbox.thaw()
        sandbox.thaw()
        assert await eventually(lambda: not sandbox.is_frozen())
        assert await eventually(lambda: (sandbox.usage().cpu_us or 0) > (before or 0) + 20_000)
        await sandbox.kill()
        guest.close()
        await sandbox.destroy("test")

    arena.play(scenario)


def test_kill_while_frozen_and_run_again(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, f"({BUSY}) & echo up; {BUSY}")
        assert await guest.line() == "up"
        sandbox.freeze()
        assert await eventually(sandbox.is_frozen)
        await sandbox.kill()
        assert guest.exited.result() == ExitStatus(signal=9)
        guest.close()
        assert not sandbox.is_frozen()
        assert await output(sandbox, "echo again") == "again\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_destroy_ends_everything_also_when_frozen_and_is_repeatable(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await shell(sandbox, f"echo up; {BUSY}")
        assert await guest.line() == "up"
        assert await eventually(lambda: (sandbox.usage().cpu_us or 0) > 0)
        sandbox.freeze()
        await asyncio.gather(sandbox.destroy("test"), sandbox.destroy("twice at once"))
        assert sandbox.dead and not _runs(guest.pid)
        assert (await guest.end())[0] == ExitStatus(signal=9)
        await sandbox.destroy("again")
        with pytest.raises(SandboxError):
            await start(sandbox, "/bin/true")
        sandbox.freeze()
        sandbox.thaw()
        sandbox.limit_cpu(True)
        sandbox.give_way(True)
        sandbox.signal(guest.pid, signal.SIGTERM)
        await sandbox.kill()
        assert (sandbox.usage().cpu_us or 0) > 0
        assert stage.deaths == []

    arena.play(scenario)


def test_usage_tells_memory_cpu_and_processes(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        idle = sandbox.usage()
        assert idle.pids == ()
        guest = await shell(sandbox, f"head -c 20000000 /dev/zero | tail -c 20000000 | wc -c; {BUSY}")
        assert await guest.line() == "20000000"
        assert await eventually(lambda: (sandbox.usage().cpu_us or 0) > 20_000)
        used = sandbox.usage()
        assert guest.pid in used.pids
        seen = await asyncio.to_thread(sandbox.look(), proctable.Table())
        assert guest.pid in seen.usage.pids and not seen.frozen
        assert (seen.usage.memory_peak_bytes or 0) >= used.memory_peak_bytes > 0 < (seen.usage.cpu_us or 0)
        weights = [proctable.pss_bytes(pid) for pid in (*seen.beside, *seen.usage.pids)]
        # Without root the kernel does not let one look into another user namespace.
        assert sum(weight or 0 for weight in weights) > 10_000 or (arena.name == "rootless" and None in weights)
        assert used.memory_bytes is not None and used.memory_peak_bytes is not None
        assert used.memory_peak_bytes >= used.memory_bytes > 100_000
        if arena.limiting:
            assert used.memory_peak_bytes > 20_000_000
        await sandbox.kill()
        guest.close()
        assert (await asyncio.to_thread(sandbox.look(), proctable.Table())).usage.pids == ()
        after = sandbox.usage()
        assert after.memory_peak_bytes == used.memory_peak_bytes == sandbox.memory_peak()
        assert (after.cpu_us or 0) >= (used.cpu_us or 0)
        await sandbox.destroy("test")
        gone = await asyncio.to_thread(sandbox.look(), proctable.Table())
        assert (gone.usage, gone.frozen, gone.beside) == (sandbox.usage(), False, ())
        assert proctable.pss_bytes(guest.pid) is None

    arena.play(scenario)


def test_the_runtime_api_is_reached_where_the_sandbox_says(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        first, second = await stage.create(), await stage.create()
        assert first.api_address != second.api_address
        for sandbox in (first, second):
            host, _, port = sandbox.api_address.partition(":")
            code = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); s.sendall(b'hello')"
            guest = await start(sandbox, "/usr/bin/python3", "-I", "-c", code, host, port)
            assert await _accept_one(sandbox.api_socket) == b"hello"
            assert (await guest.end())[0] == ExitStatus(code=0)
        for sandbox in (first, second):
            await sandbox.destroy("test")

    arena.play(scenario)


async def _accept_one(listening: socket.socket) -> bytes:
    assert listening.gettimeout() == 0
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listening)
    with connection:
        connection.setblocking(False)
        return await loop.sock_recv(connection, 100)


def test_what_cannot_be_created_leaves_nothing(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        with pytest.raises(SandboxError, match="no-such-folder"):
            await stage.create(task=stage.folder / "no-such-folder")
        sandbox = await stage.create()
        with pytest.raises(SandboxError):
            await stage.create(id=sandbox.id)
        assert await output(sandbox, "echo alive") == "alive\n"
        await sandbox.destroy("test")

    arena.play(scenario)


def test_sandboxes_are_made_and_destroyed_in_parallel(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandboxes = await asyncio.gather(*(stage.create() for _ in range(8)))
        results = await asyncio.gather(*(finish(sandbox, "/bin/echo", sandbox.id) for sandbox in sandboxes))
        assert [out for _, out in results] == [sandbox.id + "\n" for sandbox in sandboxes]
        await asyncio.gather(*(sandbox.destroy("test") for sandbox in sandboxes))

    arena.play(scenario)


def test_large_environments_arrive_and_larger_ones_are_refused(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        _, out = await finish(sandbox, "/usr/bin/env", env={"BIG": "x" * 100_000})
        assert len(out) == 100_005
        status = ExitStatus(code=0)
        try:
            status, _ = await finish(sandbox, "/usr/bin/env", env={"BIG": "x" * 200_000})
        except SandboxError as error:
            assert "more than" in str(error)
        else:
            assert status == ExitStatus(code=126)  # the kernel's own limit for one variable
        assert await output(sandbox, "echo alive") == "alive\n"
        await sandbox.destroy("test")

    arena.play(scenario)
