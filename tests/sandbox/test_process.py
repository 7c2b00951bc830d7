"""The process backend beyond the common contract: who is in a sandbox, without reading the whole process table."""

from __future__ import annotations

import signal

import pytest

from lambent.sandbox import proctable
from sandbox.arena import ARENAS, PYTHON, Stage, eventually, shell, start

PROCESS = ARENAS[0]
#: At each SIGUSR1 it makes a child of a child, whose parent has ended by the time that its number is told.
MAKES_ORPHANS = """
import os, signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print("up", flush=True)
while signal.sigwait({signal.SIGUSR1}):
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(parent, 0)
    print(os.read(read, 100).decode(), flush=True)
"""


def state(pid: int) -> str:
    row = proctable.read(pid)
    return row.state if row is not None else "X"


def test_orphans_that_came_after_the_last_look_are_frozen_and_thawed() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        guest = await start(sandbox, PYTHON, "-I", "-c", MAKES_ORPHANS)
        assert await guest.line() == "up"
        for _ in range(3):
            sandbox.signal(guest.pid, signal.SIGUSR1)
            orphan = int(await guest.line())
            sandbox.freeze()
            assert await eventually(lambda: state(orphan) == state(guest.pid) == "T")  # noqa: B023
            assert orphan in sandbox.usage().pids and await eventually(sandbox.is_frozen)
            sandbox.thaw()
            assert await eventually(lambda: state(orphan) != "T")  # noqa: B023
        await sandbox.destroy("test")
        assert state(orphan) in "ZX"
        guest.close()

    PROCESS.play(scenario)


@pytest.mark.parametrize("counted", [True, False], ids=["forks are counted", "they are not"])
def test_the_table_is_read_again_only_if_somebody_may_have_come(counted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others on this host make processes all the time, so how many there were is told here."""
    forks, reads = 5, 0
    real = proctable.snapshot

    def snapshot() -> dict[int, proctable.Entry]:
        nonlocal reads
        reads += 1
        return real()

    async def scenario(stage: Stage) -> None:
        nonlocal forks
        sandbox = await stage.create()
        told = iter((5, 6 if counted else 5))
        monkeypatch.setattr(proctable, "forks", lambda: next(told))
        guest = await shell(sandbox, "echo up; read line || exec sleep 100")
        forks = 6
        monkeypatch.setattr(proctable, "forks", lambda: forks)
        assert await guest.line() == "up"
        sandbox.freeze()
        monkeypatch.setattr(proctable, "snapshot", snapshot)
        sandbox.thaw()
        sandbox.freeze()
        assert sandbox.memory_peak() and guest.pid in sandbox.usage().pids
        assert await eventually(sandbox.is_frozen)
        assert (reads == 0) is counted
        forks += 1
        before = reads
        sandbox.thaw()
        assert reads > before
        await sandbox.destroy("test")
        guest.close()

    PROCESS.play(scenario)


def test_forks_are_counted() -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        before = proctable.forks()
        guest = await shell(sandbox, "exec sleep 100")
        assert before is not None and (proctable.forks() or 0) > before
        await sandbox.destroy("test")
        guest.close()

    PROCESS.play(scenario)
