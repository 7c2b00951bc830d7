"""Documents survive a restart and go with their function."""

from __future__ import annotations

from pathlib import Path

from lambent.store.documents import Shelf
from lambent.store.store import Store

POLICY = Shelf("000000000000", "us-east-1", "f", "policy")
RECURSION = Shelf("000000000000", "us-east-1", "f", "recursion")
OTHER = Shelf("000000000000", "us-east-1", "g", "policy")
OWN = Shelf("000000000000", "us-east-1", "", "event-source-mapping")


async def fill(store: Store) -> None:
    for shelf, name in ((POLICY, ""), (POLICY, "prod"), (RECURSION, ""), (OTHER, "prod"), (OWN, "id")):
        await store.change(lambda shelf=shelf, name=name: store.documents.save(shelf, name, {"is": name}))  # type: ignore[misc]


async def test_documents_are_there_after_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    await fill(store)
    await store.change(lambda: store.documents.save(OWN, "id", {"is": "replaced"}))
    await store.change(lambda: store.documents.remove(OTHER, "prod"))
    store.close()
    again = Store.open(tmp_path)
    assert again.documents.all(POLICY) == [("", {"is": ""}), ("prod", {"is": "prod"})]
    assert again.documents.get(OWN, "id") == {"is": "replaced"}
    assert again.documents.get(OTHER, "prod") is None and again.documents.all(OTHER) == []
    assert list(again.documents.on_functions("000000000000", "us-east-1", "recursion")) == [("f", "", {"is": ""})]
    again.close()


async def test_documents_go_with_their_function_or_its_alias(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    await fill(store)
    await store.change(lambda: store.documents.remove_of(POLICY[:3], "prod"))
    assert store.documents.all(POLICY) == [("", {"is": ""})]
    await store.change(lambda: store.documents.remove_of(POLICY[:3]))
    assert store.documents.all(POLICY) == [] and store.documents.all(RECURSION) == []
    store.close()
    again = Store.open(tmp_path)
    assert again.documents.all(POLICY) == [] and again.documents.get(OTHER, "prod") and again.documents.get(OWN, "id")
    again.close()
