"""A Lambent server for measuring: its own process, its own data directory, the trivial function deployed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import CACHE, CHECKOUT, CODE, HANDLER, MEMORY_MIB, RESULT
from bench.wire import Target
from lambent.client import Client

FUNCTION = "trivial"
READY_S = 60.0


class NoServer(Exception):
    """The server did not start, or the function did not become Active. One line."""


class Server:
    """`with Server() as server`: ready to be called at `server.target`. `program` is what runs instead of `lambent`."""

    def __init__(self, sandbox: str = "namespace", program: tuple[str, ...] = ("-m", "lambent.cli.main", "up")) -> None:
        self._data_dir = Path(tempfile.mkdtemp(prefix="lambent-bench-"))
        flags = ["--port", "0", "--data-dir", str(self._data_dir), "--cache-dir", str(CACHE / "lambent"),
                 "--sandbox", sandbox]  # fmt: skip
        self.process = subprocess.Popen([sys.executable, *program, *flags], cwd=CHECKOUT,
                                        stdout=subprocess.PIPE, text=True)
        self.said = ""  #: what the server printed after it was ready, once it has stopped
        self.runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"

    def __enter__(self) -> Self:
        try:
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            url = next((word for word in line.split() if word.startswith("http://")), "")
            if not url:
                raise NoServer("the server did not start; what it said stands above")
            self.client = Client(url, token=(self._data_dir / "token").read_text("ascii").strip())
            self._deploy()
        except BaseException:
            self._stop()
            raise
        path = f"/2015-03-31/functions/{FUNCTION}/invocations"
        self.target = Target(self.client.host, self.client.port, path, RESULT)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.client.close()
        self._stop()

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.said, _ = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        shutil.rmtree(self._data_dir, ignore_errors=True)

    def _deploy(self) -> None:
        package = BytesIO()
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("app.py", CODE)
        self.client.create_function({
            "FunctionName": FUNCTION, "Runtime": self.runtime, "Handler": HANDLER, "MemorySize": MEMORY_MIB,
            "Role": "arn:aws:iam::000000000000:role/bench", "Timeout": 30, "Code": {"ZipFile": package.getvalue()},
        })  # fmt: skip
        deadline = time.monotonic() + READY_S
        while True:
            shown = self.client.configuration(FUNCTION)
            if shown["State"] == "Active":
                return
            if shown["State"] == "Failed" or time.monotonic() > deadline:
                raise NoServer(f"the function is {shown['State']}: {shown.get('StateReason', 'it takes too long')}")
            time.sleep(0.05)

    def retire_all(self) -> None:
        """End every environment and wait until it is gone."""
        for row in self.client.environments():
            self.client.retire(row["id"])
        deadline = time.monotonic() + READY_S
        while self.client.environments():
            if time.monotonic() > deadline:
                raise NoServer("an environment does not end")
            time.sleep(0.01)
