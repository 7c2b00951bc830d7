"""What the kernel knows of every environment, read in a thread: thousands take it most of a second.

Read once for all who ask before it begins; who asks later is told what is read after that, so that nobody is told how
things were before they asked.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lambent.clock import rfc3339
from lambent.sandbox import proctable
from lambent.sandbox.base import Seen, Usage

Row = dict[str, Any]
Tell = Callable[[list[Row]], None]
_NOTHING = Seen(Usage(None, None, None), False)


@dataclass(slots=True)
class Facts:
    """One environment as the event loop knows it, and how to look at it."""

    row: Row  #: with times as seconds in the members that end in `_at`
    look: Callable[[proctable.Table], Seen] | None  #: None while there is no sandbox


class Census:
    """`facts` is called in the event loop when a reading begins. With `pss` each row tells its proportional memory."""

    def __init__(self, facts: Callable[[], list[Facts]], *, pss: bool = False) -> None:
        self._facts = facts
        self._pss = pss
        self._waiting: list[Tell] = []
        self._reading = False

    def ask(self, tell: Tell) -> None:
        """Hand `tell` the rows, from the event loop, a little later."""
        self._waiting.append(tell)
        if not self._reading:
            self._begin()

    def _begin(self) -> None:
        asked, self._waiting = self._waiting, []
        self._reading = True
        reading = asyncio.get_running_loop().run_in_executor(None, _read, self._facts(), self._pss)
        reading.add_done_callback(partial(self._done, asked))

    def _done(self, asked: list[Tell], reading: asyncio.Future[list[Row]]) -> None:
        self._reading = False
        if reading.cancelled():  # with the event loop, and with all who asked
            return
        if self._waiting:
            self._begin()
        rows = reading.result()
        for tell in asked:
            try:
                tell(rows)
            except Exception:
                traceback.print_exc()


def _read(every: list[Facts], pss: bool) -> list[Row]:
    table = proctable.Table()
    return [_row(facts, table, pss) for facts in every]


def _row(facts: Facts, table: proctable.Table, pss: bool) -> Row:
    seen = facts.look(table) if facts.look is not None else _NOTHING
    usage = seen.usage
    row = {name: rfc3339(value) if name.endswith("_at") else value for name, value in facts.row.items()}
    row |= {"frozen": seen.frozen, "pids": list(usage.pids), "memory_bytes": usage.memory_bytes,
            "memory_peak_bytes": usage.memory_peak_bytes, "cpu_us": usage.cpu_us}  # fmt: skip
    if pss:
        each = [size for pid in (*seen.beside, *usage.pids) if (size := proctable.pss_bytes(pid)) is not None]
        row["pss_bytes"] = sum(each) if each else None
    return row
