"""Streams that rest: they take little memory, and nobody can tell them from others."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.clock import Clock
from lambent.telemetry import logs, resting, segments, writer
from lambent.telemetry.logs import LogStore, NoSuchStream
from lambent.telemetry.resting import Row, Table

GROUP = "/aws/lambda/f"
T = 1_795_000_000_000


class StandingClock(Clock):
    def __init__(self, now_ms: int) -> None:
        super().__init__()
        self._now_ms = now_ms

    def wall(self) -> float:
        return self._now_ms / 1000


async def opened(data_dir: Path, now_ms: int = T) -> LogStore:
    store = LogStore(data_dir, StandingClock(now_ms))
    store.begin()
    return store


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LogStore]:
    monkeypatch.setattr(logs, "AWAKE_STREAMS", 4)
    monkeypatch.setattr(writer, "FLUSH_DELAY_S", 0)
    made = await opened(tmp_path)
    yield made
    await made.stop()


async def written(store: LogStore) -> None:
    while store.writer._unwritten or store.writer._writing:
        await asyncio.sleep(0)


async def fill(store: LogStore, count: int = 40) -> None:
    """Streams s00, s01... with two events each."""
    for number in range(count):
        store.append(GROUP, f"s{number:02}", T + number, f"{number}\n")
        store.append(GROUP, f"s{number:02}", T + number + 1, "end\n")
        await written(store)


def messages(store: LogStore, stream: str) -> list[str]:
    return [event.message for event in store.get_events(GROUP, stream).events]


async def test_most_streams_rest_and_all_are_found(store: LogStore) -> None:
    await fill(store)
    assert len(store._streams) <= 4 and len(store._groups[GROUP].resting) >= 36
    streams = sorted(store.streams(GROUP), key=lambda stream: stream.name)
    assert [(stream.name, stream.created_ms, stream.last_ms) for stream in streams] == [
        (f"s{number:02}", T, T + number + 1) for number in range(40)]  # fmt: skip
    for number, stream in enumerate(streams):
        first, last = stream.first_event(), stream.last_event()
        assert first and last and (first.message, last.message) == (f"{number}\n", "end\n")
        assert messages(store, stream.name) == [f"{number}\n", "end\n"]
    assert len(store.filter_events(GROUP).events) == 80
    assert [event.message for event in store.filter_events(GROUP, prefix="s1").events if event.message != "end\n"] == [
        f"{number}\n" for number in range(10, 20)]  # fmt: skip
    assert len(store.filter_events(GROUP, streams=["s03", "s07"], start_ms=T + 4).events) == 3
    assert store.stored_bytes(GROUP) == sum(path.stat().st_size for path in store.root.rglob("*.log"))


async def test_a_stream_that_rested_goes_on_in_its_file(store: LogStore, tmp_path: Path) -> None:
    await fill(store)
    for number in (3, 3, 5):
        store.append(GROUP, f"s{number:02}", T + 100, "more\n")
    store.put(GROUP, "s07", [(T + 100, "put\n")])
    await fill(store)  # so that they rest again
    assert messages(store, "s03")[:4] == ["3\n", "end\n", "more\n", "more\n"]
    assert messages(store, "s07")[:3] == ["7\n", "end\n", "put\n"]
    assert len(store.streams(GROUP)) == 40
    everything = [event[:4] for event in store.filter_events(GROUP).events]
    await store.stop()
    again = await opened(tmp_path)
    assert [event[:4] for event in again.filter_events(GROUP).events] == everything
    await again.stop()


async def test_a_stream_of_an_earlier_server_rests_and_its_file_is_left_alone(store: LogStore, tmp_path: Path) -> None:
    await fill(store)
    await store.stop()
    again = await opened(tmp_path, T + 1000)
    again.append(GROUP, "s05", T + 200, "early\n")  # before anybody asked for what is in the folder
    assert messages(again, "s05") == ["5\n", "end\n", "early\n"]
    again.append(GROUP, "s06", T + 200, "later\n")
    assert messages(again, "s06") == ["6\n", "end\n", "later\n"]
    assert len(again._groups[GROUP].resting) == 39 and len(again._streams) == 2
    assert len(again.streams(GROUP)) == 40 and len(again.filter_events(GROUP).events) == 82
    await again.stop()
    assert len(list(again.root.rglob("*.log"))) == 42


async def test_streams_that_rest_can_be_deleted_and_made_again(store: LogStore) -> None:
    await fill(store)
    assert not store.create_stream(GROUP, "s03")
    store.delete_stream(GROUP, "s03")
    with pytest.raises(NoSuchStream):
        messages(store, "s03")
    assert "s03" not in {stream.name for stream in store.streams(GROUP)}
    assert store.create_stream(GROUP, "s03") and messages(store, "s03") == []
    store.delete_group(GROUP)
    assert not store._streams
    store.append(GROUP, "s04", T, "new\n")
    assert messages(store, "s04") == ["new\n"] and len(store.streams(GROUP)) == 1


async def test_only_a_few_streams_are_put_to_rest_at_a_time(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "AWAKE_STREAMS", 40)
    monkeypatch.setattr(logs, "REST_AT_ONCE", 3)
    rested = [0]
    for number in range(100):
        store.append(GROUP, f"s{number:02}", T + number, f"{number}\n")
        rested.append(len(store._groups[GROUP].resting))
        await written(store)
    steps = {after - before for before, after in itertools.pairwise(rested)}
    assert max(steps) == 3 and rested[-1] >= 60
    assert set(store._groups[GROUP].streams) == {stream for _, stream in store._streams}
    assert [messages(store, f"s{number:02}") for number in range(100)] == [[f"{number}\n"] for number in range(100)]


async def test_what_is_deleted_before_it_is_its_turn_to_rest(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "AWAKE_STREAMS", 8)
    monkeypatch.setattr(logs, "REST_AT_ONCE", 1)
    store._rest_beyond = 8
    await fill(store, 9)  # s00 rests, s01 to s03 are to follow
    store.delete_stream(GROUP, "s02")
    await fill(store, 20)
    assert sorted(stream.name for stream in store.streams(GROUP)) == [f"s{number:02}" for number in range(20)]
    store.delete_group(GROUP)
    await fill(store, 9)
    assert sorted(stream.name for stream in store.streams(GROUP)) == [f"s{number:02}" for number in range(9)]


async def test_streams_rest_only_once_they_are_written(store: LogStore) -> None:
    for number in range(50):
        store.append(GROUP, f"s{number:02}", T + number, f"{number}\n")
    assert len(store._streams) == 50 and len(store.filter_events(GROUP).events) == 50
    await written(store)
    await fill(store, 140)
    assert len(store._streams) < 50
    assert sum(len(messages(store, stream.name)) for stream in store.streams(GROUP)) == 330


async def test_streams_of_several_segments_stay(store: LogStore) -> None:
    store.append(GROUP, "large", T + 10_000, "late\n")
    store.append(GROUP, "large", T, "early\n")
    await written(store)
    await fill(store)
    assert "large" not in store._groups[GROUP].resting and messages(store, "large") == ["early\n", "late\n"]


numbers = st.integers(0, 9)
rows = st.builds(Row, st.text("ab/[", max_size=4), numbers, numbers, numbers, st.booleans())


@given(st.lists(st.tuples(st.lists(rows, max_size=8), st.text("ab/[", max_size=4))))
def test_a_table_is_a_mapping_in_the_order_of_names(changes: list[tuple[list[Row], str]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resting, "BLOCK_ROWS", 3)
        check_against_a_mapping(changes)


def check_against_a_mapping(changes: list[tuple[list[Row], str]]) -> None:
    table, mapping = Table("/folder"), dict[str, Row]()
    for put, removed in changes:
        named = {row.name: row for row in put}
        table.put(list(named.values()))
        mapping.update(named)
        table.remove(removed)
        mapping.pop(removed, None)
        assert [table.get(name) for name in sorted(mapping)] == [mapping[name] for name in sorted(mapping)]
        assert len(table) == len(mapping) and removed not in table
        hidden = sorted(mapping)[:2]
        for prefix in ("", "a", "/["):
            shown = [mapping[name] for name in sorted(mapping)[2:] if name.startswith(prefix)]
            parts = table.parts(prefix, hidden, 3, 7)
            assert [(part.stream, part.first_ms, part.last_ms, part.size) for part in parts] == [
                row[:4] for row in shown if row.last_ms >= 3 and row.created_ms < 7]  # fmt: skip
        assert table.stored_bytes(hidden) == sum(row.size for row in mapping.values() if row.name not in hidden)


def test_a_stream_that_rests_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        table, before = Table("/folder"), tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            table.put([Row(f"2026/11/21/[$LATEST]{uuid.uuid4().hex}", T, T, 1000, True) for _ in range(500)])
        assert len(table._blocks) > 2
        assert (tracemalloc.get_traced_memory()[0] - before) / 5000 < 170
    finally:
        tracemalloc.stop()


@given(st.text("aZ09_.-~/[$]@ %+ü", max_size=40))
def test_file_names_are_quoted_alike_whichever_way(name: str) -> None:
    assert segments.file_name(name) == quote(name, safe="")
