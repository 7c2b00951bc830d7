"""The files of both versions of control groups: their names, what is written to them, and how."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lambent import limits

PERIOD_US = 20_000  #: of the CPU quota, as AWS's (records 4c)


@dataclass(frozen=True, slots=True)
class Files:
    """The same facility under its two sets of names."""

    memory_now: str
    memory_peak: str
    oom_kills: str  #: a file with a line `oom_kill <count>`
    quota: str


V1 = Files("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "cpu.cfs_quota_us")
V2 = Files("memory.current", "memory.peak", "memory.events", "cpu.max")


@dataclass(frozen=True, slots=True)
class Weight:
    """What a group gets of the processors against the groups beside it, in the units of both versions."""

    v1: str
    v2: str


FULL, LESS, LEAST = Weight("1024", "100"), Weight("256", "25"), Weight("2", "1")


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


def set_all(folder: Path, settings: Iterable[tuple[str, str]]) -> None:
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


def field(text: str, name: str) -> int | None:
    """The number after `name` at the start of a line."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None
