from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from lambent.cli.main import run

from .fake_server import FakeServer


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Lambent(Protocol):
    def __call__(self, *argv: str) -> Ran: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    """A fake server to which every command of the test talks by default, and a data directory with its token."""
    fake = FakeServer()
    monkeypatch.setenv("LAMBENT_ENDPOINT", fake.endpoint)
    yield fake
    fake.stop()


@pytest.fixture
def lambent(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lambent:
    """Run a command in this process. Whatever happens, no traceback may come out."""
    monkeypatch.setenv("COLUMNS", "200")
    for variable in list(os.environ):
        if variable.startswith("LAMBENT_") and variable != "LAMBENT_ENDPOINT":
            monkeypatch.delenv(variable)
    monkeypatch.setenv("LAMBENT_CACHE_DIR", str(tmp_path / "lambent-cache"))

    def ran(*argv: str) -> Ran:
        code = run(argv)
        captured = capfd.readouterr()
        assert 'Traceback (most recent call last):\n  File "' not in captured.err or "/var/task" in captured.err
        return Ran(code, captured.out, captured.err)

    return ran
