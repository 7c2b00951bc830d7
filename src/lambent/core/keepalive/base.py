"""The KeepAlive protocol. A policy sees facts about environments and returns times; it performs nothing."""

from __future__ import annotations

from typing import Protocol


class Idle(Protocol):
    """What a policy may look at."""

    number: int
    created_at: float
    idle_since: float
    invocations: int


class KeepAlive(Protocol):
    def idle_until(self, environment: Idle) -> float:
        """When an environment that became idle at `idle_since` is to be retired, in seconds of the same clock."""
        ...

    def usefulness(self, environment: Idle) -> float:
        """Under memory pressure the smallest is retired first."""
        ...
