"""A log group and a log stream as `logs` holds them: names, times and the segments with the events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lambent.telemetry import segments
from lambent.telemetry.queries import FOREVER_MS
from lambent.telemetry.resting import RestingSegment, Row, Table
from lambent.telemetry.segments import Event, Part, Segment


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
        return _first_event(self.segments)

    def last_event(self) -> Event | None:
        return _last_event(self.segments)

    def row(self, folder: str) -> Row | None:
        """How it would rest; None when it cannot."""
        (segment, *more) = self.segments
        if more or segment.queued or segment.lines or segment.sending or segment.written != segment.size:
            return None
        if segment.header or segment.path != segments.path(folder, self.name, 0, self.created_ms):
            return None
        return Row(self.name, self.created_ms, segment.last_ms, segment.size, self.active is not None)


class RestingStream:
    """A stream that rests, to be looked at."""

    __slots__ = ("created_ms", "last_ms", "name", "part")

    def __init__(self, part: RestingSegment) -> None:
        self.part = part
        self.name = part.stream
        self.created_ms = part.first_ms
        self.last_ms = part.last_ms if part.size else None

    @property
    def segments(self) -> list[RestingSegment]:
        return [self.part]

    def first_event(self) -> Event | None:
        return _first_event(self.segments)

    def last_event(self) -> Event | None:
        return _last_event(self.segments)


def _first_event(parts: Sequence[Part]) -> Event | None:
    first: Event | None = None
    for part in sorted(parts, key=lambda part: part.first_ms):
        if first is not None and part.first_ms > first.timestamp_ms:
            break
        event = next(segments.forward(part, 0, FOREVER_MS, 4096), None)
        first = event if first is None else min(first, event or first)
    return first


def _last_event(parts: Sequence[Part]) -> Event | None:
    for part in sorted(parts, key=lambda part: part.last_ms, reverse=True):
        event = next(segments.backward(part, 0, FOREVER_MS), None)
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
    streams: dict[str, Stream] = field(default_factory=dict)  #: those that do not rest
    resting: Table = field(init=False)  #: may have older rows of `streams`, which count no more

    def __post_init__(self) -> None:
        self.resting = Table(self.folder)

    def has(self, name: str) -> bool:
        return name in self.streams or name in self.resting

    def look_up(self, name: str) -> Stream | RestingStream | None:
        """A stream to be looked at."""
        stream = self.streams.get(name)
        row = self.resting.get(name) if stream is None else None
        if row is not None:
            return RestingStream(RestingSegment(self.folder, name, row.created_ms, row.last_ms, row.size))
        return stream

    def all(self, prefix: str) -> list[Stream | RestingStream]:
        """The streams of this prefix, in no order."""
        awake = [stream for stream in self.streams.values() if stream.name.startswith(prefix)]
        return [*awake, *map(RestingStream, self.resting.parts(prefix, self.streams, 0, FOREVER_MS))]

    def parts(self, prefix: str, start_ms: int, end_ms: int) -> list[Part]:
        """What there is to read in the streams of this prefix, and perhaps more than that time's."""
        awake = [segment for stream in self.streams.values() if stream.name.startswith(prefix)
                 for segment in stream.segments if segment.size]  # fmt: skip
        return [*awake, *self.resting.parts(prefix, self.streams, start_ms, end_ms)]

    def stored_bytes(self) -> int:
        awake = sum(stream.stored_bytes for stream in self.streams.values())
        return awake + self.resting.stored_bytes(self.streams)

    def wake(self, name: str) -> Stream | None:
        """A stream to be changed."""
        stream = self.streams.get(name)
        row = self.resting.get(name) if stream is None else None
        if row is not None:
            segment = segments.new_segment(self.folder, name, 0, row.created_ms)
            segment.last_ms, segment.written, segment.size = row.last_ms, row.size, row.size
            stream = Stream(name, row.created_ms, [segment], segment if row.ours else None)
            self.streams[name] = stream
        return stream

    def rest(self, candidates: Iterable[Stream]) -> list[Stream]:
        """Put those to rest that can; those that did."""
        rows = [(stream, row) for stream in candidates if (row := stream.row(self.folder)) is not None]
        self.resting.put([row for _, row in rows])
        for stream, _ in rows:
            del self.streams[stream.name]
        return [stream for stream, _ in rows]

    def forget(self, name: str) -> None:
        del self.streams[name]
        self.resting.remove(name)

    def load(self) -> None:
        """Learn the streams that earlier servers left in the folder. Raises OSError."""
        self.loaded = True
        known = {segment.path for stream in self.streams.values() for segment in stream.segments}
        found: dict[str, Stream] = {}
        for segment in sorted(segments.found_segments(self.folder), key=lambda segment: segment.number):
            row = self.resting.get(segment.stream)
            if segment.path in known or (
                row is not None and segment.path == segments.path(self.folder, row.name, 0, row.created_ms)
            ):
                continue
            stream = found.get(segment.stream) or self.wake(segment.stream)
            if stream is None:
                stream = self.streams[segment.stream] = Stream(segment.stream, segment.first_ms)
            found[segment.stream] = stream
            stream.segments.append(segment)
        self.rest(found.values())
