"""The one thread that writes to SQLite, and the order of changes.

A change is decided on the event loop, from memory, at the moment when it is next in line; its statements are
committed in one transaction by the thread; only then is memory changed and the caller answered. So decisions never
race, memory never runs ahead of the disk, and a change that cannot be committed leaves no trace. `synchronous=FULL`:
what was answered survives a power cut (about a millisecond each, measured in libraries.md).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Statement = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """Statements of one transaction, and what to do in memory once they are on disk."""

    statements: Sequence[Statement]
    apply: Callable[[], T]


Decide = Callable[[], Change[Any]]


def together(*changes: Change[Any]) -> Change[None]:
    """Several changes as one transaction."""

    def apply() -> None:
        for change in changes:
            change.apply()

    return Change([statement for change in changes for statement in change.statements], apply)


class Writer:
    """Changes, one after the other. `change` belongs to the event loop that uses it first."""

    __slots__ = ("_connection", "_queue", "_thread", "_waiting")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queue: queue.SimpleQueue[tuple[Sequence[Statement], Callable[[Exception | None], None]] | None]
        self._queue = queue.SimpleQueue()
        #: decisions not yet answered, first come first; the first one is with the thread
        self._waiting: deque[tuple[Decide, asyncio.Future[Any]]] = deque()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def change(self, decide: Callable[[], Change[T]]) -> T:
        """Run `decide` when all earlier changes are done, commit, apply; returns what `apply` returns.

        Raises what `decide` raises (nothing is changed then), and sqlite3.Error when the disk refuses. A caller that
        is cancelled no longer hears the result; the change happens all the same.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((decide, future))
        if len(self._waiting) == 1:
            self._next()
        result: T = await future
        return result

    def close(self) -> None:
        """Finish what the thread has, then end it. Blocks for as long as that takes."""
        self._queue.put(None)
        self._thread.join()

    def _next(self) -> None:
        while self._waiting:
            decide, future = self._waiting[0]
            try:
                change = decide()
            except Exception as error:
                self._answer(future, error=error)
                self._waiting.popleft()
                continue
            self._queue.put((change.statements, partial(_call, future.get_loop(), self._committed, change)))
            return

    def _committed(self, change: Change[Any], error: Exception | None) -> None:
        future = self._waiting[0][1]
        try:
            if error is not None:
                raise error
            self._answer(future, result=change.apply())
        except Exception as problem:
            self._answer(future, error=problem)
        finally:
            self._waiting.popleft()
            self._next()

    @staticmethod
    def _answer(future: asyncio.Future[Any], result: Any = None, error: Exception | None = None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            statements, done = work
            done(commit(self._connection, statements))
        self._connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the pragmas that the guarantees above rest on. It may be handed to another thread."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def commit(connection: sqlite3.Connection, statements: Sequence[Statement]) -> Exception | None:
    """All statements in one transaction, or none and the error."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            connection.execute(sql, values)
        connection.execute("COMMIT")
    except Exception as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return error
    return None


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: Any) -> None:
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        return  # the loop has ended: nobody waits for the answer, and the next start reads the disk
