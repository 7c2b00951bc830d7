"""The parent groups `lambent-<instance>` of one server: one in each hierarchy, with those of environments below it.

They cap the memory of all environments together, and say what these weigh against the rest of the host.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import replace
from pathlib import Path

from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace.cgroup_files import V1, V2, field, memory_settings, set_all, write
from lambent.sandbox.namespace.layout import CONTROLLERS, Layout, read
from lambent.sandbox.namespace.memory_watch import MemoryWatch
from lambent.sandbox.namespace.server_group import ServerGroup

#: What all guests together weigh against any other group of the host, in both versions' units: an eighth. Whoever waits
#: for their answers, the server first, runs elsewhere and must not queue behind them. What time is left is theirs.
_WEIGHT_V1, _WEIGHT_V2 = "128", "12"


class Groups:
    """See above. What a dead server of the same instance left is found by its name."""

    def __init__(self, instance: str, layout: Layout, memory_cap_bytes: int) -> None:
        self._name = f"lambent-{instance}"
        self.layout = layout
        self._cap_bytes = memory_cap_bytes
        self._known: dict[str, Path | None] = {}  #: by facility, as far as anybody asked
        self._aside: Path | None = None  #: where the server moved, so that v2 controllers could be enabled
        self._server: ServerGroup | None = None  #: v1 only
        self.watch: MemoryWatch | None = None  #: v1 only
        self.v1_memory = "memory" in layout.v1
        self.v1_cpu = "cpu" in layout.v1

    def folder(self, facility: str) -> Path | None:
        """The parent group for memory, cpu, pids, cpuacct, freezer or unified; None when there is none."""
        if facility not in self._known:
            base = self.layout.v1.get(facility)
            if base is None and self.layout.unified is not None:
                enabled = facility in self.layout.unified_controllers or facility == "unified"
                base = self.layout.unified if enabled else None
            self._known[facility] = base / self._name if base else None
        return self._known[facility]

    def folders(self) -> list[Path]:
        """Every parent group, each once. cpuacct and the v1 freezer only where v2 does not do their work."""
        facilities = [*CONTROLLERS, "unified"]
        if self.layout.unified is None:
            facilities += ["cpuacct", "freezer"]
        found = [self.folder(facility) for facility in facilities]
        return list(dict.fromkeys(path for path in found if path is not None))

    def prepare(self) -> None:
        """Make the parents, after removing what a dead server of this instance left. Raises SandboxError."""
        self.remove_leftovers()
        self.remove()
        self._enable_at_the_top()
        try:
            for path in self.folders():
                path.mkdir(exist_ok=True)
            self._enable(self.folder("unified"))
            if self.v1_cpu:
                self._server = ServerGroup(self.layout.v1["cpu"], f"{self._name}-server")
                self._server.enter()
            memory, cpu = self.folder("memory"), self.folder("cpu")
            if cpu is not None:
                write(*((cpu / "cpu.shares", _WEIGHT_V1) if self.v1_cpu else (cpu / "cpu.weight", _WEIGHT_V2)))
            if memory is not None:
                set_all(memory, memory_settings(self.v1_memory, self._cap_bytes))
                self.watch = MemoryWatch(memory) if self.v1_memory else None
        except OSError as error:
            self.remove()
            raise SandboxError(f"cannot prepare control groups: {error.filename}: {error.strerror}") from error

    def _enable_at_the_top(self) -> None:
        """Let children of the v2 folder have controllers, or do without and let `missing` say so.

        Only a folder without processes may: where the server itself is in it, as in a delegated scope, it moves into
        a group beside the parent's.
        """
        top = self.layout.unified
        try:
            self._enable(top)
        except OSError:
            assert top is not None
            try:
                self._aside = top / f"{self._name}-server"
                self._aside.mkdir(exist_ok=True)
                write(self._aside / "cgroup.procs", str(os.getpid()))
                self._enable(top)
            except OSError:
                self._come_back()
                self.layout = replace(self.layout, unified_controllers=frozenset())
                self._known.clear()

    def _come_back(self) -> None:
        """Undo the move of the server, which needs the folder without controllers again."""
        top, aside, self._aside = self.layout.unified, self._aside, None
        if top is not None and aside is not None:
            for name in self.layout.unified_controllers:
                with contextlib.suppress(OSError):
                    write(top / "cgroup.subtree_control", "-" + name)
            with contextlib.suppress(OSError):
                write(top / "cgroup.procs", str(os.getpid()))
                aside.rmdir()

    def _enable(self, folder: Path | None) -> None:
        wanted = [name for name in CONTROLLERS if name in self.layout.unified_controllers]
        if folder is not None and wanted:
            active = read(folder / "cgroup.subtree_control").split()
            lacking = [name for name in wanted if name not in active]
            if lacking:
                write(folder / "cgroup.subtree_control", " ".join("+" + name for name in lacking))

    def refusals(self) -> int | None:
        """Allocations refused because of the cap, since `prepare`."""
        if self.watch is not None:
            return self.watch.refusals()
        memory = self.folder("memory")
        return None if memory is None else field(read(memory / "memory.events.local"), "oom")

    def memory_bytes(self) -> int | None:
        """What is charged, less the pages of files that nobody used lately: the kernel takes those back first."""
        memory = self.folder("memory")
        text = read(memory / (V1 if self.v1_memory else V2).memory_now) if memory else ""
        if memory is None or not text.strip():
            return None
        unused = field(read(memory / "memory.stat"), "total_inactive_file" if self.v1_memory else "inactive_file")
        return max(0, int(text) - (unused or 0))

    def remove_leftovers(self) -> None:
        """End the processes of groups below our parents, then remove these groups."""
        for parent in self.folders():
            for child in sorted(parent.glob("*/")):
                _empty(child)
                with contextlib.suppress(OSError):
                    child.rmdir()

    def remove(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        for path in self.folders():
            with contextlib.suppress(OSError):
                path.rmdir()
        if self._server is not None:
            self._server.leave()
            self._server = None
        self._come_back()


def _empty(folder: Path) -> None:
    """SIGKILL everything in a group and wait for the end of it, at most a second per process."""
    for name, value in (("cgroup.kill", "1"), ("cgroup.freeze", "0"), ("freezer.state", "THAWED")):
        if (folder / name).exists():
            with contextlib.suppress(OSError):
                write(folder / name, value)
    for pid in _pids(folder):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                _wait_readable(fd, 1.0)
            finally:
                os.close(fd)


def _wait_readable(fd: int, timeout_s: float) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll(timeout_s * 1000)


def _pids(folder: Path) -> list[int]:
    return [int(line) for line in read(folder / "cgroup.procs").split()]
