"""Programs of the host that we start while preparing a runtime: interpreters that are asked, pip, npm.

Never on the invoke path, and never with anything of a tenant. A tool that hangs is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool said. `code` is None when it could not be started or did not end in time (`stderr` says which)."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """One line for a person: the first line that looks like an error, else the last one."""
        lines = [line.strip() for line in (self.stderr + "\n" + self.stdout).splitlines() if line.strip()]
        for line in lines:
            if line.lower().startswith(("error", "npm error", "npm err!")) and not line.endswith("Exception:"):
                return line[:300]
        return lines[-1][:300] if lines else f"exit status {self.code}"


async def run_tool(argv: Sequence[str | Path], environment: Mapping[str, str], *, timeout_s: float,
                   cwd: Path | None = None) -> ToolOutcome:
    """Run a program to its end with empty input. Killed after `timeout_s` seconds, or when the caller is cancelled."""
    starting = asyncio.create_task(asyncio.create_subprocess_exec(
        *map(str, argv), env=dict(environment), cwd=cwd, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True))  # fmt: skip
    try:
        process = await asyncio.shield(starting)
    except OSError as error:
        return ToolOutcome(None, "", f"{argv[0]}: {error.strerror}")
    except asyncio.CancelledError:
        # A start that is cancelled half way leaves the tool's children and never ends: let it finish first.
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        return ToolOutcome(None, "", f"{Path(argv[0]).name} gave no answer within {timeout_s:g} s")
    finally:
        await _end(process)
    return ToolOutcome(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill a tool that still runs, with what it started: it leads a session of its own."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):  # a grandchild that left the session may hold the pipes
            await asyncio.wait_for(process.wait(), 5)
