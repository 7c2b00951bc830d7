"""What a run of these tests may leave on its host, told apart from what other servers there have meanwhile.

A process is this run's if it carries the run's mark among its variables, which everything inherits that the tests
start, or if it names a folder of this run: guests have variables of their own, but their code lies there. A control
group is somebody else's if a living server that is not this run's has its name, or another run of the tests. One that
nobody living has counts as this run's: better to be alarmed by what another run's killed server left than blind.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "RUN_OF_LAMBENT_TESTS"  # not LAMBENT_...: those are settings, which tests take away from what they start


def mark() -> str:
    """Mark this process's future children, once, before there are any."""
    text = f"{os.getpid()}-{secrets.token_hex(8)}"
    os.environ[MARK] = text
    return f"{MARK}={text}"


@dataclass(frozen=True)
class Run:
    """One run: its mark, and parts of paths that are its own."""

    mark: str
    folders: tuple[str, ...]

    def listings(self) -> dict[str, set[str]]:
        if not Path("/proc/self/mountinfo").exists():
            return {}
        # Without the ids at the start of a line, which are given anew. What other servers mount they mount elsewhere.
        mounts = {line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
        return {"mounts": mounts, "control groups": self.groups(), "processes": self.processes()}

    def processes(self) -> set[str]:
        """Those of this run, this one apart, whoever is their parent now."""
        return {f"{pid}: {command[:120]}" for pid, command in _lambents() if pid != os.getpid() and self._owns(pid)}

    def groups(self) -> set[str]:
        found = _groups()
        foreign = {f"lambent-{name}" for pid, _ in _lambents() if not self._owns(pid) for name in _instances(pid)}
        # Looked for again: a server that was ending may have taken its groups away before it was asked for.
        return {str(path) for path in found & _groups()
                if path.name.removesuffix("-server") not in foreign and not _is_another_runs(path.name)}  # fmt: skip

    def _owns(self, pid: int) -> bool:
        folder = Path(f"/proc/{pid}")
        try:
            if _parent(folder) == os.getpid():
                return True
            said = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except PermissionError:
            return _parent(folder) == 1  # what cannot be told is not overlooked
        except OSError:  # it has ended
            return False
        return self.mark.encode() in said.split(b"\0") or any(part.encode() in said for part in self.folders)


def _lambents() -> Iterator[tuple[int, str]]:
    """Every process that has to do with Lambent, with its command."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if "lambent" in command:
                yield int(folder.name), command


def _parent(folder: Path) -> int:
    with suppress(OSError):
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _instances(pid: int) -> list[str]:
    """The ids of the data directories that this process has locked."""
    found = []
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = Path(os.readlink(link))
                if target.name == "lock":
                    found.append((target.parent / "instance").read_text("ascii").strip())
    return found


def _groups() -> set[Path]:
    return {path for pattern in ("lambent-*", "*/lambent-*") for path in Path("/sys/fs/cgroup").glob(pattern)}


def _is_another_runs(name: str) -> bool:
    """Sandboxes are tested under the id of the process that tests them (`sandbox.arena`)."""
    found = re.match(r"lambent-test-(\d+)-", name)
    return found is not None and int(found[1]) != os.getpid()
