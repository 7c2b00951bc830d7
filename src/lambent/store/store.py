"""The state of one data directory: opened once, read from memory, changed through one writer.

Composes the tables with the writer; what is in them is theirs. Packages unpacked from blobs are the worker's and can
be made again at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lambent.store import directory
from lambent.store.blobs import Blobs
from lambent.store.directory import StoreError
from lambent.store.documents import DocumentTable
from lambent.store.functions import Function, FunctionTable
from lambent.store.layers import LayerTable
from lambent.store.urls import UrlTable
from lambent.store.writer import Change, Writer, together

T = TypeVar("T")

__all__ = ["Store", "StoreError"]


class Store:
    """`open` it before the event loop does anything else; `close` it last."""

    def __init__(self, data_dir: Path, instance: str, lock: int, writer: Writer, blobs: Blobs,
                 functions: FunctionTable, layers: LayerTable, urls: UrlTable, documents: DocumentTable) -> None:
        self.data_dir = data_dir
        self.instance = instance  #: 8 hex digits, made once per data directory
        self.blobs = blobs
        self.functions = functions
        self.layers = layers
        self.urls = urls
        self.documents = documents
        self._lock = lock
        self._writer = writer

    @classmethod
    def open(cls, data_dir: Path, *, account: str = "000000000000", region: str = "us-east-1") -> Store:
        """Lock the directory, bring its schema up to date and read everything. Blocks.

        `account` and `region` are those of callers whose names say nothing else. Raises StoreError with one line
        when the directory cannot be written, is in use, is broken, or comes from newer code.
        """
        data_dir = directory.prepare(data_dir)
        lock = directory.lock(data_dir)
        try:
            instance = directory.instance(data_dir)
            connection = directory.database(data_dir)
            try:
                blobs = Blobs(data_dir / "blobs")
                functions = FunctionTable(account, region, blobs.references)
                layers, urls, documents = LayerTable(blobs.references), UrlTable(), DocumentTable()
                for table in (functions, layers, urls, documents):
                    table.load(connection)
            except Exception as error:
                connection.close()
                raise StoreError(f"data directory {data_dir} holds what cannot be read: {error!r}") from error
        except BaseException:
            os.close(lock)
            raise
        return cls(data_dir, instance, lock, Writer(connection), blobs, functions, layers, urls, documents)

    async def change(self, decide: Callable[[], Change[T]]) -> T:
        """Decide, commit and apply one change, after all that were asked for earlier (see `store/writer.py`)."""
        return await self._writer.change(decide)

    def remove(self, function: Function) -> Change[None]:
        """Delete a function together with its URLs and all that hangs on it."""
        gone = together(self.functions.remove(function), self.documents.remove_of(function.key))

        def apply() -> None:
            gone.apply()
            self.urls.forget(function.key)

        return Change(gone.statements, apply)

    def blobs_in_use(self) -> set[str]:
        """The names of all code that a version or a layer needs, or somebody holds for a while."""
        return set(self.blobs.references)

    def close(self) -> None:
        """Finish the change that is being written and free the directory. Blocks for a moment."""
        self._writer.close()
        os.close(self._lock)
