"""kill -9 at any point leaves the state before or after the change that was under way, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lambent.store.store import Store

CHURN = Path(__file__).with_name("churn.py")


@pytest.mark.slow
def test_killed_store_holds_every_acknowledged_change_and_no_half_one(tmp_path: Path) -> None:
    known: dict[str, str] = {}
    for kill_after in (1, 2, 17, 60, 101):
        acknowledged = _run_and_kill(tmp_path, kill_after)
        for line in acknowledged:
            name, _, generation = line.partition(" ")
            known[name] = generation
        store = Store.open(tmp_path)
        try:
            found = {function.name: function.latest for function in store.functions}
            differing = [name for name in {*known, *found}
                         if known.get(name, "-") != (found[name].generation if name in found else "-")]  # fmt: skip
            # One change may have been committed without its acknowledgement being read.
            assert len(differing) <= 1, (acknowledged[-3:], differing)
            for name, version in found.items():
                assert version.serving is not None and version.serving.generation == version.generation
                assert store.blobs.read(version.code_sha256) == version.generation.encode() * 1000
                known[name] = version.generation
            for name in set(known) - set(found):
                known[name] = "-"
            for function in store.functions:
                alias = function.aliases["live"]
                assert set(function.versions) == {"$LATEST", alias.version}
                assert function.versions[alias.version].generation == function.latest.generation == alias.revision_id
                assert function.next_version == int(alias.version) + 1
            store.blobs.sweep(store.blobs_in_use())
            present = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
            assert {path.name for path in present} == store.blobs_in_use()
        finally:
            store.close()


def _run_and_kill(data_dir: Path, lines: int) -> list[str]:
    """Let the churn acknowledge so many changes, kill it while it goes on; every acknowledgement that came."""
    with subprocess.Popen([sys.executable, str(CHURN), str(data_dir)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        read = [process.stdout.readline().rstrip("\n") for _ in range(lines)]
        process.kill()
        rest = process.stdout.read()
        process.wait()
    assert process.returncode == -9
    return read + [line for line in rest.split("\n")[:-1] if line]
