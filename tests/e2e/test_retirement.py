"""Environments that end by time: idle for too long, or too old (point 8)."""

from __future__ import annotations

import time

from .harness import Function, Server, until

KEEP_ALIVE_S = 1.0
MAX_AGE_S = 3.0
FLAGS = ("--keep-alive-s", str(KEEP_ALIVE_S), "--max-age-s", str(MAX_AGE_S))
SOURCE = "def handler(event, context): return None"
FUNCTIONS = (Function("idler", SOURCE), Function("elder", SOURCE))


def test_an_idle_environment_ends_when_its_keep_alive_is_over(server: Server) -> None:
    call = server.invoke("idler")
    idle_since = time.monotonic()
    until(lambda: not server.environments("idler"))
    waited = time.monotonic() - idle_since
    assert KEEP_ALIVE_S - 0.1 <= waited < KEEP_ALIVE_S + 1
    story = server.story(call.environment)
    assert story["phase"] == "gone"
    assert "reason=idle" in why(story)
    assert server.invoke("idler").cold


def test_use_keeps_an_environment_until_it_is_too_old(server: Server) -> None:
    """Half of the keep-alive between two calls, so that only its age can end it."""
    first = server.invoke("elder")
    born = time.monotonic()
    call = first
    while call.environment == first.environment:
        assert time.monotonic() - born < MAX_AGE_S + 2
        time.sleep(KEEP_ALIVE_S / 2)
        call = server.invoke("elder")
    age = time.monotonic() - born
    assert age > MAX_AGE_S * 0.9 - 0.1
    assert call.cold
    assert "reason=age" in why(server.story(first.environment))


def why(story: dict[str, object]) -> str:
    """Every event and effect of an environment, as text."""
    return str(story["steps"])
