"""AWS's official Python client as it is, in place of our bootstrap: what our runtime is compared with."""

from __future__ import annotations

import ast
import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_runtime_api import PATIENCE_S, Guest, Post, guest

from lambent.core.model import FunctionVersion
from lambent.runtimes import PreparedRuntime
from lambent.runtimes.prepared import Places

#: A first program with what AWS's own one imports, and its order of the search path.
BOOTSTRAP = """
import json, logging, os, site, sys, time, traceback, warnings
import awslambdaric.__main__ as awslambdaricmain

def main():
    task, minor = os.environ["LAMBDA_TASK_ROOT"], "python%d.%d" % sys.version_info[:2]
    found = [entry for entry in sys.path[1:] if not entry.endswith(("site-packages", "dist-packages"))]
    sys.path[:] = [task, f"/opt/python/lib/{minor}/site-packages", "/opt/python", *found]
    site.addsitedir(task)
    awslambdaricmain.main([os.environ["LAMBDA_TASK_ROOT"], os.environ["_HANDLER"]])

if __name__ == "__main__":
    main()
"""
_CHANGING = (
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>"), (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>"), (r"0x[0-9a-f]{6,}", "<address>"),
    (r"127\.0\.0\.1:\d+", "<host>"), (r'(/bootstrap\.py"), line 1?\d,', r"\1, line <n>,"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Started(PreparedRuntime):
    """Started by another program than our first."""

    program: str = ""

    def command(self, places: Places, function: FunctionVersion, *, task: Path, opt: Path | None) -> tuple[str, ...]:
        return (f"{places.lang}/bin/python{self.line}", self.program)


def started(runtime: PreparedRuntime, program: Path) -> Started:
    fields = {name: getattr(runtime, name) for name in PreparedRuntime.__dataclass_fields__}
    return Started(**fields, program=str(program))


def official(runtime: PreparedRuntime, folder: Path) -> Started:
    """The client itself; its first program is put into the folder."""
    program = folder / "bootstrap.py"
    program.write_text(BOOTSTRAP)
    return started(runtime, program)


async def seen(runtime: PreparedRuntime, code: Path, events: Sequence[bytes],
               headers: Mapping[str, str] | None = None) -> list[Any]:  # fmt: skip
    """What is posted for the events, one after the other, until the runtime ends; its exit code if it did, its log."""
    found: list[Any] = []
    deadline_ms = int(time.time() * 1000) + 3_600_000  # the client's C library does not reach the year 3000
    headers = {"Lambda-Runtime-Deadline-Ms": str(deadline_ms), **(headers or {})}
    async with guest(runtime, code) as running:
        for event in events:
            running.api.put(event, headers)
            post = await _post_or_end(running)
            if post is None:
                break
            found.append([post.kind, post.body.decode("utf-8", "replace"), post.headers.get("content-type")])
            if post.kind == "init/error":
                await running.exit_code()
                break
        found += [running.process.returncode, await running.log()]
    text = repr(found).replace(getattr(runtime, "program", "?"), f"{runtime.runtime_dir}/bootstrap.py")
    for pattern, name in _CHANGING:
        text = re.sub(pattern, name, text)
    result: list[Any] = ast.literal_eval(text)
    return result


async def _post_or_end(running: Guest) -> Post | None:
    post, end = asyncio.create_task(running.api.posts.get()), asyncio.create_task(running.process.wait())
    await asyncio.wait({post, end}, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    if not post.done():
        assert end.done(), "the runtime does nothing"
        post.cancel()
        return None
    end.cancel()
    return post.result()
