"""Who gives way to whom while the processors are short: whoever has just begun goes before who works for long.

A guest that computes takes what time the short calls of its neighbours leave, and the kernel counts these as having had
more than their share: a runtime that was woken then waits until a neighbour's loop or fork bomb has had as much. So who
has worked for AFTER_S is to weigh less, until its next invocation begins.
"""

from __future__ import annotations

from typing import Generic, TypeVar

#: Nearly every invocation and Init is over by then.
AFTER_S = 0.1

Worker = TypeVar("Worker")


class Precedence(Generic[Worker]):
    """A policy over whatever hashable stands for an environment. Times are seconds on one clock, and never fall."""

    __slots__ = ("_began", "_giving_way", "_working")

    def __init__(self) -> None:
        self._began: dict[Worker, float] = {}  #: of who is not due yet, in the order of the times
        self._giving_way: set[Worker] = set()
        self._working: set[Worker] = set()

    def began(self, worker: Worker, at: float) -> bool:
        """An invocation or an Init. Whether the worker has given way so far, and is not to do so any more."""
        self._began.pop(worker, None)
        self._began[worker] = at
        self._working.add(worker)
        if worker not in self._giving_way:
            return False
        self._giving_way.remove(worker)
        return True

    def rests(self, worker: Worker) -> None:
        """It is frozen; what it weighs does not matter until it begins again."""
        self._began.pop(worker, None)
        self._working.discard(worker)

    def gone(self, worker: Worker) -> None:
        """It never begins again."""
        self.rests(worker)
        self._giving_way.discard(worker)

    def due(self, at: float) -> list[Worker]:
        """Who is to give way from now on."""
        late = []
        for worker, began in self._began.items():
            if began + AFTER_S > at:
                break
            late.append(worker)
        for worker in late:
            del self._began[worker]
        self._giving_way.update(late)
        return late

    @property
    def working(self) -> int:
        """How many do not rest."""
        return len(self._working)

    @property
    def next_at(self) -> float | None:
        """When somebody is due next; None: never, unless somebody begins."""
        return next(iter(self._began.values())) + AFTER_S if self._began else None
