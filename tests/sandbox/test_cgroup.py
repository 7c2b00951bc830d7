"""Control groups in every layout of the field, on made-up trees; the real ones are used by the other suites."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace import cgroup, parent_groups

V2 = "30 25 0:26 / {root} rw,nosuid - cgroup2 cgroup2 rw"
V1 = "31 25 0:27 / {root}/{name} rw - cgroup cgroup rw,{name}"


def mountinfo(root: Path, *v1: str, v2: str | None = None) -> str:
    lines = ["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *(V1.format(root=root, name=name) for name in v1)]
    if v2 is not None:
        lines.append(V2.format(root=root / v2 if v2 else root))
    return "\n".join(lines)


def tree(root: Path, controllers: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "cgroup.controllers").write_text(controllers)
    (root / "cgroup.subtree_control").write_text("")
    return root


def everywhere(path: Path) -> bool:
    return True


def test_v2_alone(tmp_path: Path) -> None:
    tree(tmp_path, "cpuset cpu io memory pids")
    layout = cgroup.detect(mountinfo(tmp_path, v2=""), "0::/user.slice", True, everywhere)
    assert layout.unified == tmp_path and layout.unified_controllers >= {"cpu", "memory", "pids"}
    assert layout.v1 == {} and layout.missing() == []


def test_v1_alone(tmp_path: Path) -> None:
    text = mountinfo(tmp_path, "memory", "cpu,cpuacct", "pids", "freezer", "devices")
    layout = cgroup.detect(text, "4:memory:/", True, everywhere)
    assert layout.unified is None
    assert layout.v1 == {
        "memory": tmp_path / "memory", "cpu": tmp_path / "cpu,cpuacct", "cpuacct": tmp_path / "cpu,cpuacct",
        "pids": tmp_path / "pids", "freezer": tmp_path / "freezer",
    }  # fmt: skip
    assert layout.missing() == []
    groups = cgroup.Groups("i", layout, 1)
    assert groups.folders() == [tmp_path / name / "lambent-i" for name in ("memory", "cpu,cpuacct", "pids", "freezer")]


def test_v1_controllers_beside_a_v2_tree_without_any(tmp_path: Path) -> None:
    tree(tmp_path / "unified", "hugetlb")
    text = mountinfo(tmp_path, "memory", "cpu", "cpuacct", "pids", "freezer", v2="unified")
    layout = cgroup.detect(text, "0::/", True, everywhere)
    assert layout.unified == tmp_path / "unified" and layout.missing() == []
    groups = cgroup.Groups("i", layout, 1)
    # The v2 tree freezes and counts CPU time, so those v1 controllers are left alone.
    assert groups.folders() == [tmp_path / name / "lambent-i" for name in ("memory", "cpu", "pids", "unified")]


def test_some_controllers_in_each_version(tmp_path: Path) -> None:
    tree(tmp_path / "unified", "memory pids")
    layout = cgroup.detect(mountinfo(tmp_path, "cpu", v2="unified"), "0::/", True, everywhere)
    assert layout.missing() == []
    groups = cgroup.Groups("i", layout, 1)
    assert groups.folder("memory") == groups.folder("pids") == tmp_path / "unified" / "lambent-i"
    assert groups.folder("cpu") == tmp_path / "cpu" / "lambent-i"


def test_what_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    tree(tmp_path / "unified", "memory")
    text = mountinfo(tmp_path, "memory", "freezer", v2="unified")
    layout = cgroup.detect(text, "0::/", True, lambda path: False)
    assert layout == cgroup.Layout()
    said = "\n".join(layout.missing())
    assert "no memory cgroup" in said and "no cpu cgroup" in said and "no pids cgroup" in said and "SIGSTOP" in said


def test_without_root_only_the_servers_own_delegated_group_will_do(tmp_path: Path) -> None:
    own = tree(tmp_path / "user.slice" / "lambent.scope", "memory pids")
    text = mountinfo(tmp_path, "memory", v2="")
    layout = cgroup.detect(text, "0::/user.slice/lambent.scope", False, lambda path: path == own)
    assert layout.unified == own and layout.v1 == {}
    assert [line.split()[1] for line in layout.missing()] == ["cpu"]


@pytest.mark.parametrize(
    ("memory_mib", "cores", "quota_us"),
    [(128, 2, 1447), (1769, 2, 20_000), (3538, 2, 40_000), (10_240, 2, 40_000), (10_240, 64, 115_771)],
)
def test_cpu_quota_follows_memory_up_to_the_hosts_cores(memory_mib: int, cores: int, quota_us: int) -> None:
    assert cgroup.cpu_quota_us(memory_mib, cores) == quota_us


def test_quota_values() -> None:
    assert cgroup.quota_value(True, 1447) == "1447"
    assert cgroup.quota_value(True, None) == "-1"
    assert cgroup.quota_value(False, 1447) == "1447 20000"
    assert cgroup.quota_value(False, None) == "max 20000"


V2_FILES = {
    "cgroup.procs": "", "cgroup.freeze": "0", "cgroup.events": "populated 0\nfrozen 0\n", "cgroup.subtree_control": "",
    "cpu.stat": "usage_usec 1234\nuser_usec 1000\n", "cpu.max": "max 100000", "memory.current": "4096\n",
    "cpu.weight": "100", "memory.peak": "8192\n", "memory.max": "max", "memory.swap.max": "max", "pids.max": "max",
    "memory.events": "low 0\noom 1\noom_kill 0\n", "memory.events.local": "low 0\noom 3\n",
}  # fmt: skip


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of a made-up v2 tree come with their files and go with them."""
    make, remove = Path.mkdir, Path.rmdir

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if not self.exists():
            make(self, *arguments, **options)
            for name, text in V2_FILES.items():
                (self / name).write_text(text)

    def rmdir(self: Path) -> None:
        for file in self.iterdir():
            if file.is_file():
                file.unlink()
        remove(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)


