"""Several layers in one folder: order, kinds that collide, modes, and nothing half made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from test_packages import archive, regular

from lambent.store.blobs import Blobs
from lambent.worker.packages import PackageStore


async def test_later_layers_stand_over_earlier_ones(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    store = PackageStore(tmp_path, blobs)
    first = blobs.put(archive(regular("both", b"1"), regular("python/a.py", b"a"), regular("turns/into/file", b"x"),
                              regular("becomes", b"file"), regular("bin/run", b"1", 0o755)))  # fmt: skip
    second = blobs.put(archive(regular("both", b"2"), regular("python/b.py", b"b"), regular("turns", b"file"),
                               regular("becomes/folder", b"y")))  # fmt: skip
    assert await store.opt(()) is None and store.opt_path(()) is None
    assert await store.opt([first]) == store.path(first) == store.opt_path([first])
    merged = await store.opt([first, second])
    assert merged is not None and merged == store.opt_path([first, second]) == await store.opt([first, second])
    found = {str(path.relative_to(merged)): path.read_bytes() for path in merged.rglob("*") if path.is_file()}
    assert found == {"both": b"2", "python/a.py": b"a", "python/b.py": b"b", "turns": b"file", "becomes/folder": b"y",
                     "bin/run": b"1"}  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in merged.rglob("*") if path.is_dir()} == {0o555}
    assert os.access(merged / "bin/run", os.X_OK) and stat.S_IMODE((merged / "both").stat().st_mode) == 0o444
    other = await store.opt([second, first])
    assert other is not None and other != merged and (other / "both").read_bytes() == b"1"
    # The layers themselves are as they were, and what is merged outlives them.
    assert (store.path(first) / "turns/into/file").read_bytes() == b"x"
    await store.collect({merged.name})
    assert (merged / "python/a.py").read_bytes() == b"a" and not other.exists() and not store.path(first).exists()


async def test_file_systems_without_links_get_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("links are not served")

    monkeypatch.setattr(os, "link", refuse)
    blobs = Blobs(tmp_path / "blobs")
    layers = [blobs.put(archive(regular("bin/run", b"1", 0o755))), blobs.put(archive(regular("b", b"2")))]
    merged = await PackageStore(tmp_path, blobs).opt(layers)
    assert merged is not None and os.access(merged / "bin/run", os.X_OK) and (merged / "b").read_bytes() == b"2"
