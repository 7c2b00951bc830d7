"""The census: read in a thread, once for all who ask before it begins, and never told to who asked later."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from lambent.sandbox.base import Seen, Usage
from lambent.sandbox.proctable import Table
from lambent.worker.census import Census, Facts


class Watched:
    """One environment. Each look at it waits until `go` is set, and tells how many there were."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.looks = 0
        self.threads: set[int] = set()

    def facts(self) -> list[Facts]:
        return [Facts({"id": "e-1", "created_at": 0.0}, self.look), Facts({"id": "e-2", "created_at": 1.5}, None)]

    def look(self, table: Table) -> Seen:
        self.threads.add(threading.get_ident())
        self.begun.release()
        assert self.go.wait(20)
        self.looks += 1
        assert os.getpid() in table.rows
        return Seen(Usage(self.looks, 9, 5, (os.getpid(),)), True, (os.getppid(),))


class Asker:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.told = asyncio.Event()

    def tell(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.told.set()

    async def first(self) -> dict[str, Any]:
        await asyncio.wait_for(self.told.wait(), 20)
        return self.rows[0]


async def test_a_reading_is_shared_by_those_who_asked_before_it_began() -> None:
    watched = Watched()
    census = Census(watched.facts)
    early, late, later = Asker(), Asker(), Asker()
    census.ask(early.tell)
    await asyncio.to_thread(watched.begun.acquire)
    for asker in (late, later):
        census.ask(asker.tell)
    watched.go.set()
    assert (await early.first())["memory_bytes"] == 1
    assert [(await asker.first())["memory_bytes"] for asker in (late, later)] == [2, 2]
    assert watched.looks == 2 and threading.get_ident() not in watched.threads


async def test_a_row_has_what_is_known_and_what_was_read() -> None:
    watched, asker = Watched(), Asker()
    watched.go.set()
    Census(watched.facts).ask(asker.tell)
    assert await asker.first() == {
        "id": "e-1", "created_at": "1970-01-01T00:00:00.000Z", "frozen": True, "pids": [os.getpid()],
        "memory_bytes": 1, "memory_peak_bytes": 9, "cpu_us": 5}  # fmt: skip
    assert asker.rows[1] == {
        "id": "e-2", "created_at": "1970-01-01T00:00:01.500Z", "frozen": False, "pids": [],
        "memory_bytes": None, "memory_peak_bytes": None, "cpu_us": None}  # fmt: skip


async def test_whoever_is_weighed_is_weighed_with_what_runs_beside_it() -> None:
    watched, asker = Watched(), Asker()
    watched.go.set()
    Census(watched.facts, pss=True).ask(asker.tell)
    assert (await asker.first())["pss_bytes"] > 1_000_000 and asker.rows[1]["pss_bytes"] is None


async def test_an_asker_who_fails_keeps_nobody_from_being_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: list[dict[str, Any]]) -> None:
        raise RuntimeError("gone")

    watched, first, asker = Watched(), Asker(), Asker()
    census = Census(watched.facts)
    census.ask(first.tell)
    census.ask(fail)
    census.ask(asker.tell)
    watched.go.set()
    assert (await asker.first())["memory_bytes"] == 2
    assert "RuntimeError: gone" in capsys.readouterr().err