def test_a_v2_group_is_limited_measured_frozen_and_removed(tmp_path: Path, kernel: None) -> None:
    root = tmp_path / "v2"
    root.mkdir()
    layout = cgroup.Layout({}, root, frozenset({"memory", "cpu", "pids"}))
    groups = cgroup.Groups("i", layout, 1 << 30)
    groups.prepare()
    parent = root / "lambent-i"
    assert (root / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert (parent / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert (parent / "memory.max").read_text() == str(1 << 30) and (parent / "memory.swap.max").read_text()[0] == "0"
    assert groups.refusals() == 3 and groups.memory_bytes() == 4096

    group = cgroup.Group(groups, "env", 128, 2)
    folder = parent / "env"
    assert (folder / "memory.max").read_text() == str(128 << 20)
    assert (folder / "pids.max").read_text() == "1024"
    assert (group.memory_now(), group.memory_peak(), group.cpu_us(), group.oom_kills()) == (4096, 8192, 1234, 0)
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.oom_kills() == 2
    assert group.can_freeze() and not group.is_frozen()
    group.freeze(True)
    assert (folder / "cgroup.freeze").read_text() == "1"
    (folder / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert group.is_frozen()
    group.limit_cpu(True)
    assert (folder / "cpu.max").read_text().startswith("1447 20000")
    assert (parent / "cpu.weight").read_text().startswith("12")  # all guests together against the rest of the host
    for weight, written in ((cgroup.LESS, "25"), (cgroup.FULL, "100"), (cgroup.LEAST, "1")):
        (folder / "cpu.weight").write_text("")
        group.weigh(weight)
        assert (folder / "cpu.weight").read_text() == written
    (letter, fd), *others = group.entrances()
    assert letter == b"d" and others == []
    os.close(fd)
    assert group.remove() == [] and not folder.exists()
    groups.remove()
    assert not parent.exists()


def test_a_server_inside_its_delegated_group_moves_aside_and_back(
    tmp_path: Path, kernel: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "v2"
    root.mkdir()
    inside = {"server"}
    real_write = cgroup.write

    def write(path: Path, text: str) -> None:
        if path == root / "cgroup.subtree_control" and text.startswith("+") and inside:
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        if path.name == "cgroup.procs" and text == str(os.getpid()):
            (inside.add if path.parent == root else inside.discard)("server")
        real_write(path, text)

    monkeypatch.setattr(parent_groups, "write", write)
    groups = cgroup.Groups("i", cgroup.Layout({}, root, frozenset({"memory", "cpu", "pids"})), 1 << 30)
    groups.prepare()
    assert groups.layout.missing() == [] and not inside
    assert (root / "lambent-i-server" / "cgroup.procs").read_text() == str(os.getpid())
    groups.remove()
    assert inside and not (root / "lambent-i-server").exists() and not (root / "lambent-i").exists()

    inside.add("a shell")  # somebody else is there too: no controllers, said, and nothing left
    groups = cgroup.Groups("i", cgroup.Layout({}, root, frozenset({"memory", "cpu", "pids"})), 1 << 30)
    groups.prepare()
    assert [line.split()[1] for line in groups.layout.missing()] == ["memory", "cpu", "pids"]
    assert groups.folders() == [root / "lambent-i"] and not (root / "lambent-i-server").exists()
    groups.remove()


def test_a_group_that_exists_is_not_taken_over_nor_removed(tmp_path: Path) -> None:
    base = tmp_path / "pids" / "lambent-i"
    (base / "env").mkdir(parents=True)
    groups = cgroup.Groups("i", cgroup.Layout({"pids": tmp_path / "pids"}), 1)
    with pytest.raises(FileExistsError):
        cgroup.Group(groups, "env", 128, 2)
    assert (base / "env").exists()


def test_a_tree_that_refuses_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    groups = cgroup.Groups("i", cgroup.Layout({"memory": tmp_path / "memory"}), 1)
    with pytest.raises(SandboxError, match=r"memory\.limit_in_bytes: No such file or directory") as caught:
        groups.prepare()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "memory").iterdir()) == []
