"""The telemetry of one environment: its events, the early ones kept, and each subscriber's view of them.

The Telemetry API's events are `records`' envelopes as they are. The Logs API knows fewer, with fewer fields (fact
sheet 4.3). Who subscribed is `runtimeapi`'s to judge, how batches travel is `delivery`'s. While nobody listens an
event costs a look at `active`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from lambent.clock import Clock
from lambent.core.subscription import Subscription
from lambent.telemetry.delivery import Connect, Subscriber

Event = dict[str, Any]

#: Events of an Init that those who subscribe later are still told.
EARLY_EVENTS = 1000

#: What the Logs API shows: type -> fields of the record.
_LOGS_FIELDS: dict[str, tuple[str, ...]] = {
    "platform.start": ("requestId", "version"),
    "platform.end": ("requestId",),
    "platform.report": ("requestId", "metrics"),
    "platform.runtimeDone": ("requestId", "status"),
    "platform.extension": ("name", "state", "events"),
    "platform.logsSubscription": ("name", "state", "types"),
    "platform.logsDropped": ("reason", "droppedRecords", "droppedBytes"),
}
#: What nobody but the Logs API shows (fact sheet 4.3; decision 8 for the last one).
_LOGS_ONLY = ("platform.end", "platform.logsSubscription", "platform.fault")
_LOGS_SCHEMA_WITH_RUNTIME_DONE = "2021-03-18"
#: From this one on a line of JSON is delivered as an object, if the function logs JSON.
_SCHEMA_WITH_OBJECTS = "2022-12-13"


class Telemetry:
    """One environment's events and subscribers."""

    def __init__(self, clock: Clock, log_format: str) -> None:
        self.active = False  #: somebody listens, or may still come and want what was
        self._clock = clock
        self._objects = log_format == "JSON"
        self._early: deque[Event] | None = None
        self._subscribers: dict[str, Subscriber] = {}

    def begin(self) -> None:
        """An Init begins: until it is over, events are kept for those who will subscribe."""
        self._early = deque(maxlen=EARLY_EVENTS)
        self.active = True

    def settle(self) -> None:
        """Init is over, and nobody can subscribe any more."""
        self._early = None
        self.active = bool(self._subscribers)

    def emit(self, event: Event) -> None:
        """Tell an event to everybody who wants it."""
        if self._early is not None:
            self._early.append(event)
        for subscriber in self._subscribers.values():
            self._offer(subscriber, event)

    def subscribed(self, name: str) -> Subscription | None:
        """What an extension has subscribed to so far."""
        subscriber = self._subscribers.get(name)
        return subscriber.subscription if subscriber is not None else None

    def subscribe(self, name: str, subscription: Subscription, connect: Connect) -> None:
        """Tell `name` what was and what will be. Replaces what it subscribed to before.

        To be told the same in the same words elsewhere costs no more than that: a guest may ask thousands of times.
        """
        earlier = self._subscribers.pop(name, None)
        subscriber = self._subscribers[name] = Subscriber(subscription, connect, self._clock)
        if earlier is not None and earlier.subscription.tells_as(subscription):
            subscriber.take_over(earlier)
        else:
            for event in self._early or ():
                self._offer(subscriber, event)
        if earlier is not None:
            earlier.close()

    def pause(self) -> None:
        for subscriber in self._subscribers.values():
            subscriber.pause()

    def resume(self) -> None:
        for subscriber in self._subscribers.values():
            subscriber.resume()

    def flush(self) -> None:
        """Send what waits: there may be no later."""
        for subscriber in self._subscribers.values():
            subscriber.flush()

    def clear(self) -> None:
        """The processes are gone, and with them everybody who listened."""
        for subscriber in self._subscribers.values():
            subscriber.close()
        self._subscribers.clear()
        self.active = self._early is not None

    def _offer(self, subscriber: Subscriber, event: Event) -> None:
        asked = subscriber.subscription
        kind: str = event["type"]
        if kind.partition(".")[0] not in asked.categories:
            return
        shown = _logs_view(event, asked.schema) if asked.api == "logs" else self._view(event, asked.schema)
        if shown is not None:
            subscriber.offer(msgspec.json.encode(shown))

    def _view(self, event: Event, schema: str) -> Event | None:
        if event["type"] in _LOGS_ONLY:
            return None
        record = event["record"]
        if self._objects and isinstance(record, str) and record[:1] == "{" and schema >= _SCHEMA_WITH_OBJECTS:
            try:
                return event | {"record": msgspec.json.decode(record, type=dict[str, Any])}
            except (msgspec.MsgspecError, RecursionError):
                pass
        return event


def _logs_view(event: Event, schema: str) -> Event | None:
    kind, record = event["type"], event["record"]
    if isinstance(record, str):
        return event
    fields = _LOGS_FIELDS.get(kind)
    if fields is None or (kind == "platform.runtimeDone" and schema < _LOGS_SCHEMA_WITH_RUNTIME_DONE):
        return None
    return event | {"record": {name: record[name] for name in fields}}
