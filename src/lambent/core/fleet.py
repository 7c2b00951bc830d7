"""The environments of one function version, as the scheduler keeps them: which are idle, which one serves next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from lambent.core.model import Invocation

FleetKey = tuple[str, str, str]  #: function ARN, version, generation


@dataclass(slots=True, eq=False)
class Member:
    """One environment. `number` is unique for the scheduler's life."""

    number: int
    fleet: Fleet
    created_at: float
    expires_at: float  #: maximum age, after which it is recycled
    idle_since: float = 0.0
    invocations: int = 0
    busy: bool = True
    retiring: bool = False
    timed: bool = False  #: has an entry among the scheduler's timers


class Fleet:
    """Members of one (function, version, generation)."""

    __slots__ = ("idle", "key", "members", "obsolete", "settling", "waiting")

    def __init__(self, key: FleetKey) -> None:
        self.key = key
        self.members: dict[int, Member] = {}
        #: idle members, in the order in which they became idle; each is in `members` and neither busy nor retiring
        self.idle: dict[int, Member] = {}
        #: busy members that have answered and are about to be idle
        self.settling: set[int] = set()
        #: (latest time, invocation) of those who wait for a settling member, in order of arrival; no more than those
        self.waiting: deque[tuple[float, Invocation]] = deque()
        #: code or configuration changed: nobody is assigned any more
        self.obsolete = False

    def take(self) -> Member | None:
        """The most recently used idle member, which is the one whose pages are warm."""
        if not self.idle:
            return None
        _, member = self.idle.popitem()
        return member

    def invariants(self) -> Iterator[str]:
        if self.waiting and self.idle:
            yield "an invocation waits although an environment is idle"
        if len(self.waiting) > len(self.settling):
            yield f"{len(self.waiting)} invocations wait for {len(self.settling)} settling environments"
        for number, member in self.idle.items():
            if number not in self.members:
                yield f"environment {number} is idle but no member"
            if member.busy or member.retiring:
                yield f"environment {number} is idle and busy or retiring"
        for member in self.members.values():
            if not member.busy and not member.retiring and member.number not in self.idle:
                yield f"environment {member.number} is neither busy, idle nor retiring"
