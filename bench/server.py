"""A Lambent server for measuring: its own process, its own data directory, the trivial function deployed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bench import CACHE, CHECKOUT, MEMORY_MIB, TRIVIAL, Function
from bench.wire import Target
from lambent.client import Client
from lambent.errors import ApiError

ROLE = "arn:aws:iam::000000000000:role/bench"
READY_S = 60.0
#: Thousands of environments end one after the other.
STOP_S = 180.0


class NoServer(Exception):
    """The server did not start, or the function did not become Active. One line."""


class Server:
    """`with Server() as server`: ready to be called at `server.target`. `program` is what runs instead of `lambent`.

    `function` is deployed; nothing is parked unless `blanks` says how much. What the server says on standard error goes
    to the file `stderr`, or to ours.
    """

    def __init__(self, *flags: str, blanks: int = 0, function: Function = TRIVIAL,
                 program: tuple[str, ...] = ("-m", "lambent.cli.main", "up"), stderr: IO[str] | None = None) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="lambent-bench-"))
        argv = ["--port", "0", "--data-dir", str(self.data_dir), "--cache-dir", str(CACHE / "lambent"),
                "--sandbox", "namespace", "--blanks", str(blanks), *flags]  # fmt: skip
        self.process = subprocess.Popen([sys.executable, *program, *argv], cwd=CHECKOUT,
                                        stdout=subprocess.PIPE, stderr=stderr, text=True,
                                        start_new_session=True)  # as from a terminal of its own, like the peers
        self.said = ""  #: what the server printed after it was ready, once it has stopped
        self.stop_s = 0.0  #: how long that took
        self.runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._function = function

    def __enter__(self) -> Self:
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            url = next((word for word in line.split() if word.startswith("http://")), "")
            if not url:
                raise NoServer("the server did not start; what it said stands above")
            self.token = (self.data_dir / "token").read_text("ascii").strip()
            self.client = Client(url, token=self.token)
            self.deploy(self._function)
        except BaseException:
            self._stop()
            raise
        self.target = self.target_of(self._function)
        return self

    def target_of(self, function: Function) -> Target:
        path = f"/2015-03-31/functions/{function.name}/invocations"
        return Target(self.client.host, self.client.port, path, function.result)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.client.close()
        self._stop()

    def _stop(self) -> None:
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.said, _ = self.process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.stop_s = time.monotonic() - begun
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def deploy(self, function: Function) -> None:
        """Create it and wait until it is Active."""
        content = BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, text in function.files:
                archive.writestr(name, text)
        self.client.create_function({
            "FunctionName": function.name, "Runtime": function.runtime or self.runtime, "Handler": function.handler,
            "MemorySize": MEMORY_MIB, "Role": ROLE, "Timeout": 60, "Code": {"ZipFile": content.getvalue()},
        })  # fmt: skip

        def active() -> bool:
            shown = self.client.configuration(function.name)
            if shown["State"] == "Failed":
                raise NoServer(f"the function is Failed: {shown.get('StateReason')}")
            return bool(shown["State"] == "Active")

        self.until(active, "the function does not become Active", pause_s=0.05)

    def until(self, reached: Callable[[], bool], otherwise: str, wait_s: float = READY_S,
              pause_s: float = 0.005) -> None:
        """Ask again and again. Raises NoServer with `otherwise` when it takes too long."""
        deadline = time.monotonic() + wait_s
        while not reached():
            if time.monotonic() > deadline:
                raise NoServer(otherwise)
            time.sleep(pause_s)

    def row(self, environment_id: str) -> dict[str, Any]:
        """Of a living environment, as `lambent ps` has it. Raises NoServer."""
        for row in self.client.environments():
            if row["id"] == environment_id:
                return row
        raise NoServer(f"environment {environment_id} is gone")

    def wait_blanks(self, count: int, wait_s: float = READY_S) -> None:
        """Until so many are parked. Raises NoServer."""
        self.until(lambda: int(self.client.health().get("blanks", 0)) >= count, "no blank is parked", wait_s)

    def parks_blanks(self) -> bool:
        """Whether one is parked for the function that was deployed, within a time that makes many."""
        try:
            self.wait_blanks(1, 5.0)
        except NoServer:
            return False
        return True

    def retire_all(self) -> None:
        """End every environment and wait until it is gone."""
        for row in self.client.environments():
            with suppress(ApiError):  # gone by itself
                self.client.retire(row["id"])
        self.until(lambda: not self.client.environments(), "an environment does not end")
