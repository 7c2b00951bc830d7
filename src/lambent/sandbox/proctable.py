"""The host's process table, as far as the sandbox backends read it: who descends from whom, and its figures.

Reads `/proc` and nothing else; without one (not Linux) every answer is empty. Deciding what to do with
the processes found is the backends' part (`process`, `namespace`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

TICK_US = 1_000_000 // (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
#: The line of all interrupts stands before what `forks` reads, and is long on large hosts.
_STAT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. `started` (clock ticks since boot) tells a process from a later one with the same pid."""

    pid: int
    parent: int
    session: int
    state: str  #: one letter as in proc(5); `T` stopped, `Z` dead and not yet reaped
    cpu_us: int  #: its own and that of children it waited for
    started: int
    rss_bytes: int


def read(pid: int) -> Entry | None:
    """The row of one process, None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    # The name is in parentheses and may contain anything, so count from the last one.
    fields = text[text.rindex(b")") + 2 :].split()
    return Entry(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        state=chr(fields[0][0]),
        cpu_us=sum(int(field) for field in fields[11:15]) * TICK_US,
        started=int(fields[19]),
        rss_bytes=int(fields[21]) * PAGE_BYTES,
    )


def peak_bytes(pid: int) -> int:
    """The most memory that the process had resident at once; 0 when it is gone."""
    return _bytes(f"/proc/{pid}/status", b"VmHWM:") or 0


def pss_bytes(pid: int) -> int | None:
    """Proportional memory: each page divided by the number of processes that have it. None when it cannot be told.

    The kernel walks the process's page tables for it: about 0.1 ms for a small one.
    """
    return _bytes(f"/proc/{pid}/smaps_rollup", b"Pss:")


def _bytes(path: str, name: bytes) -> int | None:
    """A figure that the kernel tells in KiB on a line of its own."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def snapshot() -> dict[int, Entry]:
    """Every process that is there now."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return {}
    rows = (read(int(name)) for name in names if name.isdecimal())
    return {row.pid: row for row in rows if row is not None}


class Table:
    """The processes of one moment, for who asks about many: the first question reads all of them."""

    @cached_property
    def rows(self) -> dict[int, Entry]:
        return snapshot()

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        children: dict[int, list[int]] = {}
        for row in self.rows.values():
            children.setdefault(row.parent, []).append(row.pid)
        return children

    def descendants(self, sessions: Iterable[int] = (), parents: Iterable[int] = ()) -> list[Entry]:
        """The living members of these sessions, the children of these parents and all who descend from one of them.

        A process that both left its session and outlived its parent is not found by session: nothing ties it to its
        origin. In a pid namespace orphans become children of process 1, so that naming it as the parent finds all.
        """
        table, children, roots = self.rows, self._children, set(sessions)
        waiting = [row.pid for row in table.values() if row.session in roots] if roots else []
        waiting += [pid for parent in parents for pid in children.get(parent, ())]
        found: dict[int, Entry] = {}
        while waiting:
            pid = waiting.pop()
            if pid not in found:
                found[pid] = table[pid]
                waiting.extend(children.get(pid, ()))
        return [row for row in found.values() if row.state not in "ZX"]


def descendants(sessions: Iterable[int] = (), parents: Iterable[int] = ()) -> list[Entry]:
    """Those of `Table`, now."""
    return Table().descendants(sessions, parents)


def forks() -> int | None:
    """How many processes and threads this host has made since its start, also those that cannot be seen from here.

    As long as it stays the same nobody has come: a process is in the table before it is counted (`copy_process` in the
    kernel's fork.c). None where it is not told. Who relies on it makes sure that it counts: other kernels than Linux
    have a `/proc/stat` in which it stands still.
    """
    try:
        fd = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.pread(fd, _STAT_BYTES, 0).partition(b"\nprocesses ")[2].split(None, 1)
        return int(found[0]) if len(found) == 2 else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def boot_id() -> str:
    """Differs after each start of the host; empty when it cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
