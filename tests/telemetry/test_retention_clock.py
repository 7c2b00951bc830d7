"""Retention when platform time is moved on: what is too old then is removed then, not when somebody looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from lambent.clock import Clock
from lambent.telemetry import logs as module
from lambent.telemetry.logstores import LogStores

GROUP, DAY_S = "/aws/lambda/f", 86_400


def on_disk(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


async def test_what_becomes_too_old_leaves_the_disk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    clock = Clock()
    stores = LogStores(tmp_path, clock)
    store = stores.of("000000000000", "us-east-1")
    for number in range(5):
        store.append(GROUP, "s", int(clock.wall() * 1000), f"event {number} " + "x" * 100)
    store.append("/aws/lambda/kept", "s", int(clock.wall() * 1000), "for ever")
    store.retain(GROUP, 3)
    clock.advance(2 * DAY_S)
    store.append(GROUP, "s", int(clock.wall() * 1000), "young")
    assert len(store.streams(GROUP)[0].segments) == 6
    clock.advance(2 * DAY_S)
    assert len(store.streams(GROUP)[0].segments) == 1
    assert [event.message for event in store.get_events(GROUP, "s").events] == ["young"]
    assert len(store.get_events("/aws/lambda/kept", "s").events) == 1
    await stores.stop()
    left = on_disk(tmp_path)
    assert "young" in left and "for ever" in left and "event" not in left
