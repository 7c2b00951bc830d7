"""Segments: how log events lie in files.

A stream is one or more segment files in its group's folder. A file is append-only; each line of it is one event as
a JSON array, `[timestamp ms, ingestion ms, "message"]`. What a listing of the folder must tell is in the directory
entry, so that ten thousand streams are known without opening one: the name holds the stream, the segment's number
and a lower bound of its timestamps; the modification time is set to its latest timestamp.

Within a segment timestamps never decrease (an older event starts a new segment): time ranges are found by
bisection, and streams are merged like sorted runs. A last line without its newline was torn by a crash and is not
read; a file found at start is never appended to. Which events go where is decided in `logs`.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple, Protocol
from urllib.parse import quote, unquote

import msgspec

CHUNK_BYTES = 32 * 1024
#: Opening and reading a file takes as long as going through this many bytes of events, some 30 microseconds.
READ_COST_BYTES = 4096
_PROBE_BYTES = 2048
_NAME_BYTES = 200  #: file systems take 255, and number and time come behind
_SIMPLE = re.compile(r"[\w.\-~/\[$\]]*", re.ASCII).fullmatch
_decode = msgspec.json.Decoder(tuple[int, int, str]).decode
_encode = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """One log event. Events order as the API returns them: by time, then stream, then place."""

    timestamp_ms: int
    stream: str
    segment: int
    offset: int  #: of the line in the segment's file
    ingestion_ms: int
    message: str


class Position(NamedTuple):
    """A place between two events of a group: before all events that order at or after it."""

    timestamp_ms: int = 0
    stream: str = ""
    segment: int = 0
    offset: int = 0


@dataclass(slots=True)
class Meter:
    """What a query has read so far, in bytes; opening a file counts as READ_COST_BYTES."""

    spent: int = 0


class Part(Protocol):
    """What it takes to read a segment."""

    @property
    def path(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def first_ms(self) -> int: ...
    @property
    def last_ms(self) -> int: ...
    @property
    def written(self) -> int: ...
    @property
    def sending(self) -> Sequence[bytes]: ...
    @property
    def lines(self) -> Sequence[bytes]: ...
    @property
    def size(self) -> int: ...


@dataclass(slots=True, eq=False)
class Segment:
    """One file, and its lines that are not in the file yet."""

    path: str
    stream: str
    number: int
    first_ms: int  #: no event is older; the stream's creation for number 0
    last_ms: int  #: of the latest event
    written: int = 0  #: bytes in the file
    sending: list[bytes] = field(default_factory=list)  #: with the writer now; they follow `written`
    lines: list[bytes] = field(default_factory=list)  #: appended since; they follow `sending`
    size: int = 0  #: bytes in the file and to come
    queued: bool = False  #: waits for its turn to be written
    header: bytes = b""  #: goes before the first line


def encode(timestamp_ms: int, ingestion_ms: int, message: str) -> bytes:
    """An event as a line."""
    try:
        return _encode((timestamp_ms, ingestion_ms, message)) + b"\n"
    except UnicodeEncodeError:  # lone surrogates
        return _encode((timestamp_ms, ingestion_ms, message.encode("utf-8", "replace").decode())) + b"\n"


def file_name(name: str) -> str:
    """A group's or stream's name as part of a file name. A long one is cut and told apart by a digest."""
    # What names of functions' streams are made of, in a tenth of the time.
    quoted = name.replace("/", "%2F").replace("[", "%5B").replace("$", "%24").replace("]", "%5D") \
        if _SIMPLE(name) else quote(name, safe="")
    if len(quoted) <= _NAME_BYTES:
        return quoted
    return quoted[:_NAME_BYTES].rstrip("%") + "+" + hashlib.sha256(name.encode()).hexdigest()[:16]


def path(folder: str, stream: str, number: int, first_ms: int) -> str:
    return f"{folder}/{file_name(stream)}@{number}@{first_ms}.log"


def new_segment(folder: str, stream: str, number: int, first_ms: int) -> Segment:
    """A segment whose file does not exist yet."""
    encoded = file_name(stream)
    segment = Segment(f"{folder}/{encoded}@{number}@{first_ms}.log", stream, number, first_ms, first_ms)
    if "+" in encoded:  # quote() leaves no plus sign, so this is a cut name, which the file itself must tell
        segment.header = _encode({"stream": stream}) + b"\n"
    return segment


def remove(paths: Sequence[str]) -> None:
    """Delete files, those that were never written among them. Blocks."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def found_segments(folder: str) -> Iterator[Segment]:
    """The segments that lie in a group's folder. Files with other names are passed over."""
    with os.scandir(folder) as entries:
        for entry in entries:
            parts = entry.name.removesuffix(".log").split("@")
            if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
                continue
            stat = entry.stat()
            stream = _long_name(entry.path) if "+" in parts[0] else unquote(parts[0])
            if stream is None:
                continue
            first_ms = int(parts[2])
            last_ms = max(first_ms, stat.st_mtime_ns // 1_000_000)
            yield Segment(entry.path, stream, int(parts[1]), first_ms, last_ms, stat.st_size, size=stat.st_size)


def _long_name(path: str) -> str | None:
    try:
        header = msgspec.json.decode(_read(path, 0, CHUNK_BYTES).partition(b"\n")[0], type=dict[str, str])
        return header["stream"]
    except (msgspec.DecodeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class Write:
    """Lines to put into a file at an offset."""

    segment: Segment
    path: str
    offset: int
    lines: list[bytes]
    last_ms: int


def write_all(batch: Sequence[Write]) -> list[str]:
    """Perform `batch`, in the writer's thread. For each the empty string, or why nothing of it was written."""
    return [_write(one) for one in batch]


def _write(one: Write) -> str:
    try:
        descriptor = _open(one)
    except OSError as error:
        return str(error)
    try:
        data, done = b"".join(one.lines), 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:] if done else data, one.offset + done)
        os.utime(descriptor, ns=(one.last_ms * 1_000_000, one.last_ms * 1_000_000))
        return ""
    except (OSError, OverflowError) as error:
        with contextlib.suppress(OSError):  # the next write goes to the same offset anyway
            os.ftruncate(descriptor, one.offset)
        return str(error)
    finally:
        os.close(descriptor)


