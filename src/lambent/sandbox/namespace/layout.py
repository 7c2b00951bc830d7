"""Which control group hierarchies this host has, and where groups can be made in them.

Reads the mount table; `detect` is pure but for looking whether a folder can be written. What is done with a layout
is the part of `parent_groups` and `cgroup`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CONTROLLERS = ("memory", "cpu", "pids")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where parent groups can be made. `v1`: folder by controller; `unified`: the v2 folder and its controllers."""

    v1: dict[str, Path] = field(default_factory=dict)
    unified: Path | None = None
    unified_controllers: frozenset[str] = frozenset()

    def missing(self) -> list[str]:
        """What guests will not be limited by, one clear line each."""
        said = []
        for name, consequence in _CONSEQUENCES.items():
            if name not in self.v1 and not (self.unified and name in self.unified_controllers):
                said.append(f"no {name} cgroup: {consequence}")
        if self.unified is None and "freezer" not in self.v1:
            said.append("no cgroup to freeze with: environments are stopped by SIGSTOP, which processes can see")
        return said


_CONSEQUENCES = {
    "memory": "MemorySize is not enforced and memory figures are estimates",
    "cpu": "CPU is not limited to what MemorySize buys",
    "pids": "the number of processes is only limited per user",
}


def detect(mountinfo: str, own: str, privileged: bool, writable: Callable[[Path], bool]) -> Layout:
    """The layout from the text of /proc/self/mountinfo and /proc/self/cgroup.

    As root groups are made at the top of each tree, so that the next start finds what a dead server left. Otherwise
    only a delegated v2 group will do: the server's own one, if it may write there.
    """
    v1: dict[str, Path] = {}
    unified: Path | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount_point = Path(before.split(" ")[4])
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup" and privileged and writable(mount_point):
            for name in options.split(" ")[-1].split(","):
                if name in (*CONTROLLERS, "freezer", "cpuacct"):
                    v1.setdefault(name, mount_point)
        elif kind == "cgroup2" and unified is None:
            unified = mount_point
    if unified is not None and not privileged:
        path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/")
        unified = unified / path.lstrip("/")
    if unified is None or not writable(unified):
        return Layout(v1)
    return Layout(v1, unified, frozenset(read(unified / "cgroup.controllers").split()))


def is_privileged() -> bool:
    """Root of the host, not of a user namespace that somebody else made (a rootless container)."""
    return os.geteuid() == 0 and read(Path("/proc/self/uid_map")).split() == ["0", "0", "4294967295"]


def detect_here() -> Layout:
    return detect(
        read(Path("/proc/self/mountinfo")),
        read(Path("/proc/self/cgroup")),
        is_privileged(),
        lambda path: os.access(path, os.W_OK) and os.access(path / "cgroup.procs", os.W_OK),
    )


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
