"""The process table, to tell new processes from old ones and to weigh them."""

from __future__ import annotations

import os
from pathlib import Path

#: A process id and when it was started, in clock ticks since the boot: ids alone come again.
Identity = tuple[int, int]


def identity(pid: int) -> Identity:
    """Raises OSError for a process that is gone."""
    return pid, int(_fields(pid)[19])


def children(pid: int) -> list[Identity]:
    """The processes that this one has started and that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = _fields(int(folder.name))
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(folder.name), int(fields[19])))
    return found


def parent(pid: int) -> int:
    return int(_fields(pid)[1])


def pss_bytes(pid: int) -> int:
    """What a process takes of memory, a page that others have too counted in parts. Raises OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_us(pid: int) -> float:
    """What the main thread of a process has run for so far, to the microsecond; 0 where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000
    except (OSError, ValueError):
        return 0.0


def available_bytes() -> int:
    """What this host could still give to processes without pushing others out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def threads() -> int:
    """Of this host, all together: what `kernel.pid_max` and `kernel.threads-max` count."""
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on: proc(5) counts it as the third."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
