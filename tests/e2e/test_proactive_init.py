"""`--proactive-init` on a real server: what is made ready while a function is in use, and how people see it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from .harness import Function, Server, clean_environment, meeting, until

FLAGS = ("--proactive-init",)
SOURCE = """
import os, socket

print("initialised")

def handler(event, context):
    if "port" in event:
        with socket.create_connection(("127.0.0.1", event["port"])) as friend:
            friend.recv(1)
    return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]
"""
FUNCTIONS = (Function("used", SOURCE), Function("broken", "raise RuntimeError('never')\n"))


def ahead(server: Server, name: str) -> list[dict[str, Any]]:
    """Environments that were made ahead and have served nobody, as the management API shows them."""
    return [row for row in server.environments(name) if row["made_ahead"] and not row["invocations"]]


def frozen(server: Server, name: str) -> list[str]:
    return [row["id"] for row in ahead(server, name) if row["frozen"]]


def test_second_concurrent_call_of_a_function_in_use_finds_an_environment_ready(server: Server) -> None:
    first = server.invoke("used")
    assert first.cold and not server.environments("used")[0]["made_ahead"]
    server.idle(first.environment)
    assert len(server.environments("used")) == 1  # a function that was called once may never be called again

    second = server.invoke("used")
    assert second.environment == first.environment and not second.cold
    until(lambda: len(frozen(server, "used")) == 1)
    (ready,) = frozen(server, "used")
    server.idle(first.environment)

    with meeting(2) as (port, everybody_is_in, go_on):
        both = [server.background("used", {"port": port}) for _ in range(2)]
        assert everybody_is_in.wait(30)
        go_on.set()
        calls = {call.result().environment: call.result() for call in both}
    assert calls.keys() == {first.environment, ready}
    assert not any(call.cold for call in calls.values())
    assert {call.payload for call in calls.values()} == {"on-demand"}
    # The gap between Init and the first invocation does not keep REPORT from telling Init, as on AWS.
    assert "Init Duration" in calls[ready].log and "Init Duration" not in calls[first.environment].log

    story = server.story(ready)
    assert story["made_ahead"] and story["init_type"] == "on-demand"
    assert story["steps"][0]["event"] == "Started()"
    phases = [step["next"] for step in story["steps"] if step["next"] != step["phase"]]
    assert phases[:3] == ["idle", "invoke", "idle"]
    (told,) = story["invocations"]
    assert told["start"] == "warm" and told["init_ms"] > 0 and told["billed_ms"] > told["init_ms"]
    assert not server.story(first.environment)["made_ahead"]

    shown = subprocess.run([sys.executable, "-m", "lambent.cli.main", "story", ready, "--endpoint", server.url],
                           capture_output=True, text=True, check=True, env=clean_environment()).stdout  # fmt: skip
    assert "in expectation of invocations" in shown and "wanted ahead of invocations" in shown


def test_init_that_fails_ahead_is_tried_once_and_run_again_for_the_invocation_that_gets_it(server: Server) -> None:
    assert server.invoke("broken").error == "Unhandled"
    assert server.invoke("broken").error == "Unhandled"
    until(lambda: len(frozen(server, "broken")) == 1)
    (kept,) = frozen(server, "broken")
    events = [step["event"] for step in server.story(kept)["steps"]]
    assert len([event for event in events if event.startswith("ProcessExited")]) == 1
    for row in server.environments("broken"):
        if row["id"] != kept:
            server.retire(row["id"])
    call = server.invoke("broken")
    assert call.environment == kept and call.cold and call.error == "Unhandled"
    assert "Phase: invoke" in call.log
