"""Builds what stands at /var/runtime: our bootstrap, the runtime client and the AWS SDK, once per interpreter.

Two steps, each made beside its place and renamed into it, so that nothing half made is ever seen and several servers
may share the cache: the packages (`packages`: network, seconds), then the folder itself (links to the packages plus
our bootstrap, so that a new version of ours installs nothing again). Nothing in it depends on a function.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from lambent.runtimes import packages
from lambent.runtimes.catalog import RuntimeUnavailable
from lambent.runtimes.interpreters import Interpreter

_SOURCES: Final = Path(__file__).parent / "bootstrap"
#: A folder of the runtime folder that hides the host's own packages.
EMPTY: Final = ".empty"
#: Empty files that a sandbox lays the byte code of a function's package and layers over.
CODE_IMAGES: Final = (".task", ".opt")
_attempts = itertools.count()


def fingerprint(*texts: str) -> str:
    """A sha256 in hex over texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


async def build(cache_dir: Path, interpreter: Interpreter, environ: Mapping[str, str], *, offline: bool) -> Path:
    """The runtime folder for an interpreter, built unless it exists. Raises RuntimeUnavailable in one line."""
    recipe = packages.recipe(interpreter)
    root = cache_dir / "runtimes"
    installed = root / f"{recipe.name}-packages-{fingerprint(*recipe.inputs)[:16]}"
    sources = _SOURCES / interpreter.family
    inputs = (installed.name, *interpreter.state(), *_contents(sources))
    place = root / f"{recipe.name}-{fingerprint(*inputs)[:16]}"
    if place.is_dir():
        return place
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not installed.is_dir():
            if offline:
                raise RuntimeUnavailable(f"{recipe.what} are not in {root}, and the server is offline; "
                                         "start it once with network access")
            await make(installed, lambda folder: recipe.install(folder, environ))
        await make(place, lambda folder: _compose(folder, installed, sources, interpreter, environ))
    except OSError as error:
        raise RuntimeUnavailable(f"{error.filename or root}: {error.strerror}; the cache folder must be writable"
                                 ) from None
    return place


async def make(place: Path, fill: Callable[[Path], Awaitable[None]]) -> None:
    """Fill a folder beside `place` and rename it there; if another process was faster, theirs stays."""
    _sweep(place.parent)
    folder = place.parent / f".making-{os.getpid()}-{next(_attempts)}-{place.name}"
    shutil.rmtree(folder, ignore_errors=True)  # of a dead process that had our pid
    folder.mkdir(mode=0o755)
    try:
        await fill(folder)
        await asyncio.to_thread(_open_to_all, folder)
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


async def _compose(folder: Path, installed: Path, sources: Path, interpreter: Interpreter,
                   environ: Mapping[str, str]) -> None:
    """The runtime folder: hard links to the packages, copies of our bootstrap."""
    await asyncio.to_thread(shutil.copytree, installed, folder, copy_function=_link, dirs_exist_ok=True, symlinks=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(sources, folder, copy_function=shutil.copyfile, dirs_exist_ok=True, ignore=ignored)
    if interpreter.family == "python":
        # AWS's name of the first program.
        bootstrap = folder / "bootstrap"
        bootstrap.write_text(f"#!/var/lang/bin/python{interpreter.line}\n" + (folder / "bootstrap.py").read_text())
        bootstrap.chmod(0o755)
        (folder / EMPTY).mkdir(exist_ok=True)
        for name in CODE_IMAGES:
            (folder / name).touch()
        ours = [folder / name for name in os.listdir(sources) if name.endswith(".py") and name != "bootstrap.py"]
        await packages.byte_compile(interpreter, folder, ours, environ)
        await packages.write_image(interpreter, folder, environ)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _open_to_all(folder: Path) -> None:
    """Guests run as other users: readable whatever the umask was."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o755)
        for name in files:
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            wanted = 0o755 if mode & 0o100 else 0o644
            if mode & 0o170000 == 0o100000 and mode & 0o777 != wanted:
                os.chmod(path, wanted)
