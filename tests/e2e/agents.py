"""What the tests of other people's agents need: packages of public registries, deployed or built, and what they send.

Nothing here is ours but the functions: agents come from their registries, unchanged, through the clients that people
use (pip and npm by way of `lambent deploy`, cargo and go). Without a client or without the network a test is skipped.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .harness import Server, clean_environment

#: The longest of all: a Rust program with its dependencies, on two cores that others use too.
BUILD_TIMEOUT_S = 1200
#: How pip, npm, cargo and go say that there is no network.
_UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|Failed to establish a new connection|Connection to \S+ timed out"
    r"|code (ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT)|Could(n't| not) (resolve|connect)|download of \S+ failed"
    r"|dial tcp|no such host")  # fmt: skip
#: What cargo makes need not be fast.
_QUICKLY = {"CARGO_PROFILE_RELEASE_OPT_LEVEL": "0", "CARGO_PROFILE_RELEASE_LTO": "off",
            "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16", "CARGO_PROFILE_RELEASE_STRIP": "true"}  # fmt: skip
_IMPATIENT = {"PIP_RETRIES": "1", "npm_config_fetch_retries": "1", "npm_config_fetch_retry_mintimeout": "1000"}


def deploy(server: Server, folder: Path, files: Mapping[str, str], *flags: str) -> str:
    """Write a function's folder and `lambent deploy` it; the function's name is the folder's."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if content.startswith("#!"):
            path.chmod(0o755)
    client = "npm" if "package.json" in files else "pip"
    from_registry(client, [sys.executable, "-m", "lambent.cli.main", "deploy", str(folder), "--endpoint", server.url,
                           *flags])  # fmt: skip
    return folder.name


def from_registry(client: str, argv: list[str], cwd: Path | None = None, **variables: str) -> None:
    """Run a command by which `client` asks its registry. It must succeed, unless there is no network."""
    done = subprocess.run(argv, env=clean_environment() | _IMPATIENT | variables, cwd=cwd, text=True,
                          capture_output=True, timeout=BUILD_TIMEOUT_S)  # fmt: skip
    if done.returncode != 0 and _UNREACHABLE.search(done.stderr):
        pytest.skip(f"needs the package registry of {client}, which is not reached")
    assert done.returncode == 0, done.stderr


def tool(name: str) -> str:
    """A program of the host, or a skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def built(key: str, argv: list[str], product: str, cwd: Path | None = None) -> bytes:
    """What a build command leaves in the folder that `{out}` in its words stands for, kept for the next run of a clone.

    `key` changes whenever the program does. Several runs of the tests may build at the same time.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambent" / "test-agents"
    kept = folder / key
    if not kept.exists():
        out = folder / f".building-{key}-{os.getpid()}"
        out.mkdir(parents=True)
        words = [word.format(out=out) for word in argv]
        try:
            from_registry(Path(argv[0]).name, words, cwd, CARGO_TARGET_DIR=str(out / "target"), **_QUICKLY)
            os.rename(out / product, kept)
        finally:
            shutil.rmtree(out, ignore_errors=True)
    return kept.read_bytes()


def digest(folder: Path) -> str:
    """A name for what a folder of source code holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


@dataclass
class Collector:
    """An HTTP server that takes whatever is sent to it."""

    port: int = 0
    received: list[tuple[str, bytes]] = field(default_factory=list)  #: path and body, in the order in which they came

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Take(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.received.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True

    with Listener(("127.0.0.1", 0), Take) as server:
        collector.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield collector
        finally:
            server.shutdown()
