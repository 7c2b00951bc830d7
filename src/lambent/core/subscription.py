"""What an extension asked to be told, and where: one accepted call of the Telemetry API or of the older Logs API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Api = Literal["telemetry", "logs"]
Category = Literal["platform", "function", "extension"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Validated: every number is within AWS's limits, and the destination can only be the environment itself."""

    api: Api
    schema: str  #: as in `2022-12-13`
    categories: tuple[Category, ...]
    max_items: int
    max_bytes: int
    timeout_s: float
    protocol: Literal["HTTP", "TCP"]
    port: int
    method: str = "POST"  #: HTTP only
    path: str = "/"  #: HTTP only
    host: str = "sandbox.localdomain"  #: for the Host header; it is never resolved

    def tells_as(self, other: Subscription) -> bool:
        """Both tell the same events, in the same form."""
        return (self.api, self.schema, self.categories) == (other.api, other.schema, other.categories)
