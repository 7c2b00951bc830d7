"""How many environments a host holds: arithmetic over its facts, and the facts of this one."""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lambent.sandbox import capacity
from lambent.sandbox.capacity import Host

GIB = 1024**3
ROOMY = Host(memory_bytes=64 * GIB, files=1_048_576, tasks=4_000_000, own_tasks=None, namespaces=100_000,
             memory_groups=True)  # fmt: skip


@pytest.mark.parametrize(("short", "name", "environments"), [
    ({}, "memory", 64 * GIB // capacity.MEMORY_EACH_BYTES),
    ({"files": 1024}, "descriptors of the server", (1024 - 512 - 128) // 6),
    ({"files": 20}, "descriptors of the server", 0),
    ({"tasks": 5001}, "processes of this host", 2500),
    ({"own_tasks": 4900}, "processes of the server's own control group", 4900),
    ({"namespaces": 3}, "namespaces", 3),
    ({"memory_bytes": 10**12}, "control groups", 65_535),
    ({"memory_bytes": 10**12, "memory_groups": False}, "loopback addresses and user ids", 65_536),
])  # fmt: skip
def test_the_scarcest_thing_sets_the_ceiling(short: dict[str, int], name: str, environments: int) -> None:
    first, *others = capacity.bounds(replace(ROOMY, **short))  # type: ignore[arg-type]
    assert (first.name, first.environments) == (name, environments)
    assert all(first.environments <= other.environments for other in others)
    assert first.detail


def test_what_a_host_does_not_tell_limits_nothing() -> None:
    silent = Host(GIB, None, None, None, None, memory_groups=False)
    assert [bound.name for bound in capacity.bounds(silent)] == ["memory", "loopback addresses and user ids"]


def test_this_host_holds_some() -> None:
    host = capacity.look(0)
    assert host.memory_bytes == capacity.memory_marks(capacity.memory_budget(0))[0]
    assert capacity.bounds(host)[0].environments > 0
    if sys.platform == "linux":
        assert None not in (host.files, host.tasks, host.namespaces)


MOUNTS = "30 1 0:1 / {v2} rw - cgroup2 cgroup2 rw\n31 1 0:2 / {v1} rw - cgroup cgroup rw,pids\n"


def group(folder: Path, limit: str, current: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pids.max").write_text(limit + "\n")
    (folder / "pids.current").write_text(f"{current}\n")


@pytest.mark.parametrize(("own", "left"), [
    ("0::/a/b\n", 70),  # the group above is the tighter one
    ("0::/a\n", 70),
    ("0::/\n", None),
    ("3:pids:/c\n2:cpu,pids2:/a\n0::/\n", 9),
    ("1:name=systemd:/c\n0::/elsewhere\n", None),
])  # fmt: skip
def test_the_tightest_group_on_the_way_to_the_top_counts(tmp_path: Path, own: str, left: int | None) -> None:
    v1, v2 = tmp_path / "v1", tmp_path / "v2"
    for folder in (v1, v2):
        folder.mkdir()
    group(v2 / "a", "100", 30)
    group(v2 / "a" / "b", "max", 12)
    group(v1 / "c", "10", 1)
    assert capacity.least_left(own, MOUNTS.format(v1=v1, v2=v2)) == left


@pytest.fixture
def restored_files() -> object:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_server_takes_all_descriptors_that_it_may(restored_files: tuple[int, int]) -> None:
    soft, hard = restored_files
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    capacity.take_files()
    taken = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert taken == (capacity.most_files() or hard) >= hard


def test_without_the_right_to_more_the_hard_limit_is_taken(
    restored_files: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = restored_files
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    monkeypatch.setattr(capacity, "most_files", lambda: 1 << 40)  # above what any kernel gives
    capacity.take_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_clients_get_half_of_few_descriptors() -> None:
    assert [capacity.connections(files) for files in (1024, 20_000)] == [512, 4096]
