"""Streams that rest: in memory what a listing shows and a search must know, and nothing else.

Every environment that ever was has a stream, of which most are never written or read again. Here they are rows of a
table in the order of their names, 150 bytes each with the name, where a `Stream` with its segment takes five times as
much. Only a stream of one segment fits, and its file's name follows from the row. Which streams rest is decided in
`logs`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from lambent.telemetry import segments


class Row(NamedTuple):
    """One stream that rests."""

    name: str
    created_ms: int
    last_ms: int  #: of the latest event
    size: int  #: bytes in its file
    ours: bool  #: the file was begun by this server, which may go on with it


class _SegmentRow(NamedTuple):
    folder: str
    stream: str
    first_ms: int
    last_ms: int
    size: int


class RestingSegment(_SegmentRow):
    """The only segment of a stream that rests, to be read. A tuple, since a search makes thousands."""

    __slots__ = ()
    number = 0
    sending: Sequence[bytes] = ()
    lines: Sequence[bytes] = ()

    @property
    def written(self) -> int:
        return self.size

    @property
    def path(self) -> str:
        return segments.path(self.folder, self.stream, 0, self.first_ms)


class Table:
    """The streams of one group that rest. `folder` is the group's."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        # All of the same length: a row's parts have the same index.
        self._names: list[str] = []
        self._created = array("q")
        self._last = array("q")
        self._sizes = array("q")
        self._ours = bytearray()

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def get(self, name: str) -> Row | None:
        at = self._find(name)
        return None if at is None else self._row(at)

    def parts(self, prefix: str, hidden: Container[str], start_ms: int, end_ms: int) -> list[RestingSegment]:
        """The streams of this prefix, by name, but for the hidden names and for what is all before or after a time."""
        begin = bisect_left(self._names, prefix) if prefix else 0
        end = bisect_left(self._names, prefix + "\U0010ffff", begin) if prefix else len(self._names)
        some = slice(begin, end)
        columns = zip(repeat(self._folder, end - begin), self._names[some], self._created[some], self._last[some],
                      self._sizes[some], strict=True)  # fmt: skip
        new = tuple.__new__
        return [new(RestingSegment, row) for row in columns
                if row[3] >= start_ms and row[2] < end_ms and row[1] not in hidden]  # fmt: skip

    def stored_bytes(self, hidden: Iterable[str]) -> int:
        twice = map(self.get, hidden) if self._names else ()
        return sum(self._sizes) - sum(row.size for row in twice if row is not None)

    def put(self, rows: list[Row]) -> None:
        """Take rows, in place of those of their names."""
        new: list[tuple[int, Row]] = []
        for row in sorted(rows):
            at = bisect_left(self._names, row.name)
            if at < len(self._names) and self._names[at] == row.name:
                self._created[at], self._last[at], self._sizes[at], self._ours[at] = row[1:]
            else:
                new.append((at, row))
        if new:
            self._insert(new)

    def remove(self, name: str) -> None:
        at = self._find(name)
        if at is not None:
            for column in (self._names, self._created, self._last, self._sizes, self._ours):
                del column[at]

    def _find(self, name: str) -> int | None:
        at = bisect_left(self._names, name)
        return at if at < len(self._names) and self._names[at] == name else None

    def _row(self, at: int) -> Row:
        return Row(self._names[at], self._created[at], self._last[at], self._sizes[at], bool(self._ours[at]))

    def _insert(self, new: list[tuple[int, Row]]) -> None:
        """Rows before those of their places. The pieces between them are copied as memory."""
        names: list[str] = []
        created, last, sizes, ours = array("q"), array("q"), array("q"), bytearray()
        begin = 0
        for place, row in new:
            names += self._names[begin:place]
            created += self._created[begin:place]
            last += self._last[begin:place]
            sizes += self._sizes[begin:place]
            ours += self._ours[begin:place]
            names.append(row.name)
            created.append(row.created_ms)
            last.append(row.last_ms)
            sizes.append(row.size)
            ours.append(row.ours)
            begin = place
        self._names = names + self._names[begin:]
        self._created, self._last = created + self._created[begin:], last + self._last[begin:]
        self._sizes, self._ours = sizes + self._sizes[begin:], ours + self._ours[begin:]
