"""Tools of the host: their outcome, and that nothing of them is left when they hang."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from lambent.runtimes.hosttools import ToolOutcome, run_tool

ENVIRON = {"PATH": "/usr/bin:/bin"}
#: Keeps a pipe open in itself and in a child that would sleep for an hour, and says that both are there.
HANGING = 'exec 3>"$1"; sleep 3600 & echo started >&3; wait'


async def test_a_tool_runs_to_its_end_with_empty_input_and_only_the_given_variables() -> None:
    script = "cat; echo $GIVEN; echo bad >&2; exit 3"
    outcome = await run_tool(["sh", "-c", script], {**ENVIRON, "GIVEN": "x"}, timeout_s=10)
    assert outcome == ToolOutcome(3, "x\n", "bad\n")


async def test_a_tool_that_is_missing_is_an_outcome() -> None:
    outcome = await run_tool(["/nonexistent/tool"], ENVIRON, timeout_s=10)
    assert outcome.code is None and outcome.complaint == "/nonexistent/tool: No such file or directory"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_tool_that_hangs_is_killed_with_its_children(tmp_path: Path, how: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = asyncio.StreamReader()
    end = os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), end)
    timeout_s = 0.5 if how == "timeout" else 60
    running = asyncio.create_task(run_tool(["sh", "-c", HANGING, "sh", pipe], ENVIRON, timeout_s=timeout_s))
    assert await reader.readline() == b"started\n"
    if how == "timeout":
        assert (await running).complaint == "sh gave no answer within 0.5 s"
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    async with asyncio.timeout(30):  # the pipe ends when the last process that holds it has ended
        assert await reader.read() == b""
    transport.close()


@pytest.mark.parametrize(("text", "line"), [
    ("warning: x\nERROR: no match\nmore\n", "ERROR: no match"),
    ("npm error code E404\nnpm error 404\n", "npm error code E404"), ("first\nlast\n\n", "last"),
    ("", "exit status 1"),
])  # fmt: skip
def test_the_complaint_is_one_line(text: str, line: str) -> None:
    assert ToolOutcome(1, "", text).complaint == line


def test_the_complaint_says_what_is_wrong() -> None:
    crash = 'ERROR: Exception:\nTraceback (most recent call last):\nAttributeError: no such thing\n'
    assert ToolOutcome(2, "", crash).complaint == "AttributeError: no such thing"
    assert ToolOutcome(1, "", "ERROR: No match\nWARNING: old pip\n").complaint == "ERROR: No match"
    assert ToolOutcome(3, "", "").complaint == "exit status 3"
