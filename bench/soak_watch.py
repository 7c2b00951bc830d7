"""What a server holds of its host, and who lives in its sandboxes: read from /proc and the control groups."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lambent.sandbox import proctable


@dataclass(frozen=True)
class Holdings:
    """At one moment. `descriptors` are by kind."""

    rss_kib: int
    descriptors: Counter[str]
    processes: int  #: below the server
    groups: int  #: of environments
    mounts: int  #: in the server's namespace
    loops: int  #: devices in use whose files are the server's

    def text(self) -> str:
        return (f"{self.rss_kib / 1024:.1f} MiB, {self.descriptors.total()} descriptors, {self.processes} processes, "
                f"{self.groups} groups, {self.mounts} mounts, {self.loops} loop devices")


@dataclass
class Watch:
    """One server, by its process, the id in the names of its control groups, and its data directory."""

    pid: int
    instance: str
    data_dir: Path

    def holdings(self) -> Holdings:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return Holdings(
            int(status.partition("VmRSS:")[2].split()[0]),
            self._descriptors(),
            len(proctable.descendants(parents=[self.pid])),
            len(self.groups()),
            len(Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()),
            self._loops(),
        )

    def groups(self) -> list[Path]:
        """Folders of environments in every hierarchy."""
        parents = [path for pattern in ("lambent-", "*/lambent-")
                   for path in Path("/sys/fs/cgroup").glob(pattern + self.instance)]  # fmt: skip
        return [path for parent in parents for path in parent.iterdir() if path.is_dir()]

    def parents(self) -> list[Path]:
        return [path for pattern in ("lambent-", "*/lambent-")
                for path in Path("/sys/fs/cgroup").glob(pattern + self.instance + "*")]  # fmt: skip

    def _descriptors(self) -> Counter[str]:
        found: Counter[str] = Counter()
        folder = f"/proc/{self.pid}/fd"
        for name in os.listdir(folder):
            with suppress(OSError):  # closed meanwhile
                path = os.readlink(f"{folder}/{name}")
                found[re.split(r"[:\[]", path)[0] if path[0] != "/" else path.rpartition("/")[2]] += 1
        return found

    def images(self) -> int:
        """File systems for /tmp that are kept ready: the server has them open, and they are at no path."""
        devices = set(self._loop_devices())
        count = 0
        for path in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                count += path.stat().st_dev in devices
        return count

    def _loops(self) -> int:
        return len(self._loop_devices())

    def _loop_devices(self) -> list[int]:
        """Numbers of those in use whose files are the server's."""
        found = []
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):  # detached meanwhile
                if str(self.data_dir) in path.read_text():
                    major, minor = (path.parent.parent / "dev").read_text().split(":")
                    found.append(os.makedev(int(major), int(minor)))
        return found

    # Whom to kill

    def launchers(self) -> list[int]:
        """Children of the server that are in no process namespace of their own and clone the others."""
        return [pid for pid in self._children() if len(_namespace_pids(pid)) == 1 and "init" in _command(pid)]

    def firsts(self) -> list[int]:
        """Process 1 of every sandbox."""
        return [pid for pid in self._children() if len(_namespace_pids(pid)) == 2]

    def guests(self) -> list[int]:
        """What runs in sandboxes, process 1 apart."""
        firsts = set(self.firsts())
        return [row.pid for row in proctable.descendants(parents=[*firsts]) if row.pid not in firsts] if firsts else []

    def _children(self) -> list[int]:
        return sorted(row.pid for row in proctable.descendants(parents=[self.pid]) if row.parent == self.pid)


def _namespace_pids(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].partition("\n")[0].split()
    return []


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""
