"""Another peer: MiniStack from PyPI, an emulator of AWS that runs Python and Node.js functions without a container.

It is installed by pip, pinned, into an environment of its own in `.cache/`, made with the interpreter that our
functions run on too, since it runs functions with its own. Each is a process of the user who started it, in a folder
below the temporary one; nothing is isolated, limited or frozen.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import CACHE, MEMORY_MIB, TRIVIAL, Function
from bench.peer import NoPeer, free_port
from bench.wire import Target
from lambent.runtimes.prepared import PreparedRuntime

PACKAGE = "ministack==1.5.33"
START_S = 60.0
ACTIVE_S = 30.0
#: Calls that it takes at once: one thread of 64 each, of which some are for the rest of it.
AT_ONCE = 50
_FUNCTIONS = "/2015-03-31/functions"


def installed(prepared: PreparedRuntime) -> Path:
    """The Python of its environment, made once. Raises NoPeer."""
    place = CACHE / "bench" / PACKAGE
    program = place / "bin" / "python"
    if not (place / "complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        _run(f"{prepared.host_lang}/bin/python{prepared.line}", "-m", "venv", str(place))
        _run(str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE)
        (place / "complete").touch()
    return program


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"{argv[0]} ended with exit code {done.returncode}"]
        raise NoPeer(f"{PACKAGE} cannot be installed: {said[-1]}")


class MiniStack:
    """`with MiniStack(python) as ministack`: the functions are Active, each of them at `ministack.target_of(...)`."""

    how = f"python -m ministack.app, of {PACKAGE.replace('==', ' ')}; GATEWAY_PORT, BIND_HOST=127.0.0.1"

    def __init__(self, program: Path, functions: Sequence[Function] = (TRIVIAL,)) -> None:
        self._functions = functions
        self._folder = Path(tempfile.mkdtemp(prefix="lambent-bench-ministack-"))
        self._port = free_port()
        environment = {
            "PATH": os.defpath, "HOME": str(self._folder), "TMPDIR": str(self._folder), "LOG_LEVEL": "WARNING",
            "GATEWAY_PORT": str(self._port), "BIND_HOST": "127.0.0.1",
        }  # fmt: skip
        self._log = (self._folder / "log").open("wb")
        self.process = subprocess.Popen([str(program), "-m", "ministack.app"], cwd=self._folder, env=environment,
                                        stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                                        start_new_session=True)  # fmt: skip

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_S
        try:
            while True:
                try:
                    self.target_of(TRIVIAL).connect().close()
                    break
                except OSError:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        said = (self._folder / "log").read_text(errors="replace").strip().splitlines()
                        raise NoPeer(f"MiniStack does not start: {(said or ['it says nothing'])[-1]}") from None
                    time.sleep(0.02)
            for function in self._functions:
                self._create(function)
            for function in self._functions:
                self._wait_active(function.name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop()

    @property
    def target(self) -> Target:
        return self.target_of(self._functions[0])

    def target_of(self, function: Function) -> Target:
        # It writes every result anew, with spaces.
        return Target("127.0.0.1", self._port, f"{_FUNCTIONS}/{function.name}/invocations",
                      json.dumps(json.loads(function.result)).encode())  # fmt: skip

    def delete(self, function: Function) -> None:
        """With its processes."""
        self._ask("DELETE", f"{_FUNCTIONS}/{function.name}")

    def _create(self, function: Function) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name, text in function.files:
                archive.writestr(name, text)
        runtime = function.runtime or f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._ask("POST", _FUNCTIONS, json.dumps({
            "FunctionName": function.name, "Runtime": runtime, "Handler": function.handler,
            "Role": "arn:aws:iam::000000000000:role/bench", "MemorySize": MEMORY_MIB, "Timeout": 60,
            "Code": {"ZipFile": base64.b64encode(content.getvalue()).decode()},
        }).encode())  # fmt: skip

    def _wait_active(self, name: str) -> None:
        deadline = time.monotonic() + ACTIVE_S
        while json.loads(self._ask("GET", f"{_FUNCTIONS}/{name}/configuration"))["State"] != "Active":
            if time.monotonic() > deadline:
                raise NoPeer(f"MiniStack: {name} does not become Active")
            time.sleep(0.02)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            content = reply.read()
        except OSError as error:
            raise NoPeer(f"MiniStack does not answer {method} {path}: {error}") from error
        finally:
            connection.close()
        if reply.status >= 300:
            raise NoPeer(f"MiniStack answers {method} {path} with {reply.status}: {content[:200]!r}")
        return content

    def _stop(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):  # what it started and did not end: all of it is in this session
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)
