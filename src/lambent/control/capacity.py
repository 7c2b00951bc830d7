"""What the control plane asks of whoever starts and keeps environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lambent.core.model import FunctionVersion


class Capacity(Protocol):
    """The dispatcher, as far as concurrency settings concern it."""

    @property
    def account_limit(self) -> int:
        """Concurrent executions of each account, in each region."""
        ...

    def reserve(self, function_arn: str, concurrency: int | None) -> None:
        """Reserve concurrency for a function; None gives it back."""
        ...

    def provision(self, function: FunctionVersion, wanted: int) -> None:
        """Keep this many environments of a version initialised; 0 for none."""
        ...

    def provision_status(self, function: FunctionVersion) -> tuple[int, int, int, str]:
        """Environments wanted, allocated and available, and why an Init failed (empty when none did)."""
        ...

    def watch_environments(self, callback: Callable[[str, str, int, bool], None]) -> None:
        """Call `callback(function_arn, version, number, made)` when an environment is made (True) or gone (False)."""
        ...
