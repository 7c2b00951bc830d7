"""How a soak ends, and when it looks; what it finds is seen in its own words."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench import soak
from bench.soak_watch import Holdings, Watch

SETTLED = Holdings(50_000, Counter(mount=4, pipe=1), 1 + soak.PARKED_PROCESSES, 8, 21, soak.BLANKS + soak.POOLED_LOOPS)


class Stand:
    """Server, its client, and everything that is asked of either: itself. `until_stopped` is what a call would take."""

    endpoint, port, token, data_dir = "http://127.0.0.1:1", 1, "", Path("/nowhere")

    def __init__(self, **_: Any) -> None:
        self.client = self
        self.process = SimpleNamespace(pid=os.getpid(), returncode=0)
        self.gone = threading.Event()

    def health(self) -> dict[str, str]:
        return {"instance": "stand"}

    def retire_all(self) -> None:
        pass

    def __enter__(self) -> Stand:
        return self

    def __exit__(self, *_: object) -> None:
        self.gone.set()


class Waiting:
    """A caller whose first act in the soak interrupts it, and which then waits as long as there is a server."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._warm_up = 5
        self.acts: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()

    def deploy(self) -> None:
        pass

    def hang_up(self) -> None:
        pass

    def act(self) -> None:
        self._warm_up -= 1
        if self._warm_up >= 0:
            return
        self.acts["say"] += 1
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self._stand.gone.wait()
        raise ConnectionRefusedError("no server")


def test_an_interrupted_soak_ends_its_threads_and_tells_what_it_has(monkeypatch: pytest.MonkeyPatch,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    stand = Stand()
    monkeypatch.setattr(soak, "CALLERS", 1)
    monkeypatch.setattr(soak, "CALM_S", 0.0)
    monkeypatch.setattr(soak, "PAUSE_S", (60.0, 60.0))
    monkeypatch.setattr(soak, "Server", lambda **_: stand)
    monkeypatch.setattr(soak, "Caller", lambda *_: Waiting(stand))
    before = set(threading.enumerate())
    assert soak.main(["--minutes", "1", "--seed", "3"]) == 130
    assert set(threading.enumerate()) == before
    said = capsys.readouterr().out
    assert "acts:   1 say" in said and "WRONG" not in said


def test_a_soak_that_is_interrupted_before_its_server_is_there_exits_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(Stand):
        def __enter__(self) -> Stand:
            raise KeyboardInterrupt

    monkeypatch.setattr(soak, "Server", Never)
    assert soak.main(["--minutes", "1"]) == 130


def test_a_look_waits_until_the_pool_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices of ended sandboxes make up the number meanwhile; an image has its device open while it is made."""
    busy = replace(SETTLED, descriptors=SETTLED.descriptors + Counter(loop7=1))
    looks = [(SETTLED, 2), (SETTLED, 2), (SETTLED, 3), (busy, 4), (SETTLED, 4), (SETTLED, 4), (SETTLED, 4)]
    taken: list[tuple[Holdings, int]] = []

    def look(_: Watch) -> Holdings:
        taken.append(looks[len(taken)])
        return taken[-1][0]

    monkeypatch.setattr(Watch, "holdings", look)
    monkeypatch.setattr(Watch, "images", lambda _: taken[-1][1])
    monkeypatch.setattr(soak, "CALLERS", 0)
    stand: Any = Stand()
    assert soak.Soak(stand, 1, io.StringIO())._calm() is SETTLED
    assert taken == looks[:6]
