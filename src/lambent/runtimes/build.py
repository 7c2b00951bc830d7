"""Builds what stands at /var/runtime: our bootstrap, the runtime client and the AWS SDK, once per interpreter.

Two steps, each made beside its place and renamed into it, so that nothing half made is ever seen and several servers
may share the cache: the packages (pip or npm, network, seconds), then the folder itself (links to the packages plus
our bootstrap). Nothing of the built folder depends on the function.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from lambent.runtimes.catalog import RuntimeUnavailable
from lambent.runtimes.hosttools import run_tool
from lambent.runtimes.interpreters import Interpreter

INSTALL_TIMEOUT_S: Final = 600.0
_SOURCES = Path(__file__).parent / "bootstrap"

#: The official runtime client and the SDK with all that they need; the newest that has wheels for the minor version.
PYTHON_PINS: Final = (
    "awslambdaric==4.2.2", "boto3==1.43.117", "botocore==1.43.127", "jmespath==1.1.0", "python-dateutil==2.9.0.post0",
    "s3transfer==0.19.3", "simplejson==4.3.0", "six==1.17.0", "snapshot-restore-py==1.0.0", "urllib3==2.8.0",
)  # fmt: skip
PYTHON_39_PINS: Final = (
    "awslambdaric==3.1.1", "boto3==1.42.97", "botocore==1.42.97", "jmespath==1.1.0", "python-dateutil==2.9.0.post0",
    "s3transfer==0.16.1", "simplejson==4.3.0", "six==1.17.0", "snapshot-restore-py==1.0.0", "urllib3==2.6.3",
)  # fmt: skip


def python_pins(line: str) -> tuple[str, ...]:
    """What is installed for a Python minor version."""
    return PYTHON_39_PINS if line == "3.9" else PYTHON_PINS


def fingerprint(*texts: str) -> str:
    """A sha256 in hex over texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


async def build(cache_dir: Path, interpreter: Interpreter, environ: Mapping[str, str], *, offline: bool) -> Path:
    """The runtime folder for an interpreter, built unless it exists. Raises RuntimeUnavailable in one line."""
    family = interpreter.family
    name = ("python" if family == "python" else "node") + interpreter.line
    pins = python_pins(interpreter.line)
    root = cache_dir / "runtimes"
    packages = root / f"{name}-packages-{fingerprint(interpreter.abi, *pins)[:16]}"
    sources = _SOURCES / ("python" if family == "python" else "node")
    place = root / f"{name}-{fingerprint(packages.name, *_contents(sources))[:16]}"
    if place.is_dir():
        return place
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not packages.is_dir():
            if offline:
                raise RuntimeUnavailable(f"{name} needs {pins[0]} and {pins[1]}, which are not in {root}, and the "
                                         "server is offline; start it once with network access")
            await _make(packages, lambda folder: _install_python(folder, interpreter, pins, environ))
        await _make(place, lambda folder: asyncio.to_thread(_compose, folder, packages, sources, interpreter))
    except OSError as error:
        raise RuntimeUnavailable(f"{error.filename or root}: {error.strerror}; the cache folder must be writable"
                                 ) from None
    return place


async def _make(place: Path, fill: Callable[[Path], Awaitable[None]]) -> None:
    """Fill a folder beside `place` and rename it there; if another process was faster, theirs stays."""
    _sweep(place.parent)
    folder = place.parent / f".making-{os.getpid()}-{place.name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    try:
        await fill(folder)
        _put_in_place(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, place: Path) -> None:
    try:
        folder.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _sweep(root: Path) -> None:
    """Remove what dead builders left half made."""
    for leftover in root.glob(".making-*"):
        pid = leftover.name.split("-")[1]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            shutil.rmtree(leftover, ignore_errors=True)


def _contents(folder: Path) -> list[str]:
    return [text for file in sorted(folder.rglob("*")) if file.is_file() and "__pycache__" not in file.parts
            for text in (str(file.relative_to(folder)), file.read_text())]


def _compose(folder: Path, packages: Path, sources: Path, interpreter: Interpreter) -> None:
    """The runtime folder: hard links to the packages, copies of our bootstrap, all readable by any user."""
    shutil.copytree(packages, folder, copy_function=_link, dirs_exist_ok=True)
    shutil.copytree(sources, folder, copy_function=shutil.copyfile, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__"))
    if interpreter.family == "python":
        bootstrap = folder / "bootstrap"
        bootstrap.write_text(f"#!/var/lang/bin/python{interpreter.line}\n" + (folder / "bootstrap.py").read_text())
        bootstrap.chmod(0o755)
        (folder / EMPTY).mkdir(exist_ok=True)


#: A folder of the runtime folder that hides the host's own packages.
EMPTY: Final = ".empty"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


# Python


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
                                 f"({outcome.complaint}); check the network and create or update the function again")
    shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts with the server's interpreter in their first line
    clean = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
    outcome = await run_tool([interpreter.program, "-I", "-m", "compileall", "-q", "-s", folder, "-p", "/var/runtime",
                              "--invalidation-mode", "unchecked-hash", folder], clean, timeout_s=INSTALL_TIMEOUT_S)
    if outcome.code == 0:
        trial = "import sys; sys.path.insert(0, sys.argv[1]); import runtime_client, awslambdaric.bootstrap, boto3"
        outcome = await run_tool([interpreter.program, "-I", "-c", trial, folder], clean, timeout_s=120)
    if outcome.code != 0:
        raise RuntimeUnavailable(f"python{interpreter.line}: the runtime client does not work with "
                                 f"{interpreter.program} ({outcome.complaint})")
    await asyncio.to_thread(_open_to_all, folder)


def _open_to_all(folder: Path) -> None:
    """Guests run as other users: readable whatever the umask was."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o755)
        for file in files:
            path = os.path.join(parent, file)
            os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


async def _find_pip(interpreter: Interpreter, environ: Mapping[str, str]) -> str | Path:
    """An interpreter that has pip: the server's own, else the one that is prepared, else any python3."""
    for candidate in (sys.executable, interpreter.program, "/usr/bin/python3"):
        outcome = await run_tool([candidate, "-m", "pip", "--version"], environ, timeout_s=60)
        if outcome.code == 0:
            return candidate
    raise RuntimeUnavailable("no pip was found to install the runtime client; "
                             f"run {sys.executable} -m ensurepip, or install python3-pip")
