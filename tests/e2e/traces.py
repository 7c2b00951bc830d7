"""What a server leaves on its host: processes, mounts, control groups, loop devices and runtime files, its own only."""

from __future__ import annotations

from pathlib import Path

from .harness import Server

CGROUPS = Path("/sys/fs/cgroup")


class Traces:
    """What belongs to a server now. `remaining` says later, in words, what is still there.

    Processes are told by pid and start time, since pids are used again: the server itself and all its descendants.
    """

    def __init__(self, server: Server) -> None:
        self._data_dir = server.data_dir
        self._instance = server.instance
        self.processes = {(pid, start_time(pid)) for pid in (server.process.pid, *descendants(server.process.pid))}

    def remaining(self) -> list[str]:
        """Nothing, once the server and everything it made are gone."""
        found = [f"process {pid}" for pid, started in self.processes if started and start_time(pid) == started]
        found += [f"mount {line}" for line in self._mounts()]
        found += [f"cgroup {path}" for path in self.groups()]
        found += [f"loop device {path}" for path in self._loops()]
        return found

    def groups(self) -> list[Path]:
        """Control groups of the instance, in every hierarchy."""
        return [path for parent in CGROUPS.glob(f"**/lambent-{self._instance}") for path in (parent, *parent.iterdir())
                if path.is_dir()]  # fmt: skip

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if self._instance in line or str(self._data_dir) in line]

    def _loops(self) -> list[Path]:
        found = []
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                text = file.read_text()
            except OSError:  # detached meanwhile
                continue
            if str(self._data_dir) in text:
                found.append(file)
        return found


def start_time(pid: int) -> str:
    """When a process was started, in the kernel's words; empty when it is no more, or only waits to be reaped."""
    try:
        row = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if row[0] in "ZX" else row[19]


def descendants(pid: int) -> list[int]:
    """Children of all threads, and theirs."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in file.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
