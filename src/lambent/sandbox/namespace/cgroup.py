"""Control groups: the memory, CPU and process limits of one environment, the freezer, and the figures of usage.

Three layouts exist in the field: v2 alone, v1 controllers alone, and v1 controllers beside a v2 tree that can freeze
and kill but has no controllers. So each facility is looked for by itself (`detect`), and what is not there is said,
never assumed. Files and values of both versions stand in `cgroup_files`.

Each environment's guests have a group below the parent of each hierarchy (`parent_groups`). Process 1 of a sandbox
stays where the platform is: a frozen or full group must not stop it. Guests enter by writing "0" to v1 `tasks` (which,
unlike `cgroup.procs`, takes no global lock: 50 us against 5 ms, measured) and by clone3 into the v2 group.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lambent import limits
from lambent.sandbox.namespace.cgroup_files import (
    FULL,
    LEAST,
    LESS,
    PERIOD_US,
    V1,
    V2,
    Weight,
    cpu_quota_us,
    field,
    memory_settings,
    quota_value,
    set_all,
    write,
)
from lambent.sandbox.namespace.layout import CONTROLLERS, Layout, detect, detect_here
from lambent.sandbox.namespace.parent_groups import Groups

__all__ = ["FULL", "LEAST", "LESS", "PERIOD_US", "Group", "Groups", "Layout", "cpu_quota_us", "detect", "detect_here",
           "memory_settings", "quota_value", "write"]  # fmt: skip

#: Room for every process that a group may have, each a line of at most eight characters.
_PIDS_BYTES = limits.PROCESSES * 8


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
        self._by_facility = {facility: parent / name for facility in (*CONTROLLERS, "unified", "freezer", "cpuacct")
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
        memory, cpu, pids = (self._by_facility.get(name) for name in CONTROLLERS)
        if memory is not None:
            set_all(memory, memory_settings(self._groups.v1_memory, memory_mib * 1024 * 1024))
        if cpu is not None and self._groups.v1_cpu:
            write(cpu / "cpu.cfs_period_us", str(PERIOD_US))
        if pids is not None:
            write(pids / "pids.max", str(limits.PROCESSES))

    def _find(self) -> None:
        """Where each figure stands, and descriptors for the two that every invocation needs."""
        memory, cpu = self._by_facility.get("memory"), self._by_facility.get("cpu")
        names = V1 if self._groups.v1_memory else V2
        unified, accounting = self._by_facility.get("unified"), self._by_facility.get("cpuacct")
        self._put("memory_now", memory, names.memory_now)
        self._put("oom_kills", memory, names.oom_kills)
        self._put("quota", cpu, (V1 if self._groups.v1_cpu else V2).quota)
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
            set_all(memory, reversed(memory_settings(self._groups.v1_memory, memory_mib * 1024 * 1024)))
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
            return field(self._pread("events"), "frozen") == 1
        return self._pread("freezer").strip() == "FROZEN"

    def limit_cpu(self, limited: bool) -> None:
        path = self._paths.get("quota")
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # a kernel without quotas
                write(path, quota_value(self._groups.v1_cpu, self._quota_us if limited else None))

    def weigh(self, weight: Weight) -> None:
        """Against the other groups, as long as they want the processor; at first it is FULL. Raises OSError."""
        cpu = self._by_facility.get("cpu")
        if cpu is not None:
            write(*((cpu / "cpu.shares", weight.v1) if self._groups.v1_cpu else (cpu / "cpu.weight", weight.v2)))

    def memory_now(self) -> int | None:
        return self._number("memory_now")

    def memory_peak(self, *, kept: bool = False) -> int | None:
        """With `kept` from the file that is open."""
        return self._number("memory_peak", kept=kept)

    def oom_kills(self) -> int:
        """Processes of this environment that the kernel killed for memory."""
        return field(self._pread("oom_kills"), "oom_kill") or 0

    def cpu_us(self) -> int | None:
        if "cpu_stat" in self._paths:
            return field(self._pread("cpu_stat"), "usage_usec")
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
