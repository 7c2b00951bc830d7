"""The commands of the examples' pages, as somebody types them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .harness import PYTHON, Server, clean_environment

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def test_the_page_of_the_extensions_does_what_it_says(server: Server) -> None:
    programs = str(Path(sys.executable).parent)
    path = f"{programs}:{os.environ.get('PATH', '')}"
    for program in ("aws", "zip", "bash", "lambent"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"needs {program}")
    page = (ROOT / "examples" / "extensions" / "README.md").read_text()
    [commands] = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace("python3.12", PYTHON)], cwd=ROOT, text=True,
        env=clean_environment() | {"PATH": path, "LAMBENT_ENDPOINT": server.url}, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Hello, Ada" in done.stdout and "witness: registered" in done.stdout
    [row] = server.environments("hello")
    server.retire(row["id"])
    story = server.story(row["id"])
    events = server.logs.get_log_events(
        logGroupName=story["log_group"], logStreamName=story["log_stream"], startFromHead=True)["events"]  # fmt: skip
    log = re.sub(r"\s+", " ", " ".join(event["message"] for event in events))
    [shown] = re.findall(r"^```text\n(.*?)^```", page, re.M | re.S)
    for line in shown.splitlines():
        beginning = re.sub(r"\s+", " ", line).partition("...")[0].partition("f0b1e1ae")[0].partition("1399")[0]
        assert beginning in log, log