def _open(one: Write) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(one.path, flags, 0o600)
    except FileNotFoundError:
        if one.segment.sending is not one.lines:
            raise  # its group was deleted
        os.makedirs(os.path.dirname(one.path), mode=0o700, exist_ok=True)
        descriptor = os.open(one.path, flags, 0o600)
        if one.offset:  # the file was taken away: what it held becomes one damaged line
            os.pwrite(descriptor, b"\n", one.offset - 1)
        return descriptor


# reading


def forward(segment: Part, start_ms: int, end_ms: int, chunk: int = CHUNK_BYTES,
            meter: Meter | None = None) -> Iterator[Event]:  # fmt: skip
    """Events with start_ms <= timestamp < end_ms, oldest first."""
    for offset, line in _lines(segment, _seek(segment, start_ms), chunk, meter or Meter()):
        event = _event(segment, offset, line)
        if event is None or event[0] < start_ms:
            continue
        if event[0] >= end_ms:
            return
        yield event


def backward(segment: Part, start_ms: int, end_ms: int) -> Iterator[Event]:
    """The same events, latest first."""
    for offset, line in _lines_backward(segment):
        event = _event(segment, offset, line)
        if event is None or event[0] >= end_ms:
            continue
        if event[0] < start_ms:
            return
        yield event


def merged(parts: Sequence[Part], begin: Callable[[Part], Iterator[Event]]) -> Iterator[Event]:
    """One ordered run of the events that `begin` gives of each. None is begun before its lower bound is reached."""
    if len(parts) == 1:
        yield from begin(parts[0])
        return
    waiting = sorted(parts, key=attrgetter("first_ms"), reverse=True)
    heap: list[tuple[Event, Iterator[Event]]] = []
    while waiting or heap:
        while waiting and (not heap or waiting[-1].first_ms <= heap[0][0][0]):
            source = begin(waiting.pop())
            first = next(source, None)
            if first is not None:
                heapq.heappush(heap, (first, source))
        if not heap:
            continue
        event, source = heap[0]
        yield event
        following = next(source, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, source))


def _event(segment: Part, offset: int, line: bytes) -> Event | None:
    try:
        timestamp_ms, ingestion_ms, message = _decode(line)
    except msgspec.DecodeError:  # the header, or damage: what follows is read all the same
        return None
    return Event(timestamp_ms, segment.stream, segment.number, offset, ingestion_ms, message)


def _lines(segment: Part, offset: int, chunk: int, meter: Meter) -> Iterator[tuple[int, bytes]]:
    rest = b""
    position = offset
    while position < segment.written:
        data = _read(segment.path, position, min(chunk, segment.written - position))
        if not data:
            break
        position += len(data)
        meter.spent += len(data) + READ_COST_BYTES
        lines = (rest + data).split(b"\n") if rest else data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield offset, line
            offset += len(line) + 1
        if not lines:
            chunk = min(chunk * 2, 1024 * 1024)  # one line longer than a chunk
    offset = segment.written
    for part in (segment.sending, segment.lines):
        for line in part:
            meter.spent += len(line)
            yield offset, line
            offset += len(line)


def _lines_backward(segment: Part) -> Iterator[tuple[int, bytes]]:
    offset = segment.size
    for part in (segment.lines, segment.sending):
        for line in reversed(part):
            offset -= len(line)
            yield offset, line
    position, chunk = segment.written, CHUNK_BYTES
    rest = b""
    torn = True  # what follows the last newline of the file is no event
    while position > 0:
        size = min(chunk, position)
        data = _read(segment.path, position - size, size)
        if len(data) != size:
            return
        position -= size
        lines = (data + rest).split(b"\n")
        end = position + len(data) + len(rest)
        rest = lines[0]
        for line in reversed(lines[1:]):
            end -= len(line)
            if not torn:
                yield end, line
            torn = False
            end -= 1
        if len(lines) == 1:
            chunk = min(chunk * 2, 1024 * 1024)
    if rest and not torn:
        yield 0, rest


def _seek(segment: Part, start_ms: int) -> int:
    """Where a line begins, not behind the first event of `start_ms`, and not more than a few chunks before it."""
    if start_ms <= segment.first_ms:
        return 0
    low, high = 0, segment.written
    while high - low > CHUNK_BYTES:
        middle = (low + high) // 2
        torn, newline, line = _read(segment.path, middle, _PROBE_BYTES).partition(b"\n")
        digits = line[1 : line.find(b",")]
        if not newline or not digits.isdigit():
            break
        if int(digits) < start_ms:
            low = middle + len(torn) + 1
        else:
            high = middle
    return low


def _read(path: str, offset: int, size: int) -> bytes:
    """Bytes of a file; none when it has gone. No descriptor is kept: a query may walk thousands of files."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, size, offset)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
