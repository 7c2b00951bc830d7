"""What participants have posted that they do not survive: of several errors since Init began the first is what is told
(`StoreFirstFatalError` of AWS's published emulator). That they end follows, and moves the phase.
"""

from __future__ import annotations

from collections.abc import Callable

from lambent.core import outcomes
from lambent.core.model import Outcome


class Fatal:
    """The first one: the runtime's error, or the type of an extension's."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: Outcome | str = ""

    def post(self, error: Outcome | str) -> None:
        """The journal keeps the events of all, and must not keep megabytes of what nobody is answered with."""
        if not self._first:
            self._first = error
        elif isinstance(error, Outcome):
            error.payload = b""

    def forget(self, *answers: Outcome | None) -> None:
        """Nobody is answered with it any more, unless it is one of these."""
        first, self._first = self._first, ""
        if isinstance(first, Outcome) and not any(first is answer for answer in answers):
            first.payload = b""

    def tell(self, error_type: str, reason: str) -> tuple[str, Callable[[str], Outcome]]:
        """Error type, and the outcome for a request id, of a participant that has ended like this."""
        first = self._first
        if isinstance(first, Outcome):
            return first.error_type or error_type, lambda _: first
        told = first or error_type
        return told, lambda request_id: outcomes.failed(request_id, told, reason)
