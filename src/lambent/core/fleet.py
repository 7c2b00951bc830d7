"""The environments of one function version, as the scheduler keeps them: which are idle, which one serves next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from lambent.core.concurrency import Leases
from lambent.core.model import Invocation

FleetKey = tuple[str, str, str]  #: function ARN, version, generation


@dataclass(slots=True, eq=False)
class Member:
    """One environment. `number` is unique for the scheduler's life."""

    number: int
    fleet: Fleet
    created_at: float
    expires_at: float  #: maximum age, after which it is recycled
    provisioned: bool = False
    idle_since: float = 0.0
    invocations: int = 0
    busy: bool = True  #: from the start until it is idle for the first time, and while it serves
    starting: bool = True  #: until it has answered or was idle for the first time
    leased: bool = False  #: its invocation holds a lease
    retiring: bool = False
    timed: bool = False  #: has an entry among the scheduler's timers


class Fleet:
    """Members of one (function, version, generation)."""

    __slots__ = ("failure", "idle", "idle_provisioned", "key", "leases", "members", "obsolete", "ready", "settling",
                 "waiting", "wanted")  # fmt: skip

    def __init__(self, key: FleetKey, leases: Leases) -> None:
        self.key = key
        self.leases = leases  #: the pool of the function's account and region
        self.members: dict[int, Member] = {}
        #: idle on-demand members, in the order in which they became idle
        self.idle: dict[int, Member] = {}
        #: idle provisioned members, likewise
        self.idle_provisioned: dict[int, Member] = {}
        #: busy members that have answered and are about to be idle
        self.settling: set[int] = set()
        #: (latest time, invocation) of those who wait for a settling member, in order of arrival; no more than those
        self.waiting: deque[tuple[float, Invocation]] = deque()
        #: code or configuration changed: nobody is assigned any more
        self.obsolete = False
        #: provisioned environments to keep
        self.wanted = 0
        #: all that were wanted have been initialised at once; none of them serves before
        self.ready = False
        #: why a provisioned environment could not be initialised; no more are started until somebody asks anew
        self.failure = ""

    @property
    def arn(self) -> str:
        return self.key[0]

    def provisioned(self) -> list[Member]:
        """Provisioned members that stay."""
        return [member for member in self.members.values() if member.provisioned and not member.retiring]

    def take(self) -> Member | None:
        """The most recently used idle member, whose pages are warm; provisioned ones first, once they are ready."""
        if self.ready and self.idle_provisioned:
            return self.idle_provisioned.popitem()[1]
        if self.idle:
            return self.idle.popitem()[1]
        return None

    def put(self, member: Member) -> None:
        """A member is idle."""
        (self.idle_provisioned if member.provisioned else self.idle)[member.number] = member

    def drop(self, member: Member) -> None:
        """A member is idle no more."""
        (self.idle_provisioned if member.provisioned else self.idle).pop(member.number, None)

    def is_idle(self, member: Member) -> bool:
        return member.number in (self.idle_provisioned if member.provisioned else self.idle)

    def invariants(self) -> Iterator[str]:
        if self.waiting and self.idle:
            yield "an invocation waits although an environment is idle"
        if len(self.waiting) > len(self.settling):
            yield f"{len(self.waiting)} invocations wait for {len(self.settling)} settling environments"
        for number, member in (self.idle | self.idle_provisioned).items():
            if number not in self.members:
                yield f"environment {number} is idle but no member"
            if member.busy or member.retiring or member.leased:
                yield f"environment {number} is idle and busy, retiring or leased"
        for member in self.members.values():
            if not member.busy and not member.retiring and not self.is_idle(member):
                yield f"environment {member.number} is neither busy, idle nor retiring"
