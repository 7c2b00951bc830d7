"""Leases: the right to use one unit of concurrency for one invocation. Who is throttled, and with which reason."""

from __future__ import annotations

from typing import Literal

ThrottleReason = Literal[
    "ConcurrentInvocationLimitExceeded",
    "ReservedFunctionConcurrentInvocationLimitExceeded",
]


class Leases:
    """Concurrency of the account. Reasons are those of the API (fact sheet 6.4)."""

    __slots__ = ("account_limit", "held")

    def __init__(self, account_limit: int) -> None:
        self.account_limit = account_limit
        self.held = 0

    def refusal(self) -> ThrottleReason | None:
        """Why no lease can be given now; None when one can."""
        return "ConcurrentInvocationLimitExceeded" if self.held >= self.account_limit else None

    def take(self) -> None:
        self.held += 1

    def give_back(self) -> None:
        self.held -= 1
