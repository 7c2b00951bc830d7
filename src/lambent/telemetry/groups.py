"""A log group and a log stream as `logs` holds them: names, times and the segments with the events."""

from __future__ import annotations

from dataclasses import dataclass, field

from lambent.telemetry import segments
from lambent.telemetry.queries import FOREVER_MS
from lambent.telemetry.segments import Event, Segment


@dataclass(slots=True, eq=False)
class Stream:
    """A stream and its segments, in the order in which they were made."""

    name: str
    created_ms: int
    segments: list[Segment] = field(default_factory=list)
    active: Segment | None = None  #: the segment that takes the next event

    @property
    def stored_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)

    @property
    def last_ms(self) -> int | None:
        """Timestamp of the latest event; None when there is none."""
        return max((segment.last_ms for segment in self.segments if segment.size), default=None)

    def first_event(self) -> Event | None:
        first: Event | None = None
        for segment in sorted(self.segments, key=lambda segment: segment.first_ms):
            if first is not None and segment.first_ms > first.timestamp_ms:
                break
            event = next(segments.forward(segment, 0, FOREVER_MS, 4096), None)
            first = event if first is None else min(first, event or first)
        return first

    def last_event(self) -> Event | None:
        for segment in sorted(self.segments, key=lambda segment: segment.last_ms, reverse=True):
            event = next(segments.backward(segment, 0, FOREVER_MS), None)
            if event is not None:
                return event
        return None


@dataclass(slots=True, eq=False)
class Group:
    """A group and its streams. `loaded`: the streams of earlier servers are known too."""

    name: str
    folder: str
    created_ms: int
    loaded: bool
    retention_days: int | None = None  #: None: for ever
    streams: dict[str, Stream] = field(default_factory=dict)
