"""The environments of one function version, as the scheduler keeps them: which are idle, which one serves next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from lambent.core.concurrency import Leases
from lambent.core.headroom import Demand
from lambent.core.model import Invocation

#: Environments are recycled up to this share earlier than the maximum age, so that they do not go all at once.
AGE_JITTER = 0.1

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
    failed: bool = False  #: its Init has, before anybody waited for it
    timed: bool = False  #: has an entry among the scheduler's timers


def recycled_at(number: int, created_at: float, max_age_s: float) -> float:
    """When an environment reaches its maximum age."""
    jitter = (number * 2654435761 % 2**32) / 2**32  # a multiplicative hash: spread, and the same at each replay
    return created_at + max_age_s * (1 - AGE_JITTER * jitter)


class Fleet:
    """Members of one (function, version, generation)."""

    __slots__ = ("ahead", "demand", "failure", "idle", "idle_provisioned", "key", "leases", "members", "obsolete",
                 "ready", "running", "settling", "waiting", "wanted")  # fmt: skip

    def __init__(self, key: FleetKey, leases: Leases) -> None:
        self.key = key
        self.leases = leases  #: the pool of the function's account and region
        self.members: dict[int, Member] = {}
        #: idle on-demand members: those that have never served, then in the order in which they became idle
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
        #: members that are being initialised ahead of invocations, while nobody has asked for them
        self.ahead: dict[int, Member] = {}
        self.demand = Demand()
        #: leases held by members and by those who wait
        self.running = 0

    @property
    def arn(self) -> str:
        return self.key[0]

    def provisioned(self) -> list[Member]:
        """Provisioned members that stay."""
        return [member for member in self.members.values() if member.provisioned and not member.retiring]

    def provision(self) -> tuple[int, int, int, str]:
        """See `Scheduler.provision`."""
        kept = self.provisioned()
        initialised = sum(1 for member in kept if not member.busy or member.invocations)
        return self.wanted, len(kept), initialised if self.ready else 0, self.failure

    @property
    def is_provided(self) -> bool:
        """Whether provisioned members are there for the next invocation, or will soon be."""
        return self.wanted > 0 and not self.failure and (not self.ready or bool(self.idle_provisioned))

    def take_lease(self) -> None:
        self.running += 1
        self.leases.take(self.arn)

    def give_lease_back(self) -> None:
        self.running -= 1
        self.leases.give_back(self.arn)

    def serve(self, member: Member) -> None:
        """An invocation is a member's from now on."""
        if not (member.busy or member.invocations or member.failed):
            self.demand.of_use()
        member.busy = True
        member.invocations += 1
        if not member.provisioned:
            member.leased = True
            self.take_lease()

    def release(self, member: Member) -> None:
        """A member's invocation is over."""
        if member.leased:
            member.leased = False
            self.give_lease_back()

    def take(self) -> Member | None:
        """The most recently used idle member, whose pages are warm; provisioned ones first, once they are ready.

        When nobody is idle, of those that are being initialised ahead the first, which will be ready before the others.
        """
        if self.ready and self.idle_provisioned:
            return self.idle_provisioned.popitem()[1]
        if self.idle:
            return self.idle.popitem()[1]
        return self.ahead.pop(next(iter(self.ahead))) if self.ahead else None

    def put(self, member: Member) -> None:
        """A member is idle."""
        if member.provisioned:
            self.idle_provisioned[member.number] = member
        elif member.invocations:
            self.idle[member.number] = member
        else:
            self.idle = {member.number: member} | self.idle

    def drop(self, member: Member) -> None:
        """A member is not to be given to anybody any more."""
        self.ahead.pop(member.number, None)
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
        for number, member in self.ahead.items():
            if number not in self.members or self.obsolete or member.retiring or member.provisioned:
                yield f"environment {number} is started ahead of invocations that it may not serve"
            if not member.starting or member.invocations:
                yield f"environment {number} is started ahead, and serves or is ready"
        if self.running != len(self.waiting) + sum(member.leased for member in self.members.values()):
            yield f"{self.running} invocations are counted as running"
        for member in self.members.values():
            yield from self._member_invariants(member)

    def _member_invariants(self, member: Member) -> Iterator[str]:
        if not member.busy and not member.retiring and not self.is_idle(member):
            yield f"environment {member.number} is neither busy, idle nor retiring"
        if self.is_idle(member) and not member.timed:
            yield f"environment {member.number} is idle without a timer"
        if member.starting and not member.busy:
            yield f"environment {member.number} is idle and still starting"
        if member.leased and (not member.busy or member.provisioned):
            yield f"environment {member.number} holds a lease that it does not need"
