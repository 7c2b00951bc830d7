"""Fixtures of the end-to-end tests: one server for each module, with the flags that the module asks for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Server, running


@pytest.fixture(scope="session", autouse=True)
def needs_namespaces() -> None:
    """These tests look at real sandboxes with their limits; what cannot have them is skipped, with words."""
    if sys.platform != "linux":
        pytest.skip("needs Linux")
    if os.geteuid() != 0:
        pytest.skip("needs root, for control groups and ext4 images")
    unshare = shutil.which("unshare")
    if unshare is not None and subprocess.run([unshare, "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("needs the right to make mount namespaces")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lambent") / "data"


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[Server]:
    """The module's server. `FLAGS` of the module are its flags; `FUNCTIONS` are deployed, all at once."""
    with running(data_dir, *getattr(request.module, "FLAGS", ())) as server:
        server.deploy(*getattr(request.module, "FUNCTIONS", ()))
        yield server
