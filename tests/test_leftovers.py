"""The suite's look for leftovers: what is its own is found wherever it went, what is others' is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import leftovers
from lambent.store import directory
from leftovers import MARK, Run

OURS = Run(f"{MARK}=this-run", ("/a-folder-of-this-run/",))
#: Its parent ends at once, so that process 1 (or who stands in for it) becomes the parent of the one that stays.
ORPHAN = "import os, sys; os.fork() and os._exit(0); print(os.getpid(), flush=True); os.close(1); sys.stdin.read()"


@contextmanager
def orphan(*arguments: str, **variables: str) -> Iterator[int]:
    """A process that has to do with Lambent by its command, until its input ends."""
    reading, writing = os.pipe()
    with open(writing, "wb"):
        with open(reading, "rb") as stdin:
            told = subprocess.run([sys.executable, "-c", ORPHAN, "lambent", *arguments], stdin=stdin,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                                  env=variables)  # fmt: skip
        yield int(told.stdout)


def found(run: Run, pid: int) -> bool:
    return any(line.startswith(f"{pid}: ") for line in run.processes())


@pytest.mark.parametrize(("arguments", "variables", "ours"), [
    pytest.param((), {MARK: "this-run"}, True, id="marked"),
    pytest.param(("/a-folder-of-this-run/data",), {}, True, id="a guest with our code"),
    pytest.param((), {"LAMBDA_TASK_ROOT": "/a-folder-of-this-run/data"}, True, id="a guest with our task"),
    pytest.param((), {MARK: "this-run-too"}, False, id="of another run"),
    pytest.param(("up",), {}, False, id="somebody's server"),
])  # fmt: skip
def test_orphans_of_this_run_are_found_and_no_others(arguments: tuple[str, ...], variables: dict[str, str],
                                                     ours: bool) -> None:
    with orphan(*arguments, **variables) as pid:
        assert found(OURS, pid) is ours


def test_a_child_is_found_without_a_mark() -> None:
    with subprocess.Popen([sys.executable, "-c", "input(print(flush=True) or '')", "lambent"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env={}) as child:  # fmt: skip
        assert child.stdout is not None and child.stdout.readline()  # until then it may have no command yet
        assert found(OURS, child.pid)
        child.send_signal(signal.SIGKILL)
    assert not found(OURS, child.pid)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "another's"])
def test_groups_of_living_servers_are_theirs(ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = directory.instance(tmp_path)
    groups = {Path(f"/sys/fs/cgroup/memory/lambent-{name}") for name in (instance, f"{instance}-server", "deadbeef")}
    groups |= {Path(f"/sys/fs/cgroup/pids/lambent-test-{pid}-1") for pid in (os.getpid(), os.getpid() + 1)}
    monkeypatch.setattr(leftovers, "_groups", lambda: groups)
    holding = "import fcntl, os, sys; fd = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; {holding}", "lambent",
                           str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        monkeypatch.setattr(Run, "_owns", lambda _, pid: ours if pid == server.pid else True)
        names = {Path(path).name for path in OURS.groups()}
        server.kill()
    assert {"lambent-deadbeef", f"lambent-test-{os.getpid()}-1"} <= names
    assert f"lambent-test-{os.getpid() + 1}-1" not in names
    assert {f"lambent-{instance}", f"lambent-{instance}-server"} & names == (
        {f"lambent-{instance}", f"lambent-{instance}-server"} if ours else set())
