"""The data directory: opened, locked, changed, found again, refused."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lambent.core.model import FunctionVersion
from lambent.errors import ApiError
from lambent.names import LATEST
from lambent.store.directory import migrations
from lambent.store.functions import Function, Version
from lambent.store.layers import LayerVersion
from lambent.store.store import Store, StoreError
from lambent.store.urls import FunctionUrl
from lambent.store.writer import Change

KEY = ("000000000000", "us-east-1")
SHA = "ab" * 32


def served(name: str, generation: str = "g1") -> FunctionVersion:
    return FunctionVersion(*KEY, name, LATEST, generation, "python3.12", "app.handler", SHA,
                           environment={"A": "ü"}, layers=("l",))  # fmt: skip


def function(name: str, serving: FunctionVersion | None = None, state: str = "Active") -> Function:
    version = Version(LATEST, SHA, {"State": state, "FunctionName": name}, "g1", serving)
    return Function(*KEY, name, {LATEST: version}, {"k": "v"})


async def test_functions_and_urls_survive_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    kept = await store.change(lambda: store.functions.save(function("kept", served("kept"))))
    gone = await store.change(lambda: store.functions.save(function("gone")))
    for one in (kept, gone):
        url = FunctionUrl(*one.key, "", "id-" + one.name, {"AuthType": "NONE"})
        await store.change(lambda url=url: store.urls.save(url))  # type: ignore[misc]
    await store.change(lambda: store.remove(gone))
    instance = store.instance
    store.close()

    store = Store.open(tmp_path)
    try:
        assert store.instance == instance and len(instance) == 8
        assert list(store.functions) == [kept]
        assert store.functions.resolve("kept") == served("kept")
        assert [url.url_id for url in store.urls] == ["id-kept"]
        assert store.urls.by_id("id-gone") is None and store.urls.of(*kept.key) is store.urls.by_id("id-kept")
        assert store.blobs_in_use() == {SHA, "l"}  # the zips of code and of a layer
    finally:
        store.close()


async def test_room_that_code_takes_is_counted_over_changes_deletions_and_a_restart(tmp_path: Path) -> None:
    def sized(name: str, sizes: dict[str, int]) -> Function:
        versions = {number: Version(number, SHA, {"CodeSize": size}, "g1", None) for number, size in sizes.items()}
        return replace(function(name), versions=versions)

    store = Store.open(tmp_path)
    for saved in (sized("f", {LATEST: 10}), sized("f", {LATEST: 20, "1": 10}), sized("g", {LATEST: 5})):
        await store.change(lambda saved=saved: store.functions.save(saved))  # type: ignore[misc]
    layers = [LayerVersion(*KEY, "l", number, SHA, {"CodeSize": 100}) for number in (1, 2)]
    for layer in layers:
        await store.change(lambda layer=layer: store.layers.add(layer))  # type: ignore[misc]
    assert (store.functions.code_bytes[KEY], store.layers.code_bytes[KEY]) == (35, 200)
    await store.change(lambda: store.functions.save(sized("f", {LATEST: 20})))
    await store.change(lambda: store.layers.remove(layers[0]))
    g = store.functions.get(*KEY, "g")
    assert g is not None
    await store.change(lambda: store.remove(g))
    assert (store.functions.code_bytes[KEY], store.layers.code_bytes[KEY]) == (20, 100)
    store.close()
    store = Store.open(tmp_path)
    try:
        assert (store.functions.code_bytes[KEY], store.layers.code_bytes[KEY]) == (20, 100)
    finally:
        store.close()


async def test_refused_and_failed_changes_leave_no_trace_and_do_not_stop_the_next(tmp_path: Path) -> None:
    store = Store.open(tmp_path)

    def refuse() -> Change[None]:
        raise ApiError("ResourceConflictException", "no")

    def break_sql() -> Change[None]:
        one = store.functions.save(function("f"))
        return Change([*one.statements, ("INSERT INTO nowhere VALUES (1)", ())], lambda: None)

    def break_memory() -> Change[None]:
        return Change((), lambda: 1 / 0)  # type: ignore[arg-type]

    changes: list[Callable[[], Change[Any]]] = [refuse, break_sql, break_memory,
                                               lambda: store.functions.save(function("g"))]  # fmt: skip
    results = await asyncio.gather(*map(store.change, changes), return_exceptions=True)
    assert [type(result) for result in results] == [ApiError, sqlite3.OperationalError, ZeroDivisionError, Function]
    assert [one.name for one in store.functions] == ["g"]
    store.close()
    store = Store.open(tmp_path)
    assert [one.name for one in store.functions] == ["g"]
    store.close()


async def test_changes_see_what_earlier_ones_did(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    seen: list[int] = []

    def decide(number: int) -> Change[Function]:
        seen.append(len(store.functions))
        return store.functions.save(function(f"f{number}"))

    await asyncio.gather(*(store.change(lambda number=number: decide(number)) for number in range(20)))  # type: ignore[misc]
    assert seen == list(range(20))
    store.close()


async def test_change_of_a_caller_that_went_away_happens(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    task = asyncio.create_task(store.change(lambda: store.functions.save(function("f"))))
    await asyncio.sleep(0)
    task.cancel()
    await store.change(lambda: Change((), lambda: None))
    assert store.functions.get(*KEY, "f") is not None
    store.close()


async def test_resolve_tells_pending_failed_missing_and_old(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    told: list[tuple[str, str, FunctionVersion | None]] = []
    store.functions.watch(lambda *change: told.append(change))
    pending = await store.change(lambda: store.functions.save(function("f", None, "Pending")))
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    state = "The operation cannot be performed at this time. The function is currently in the following state: "
    for text, words in (("f", state + "Pending"), ("g", f"Function not found: {arn[:-1]}g:$LATEST"),
                        ("f:7", f"Function not found: {arn}:7")):  # fmt: skip
        with pytest.raises(ApiError) as caught:
            store.functions.resolve(text)
        assert caught.value.message == words
    assert told == []

    latest = replace(pending.latest, configuration={"State": "Active"}, serving=served("f"))
    active = await store.change(lambda: store.functions.save(replace(pending, versions={LATEST: latest})))
    assert told == [(arn, LATEST, served("f"))]
    for text in ("f", "f:$LATEST", "f%3A%24LATEST", arn, arn.replace(":", "%3A")):
        for _ in range(2):
            assert store.functions.resolve(text) is active.latest.serving
    assert store.functions.route("f").invoked_arn == arn
    assert store.functions.route("f", "$LATEST").invoked_arn == arn + ":$LATEST"

    updating = replace(latest, configuration={"State": "Active", "LastUpdateStatus": "InProgress"}, generation="g2")
    await store.change(lambda: store.functions.save(replace(active, versions={LATEST: updating})))
    assert store.functions.resolve("f").generation == "g1" and len(told) == 1
    done = replace(updating, serving=served("f", "g2"))
    await store.change(lambda: store.functions.save(replace(active, versions={LATEST: done})))
    assert store.functions.resolve("f").generation == "g2" and told[1:] == [(arn, LATEST, served("f", "g2"))]

    await store.change(lambda: store.remove(active))
    assert told[2:] == [(arn, LATEST, None)]
    with pytest.raises(ApiError):
        store.functions.resolve("f")
    store.close()


async def test_pages_are_by_name_and_stay_in_their_region(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for name in ("b", "a", "c", "B"):
        await store.change(lambda name=name: store.functions.save(function(name)))  # type: ignore[misc]
    other = replace(function("x"), region="us-east-10")
    await store.change(lambda: store.functions.save(other))
    assert [one.name for one in store.functions.page(*KEY, "", 10)] == ["B", "a", "b", "c"]
    assert [one.name for one in store.functions.page(*KEY, "a", 1)] == ["b"]
    assert store.functions.page(*KEY, "c", 10) == []
    store.close()


def test_directory_of_a_living_server_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with pytest.raises(StoreError, match=rf"in use by another server \(process {os.getpid()}\)$"):
        Store.open(tmp_path)
    store.close()
    Store.open(tmp_path).close()


def test_directory_of_newer_code_is_refused_and_untouched(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    newer = migrations()[-1][0] + 1
    with sqlite3.connect(tmp_path / "lambent.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    with pytest.raises(StoreError, match=f"newer Lambent \\(schema {newer}"):
        Store.open(tmp_path)


def test_directories_that_cannot_be_used_are_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    broken = tmp_path / "broken"
    Store.open(broken).close()
    (broken / "lambent.sqlite").write_bytes(b"this is no database" * 100)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "instance").write_text("../../etc")
    for path in (file, file / "below", Path("/proc/nowhere"), broken, strange):
        with pytest.raises(StoreError) as caught:
            Store.open(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    # Nothing stays locked by an opening that failed.
    (strange / "instance").unlink()
    Store.open(strange).close()


def test_rows_that_cannot_be_read_are_told_and_the_lock_is_free_again(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "lambent.sqlite") as connection:
        connection.execute("INSERT INTO functions VALUES ('a', 'r', 'f', 1, '{not json')")
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be read"):
            Store.open(tmp_path)
