"""A server in a process of its own, on a free port, for as long as a test session lasts."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: The first start on a machine may compile process 1 and look at what the kernel can do.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class ServerFailed(Exception):
    """The server did not start or did not end well; the message has what it said."""


class Server:
    """One `lambent up`. Raises ServerFailed."""

    def __init__(self, data_dir: Path, flags: Sequence[str] = ()) -> None:
        self._stderr = data_dir.with_name(data_dir.name + ".stderr")
        argv = ["--port", "0", *flags, "--data-dir", str(data_dir)]
        with open(self._stderr, "wb") as stderr:
            # A session of its own: Ctrl-C is for pytest, which still tidies up with it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lambent.testing.served", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=stderr, start_new_session=True)  # fmt: skip
        line = self._first_line()
        if " ready at http://" not in line:
            self._end()
            raise ServerFailed(f"the Lambent server did not start: {self._said() or line or 'it said nothing'}")
        self.endpoint = line.split()[-1]
        self.token = (data_dir / "token").read_text("ascii").strip()

    def _first_line(self) -> str:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_TIMEOUT_S)
        return self._process.stdout.readline().decode("utf-8", "replace") if readable else ""

    def _said(self) -> str:
        return self._stderr.read_text("utf-8", "replace").strip()

    def stop(self) -> None:
        """End it, with all of its environments."""
        code = self._end()
        if code != 0 or "Traceback" in self._said():
            raise ServerFailed(f"the Lambent server ended with exit code {code}:\n{self._said()}")

    def _end(self) -> int:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()  # which ends it, see `served`
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            process.stdout.close()
