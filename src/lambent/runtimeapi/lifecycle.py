"""What the APIs inside an environment need of its driver."""

from __future__ import annotations

from typing import Protocol

from lambent.core.events import Event
from lambent.core.model import FunctionVersion
from lambent.core.states import State
from lambent.core.subscription import Api, Subscription


class Lifecycle(Protocol):
    """An environment: events go in, and what is not possible now is refused first."""

    function: FunctionVersion

    def now(self) -> float: ...

    def refusal(self, event: Event) -> str | None: ...

    def feed(self, event: Event) -> None: ...

    def runtime_state(self) -> State: ...

    def extension_state(self, name: str) -> State: ...

    def is_external(self, name: str) -> bool:
        """Whether this is the name of an extension that was launched here, as a process of its own."""
        ...

    def responding(self) -> bool:
        """Whether a streamed response is under way and may go on."""
        ...

    def subscription_refusal(self, name: str, api: Api) -> str | None:
        """Why this extension cannot subscribe now: `SubscriptionClosed`, `NotSupported` or `Taken`; None when it can.

        `Taken`: it has subscribed by the other API.
        """
        ...

    def subscribe(self, name: str, subscription: Subscription) -> None: ...
