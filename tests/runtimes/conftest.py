"""Prepared runtimes for the tests, from the cache that the server uses too: the first run installs what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runtime_api import prepared

from lambent.runtimes import PreparedRuntime


@pytest.fixture(scope="session")
def python() -> PreparedRuntime:
    return prepared("python3.12", "python3.13", "python3.14", "python3.11")


@pytest.fixture(scope="session")
def node() -> PreparedRuntime:
    return prepared("nodejs20.x", "nodejs22.x")


@pytest.fixture(scope="session")
def node_without_callbacks() -> PreparedRuntime:
    return prepared("nodejs24.x", "nodejs26.x")


@pytest.fixture(scope="session")
def provided() -> PreparedRuntime:
    return prepared("provided.al2023")


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Path]:
    """Writes a function's files, given as texts by path; returns the folder."""

    def write(files: dict[str, str]) -> Path:
        folder = tmp_path / "task"
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return write
