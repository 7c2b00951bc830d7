"""Builds process 1 from `init.c` with the system's compiler, once per source, into a cache folder.

Without a compiler `init.py` does the same work in Python, with a slower start and some megabytes per environment.
Which one runs is said by `argv`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from lambent import settings
from lambent.sandbox.base import SandboxError

HERE = Path(__file__).parent
_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT_S = 60


def argv(cache: Path, *, fallback: bool = False) -> tuple[str, ...]:
    """The command of process 1, built when it is not there yet. `fallback` asks for the Python one."""
    if not fallback:
        program = _built(cache)
        if program is not None:
            return (str(program),)
    if not os.access(sys.executable, os.X_OK):
        raise SandboxError("process 1 cannot be built (no C compiler) and there is no Python to run it with")
    return (sys.executable, "-I", "-S", str(HERE / "init.py"))


def _built(cache: Path) -> Path | None:
    """The program in the cache; None when no compiler makes it."""
    source = HERE / "init.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = cache / f"init-{digest}"
    if _is_ours(program):
        return program
    search = settings.inherited_environment().get("PATH", os.defpath)
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name, path=search))), None)
    if compiler is None:
        return None
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        return program if _compile(compiler, source, program) else None
    except OSError as error:
        raise SandboxError(f"cannot build process 1 in {cache}: {error.strerror}") from error


def _compile(compiler: str, source: Path, program: Path) -> bool:
    """Static where the C library allows it: it then starts in half the time."""
    partial = program.with_name(f"{program.name}.{os.getpid()}")
    try:
        for link in (["-static"], []):
            done = subprocess.run(
                [compiler, "-Os", *link, "-o", str(partial), str(source)],
                env=settings.inherited_environment(), capture_output=True, timeout=_TIMEOUT_S, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                partial.chmod(0o700)
                partial.rename(program)
                return True
    except subprocess.TimeoutExpired:
        pass
    finally:
        partial.unlink(missing_ok=True)
    return False


def _is_ours(program: Path) -> bool:
    """There, and nobody else could have written it: as root we are about to run it."""
    try:
        status = program.stat()
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
