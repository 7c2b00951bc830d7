"""Makes runtimes ready while a function is Pending: finds the interpreter, builds its folder, remembers the result.

One preparation per identifier at a time, shared by all who wait for it. Failures are not remembered: installing the
missing interpreter and creating the function again is enough.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from lambent import settings
from lambent.runtimes import build, interpreters
from lambent.runtimes.catalog import CatalogEntry, RuntimeUnavailable, look_up
from lambent.runtimes.interpreters import Interpreter
from lambent.runtimes.prepared import PreparedRuntime, switched_off

log = logging.getLogger(__name__)


class Runtimes:
    """The runtimes of one host.

    `cache_dir` may be shared by servers. `nearest`: the closest minor version stands in for a missing one.
    `offline`: use only what the cache holds.
    """

    def __init__(self, cache_dir: Path, *, nearest: bool = False, offline: bool = False) -> None:
        self._cache_dir = cache_dir
        self._nearest = nearest
        self._offline = offline
        self._ready: dict[str, PreparedRuntime] = {}
        self._preparing: dict[str, asyncio.Task[PreparedRuntime]] = {}

    def get(self, identifier: str) -> PreparedRuntime:
        """A runtime that was prepared before; KeyError otherwise."""
        return self._ready[identifier]

    async def prepare(self, identifier: str) -> PreparedRuntime:
        """The runtime, made ready if it is not. Raises RuntimeUnavailable in one line.

        A caller that is cancelled does not stop the preparation, which others may wait for.
        """
        ready = self._ready.get(identifier)
        if ready is not None:
            return ready
        task = self._preparing.get(identifier)
        if task is None:
            task = asyncio.create_task(self._prepare(identifier), name=f"prepare {identifier}")
            self._preparing[identifier] = task
            task.add_done_callback(lambda done: self._finished(identifier, done))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """End preparations that still run; what they had half made is removed."""
        running = list(self._preparing.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _finished(self, identifier: str, task: asyncio.Task[PreparedRuntime]) -> None:
        self._preparing.pop(identifier, None)
        if not task.cancelled() and task.exception() is None:
            self._ready[identifier] = task.result()

    async def _prepare(self, identifier: str) -> PreparedRuntime:
        entry = look_up(identifier)
        if entry.family == "provided":
            return PreparedRuntime(identifier, identifier, "provided", "", (), "", None,
                                   f"provided:{entry.version}.v1")
        environ = settings.inherited_environment()
        interpreter = await self._interpreter(entry)
        runtime_dir = await build.build(self._cache_dir, interpreter, environ, offline=self._offline)
        actual = identifier if interpreter.line == entry.version else _identifier(interpreter)
        off = switched_off(interpreter.version) if entry.family == "nodejs" else ()
        return PreparedRuntime(
            identifier, actual, entry.family, interpreter.line, _lang(interpreter, runtime_dir),
            str(interpreter.prefix), runtime_dir, f"{entry.family}:{interpreter.line}.v1", off)  # fmt: skip

    async def _interpreter(self, entry: CatalogEntry) -> Interpreter:
        environ = settings.inherited_environment()
        passed_over: list[str] = []
        found = await interpreters.find(entry, environ, passed_over=passed_over)
        if found:
            return found[0]
        if self._nearest:
            others = await interpreters.find(entry, environ, any_version=True)
            nearest = interpreters.nearest(entry, others)
            if nearest is not None:
                log.warning("%s is not installed: %s at %s stands in for it", entry.identifier,
                            _identifier(nearest), nearest.program)
                return nearest
        raise RuntimeUnavailable(_missing(entry, passed_over))


def _identifier(interpreter: Interpreter) -> str:
    return f"python{interpreter.line}" if interpreter.family == "python" else f"nodejs{interpreter.line}.x"


def _lang(interpreter: Interpreter, runtime_dir: Path) -> tuple[tuple[Path, str], ...]:
    """The interpreter's tree; what the host's owner installed into it is hidden, since AWS does not have it either."""
    binds = list(interpreter.lang)
    for host, below in interpreter.lang:
        if below.endswith(f"/python{interpreter.line}") and (host / "site-packages").is_dir():
            binds.append((runtime_dir / build.EMPTY, f"{below}/site-packages"))
    return tuple(binds)


def _missing(entry: CatalogEntry, passed_over: list[str]) -> str:
    if entry.family == "python":
        name, how = f"Python {entry.version}", f"for example with: uv python install {entry.version}"
    else:
        name, how = f"Node.js {entry.version}", f"for example with: nvm install {entry.version}"
    broken = [text for text in passed_over if entry.version in text.split(" ")[0]]
    seen = f" ({broken[0]})" if broken else ""
    return f"{entry.identifier} needs {name}, which this host does not have{seen}; install it, {how}, or start the " \
           "server with --nearest-runtime"  # fmt: skip
