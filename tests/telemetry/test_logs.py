"""The log store: what is appended is found again, by stream and across streams, and by the next server."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lambent.clock import Clock
from lambent.telemetry import logs, queries, segments, writer
from lambent.telemetry.logs import LogStore, NoSuchGroup, NoSuchStream
from lambent.telemetry.queries import BadToken

GROUP = "/aws/lambda/f"
STREAM = "2026/11/21/[$LATEST]0a1b"
T = 1_795_000_000_000


class StandingClock(Clock):
    def wall(self) -> float:
        return T / 1000 + self.offset_s


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    made = await opened(tmp_path)
    yield made
    await made.stop()


async def opened(data_dir: Path) -> LogStore:
    store = LogStore(data_dir, StandingClock())
    store.begin()
    return store


async def flushed(store: LogStore) -> None:
    while store.writer._unwritten:
        await asyncio.sleep(0.01)


def contents(segment: segments.Part) -> bytes:
    return Path(segment.path).read_bytes()


def overwrite(segment: segments.Part, data: bytes) -> None:
    Path(segment.path).write_bytes(data)


def files(folder: Path) -> list[Path]:
    return [path.relative_to(folder) for path in folder.rglob("*.log")]


def forward(store: LogStore, stream: str = STREAM) -> list[str]:
    return [event.message for event in store.get_events(GROUP, stream, backward=False).events]


def found(store: LogStore, **query: object) -> list[str]:
    """Every event of a search, page by page."""
    messages: list[str] = []
    token: str | None = None
    while True:
        answer = store.filter_events(GROUP, token=token, **query)  # type: ignore[arg-type]
        messages += [event.message for event in answer.events]
        assert answer.token != token or token is None
        token = answer.token
        if token is None:
            return messages


async def test_events_are_seen_at_once_and_in_order(store: LogStore) -> None:
    for number in range(3):
        store.append(GROUP, STREAM, T + number, f"line {number}\n")
    assert forward(store) == ["line 0\n", "line 1\n", "line 2\n"]


async def test_next_server_knows_what_the_last_one_wrote(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    first.append(GROUP, STREAM, T, "café\n")
    first.append("/other", "s", T, "x")
    first.create_stream(GROUP, "empty")
    await first.stop()
    second = await opened(tmp_path)
    assert [group.name for group in second.groups()] == [GROUP, "/other"]
    assert {stream.name for stream in second.streams(GROUP)} == {STREAM, "empty"}
    assert forward(second) == ["café\n"]
    assert forward(second, "empty") == []
    second.append(GROUP, STREAM, T + 1, "again\n")
    assert forward(second) == ["café\n", "again\n"]
    await second.stop()
    third = await opened(tmp_path)
    assert forward(third) == ["café\n", "again\n"]
    await third.stop()


async def test_events_reach_the_file_without_being_asked(store: LogStore, tmp_path: Path) -> None:
    store.append(GROUP, STREAM, T, "soon on disk\n")
    (segment,) = store.streams(GROUP)[0].segments
    while not segment.written:
        await asyncio.sleep(0.01)
    assert b"soon on disk" in contents(segment)
    assert not segment.lines and not segment.sending
    assert os.stat(segment.path).st_mode & 0o777 == 0o600


async def test_torn_last_line_is_not_read(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    for number in range(3):
        first.append(GROUP, STREAM, T + number, f"{number}\n")
    await first.stop()
    (segment,) = first.streams(GROUP)[0].segments
    overwrite(segment, contents(segment)[:-4])
    second = await opened(tmp_path)
    assert forward(second) == ["0\n", "1\n"]
    assert [event.message for event in second.get_events(GROUP, STREAM).events] == ["0\n", "1\n"]
    second.append(GROUP, STREAM, T + 9, "next\n")
    assert forward(second) == ["0\n", "1\n", "next\n"]
    await second.stop()


async def test_damage_inside_a_file_costs_one_event(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    for number in range(3):
        first.append(GROUP, STREAM, T + number, f"{number}\n")
    await first.stop()
    (segment,) = first.streams(GROUP)[0].segments
    lines = contents(segment).split(b"\n")
    overwrite(segment, b"\n".join([lines[0], b"\0" * len(lines[1]), lines[2], b""]))
    second = await opened(tmp_path)
    assert forward(second) == ["0\n", "2\n"]
    await second.stop()


async def test_search_merges_streams_by_time(store: LogStore) -> None:
    for number in range(20):
        store.append(GROUP, f"stream-{number % 3}", T + number, str(number))
    assert found(store) == [str(number) for number in range(20)]
    assert found(store, limit=3) == [str(number) for number in range(20)]
    assert found(store, streams=["stream-1"]) == ["1", "4", "7", "10", "13", "16", "19"]
    assert found(store, prefix="stream-2", start_ms=T + 5, end_ms=T + 12) == ["5", "8", "11"]
    assert found(store, match=lambda message: "7" in message) == ["7", "17"]
    assert found(store, prefix="none") == []


async def test_search_looks_at_a_bounded_amount_per_call(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "SCAN_BYTES", 1000)
    for number in range(100):
        store.append(GROUP, STREAM, T + number, "x" * 50 + str(number))
    answer = store.filter_events(GROUP, match=lambda message: message.endswith("x99"))
    assert answer.events == [] and answer.token is not None
    assert found(store, match=lambda message: message.endswith("x99")) == ["x" * 50 + "99"]


async def test_many_events_over_several_segments(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SEGMENT_BYTES", 100_000)
    monkeypatch.setattr(queries, "PAGE_BYTES", 64 * 1024)
    expected = [f"{number:05d} " + "x" * 90 for number in range(5000)]
    for number, message in enumerate(expected):
        store.append(GROUP, STREAM, T + number // 10, message)
    await store.stop()
    again = await opened(store.root.parents[2])
    assert len(again.streams(GROUP)[0].segments) > 5
    assert found(again, limit=700) == expected
    assert found(again, start_ms=T + 300, end_ms=T + 310) == expected[3000:3100]
    page = again.get_events(GROUP, STREAM)
    backwards = page.events
    while page.events:
        page = again.get_events(GROUP, STREAM, position=page.backward)
        backwards = page.events + backwards
    assert [event.message for event in backwards] == expected
    await again.stop()


async def test_forward_position_finds_what_comes_later(store: LogStore) -> None:
    store.append(GROUP, STREAM, T, "a")
    page = store.get_events(GROUP, STREAM, backward=False)
    empty = store.get_events(GROUP, STREAM, position=page.forward, backward=False)
    assert empty.events == [] and empty.forward == page.forward
    store.append(GROUP, STREAM, T, "b")
    later = store.get_events(GROUP, STREAM, position=empty.forward, backward=False)
    assert [event.message for event in later.events] == ["b"]
    back = store.get_events(GROUP, STREAM, position=empty.backward)
    assert [event.message for event in back.events] == ["a"]


async def test_older_event_keeps_its_time_in_a_segment_of_its_own(store: LogStore) -> None:
    store.create_group(GROUP)
    store.create_stream(GROUP, STREAM)
    store.put(GROUP, STREAM, [(T + 5000, "late")])
    store.put(GROUP, STREAM, [(T - 7000, "early"), (T + 9000, "last")])
    assert forward(store) == ["early", "late", "last"]
    events = store.get_events(GROUP, STREAM).events
    assert [event.timestamp_ms - T for event in events] == [-7000, 5000, 9000]


async def test_slightly_older_platform_event_does_not_start_a_segment(store: LogStore) -> None:
    store.append(GROUP, STREAM, T + 10, "first")
    store.append(GROUP, STREAM, T + 9, "second")
    (stream,) = store.streams(GROUP)
    assert len(stream.segments) == 1
    assert forward(store) == ["first", "second"]


async def test_names_longer_than_a_file_name(tmp_path: Path) -> None:
    group, stream = "/g" + "/x" * 250, "s/" * 250
    first = await opened(tmp_path)
    first.append(group, stream + "1", T, "one")
    first.append(group, stream + "2", T, "two")
    await first.stop()
    second = await opened(tmp_path)
    assert [found.name for found in second.groups()] == [group]
    assert {found.name for found in second.streams(group)} == {stream + "1", stream + "2"}
    assert second.get_events(group, stream + "2").events[0].message == "two"
    await second.stop()


@pytest.mark.parametrize("name", ["..", ".", "a@1@2.log", "%2e", "-", "日本"])
async def test_awkward_names_stay_inside_the_folder(tmp_path: Path, name: str) -> None:
    first = await opened(tmp_path)
    first.append(name, name, T, "x")
    await first.stop()
    assert [len(path.parts) for path in files(tmp_path)] == [5]
    second = await opened(tmp_path)
    assert [event.message for event in second.get_events(name, name).events] == ["x"]
    await second.stop()


async def test_deleted_group_is_gone_and_its_successor_empty(store: LogStore) -> None:
    store.append(GROUP, STREAM, T, "old")
    store.writer.hand_over()
    store.append(GROUP, STREAM, T, "older")
    store.delete_group(GROUP)
    with pytest.raises(NoSuchGroup):
        store.streams(GROUP)
    store.append(GROUP, STREAM, T, "new")
    await store.stop()
    again = await opened(store.root.parents[2])
    assert forward(again) == ["new"]
    assert len(os.listdir(store.root)) == 1
    assert again.writer.lost_events == 0
    await again.stop()


async def test_unknown_names_and_tokens_are_refused(store: LogStore) -> None:
    with pytest.raises(NoSuchGroup):
        store.filter_events("nothing")
    store.create_group(GROUP)
    with pytest.raises(NoSuchStream):
        store.get_events(GROUP, "nothing")
    with pytest.raises(NoSuchStream):
        store.filter_events(GROUP, streams=["nothing"])
    for token in ("", "?", "e30=", "WzEsMl0=", "é"):
        if token:
            with pytest.raises(BadToken):
                store.filter_events(GROUP, token=token)


async def test_disk_that_refuses_costs_events_and_nothing_else(store: LogStore) -> None:
    store.append(GROUP, STREAM, T, "kept\n")
    (segment,) = store._streams[GROUP, STREAM].segments
    while not segment.written:
        await asyncio.sleep(0.01)
    path = segment.path
    segment.path = "/dev/null/x.log"
    store.append(GROUP, STREAM, T + 1, "lost\n")
    while not store.writer.lost_events:
        await asyncio.sleep(0.01)
    assert "Not a directory" in store.writer.trouble
    segment.path = path
    store.append(GROUP, STREAM, T + 2, "kept too\n")
    while store.writer.trouble:
        await asyncio.sleep(0.01)
    assert forward(store) == ["kept\n", "kept too\n"]


async def test_folder_that_was_taken_away_comes_back(store: LogStore) -> None:
    store.append(GROUP, STREAM, T, "lost\n")
    await flushed(store)
    shutil.rmtree(store.root)
    assert forward(store) == []
    store.append(GROUP, STREAM, T + 1, "kept\n")
    store.append("/new", STREAM, T + 1, "kept\n")
    await flushed(store)
    assert store.writer.lost_events == 0
    assert forward(store) == ["kept\n"]
    assert len(os.listdir(store.root)) == 2


async def test_memory_is_bounded_when_the_disk_is_slow(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "UNWRITTEN_BYTES", 1000)
    for number in range(100):
        store.append(GROUP, STREAM, T + number, "x" * 100)
    assert 0 < len(forward(store)) < 10
    assert store.writer.lost_events == 100 - len(forward(store))


async def test_text_that_is_not_unicode_is_kept_readable(store: LogStore) -> None:
    store.append(GROUP, STREAM, T, "a\ud800b")
    assert forward(store) == ["a?b"]


async def test_ten_thousand_streams_open_no_file_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "logs/000000000000/us-east-1" / f"%2Faws%2Flambda%2Ff@{T}"
    folder.mkdir(parents=True)
    for number in range(300):
        path = folder / f"s{number}@0@{T}.log"
        path.write_bytes(segments.encode(T + number, T, f"{number}"))
        os.utime(path, ns=((T + number) * 10**6, (T + number) * 10**6))
    opens: list[str] = []
    really_read = segments._read
    monkeypatch.setattr(segments, "_read", lambda *args: opens.append(args[0]) or really_read(*args))  # type: ignore[func-returns-value]
    store = await opened(tmp_path)
    assert len(store.streams(GROUP)) == 300
    assert not opens
    assert found(store, start_ms=T + 298) == ["298", "299"]
    assert len(opens) <= 4
    await store.stop()


WRITER = """
import asyncio, sys
from pathlib import Path
from lambent.clock import Clock
from lambent.telemetry.logs import LogStore

async def main():
    store = LogStore(Path(sys.argv[1]), Clock())
    store.begin()
    number = 0
    while True:
        for number in range(number, number + 50):
            store.append("g", "s", 1_795_000_000_000 + number, "line " + str(number))
        number += 1
        await asyncio.sleep(0.001)
        if store.streams("g")[0].segments[-1].written:
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_server_loses_the_end_and_nothing_else(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(40):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()

    async def read() -> list[str]:
        store = await opened(tmp_path)
        messages = [event.message for event in store.get_events("g", "s", backward=False).events]
        await store.stop()
        return messages

    messages = asyncio.run(read())
    assert len(messages) > 100
    assert messages == [f"line {number}" for number in range(len(messages))]
