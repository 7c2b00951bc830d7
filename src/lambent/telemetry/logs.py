"""Logs: log groups and streams of one account and region, kept in files, as CloudWatch Logs shows them.

`append` is for the hot path: it encodes the event and leaves it in memory. A thread puts what has gathered into segment
files a little later (`writer`). So a kill -9 loses that much, and never corrupts (`segments`). Everything but the
writing happens on the event loop's thread; there are no locks. What is not written yet is found all the same.

Not here: what a group is (`groups`), files (`segments`, `writer`), searching (`queries`), filter patterns (`pattern`),
the words of the API (`control.operations.logs`), which events are too old (`retention`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import unquote

from lambent.clock import Clock
from lambent.telemetry import queries, retention, segments
from lambent.telemetry.groups import Group, RestingStream, Stream
from lambent.telemetry.queries import FOREVER_MS, PAGE_EVENTS, Found, Page
from lambent.telemetry.segments import Part, Position, Segment
from lambent.telemetry.writer import LogWriter

log = logging.getLogger(__name__)

#: Told of an event as it comes in: group, stream, time (ms), message.
Tap = Callable[[str, str, int, str], None]

SEGMENT_BYTES = 1024 * 1024
#: An event this little older than its predecessor gets the predecessor's time, so that the segment stays ordered.
REORDER_MS = 2000
#: As many streams are held ready to be written; of more, those rest that were not written for longest.
AWAKE_STREAMS = 512
REST_AT_ONCE = 8
#: Begins no group's folder, since quote() leaves no plus sign.
_DELETED = "+deleted-"


class NoSuchGroup(LookupError):
    """The log group does not exist."""


class NoSuchStream(LookupError):
    """The log stream does not exist."""


class LogStore:
    """The logs of one account and region under `data_dir`/logs. One server at a time."""

    def __init__(self, data_dir: Path, clock: Clock, account: str = "000000000000", region: str = "us-east-1") -> None:
        self.root = data_dir / "logs" / account / region
        self.account = account
        self.region = region
        self.writer = LogWriter()
        self._clock = clock
        self._groups: dict[str, Group] = {}
        self._streams: dict[tuple[str, str], Stream] = {}  #: those that do not rest
        self._rest_beyond = AWAKE_STREAMS
        self._tired: list[tuple[str, str]] = []  #: of `_streams`, those to be put to rest; the next one last
        self._deleted = itertools.count()
        self._taps: list[Tap] = []

    # life

    def begin(self) -> None:
        """Learn the groups of earlier servers; their streams are looked up when somebody asks. On the event loop;
        raises OSError."""
        for entry in os.scandir(self.root) if self.root.exists() else ():
            quoted, _, created = entry.name.rpartition("@")
            if entry.name.startswith(_DELETED):
                self.writer.after_that(shutil.rmtree, entry.path, True)
            elif quoted and created.isdecimal() and entry.is_dir():
                name = _long_name(entry.path) if "+" in quoted else unquote(quoted)
                if name:
                    days = retention.read(entry.path)
                    self._groups.setdefault(name, Group(name, entry.path, int(created), False, days))
        self.writer.begin()

    async def stop(self) -> None:
        """Write what is left, and end the writer."""
        await self.writer.stop()

    # writing

    def append(self, group: str, stream: str, timestamp_ms: int, message: str) -> None:
        """Add one event that happens now; group and stream are made as needed. Never waits or fails for the disk."""
        found = self._streams.get((group, stream))
        if found is None:
            found = self._wake_or_make(self._groups.get(group) or self._lazy_group(group), stream, timestamp_ms)
        segment = found.active
        if segment is not None and segment.last_ms - REORDER_MS <= timestamp_ms < segment.last_ms:
            timestamp_ms = segment.last_ms
        self._add(found, timestamp_ms, timestamp_ms, message)
        for tap in self._taps:
            tap(group, stream, timestamp_ms, message)

    def put(self, group: str, stream: str, events: list[tuple[int, str]]) -> None:
        """Add events (timestamp ms, message), each with exactly its time, to a stream that exists."""
        found = self._awake(group, stream)
        now_ms = int(self._clock.wall() * 1000)
        for timestamp_ms, message in events:
            self._add(found, timestamp_ms, now_ms, message)
            for tap in self._taps:
                tap(group, stream, timestamp_ms, message)

    def tap(self, told: Tap) -> Callable[[], None]:
        """Have `told` called for every event from now on, on the event loop; gives what ends it."""
        self._taps.append(told)
        return lambda: self._taps.remove(told)

    def create_group(self, name: str) -> bool:
        """False when it exists. Raises OSError."""
        if name in self._groups:
            return False
        group = self._new_group(name)
        _make_folder(group)
        self._groups[name] = group
        return True

    def create_stream(self, group: str, name: str) -> bool:
        """False when it exists. Raises NoSuchGroup."""
        found = self._group(group)
        if found.has(name):
            return False
        self._make_stream(found, name, int(self._clock.wall() * 1000))
        return True

    def delete_group(self, name: str) -> None:
        """Forget a group with all its events. Raises NoSuchGroup."""
        group = self._group(name)
        for stream in group.streams.values():
            self._streams.pop((name, stream.name), None)
            for segment in stream.segments:
                self.writer.forget(segment)
        del self._groups[name]
        # Renamed at once, so that a new group of this name starts empty; removed by the writer, behind its writes.
        hidden = f"{self.root}/{_DELETED}{os.getpid()}-{next(self._deleted)}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(group.folder, hidden)
        self.writer.after_that(shutil.rmtree, hidden, True)

    def delete_stream(self, group: str, name: str) -> None:
        """Forget a stream with all its events. Raises NoSuchGroup and NoSuchStream."""
        stream = self._awake(group, name)
        self._groups[group].forget(name)
        self._streams.pop((group, name), None)
        self._remove(stream.segments)

    def retain(self, group: str, days: int | None) -> None:
        """Show events of the last `days` days only; None: all. Raises NoSuchGroup, OSError."""
        found = self._group(group)
        retention.write(found.folder, days)
        found.retention_days = days
        self._expire(found)

    def _oldest_ms(self, group: str) -> int:
        found = self._groups.get(group)
        return retention.oldest_ms(found.retention_days, int(self._clock.wall() * 1000)) if found is not None else 0

    def expire(self) -> None:
        """Remove what retention says, of every group whose streams are known."""
        for group in self._groups.values():
            self._expire(group)

    def _expire(self, group: Group) -> None:
        """Remove the segments of which every event is too old; streams stay, as on AWS."""
        oldest_ms = self._oldest_ms(group.name)
        for stream in group.streams.values():
            if len(stream.segments) == 1:
                continue
            expired = [part for part in stream.segments
                       if part.size and part.last_ms < oldest_ms and part is not stream.segments[-1]]
            stream.segments = [part for part in stream.segments if part not in expired]
            self._remove(expired)

    def _remove(self, doomed: list[Segment]) -> None:
        for segment in doomed:
            self.writer.forget(segment)
        self.writer.after_that(segments.remove, [segment.path for segment in doomed])

    def _add(self, stream: Stream, timestamp_ms: int, now_ms: int, message: str) -> None:
        if not self.writer.takes():
            return
        segment = stream.active
        if segment is None or timestamp_ms < segment.last_ms or segment.size > SEGMENT_BYTES:
            segment = self._roll(stream, timestamp_ms)
        line = segments.encode(timestamp_ms, now_ms, message)
        segment.lines.append(line)
        segment.last_ms = timestamp_ms
        segment.size += len(line)
        self.writer.gathered(segment, len(line))

    def _roll(self, stream: Stream, first_ms: int) -> Segment:
        number = max(segment.number for segment in stream.segments) + 1
        return self._open_segment(stream, os.path.dirname(stream.segments[-1].path), number, first_ms)

    def _open_segment(self, stream: Stream, folder: str, number: int, first_ms: int) -> Segment:
        segment = segments.new_segment(folder, stream.name, number, first_ms)
        if segment.header:
            segment.lines.append(segment.header)
            segment.size = len(segment.header)
        stream.segments.append(segment)
        stream.active = segment
        self.writer.gathered(segment, segment.size)
        return segment

    def _lazy_group(self, name: str) -> Group:
        group = self._groups[name] = self._new_group(name)
        with contextlib.suppress(OSError):  # the writer tries again, and tells
            _make_folder(group)
        return group

    def _new_group(self, name: str) -> Group:
        created_ms = int(self._clock.wall() * 1000)
        folder = f"{self.root}/{segments.file_name(name)}@{created_ms}"
        while os.path.exists(folder):  # one of this name was deleted within this millisecond
            created_ms += 1
            folder = f"{self.root}/{segments.file_name(name)}@{created_ms}"
        return Group(name, folder, created_ms, loaded=True)

    def _wake_or_make(self, group: Group, name: str, timestamp_ms: int) -> Stream:
        stream = group.wake(name)
        if stream is None:
            # The events of a start-up may be a little older than this call.
            return self._make_stream(group, name, min(timestamp_ms, int(self._clock.wall() * 1000)))
        self._keep_awake(group, stream)
        return stream

    def _keep_awake(self, group: Group, stream: Stream) -> None:
        if self._tired or len(self._streams) >= self._rest_beyond:
            self._rest()
        group.streams[stream.name] = self._streams[group.name, stream.name] = stream

    def _rest(self) -> None:
        """Put half of the streams to rest, those not written for longest: a few each time one is made or woken.

        Some cannot, since they wait for the writer or are large; the more there are, the later it is tried again.
        """
        if not self._tired:
            by_age = sorted(self._streams.items(), key=lambda item: item[1].segments[-1].last_ms)
            self._tired = [key for key, _ in by_age[: len(by_age) // 2]][::-1]
            self._rest_beyond = 2 * len(by_age)
        for key in self._tired[-REST_AT_ONCE:]:
            stream = self._streams.get(key)
            if stream is None or self._groups[key[0]].rest([stream]):
                self._streams.pop(key, None)
                self._rest_beyond -= 2
        del self._tired[-REST_AT_ONCE:]
        if not self._tired:
            self._rest_beyond = max(AWAKE_STREAMS, self._rest_beyond)

    def _make_stream(self, group: Group, name: str, created_ms: int) -> Stream:
        stream = Stream(name, created_ms)
        self._open_segment(stream, group.folder, 0, created_ms)
        self._keep_awake(group, stream)
        return stream

    # reading

    def groups(self) -> list[Group]:
        """All groups by name."""
        return sorted(self._groups.values(), key=lambda group: group.name)

    def streams(self, group: str, prefix: str = "") -> list[Stream | RestingStream]:
        """The streams of a group, in no order. Raises NoSuchGroup."""
        return self._group(group).all(prefix)

    def stored_bytes(self, group: str) -> int:
        """What the group's events take on disk. Raises NoSuchGroup."""
        found = self._group(group)
        self._expire(found)
        return found.stored_bytes()

    def get_events(self, group: str, stream: str, *, start_ms: int = 0, end_ms: int = FOREVER_MS,
                   position: Position | None = None, backward: bool = True,
                   limit: int = PAGE_EVENTS) -> Page:  # fmt: skip
        """A page of one stream's events with start_ms <= timestamp < end_ms, oldest first.

        Backward: the latest ones before `position`, or before the end; else the first ones after it, or from the
        head. Raises NoSuchGroup and NoSuchStream.
        """
        parts = [segment for segment in self._stream(group, stream).segments if segment.size]
        page = queries.page_backward if backward else queries.page_forward
        start_ms = max(start_ms, self._oldest_ms(group))
        return page(parts, start_ms, end_ms, position, limit)

    def filter_events(self, group: str, *, streams: Collection[str] | None = None, prefix: str = "",
                      start_ms: int = 0, end_ms: int = FOREVER_MS, match: Callable[[str], bool] | None = None,
                      limit: int = PAGE_EVENTS, token: str | None = None) -> Found:  # fmt: skip
        """Events of several streams that `match`, by time. One call looks at a bounded amount; `token` goes on.

        Raises NoSuchGroup, NoSuchStream for a name in `streams`, BadToken.
        """
        if streams:
            chosen = [self._stream(group, name) for name in dict.fromkeys(streams)]
            parts: list[Part] = [segment for stream in chosen for segment in stream.segments if segment.size]
        else:
            parts = self._group(group).parts(prefix, start_ms, end_ms)
        start_ms = max(start_ms, self._oldest_ms(group))
        return queries.search(parts, start_ms, end_ms, match, limit, token)

    def _group(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            raise NoSuchGroup(name)
        if not group.loaded:
            self._load(group)
        return group

    def _stream(self, group: str, name: str) -> Stream | RestingStream:
        """To be looked at."""
        stream = self._group(group).look_up(name)
        if stream is None:
            raise NoSuchStream(name)
        return stream

    def _awake(self, group: str, name: str) -> Stream:
        """To be changed."""
        found = self._group(group)
        stream = self._streams.get((group, name)) or found.wake(name)
        if stream is None:
            raise NoSuchStream(name)
        self._keep_awake(found, stream)
        return stream

    def _load(self, group: Group) -> None:
        """Learn the streams that earlier servers left in the group's folder."""
        try:
            group.load()
        except OSError as error:
            log.warning("log group %s cannot be read: %s", group.name, error)
        self._streams.update(((group.name, name), stream) for name, stream in group.streams.items())


def _make_folder(group: Group) -> None:
    os.makedirs(group.folder, mode=0o700)
    if "+" in os.path.basename(group.folder):  # a cut name, see `file_name`
        Path(group.folder, "name").write_text(group.name)


def _long_name(folder: str) -> str | None:
    try:
        return Path(folder, "name").read_text()
    except OSError:
        return None
