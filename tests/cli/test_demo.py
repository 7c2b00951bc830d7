"""What `make demo` runs, for real: a server, a function, boto3, a URL, a burst, a freeze, and nothing left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"


@pytest.mark.slow
def test_the_demo_keeps_its_promises(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LAMBENT_")}
    ran = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env=environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "  NO " not in ran.stdout and ran.stdout.count("\n  yes  ") >= 18
    assert "Everything was as promised" in ran.stdout
    assert "Traceback" not in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_demo_whose_reader_goes_away_still_stops_its_server(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as demo:
        assert demo.stdout is not None and demo.stderr is not None
        assert any(b"it is ready" in line for line in demo.stdout)
        demo.stdout.close()
        # The server has inherited stderr: reading to its end waits for both.
        assert b"Traceback" not in demo.stderr.read()
        assert demo.wait() == 130
    assert list(tmp_path.iterdir()) == []
