"""Data directories of earlier versions open, with everything that was in them, and go on from there."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from lambent.names import LATEST
from lambent.store.directory import migrations
from lambent.store.functions import Alias
from lambent.store.store import Store

OLD = Path(__file__).with_name("old")


SCRIPTS = {path.stem: path.read_text("utf-8") for path in sorted(OLD.glob("schema_*.sql"))}


@pytest.mark.parametrize("schema", SCRIPTS)
async def test_old_directory_opens_with_all_that_it_holds(schema: str, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "lambent.sqlite")
    connection.executescript(SCRIPTS[schema])
    connection.close()
    for _ in range(2):  # migrated, then found migrated
        store = Store.open(tmp_path)
        try:
            assert [function.name for function in store.functions] == ["old", "updating"]
            serving = store.functions.resolve("old")
            assert (serving.timeout_s, serving.version, dict(serving.environment)) == (7, LATEST, {"AB": "c"})
            function = store.functions.get(serving.account, serving.region, "old")
            assert function is not None and serving.role == function.latest.configuration.get("Role", "")
            assert function is not None and function.tags == {"k": "v"} and function.next_version == 1
            assert store.blobs_in_use() == {"a" * 64, "b" * 64}
            assert [url.function_arn for url in store.urls] == [serving.function_arn]
            assert list(store.layers) == []
        finally:
            store.close()
    connection = sqlite3.connect(tmp_path / "lambent.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (migrations()[-1][0],)
    connection.close()

    # What came later works on what is old.
    store = Store.open(tmp_path)
    assert function is not None
    one = replace(function.latest, version="1", origin="o", layers=("c" * 64,))
    changed = replace(function.with_version(one), next_version=2, aliases={"prod": Alias("prod", "1", "r")})
    await store.change(lambda: store.functions.save(changed))
    store.close()
    store = Store.open(tmp_path)
    assert store.functions.get(*changed.key) == changed
    store.close()
