"""Small resources that are read whole: JSON objects by account, region, function, kind and name.

What a document says is its operation's business; here it is only kept, found, and dropped together with the function
that it hangs on. Held in memory and written through to SQLite, like functions. A document is never changed in place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from lambent.store.functions import Key
from lambent.store.writer import Change

Kind = Literal[
    "policy", "reserved-concurrency", "provisioned-concurrency", "event-invoke", "runtime-management", "recursion",
    "code-signing", "event-source-mapping", "code-signing-config", "layer-policy", "role", "managed-policy",
    "log-group",
]  # fmt: skip
Document = Mapping[str, Any]


class Shelf(NamedTuple):
    """Where documents of one kind lie. `function` is empty for resources of their own."""

    account: str
    region: str
    function: str
    kind: Kind


class DocumentTable:
    """Every document, by shelf and name."""

    __slots__ = ("_shelves",)

    def __init__(self) -> None:
        self._shelves: dict[Shelf, dict[str, Document]] = {}

    def get(self, shelf: Shelf, name: str) -> Document | None:
        return self._shelves.get(shelf, {}).get(name)

    def all(self, shelf: Shelf) -> list[tuple[str, Document]]:
        """The documents of a shelf, by name."""
        return sorted(self._shelves.get(shelf, {}).items())

    def on_functions(self, account: str, region: str, kind: Kind) -> Iterator[tuple[str, str, Document]]:
        """Function, name and document of every document of this kind that hangs on a function."""
        for shelf, documents in self._shelves.items():
            if shelf.function and (shelf.account, shelf.region, shelf.kind) == (account, region, kind):
                for name, document in documents.items():
                    yield shelf.function, name, document

    def save(self, shelf: Shelf, name: str, document: Document) -> Change[Document]:
        """Insert or replace a document."""
        row = (*shelf, name, msgspec.json.encode(dict(document)).decode())
        return Change([(_SAVE, row)], lambda: self._put(shelf, name, document))

    def remove(self, shelf: Shelf, name: str) -> Change[None]:
        """Delete a document that is there."""
        return Change([(_DELETE, (*shelf, name))], lambda: self._drop(shelf, name))

    def remove_of(self, function: Key, qualifier: str | None = None) -> Change[None]:
        """Delete what hangs on a function, or only on one of its versions or aliases."""
        if qualifier is None:
            return Change([(_DELETE_OF_FUNCTION, function)], lambda: self._drop_of(function, None))
        return Change([(_DELETE_OF_QUALIFIER, (*function, qualifier))], lambda: self._drop_of(function, qualifier))

    def load(self, connection: sqlite3.Connection) -> None:
        for account, region, function, kind, name, document in connection.execute(_LOAD):
            self._put(Shelf(account, region, function, kind), name, msgspec.json.decode(document))

    def _put(self, shelf: Shelf, name: str, document: Document) -> Document:
        self._shelves.setdefault(shelf, {})[name] = document
        return document

    def _drop(self, shelf: Shelf, name: str) -> None:
        documents = self._shelves[shelf]
        del documents[name]
        if not documents:
            del self._shelves[shelf]

    def _drop_of(self, function: Key, qualifier: str | None) -> None:
        for shelf in [shelf for shelf in self._shelves if shelf[:3] == function]:
            for name in [name for name in self._shelves[shelf] if qualifier is None or name == qualifier]:
                self._drop(shelf, name)


_SAVE = """
    INSERT INTO documents (account, region, function, kind, name, document) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (account, region, function, kind, name) DO UPDATE SET document = excluded.document
"""
_DELETE = "DELETE FROM documents WHERE account = ? AND region = ? AND function = ? AND kind = ? AND name = ?"
_DELETE_OF_FUNCTION = "DELETE FROM documents WHERE account = ? AND region = ? AND function = ?"
_DELETE_OF_QUALIFIER = "DELETE FROM documents WHERE account = ? AND region = ? AND function = ? AND name = ?"
_LOAD = "SELECT account, region, function, kind, name, document FROM documents"
