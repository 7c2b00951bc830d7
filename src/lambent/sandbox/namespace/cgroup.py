"""Control groups: the memory, CPU and process limits of environments, the freezer, and the figures of usage.

Three layouts exist in the field: v2 alone, v1 controllers alone, and v1 controllers beside a v2 tree that can freeze
and kill but has no controllers. So each facility is looked for by itself (`detect`), and what is not there is said,
never assumed. Files and values of both versions stand in one table each.

One parent group `lambent-<instance>` per hierarchy caps the memory of all environments together; each environment's
guests have a group below it. Process 1 of a sandbox stays where the platform is: a frozen or full group must not
stop it. Guests enter by writing "0" to v1 `tasks` (which, unlike `cgroup.procs`, takes no global lock: 50 us against
5 ms, measured) and by clone3 into the v2 group.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lambent import limits
from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace.layout import CONTROLLERS as _CONTROLLERS
from lambent.sandbox.namespace.layout import Layout, detect, detect_here
from lambent.sandbox.namespace.layout import read as _read
from lambent.sandbox.namespace.memory_watch import MemoryWatch
from lambent.sandbox.namespace.server_group import ServerGroup

__all__ = ["PERIOD_US", "Group", "Groups", "Layout", "cpu_quota_us", "detect", "detect_here", "memory_settings",
           "quota_value", "write"]  # fmt: skip

PERIOD_US = 20_000  #: of the CPU quota, as AWS's (records 4c)


@dataclass(frozen=True, slots=True)
class _Files:
    """The same facility under its two sets of names."""

    memory_now: str
    memory_peak: str
    oom_kills: str  #: a file with a line `oom_kill <count>`
    quota: str


_V1 = _Files("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "cpu.cfs_quota_us")
_V2 = _Files("memory.current", "memory.peak", "memory.events", "cpu.max")
#: What all guests together weigh against any other group of the host, in both versions' units: an eighth. Whoever waits
#: for their answers, the server first, runs elsewhere and must not queue behind them. What time is left is theirs.
_WEIGHT_V1, _WEIGHT_V2 = "128", "12"
#: Room for every process that a group may have, each a line of at most eight characters.
_PIDS_BYTES = limits.PROCESSES * 8


def cpu_quota_us(memory_mib: int, cores: int) -> int:
    """CPU time per period that a memory size buys: 1,769 MB are one core, at most the host's cores."""
    return min(PERIOD_US * memory_mib // limits.MEMORY_MIB_PER_CPU, PERIOD_US * cores)


def memory_settings(v1: bool, size_bytes: int) -> list[tuple[str, str]]:
    """File, value in order; swap is off, and optional files may be missing on a kernel without swap accounting."""
    if v1:
        size = str(size_bytes)
        return [("memory.limit_in_bytes", size), ("?memory.memsw.limit_in_bytes", size), ("?memory.swappiness", "0")]
    return [("memory.max", str(size_bytes)), ("?memory.swap.max", "0")]


def quota_value(v1: bool, quota_us: int | None) -> str:
    """None lifts the limit."""
    if v1:
        return str(-1 if quota_us is None else quota_us)
    return f"{'max' if quota_us is None else quota_us} {PERIOD_US}"


class Groups:
    """The parent groups of one instance. `freezer` chooses among what the layout has: tests force each."""

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
        facilities = [*_CONTROLLERS, "unified"]
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
                _set_all(memory, memory_settings(self.v1_memory, self._cap_bytes))
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
        wanted = [name for name in _CONTROLLERS if name in self.layout.unified_controllers]
        if folder is not None and wanted:
            active = _read(folder / "cgroup.subtree_control").split()
            lacking = [name for name in wanted if name not in active]
            if lacking:
                write(folder / "cgroup.subtree_control", " ".join("+" + name for name in lacking))

    def refusals(self) -> int | None:
        """Allocations refused because of the cap, since `prepare`."""
        if self.watch is not None:
            return self.watch.refusals()
        memory = self.folder("memory")
        return None if memory is None else _field(_read(memory / "memory.events.local"), "oom")

    def memory_bytes(self) -> int | None:
        """What is charged, less the pages of files that nobody used lately: the kernel takes those back first."""
        memory = self.folder("memory")
        text = _read(memory / (_V1 if self.v1_memory else _V2).memory_now) if memory else ""
        if memory is None or not text.strip():
            return None
        unused = _field(_read(memory / "memory.stat"), "total_inactive_file" if self.v1_memory else "inactive_file")
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


class Group:
    """The groups of one environment's guests.

    The freezer's file and that of the memory's peak stay open, so that each is one system call in every invocation.
    The others are opened when they are asked for: thousands of environments share the server's descriptors. So what
    reads by path may do so in any thread; a descriptor may just have been closed, and be somebody else's.
    """

    def __init__(self, groups: Groups, name: str, memory_mib: int, cores: int) -> None:
        """Raises OSError; then nothing is left."""
        self._groups = groups
        self._folders: list[Path] = []
        self._by_facility = {facility: parent / name for facility in (*_CONTROLLERS, "unified", "freezer", "cpuacct")
                             if (parent := groups.folder(facility)) is not None}  # fmt: skip
        self._cores = cores
        self._quota_us = cpu_quota_us(memory_mib, cores)
        self._fds: dict[str, int] = {}
        self._paths: dict[str, Path] = {}
        try:
            for parent in groups.folders():
                (parent / name).mkdir()
                self._folders.append(parent / name)
            self._limit(memory_mib)
            self._find()
        except BaseException:
            self.remove()
            raise

    def _limit(self, memory_mib: int) -> None:
        memory, cpu, pids = (self._by_facility.get(name) for name in _CONTROLLERS)
        if memory is not None:
            _set_all(memory, memory_settings(self._groups.v1_memory, memory_mib * 1024 * 1024))
        if cpu is not None and self._groups.v1_cpu:
            write(cpu / "cpu.cfs_period_us", str(PERIOD_US))
        if pids is not None:
            write(pids / "pids.max", str(limits.PROCESSES))

    def _find(self) -> None:
        """Where each figure stands, and descriptors for the two that every invocation needs."""
        memory, cpu = self._by_facility.get("memory"), self._by_facility.get("cpu")
        names = _V1 if self._groups.v1_memory else _V2
        unified, accounting = self._by_facility.get("unified"), self._by_facility.get("cpuacct")
        self._put("memory_now", memory, names.memory_now)
        self._put("oom_kills", memory, names.oom_kills)
        self._put("quota", cpu, (_V1 if self._groups.v1_cpu else _V2).quota)
        self._put("cpu_stat", unified, "cpu.stat")
        self._put("cpu_ns", accounting, "cpuacct.usage")
        self._put("events", unified, "cgroup.events")
        self._put("procs", unified or self._folders[0], "cgroup.procs")
        self._put("memory_peak", memory, names.memory_peak)
        self._put("freezer", self._by_facility.get("freezer"), "freezer.state")
        self._open("memory_peak", memory, names.memory_peak)
        self._open("freeze", unified, "cgroup.freeze", os.O_WRONLY)
        if "freeze" not in self._fds:
            self._open("freezer", self._by_facility.get("freezer"), "freezer.state", os.O_RDWR)

    def _put(self, name: str, folder: Path | None, file: str) -> None:
        if folder is not None:
            self._paths[name] = folder / file

    def _open(self, name: str, folder: Path | None, file: str, mode: int = os.O_RDONLY) -> None:
        if folder is not None:
            with contextlib.suppress(FileNotFoundError):
                self._fds[name] = os.open(folder / file, mode | os.O_CLOEXEC)

    def entrances(self) -> list[tuple[bytes, int]]:
        """Letter and a fresh descriptor for each way in, as `init.c` takes them; the caller closes them."""
        opened: list[tuple[bytes, int]] = []
        for folder in self._folders:
            if folder == self._by_facility.get("unified"):
                opened.append((b"d", os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
            else:
                opened.append((b"t", os.open(folder / "tasks", os.O_WRONLY | os.O_CLOEXEC)))
        if "freezer" in self._fds:
            opened.append((b"f", os.open(self._by_facility["freezer"] / "freezer.state", os.O_WRONLY | os.O_CLOEXEC)))
        return opened

    def grow(self, memory_mib: int) -> None:
        """Limits of a larger size than the group was made for. Raises OSError."""
        memory = self._by_facility.get("memory")
        if memory is not None:
            # The other way round: with v1 the limit with swap must never be below the one without.
            _set_all(memory, reversed(memory_settings(self._groups.v1_memory, memory_mib * 1024 * 1024)))
        self._quota_us = cpu_quota_us(memory_mib, self._cores)

    def can_freeze(self) -> bool:
        return "freeze" in self._fds or "freezer" in self._fds

    def freeze(self, frozen: bool) -> None:
        """One write. Raises OSError."""
        fd = self._fds.get("freeze")
        if fd is not None:
            os.write(fd, b"1" if frozen else b"0")
        elif "freezer" in self._fds:
            os.write(self._fds["freezer"], b"FROZEN" if frozen else b"THAWED")

    def is_frozen(self) -> bool:
        if "events" in self._paths:
            return _field(self._pread("events"), "frozen") == 1
        return self._pread("freezer").strip() == "FROZEN"

    def limit_cpu(self, limited: bool) -> None:
        path = self._paths.get("quota")
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # a kernel without quotas
                write(path, quota_value(self._groups.v1_cpu, self._quota_us if limited else None))

    def give_way(self) -> None:
        """The least weight against the other groups, as long as they want the processor. Raises OSError."""
        cpu = self._by_facility.get("cpu")
        if cpu is not None:
            write(*((cpu / "cpu.shares", "2") if self._groups.v1_cpu else (cpu / "cpu.weight", "1")))

    def memory_now(self) -> int | None:
        return self._number("memory_now")

    def memory_peak(self, *, kept: bool = False) -> int | None:
        """With `kept` from the file that is open."""
        return self._number("memory_peak", kept=kept)

    def oom_kills(self) -> int:
        """Processes of this environment that the kernel killed for memory."""
        return _field(self._pread("oom_kills"), "oom_kill") or 0

    def cpu_us(self) -> int | None:
        if "cpu_stat" in self._paths:
            return _field(self._pread("cpu_stat"), "usage_usec")
        nanoseconds = self._number("cpu_ns")
        return None if nanoseconds is None else nanoseconds // 1000

    def pids(self) -> tuple[int, ...]:
        return tuple(map(int, self._pread("procs", _PIDS_BYTES).split()))

    def _pread(self, name: str, size: int = 4096, *, kept: bool = False) -> str:
        """What a file holds now; nothing if this host has no such file, or the group is gone."""
        try:
            if kept and name in self._fds:
                return os.pread(self._fds[name], size, 0).decode()
            if name not in self._paths:
                return ""
            fd = os.open(self._paths[name], os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(fd, size, 0).decode()
            finally:
                os.close(fd)
        except OSError:
            return ""

    def _number(self, name: str, *, kept: bool = False) -> int | None:
        text = self._pread(name, kept=kept).strip()
        return int(text) if text.isdecimal() else None

    def remove(self) -> list[Path]:
        """Close everything and remove the groups; those that are not empty yet are returned."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        for folder in self._folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._folders = [folder for folder in self._folders if folder.exists()]
        return self._folders


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
    return [int(line) for line in _read(folder / "cgroup.procs").split()]


def _set_all(folder: Path, settings: Iterable[tuple[str, str]]) -> None:
    for name, value in settings:
        if not name.startswith("?"):
            write(folder / name, value)
        elif (folder / name[1:]).exists():
            write(folder / name[1:], value)


def write(path: Path, text: str) -> None:
    """One write(2), as control files want it. Raises OSError with the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(fd)


def _field(text: str, name: str) -> int | None:
    """The number after `name` at the start of a line."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None
