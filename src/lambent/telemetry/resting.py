"""Streams that rest: in memory what a listing shows and a search must know, and nothing else.

Every environment that ever was has a stream, of which most are never written or read again. Here they are rows of a
table in the order of their names, 150 bytes each with the name, where a `Stream` with its segment takes five times as
much. Only a stream of one segment fits, and its file's name follows from the row. Which streams rest is decided in
`logs`.

The table is in blocks, so that to take a row costs the same however many there are: the event loop does it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from lambent.telemetry import segments

#: A block of more rows is cut in two.
BLOCK_ROWS = 1024


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


class _Block:
    """Rows that follow each other. All columns are of the same length: a row's parts have the same index."""

    __slots__ = ("created", "last", "names", "ours", "sizes")

    def __init__(self, names: list[str], created: array[int], last: array[int], sizes: array[int],
                 ours: bytearray) -> None:
        self.names = names
        self.created = created
        self.last = last
        self.sizes = sizes
        self.ours = ours

    def find(self, name: str) -> int | None:
        at = bisect_left(self.names, name)
        return at if at < len(self.names) and self.names[at] == name else None

    def row(self, at: int) -> Row:
        return Row(self.names[at], self.created[at], self.last[at], self.sizes[at], bool(self.ours[at]))

    def put(self, row: Row) -> None:
        at = bisect_left(self.names, row.name)
        if at < len(self.names) and self.names[at] == row.name:
            self.created[at], self.last[at], self.sizes[at], self.ours[at] = row[1:]
            return
        self.names.insert(at, row.name)
        self.created.insert(at, row.created_ms)
        self.last.insert(at, row.last_ms)
        self.sizes.insert(at, row.size)
        self.ours.insert(at, row.ours)

    def remove(self, at: int) -> None:
        for column in (self.names, self.created, self.last, self.sizes, self.ours):
            del column[at]

    def cut(self, begin: int, end: int) -> _Block:
        return _Block(self.names[begin:end], self.created[begin:end], self.last[begin:end], self.sizes[begin:end],
                      self.ours[begin:end])  # fmt: skip


class Table:
    """The streams of one group that rest. `folder` is the group's."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._blocks = [_Block([], array("q"), array("q"), array("q"), bytearray())]
        #: of each block: its names are not before this one, and before that of the next block
        self._begins = [""]

    def __len__(self) -> int:
        return sum(len(block.names) for block in self._blocks)

    def __contains__(self, name: str) -> bool:
        return self._block(name).find(name) is not None

    def get(self, name: str) -> Row | None:
        block = self._block(name)
        at = block.find(name)
        return None if at is None else block.row(at)

    def parts(self, prefix: str, hidden: Container[str], start_ms: int, end_ms: int) -> list[RestingSegment]:
        """The streams of this prefix, by name, but for the hidden names and for what is all before or after a time."""
        beyond = prefix + "\U0010ffff"
        blocks = self._blocks[self._index(prefix) : self._index(beyond) + 1] if prefix else self._blocks
        found: list[RestingSegment] = []
        new = tuple.__new__
        for block in blocks:
            begin = bisect_left(block.names, prefix) if prefix else 0
            end = bisect_left(block.names, beyond, begin) if prefix else len(block.names)
            some = slice(begin, end)
            columns = zip(repeat(self._folder, end - begin), block.names[some], block.created[some], block.last[some],
                          block.sizes[some], strict=True)  # fmt: skip
            found += [new(RestingSegment, row) for row in columns
                      if row[3] >= start_ms and row[2] < end_ms and row[1] not in hidden]  # fmt: skip
        return found

    def stored_bytes(self, hidden: Iterable[str]) -> int:
        twice = map(self.get, hidden)
        return sum(sum(block.sizes) for block in self._blocks) - sum(row.size for row in twice if row is not None)

    def put(self, rows: Iterable[Row]) -> None:
        """Take rows, in place of those of their names."""
        for row in rows:
            index = self._index(row.name)
            block = self._blocks[index]
            block.put(row)
            if len(block.names) > BLOCK_ROWS:
                half = len(block.names) // 2
                self._blocks[index : index + 1] = block.cut(0, half), block.cut(half, len(block.names))
                self._begins.insert(index + 1, block.names[half])

    def remove(self, name: str) -> None:
        block = self._block(name)
        at = block.find(name)
        if at is not None:
            block.remove(at)

    def _index(self, name: str) -> int:
        return bisect_right(self._begins, name) - 1

    def _block(self, name: str) -> _Block:
        return self._blocks[self._index(name)]
