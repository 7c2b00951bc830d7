"""The server's own control group for processor time, where version 1 of control groups divides it.

Everybody waits for the server, and it does little at a time. In the group where it was started it has a part of what
that group has on each processor, however little that is just now (the kernel weighs a group by what it did lately), and
would queue behind guests that have every core. Process 1 of each sandbox and the launcher are in here, too: they are
its children and do as little. Version 2 is left as it is: there a server stands in the group of its service, which
whoever manages that one weighs.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lambent.sandbox.namespace.layout import read

#: Ten times what any other group has.
_SHARES = "10240"


class ServerGroup:
    """`top` is the folder of the cpu hierarchy. Nothing here fails: without the group, the server only waits longer."""

    def __init__(self, top: Path, name: str) -> None:
        self._folder = top / name
        self._before = (top / _own(read(Path("/proc/self/cgroup")), "cpu"), top)

    def enter(self) -> None:
        """What a dead server of the same name left is used again."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            (self._folder / "cpu.shares").write_text(_SHARES)
            (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def leave(self) -> None:
        """Back to where the server was; what it started and left running goes along."""
        before = next((folder for folder in self._before if folder.is_dir()), self._folder)
        for pid in read(self._folder / "cgroup.procs").split():
            with contextlib.suppress(OSError):
                (before / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def _own(text: str, controller: str) -> str:
    """The path below the mount point of the group of a process, from its /proc/PID/cgroup."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path.lstrip("/")
    return ""
