"""The telemetry of one environment: its events, the early ones kept, and each subscriber's view of them.

The Telemetry API's events are `records`' envelopes as they are. The Logs API knows fewer, with fewer fields (fact
sheet 4.3). Who subscribed is `runtimeapi`'s to judge, how batches travel is `delivery`'s. While nobody listens an
event costs a look at `active`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lambent.clock import Clock
from lambent.core.subscription import Api, Category, Subscription
from lambent.telemetry.delivery import QUEUE_BYTES, Backlog, Connect, Subscriber

Event = dict[str, Any]

#: Events of an Init that those who subscribe later are still told. What comes when these are full is dropped, and
#: counted.
EARLY_EVENTS = 1000
EARLY_BYTES = QUEUE_BYTES

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


class _Told:
    """One event, and its JSON in each form in which somebody wants it."""

    __slots__ = ("_forms", "_objects", "category", "event", "plain")

    def __init__(self, event: Event, *, objects: bool) -> None:
        self.event = event
        self.category: str = event["type"].partition(".")[0]
        self.plain = msgspec.json.encode(event)
        self._objects = objects
        self._forms: dict[str, bytes | None] = {}  #: by schema, whose names differ between the APIs

    def shown(self, api: Api, schema: str) -> bytes | None:
        """This event for those who asked for this schema; None when it is not told there."""
        if schema not in self._forms:
            event = self.event
            shown = _logs_view(event, schema) if api == "logs" else self._view(schema)
            self._forms[schema] = (
                self.plain if shown is event else msgspec.json.encode(shown) if shown is not None else None)
        return self._forms[schema]

    def _view(self, schema: str) -> Event | None:
        event = self.event
        if event["type"] in _LOGS_ONLY:
            return None
        record = event["record"]
        if self._objects and isinstance(record, str) and record[:1] == "{" and schema >= _SCHEMA_WITH_OBJECTS:
            try:
                return event | {"record": msgspec.json.decode(record, type=dict[str, Any])}
            except (msgspec.MsgspecError, RecursionError):
                pass
        return event


class _Early:
    """What an Init has told so far, and each view of it that was asked for: a guest may ask thousands of times."""

    def __init__(self) -> None:
        self._events: list[_Told] = []
        self._bytes = 0
        self._dropped_records = 0
        self._dropped_bytes = 0
        self._views: dict[tuple[str, frozenset[Category]], _View] = {}

    def append(self, told: _Told) -> None:
        size = len(told.plain)
        if len(self._events) < EARLY_EVENTS and self._bytes + size <= EARLY_BYTES:
            self._events.append(told)
            self._bytes += size
        else:
            self._dropped_records += 1
            self._dropped_bytes += size

    def shown(self, asked: Subscription) -> Backlog:
        """All of it that this subscriber is to be told."""
        view = self._views.setdefault((asked.schema, frozenset(asked.categories)), _View())
        view.extend(self._events, asked)
        backlog = view.backlog
        backlog.dropped_records, backlog.dropped_bytes = self._dropped_records, self._dropped_bytes
        return backlog


class _View:
    """What those with one schema and one set of categories are told of it."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self._seen = 0

    def extend(self, events: list[_Told], asked: Subscription) -> None:
        for told in events[self._seen :]:
            form = told.shown(asked.api, asked.schema) if told.category in asked.categories else None
            if form is not None:
                self.backlog.events.append(form)
                self.backlog.bytes += len(form)
        self._seen = len(events)


class Telemetry:
    """One environment's events and subscribers."""

    def __init__(self, clock: Clock, log_format: str) -> None:
        self.active = False  #: somebody listens, or may still come and want what was
        self._clock = clock
        self._objects = log_format == "JSON"
        self._early: _Early | None = None
        self._subscribers: dict[str, Subscriber] = {}

    def begin(self) -> None:
        """An Init begins: until it is over, events are kept for those who will subscribe."""
        self._early = _Early()
        self.active = True

    def settle(self) -> None:
        """Init is over, and nobody can subscribe any more."""
        self._early = None
        self.active = bool(self._subscribers)

    def emit(self, event: Event) -> None:
        """Tell an event to everybody who wants it."""
        told = _Told(event, objects=self._objects)
        if self._early is not None:
            self._early.append(told)
        for subscriber in self._subscribers.values():
            asked = subscriber.subscription
            shown = told.shown(asked.api, asked.schema) if told.category in asked.categories else None
            if shown is not None:
                subscriber.offer(shown)

    def subscribed(self, name: str) -> Subscription | None:
        """What an extension has subscribed to so far."""
        subscriber = self._subscribers.get(name)
        return subscriber.subscription if subscriber is not None else None

    def subscribe(self, name: str, subscription: Subscription, connect: Connect) -> None:
        """Tell `name` what was and what will be. Replaces what it subscribed to before."""
        earlier = self._subscribers.pop(name, None)
        subscriber = self._subscribers[name] = Subscriber(subscription, connect, self._clock,
                                                          replaces=earlier is not None)
        if earlier is not None and earlier.subscription.tells_as(subscription):
            subscriber.take_over(earlier)
        elif self._early is not None:
            subscriber.begin(self._early.shown(subscription))
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


def _logs_view(event: Event, schema: str) -> Event | None:
    kind, record = event["type"], event["record"]
    if isinstance(record, str):
        return event
    fields = _LOGS_FIELDS.get(kind)
    if fields is None or (kind == "platform.runtimeDone" and schema < _LOGS_SCHEMA_WITH_RUNTIME_DONE):
        return None
    return event | {"record": {name: record[name] for name in fields}}
