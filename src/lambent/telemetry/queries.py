"""Queries: pages of one stream, and searches over many, on segments.

A query runs on the event loop, so it looks at a bounded amount and says where it stopped: a search may return few
events or none together with a token, which AWS's does too, and which every paginator copes with. Which segments
belong to which stream is known in `logs`; how a segment is read, in `segments`.
"""

from __future__ import annotations

import base64
import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from lambent.telemetry import segments
from lambent.telemetry.segments import Event, Meter, Part, Position

PAGE_BYTES = 1024 * 1024  # GetLogEvents, FilterLogEvents: "up to 1 MB (10,000 log events)"
PAGE_EVENTS = 10_000
#: What one search reads, counted by `Meter`: about five milliseconds.
SCAN_BYTES = 512 * 1024
#: Chunks that the sources of one search hold together.
MERGE_BYTES = 16 * 1024 * 1024
FOREVER_MS = 1 << 62


class BadToken(ValueError):
    """A token is not one of ours."""


@dataclass(frozen=True, slots=True)
class Page:
    """Events of one stream, oldest first, and where the ones before and after them are."""

    events: list[Event]
    backward: Position
    forward: Position


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. `token` is None when it has looked at everything."""

    events: list[Event]
    token: str | None


def page_forward(parts: Sequence[Part], start_ms: int, end_ms: int, position: Position | None, limit: int) -> Page:
    """The first events with start_ms <= timestamp < end_ms, from the head or from `position` on."""
    after = position or Position()
    start_ms = max(start_ms, after.timestamp_ms)
    events = segments.merged(parts, lambda part: segments.forward(part, start_ms, end_ms))
    return _page(_take((event for event in events if event[:4] >= after), limit), position)


def page_backward(parts: Sequence[Part], start_ms: int, end_ms: int, position: Position | None, limit: int) -> Page:
    """The latest events with start_ms <= timestamp < end_ms, before the end or before `position`."""
    before = position or Position(FOREVER_MS)
    end_ms = min(end_ms, before.timestamp_ms + 1)
    runs = [segments.backward(part, start_ms, end_ms) for part in parts if part.first_ms < end_ms]
    latest = (event for event in heapq.merge(*runs, reverse=True) if event[:4] < before)
    return _page(_take(latest, limit)[::-1], position)


def search(parts: Sequence[Part], start_ms: int, end_ms: int, match: Callable[[str], bool] | None, limit: int,
           token: str | None) -> Found:  # fmt: skip
    """Events with start_ms <= timestamp < end_ms that `match`, by time. Raises BadToken."""
    after = position_of(token) if token else Position()
    start_ms = max(start_ms, after.timestamp_ms)
    parts = [part for part in parts if part.last_ms >= start_ms and part.first_ms < end_ms]
    chunk = max(4096, min(segments.CHUNK_BYTES, MERGE_BYTES // (len(parts) or 1)))
    meter = Meter()
    events: list[Event] = []
    kept = 0
    looked = False
    for event in segments.merged(parts, lambda part: segments.forward(part, start_ms, end_ms, chunk, meter)):
        if event[:4] < after:
            continue
        if looked and (meter.spent > SCAN_BYTES or len(events) >= limit or kept > PAGE_BYTES):
            return Found(events, token_of(Position(*event[:4])))
        looked = True
        if match is None or match(event.message):
            events.append(event)
            kept += len(event.message)
    return Found(events, None)


def token_of(position: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()


def position_of(token: str) -> Position:
    """Raises BadToken."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=Position)
    except (ValueError, msgspec.DecodeError):
        raise BadToken(token) from None


def _take(events: Iterator[Event], limit: int) -> list[Event]:
    taken: list[Event] = []
    size = 0
    for event in itertools.islice(events, limit):
        size += len(event.message)
        if taken and size > PAGE_BYTES:
            break
        taken.append(event)
    return taken


def _page(events: list[Event], position: Position | None) -> Page:
    if not events:
        still = position or Position()
        return Page([], still, still)
    last = events[-1]
    behind = Position(last.timestamp_ms, last.stream, last.segment, last.offset + 1)
    return Page(events, Position(*events[0][:4]), behind)
