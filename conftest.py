"""What holds for the whole test suite: how it may be started, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("lambent", deadline=None)
hypothesis.settings.load_profile("lambent")

# A shell starts background jobs with SIGINT ignored, and children inherit that: Ctrl-C, which some tests send to the
# programs that they start, would do nothing there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """The lists of mounts, control groups and orphaned processes of Lambent are the same after as before."""
    before = _listings()
    yield
    left = {name: sorted(found - before[name]) for name, found in _listings().items()}
    assert not any(left.values()), f"the test suite left behind: {left}"


def _listings() -> dict[str, set[str]]:
    if not Path("/proc/self/mountinfo").exists():
        return {}
    # Without the ids at the start of a line, which are given anew.
    mounts = {line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    groups = {str(path) for pattern in ("lambent-*", "*/lambent-*") for path in Path("/sys/fs/cgroup").glob(pattern)}
    return {"mounts": mounts, "control groups": groups, "processes": _orphans()}


def _orphans() -> set[str]:
    """Processes of Lambent that nobody but process 1 or this one is the parent of."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if "lambent" in command and parent in ("1", str(os.getpid())):
            found.add(f"{folder.name}: {command[:120]}")
    return found
