"""What is installed into a runtime folder from package registries, pinned, through the host's own pip and npm.

Nothing is compiled: Python packages come as wheels for the target interpreter, whichever interpreter runs pip; Node.js
packages are plain JavaScript, and their install scripts do not run.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lambent.runtimes.catalog import RuntimeUnavailable
from lambent.runtimes.hosttools import run_tool
from lambent.runtimes.interpreters import Interpreter

log = logging.getLogger(__name__)

INSTALL_TIMEOUT_S: Final = 600.0
_TRY_AGAIN: Final = "check the network and create or update the function again"

#: The official runtime client and the SDK with all that they need; the newest that has wheels for the minor version.
PYTHON_PINS: Final = (
    "awslambdaric==4.2.2", "boto3==1.43.117", "botocore==1.43.127", "jmespath==1.1.0", "python-dateutil==2.9.0.post0",
    "s3transfer==0.19.3", "simplejson==4.3.0", "six==1.17.0", "snapshot-restore-py==1.0.0", "urllib3==2.8.0",
)  # fmt: skip
PYTHON_39_PINS: Final = (
    "awslambdaric==4.0.4", "boto3==1.42.97", "botocore==1.42.97", "jmespath==1.1.0", "python-dateutil==2.9.0.post0",
    "s3transfer==0.16.1", "simplejson==4.3.0", "six==1.17.0", "snapshot-restore-py==1.0.0", "urllib3==2.6.3",
)  # fmt: skip

#: package.json and package-lock.json with the clients of the AWS SDK for JavaScript; to change the list, edit the
#: former and run: npm install --package-lock-only --omit-lockfile-registry-resolved
NODE_SDK: Final = Path(__file__).parent / "bootstrap" / "nodesdk"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fill a folder with packages. The same `name` and `inputs` give the same folder."""

    name: str
    what: str  #: in words, for messages
    inputs: tuple[str, ...]
    install: Callable[[Path, Mapping[str, str]], Awaitable[None]]


def recipe(interpreter: Interpreter) -> Recipe:
    """What an interpreter's runtime folder needs."""
    if interpreter.family == "python":
        pins = PYTHON_39_PINS if interpreter.line == "3.9" else PYTHON_PINS
        return Recipe(f"python{interpreter.line}", f"{pins[0]} and {pins[1]}", (interpreter.abi, *pins),
                      lambda folder, environ: _install_python(folder, interpreter, pins, environ))
    texts = tuple((NODE_SDK / name).read_text() for name in ("package.json", "package-lock.json"))
    return Recipe("nodejs", "the clients of the AWS SDK for JavaScript", texts,
                  lambda folder, environ: _install_node(folder, interpreter, environ))


async def _install_python(folder: Path, interpreter: Interpreter, pins: tuple[str, ...],
                          environ: Mapping[str, str]) -> None:
    """Wheels, installed by whichever pip the host has, then byte-compiled and tried by the interpreter itself."""
    pip = await _find_pip(interpreter, environ)
    outcome = await run_tool(
        [pip, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
         "--no-compile", "--retries", "1", "--target", folder, "--python-version", interpreter.line,
         "--implementation", "cp", "--only-binary=:all:", *pins], environ, timeout_s=INSTALL_TIMEOUT_S)  # fmt: skip
    if outcome.code != 0:
        raise RuntimeUnavailable(f"python{interpreter.line}: the runtime client and boto3 could not be installed "
                                 f"({outcome.complaint}); {_TRY_AGAIN}")
    shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts with the server's interpreter in their first line
    await byte_compile(interpreter, folder, [folder], environ)
    trial = "import sys; sys.path.insert(0, sys.argv[1]); import runtime_client, awslambdaric.bootstrap, boto3"
    outcome = await run_tool([interpreter.program, "-I", "-c", trial, folder], _clean(environ), timeout_s=120)
    if outcome.code != 0:
        raise RuntimeUnavailable(f"python{interpreter.line}: the runtime client does not work with "
                                 f"{interpreter.program} ({outcome.complaint})")


async def byte_compile(interpreter: Interpreter, folder: Path, what: list[Path], environ: Mapping[str, str]) -> None:
    """Byte code by the interpreter that will run it. `folder` will stand at /var/runtime."""
    # It is read-only for guests: sources never change, so Python need not look at them (unchecked-hash).
    outcome = await run_tool([interpreter.program, "-I", "-m", "compileall", "-q", "-s", folder, "-p", "/var/runtime",
                              "--invalidation-mode", "unchecked-hash", *what],
                             _clean(environ), timeout_s=INSTALL_TIMEOUT_S)
    if outcome.code != 0:
        raise RuntimeUnavailable(f"{interpreter.program} cannot compile the runtime client ({outcome.complaint})")


async def write_image(interpreter: Interpreter, folder: Path, environ: Mapping[str, str]) -> None:
    """The file that a start's modules come from. Without it they come from their own files, a little later."""
    outcome = await run_tool([interpreter.program, "-I", "-S", folder / "start_image.py", folder], _clean(environ),
                             timeout_s=INSTALL_TIMEOUT_S)
    if outcome.code != 0:
        log.warning("%s cannot write the start image, and starts a little slower (%s)", interpreter.program,
                    outcome.complaint)  # fmt: skip


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


async def _find_pip(interpreter: Interpreter, environ: Mapping[str, str]) -> str | Path:
    """An interpreter that has pip: the server's own, else the one that is prepared, else the system's."""
    for candidate in (sys.executable, interpreter.program, "/usr/bin/python3"):
        outcome = await run_tool([candidate, "-m", "pip", "--version"], environ, timeout_s=60)
        if outcome.code == 0:
            return candidate
    raise RuntimeUnavailable("no pip was found to install the runtime client; "
                             f"run {sys.executable} -m ensurepip, or install python3-pip")


async def _install_node(folder: Path, interpreter: Interpreter, environ: Mapping[str, str]) -> None:
    path = f"{interpreter.program.parent}:{environ.get('PATH', '')}"
    npm = shutil.which("npm", path=path)
    if npm is None:
        raise RuntimeUnavailable(f"no npm was found beside {interpreter.program} or on the PATH to install "
                                 "the AWS SDK for JavaScript; install npm")
    manifests = [shutil.copy(NODE_SDK / name, folder) for name in ("package.json", "package-lock.json")]
    outcome = await run_tool(
        [npm, "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline",
         "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"],
        {**environ, "PATH": path}, timeout_s=INSTALL_TIMEOUT_S, cwd=folder)  # fmt: skip
    if outcome.code != 0:
        raise RuntimeUnavailable(f"nodejs{interpreter.line}.x: the AWS SDK for JavaScript could not be installed "
                                 f"({outcome.complaint}); {_TRY_AGAIN}")
    for manifest in manifests:
        os.unlink(manifest)
