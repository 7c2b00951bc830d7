"""Leases: the right to use one unit of concurrency for one invocation. Who is throttled, and with which reason.

Each account has a pool of its own in each region. Reserved concurrency is a guarantee and a ceiling for a function.
What provisioned environments may serve is set aside when they are allocated, so an invocation that one of them serves
needs no lease. However short invocations are, a pool admits ten times its concurrency of them in a second. Facts: fact
sheet, section 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

ThrottleReason = Literal[
    "ConcurrentInvocationLimitExceeded",
    "ReservedFunctionConcurrentInvocationLimitExceeded",
    "FunctionInvocationRateLimitExceeded",
    "ReservedFunctionInvocationRateLimitExceeded",
]

#: Requests per second for each unit of concurrency.
REQUESTS_PER_UNIT = 10


class Rate:
    """A bucket that holds the requests of one second."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float("inf")
        self._at = 0.0

    def admits(self, at: float, per_s: int) -> bool:
        """Whether one more request may come; it is counted then."""
        left = self._left + (at - self._at) * per_s
        self._at = at
        self._left = min(left, per_s)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Pools:
    """The leases of every account and region; `limit` is what each of them has."""

    __slots__ = ("_pools", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pools: dict[str, Leases] = {}

    def of(self, function_arn: str) -> Leases:
        """The pool that a function is in."""
        place = function_arn.rpartition(":")[0]  # the region and the account, without the name
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = Leases(self.limit)
        return pool

    @property
    def held(self) -> int:
        """All leases together."""
        return sum(pool.held for pool in self._pools.values())

    def invariants(self) -> Iterator[str]:
        for place, pool in self._pools.items():
            yield from (f"{place}: {broken}" for broken in pool.invariants())


class Leases:
    """Concurrency of one account in one region. Functions are named by their unqualified ARN; reasons are those of the
    API."""

    __slots__ = ("_held", "_rate", "_rates", "_reserved", "_set_aside", "_unreserved_held", "_unreserved_limit",
                 "account_limit")  # fmt: skip

    def __init__(self, account_limit: int) -> None:
        self.account_limit = account_limit
        self._reserved: dict[str, int] = {}
        #: provisioned environments of a function, whether they run or not
        self._set_aside: dict[str, int] = {}
        self._held: dict[str, int] = {}
        #: kept beside what they are sums of, because every invocation asks
        self._unreserved_held = 0
        self._unreserved_limit = account_limit
        self._rate = Rate()  #: of all functions without a reservation
        self._rates: dict[str, Rate] = {}  #: of those that have one

    @property
    def held(self) -> int:
        """Those of all functions together."""
        return sum(self._held.values())

    def refusal(self, function_arn: str, at: float) -> ThrottleReason | None:
        """Why no lease can be given now; None when one can, and then the request is counted."""
        reserved = self._reserved.get(function_arn)
        if reserved is None:
            if self._unreserved_held >= self._unreserved_limit:
                return "ConcurrentInvocationLimitExceeded"
            admitted = self._rate.admits(at, self._unreserved_limit * REQUESTS_PER_UNIT)
            return None if admitted else "FunctionInvocationRateLimitExceeded"
        if self.left(function_arn) <= 0:
            return "ReservedFunctionConcurrentInvocationLimitExceeded"
        admitted = self._rates[function_arn].admits(at, reserved * REQUESTS_PER_UNIT)
        return None if admitted else "ReservedFunctionInvocationRateLimitExceeded"

    def left(self, function_arn: str) -> int:
        """How many more it could have now. Negative where what is held was reserved for somebody else since."""
        reserved = self._reserved.get(function_arn)
        if reserved is None:
            return self._unreserved_limit - self._unreserved_held
        return reserved - self._set_aside.get(function_arn, 0) - self._held.get(function_arn, 0)

    def take(self, function_arn: str) -> None:
        self._held[function_arn] = self._held.get(function_arn, 0) + 1
        if function_arn not in self._reserved:
            self._unreserved_held += 1

    def give_back(self, function_arn: str) -> None:
        left = self._held[function_arn] - 1
        if left:
            self._held[function_arn] = left
        else:
            del self._held[function_arn]
        if function_arn not in self._reserved:
            self._unreserved_held -= 1

    def reserve(self, function_arn: str, concurrency: int | None) -> None:
        """Reserve for a function, or with None give its share back to the account."""
        if concurrency is None:
            self._reserved.pop(function_arn, None)
            self._rates.pop(function_arn, None)
        else:
            self._reserved[function_arn] = concurrency
            self._rates.setdefault(function_arn, Rate())
        self._count()

    def set_aside(self, function_arn: str, environments: int) -> None:
        """Account for a function's provisioned environments."""
        if environments:
            self._set_aside[function_arn] = environments
        else:
            self._set_aside.pop(function_arn, None)
        self._count()

    def _count(self) -> None:
        reserved = sum(self._reserved.values())
        provisioned = sum(count for arn, count in self._set_aside.items() if arn not in self._reserved)
        self._unreserved_limit = self.account_limit - reserved - provisioned
        self._unreserved_held = sum(count for arn, count in self._held.items() if arn not in self._reserved)

    def invariants(self) -> Iterator[str]:
        unreserved = sum(count for arn, count in self._held.items() if arn not in self._reserved)
        if unreserved != self._unreserved_held:
            yield f"{unreserved} unreserved leases are counted as {self._unreserved_held}"
        if any(count <= 0 for count in self._held.values()):
            yield f"a function holds no or negative leases: {self._held}"
