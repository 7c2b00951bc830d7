"""Every row of docs/states.md on a real server, over every way in which a runtime can talk to it.

What the machine of an environment says of a row (`scripts/document_states.py`) is compared with what is seen: the
caller's answer and its headers, the lines of the log, the platform's events, and what the next invocation finds. Plays
overlap, since most of a failure is waiting.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .failing import EXTENSION, Programs
from .harness import Call, Function, Server, at_once, until
from .test_layers import layer

STATES = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "document_states.py"))
ROWS = {row.situation: row for row in STATES["ROWS"]}
#: The platform's events in the log, each a line.
EVENTS = {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}
PLAYS_AT_ONCE = 4
Case = tuple[str, str]  #: situation and way


@dataclass(frozen=True)
class Scene:
    """How a row is brought about."""

    event: dict[str, Any]
    #: variables of the function
    variables: dict[str, str] = field(default_factory=dict)
    timeout: int = 10
    #: part of the command of the process that is killed once the environment is idle
    kill: str = ""
    bootstrap: bool = True
    extension: str = EXTENSION
    #: whether the next invocation succeeds
    recovers: bool = True


def init(how: str, **more: Any) -> Scene:
    return Scene({"do": "work"}, {"INIT_FAILS": how, "BAD_INITS": "2"}, **more)


def extension(how: str, times: int, do: str = "work", **more: Any) -> Scene:
    return Scene({"do": do}, {"EXTENSION_FAILS": how, "BAD_EXTENSIONS": str(times)}, **more)


TWICE = {"do": "call", "method": "POST", "path": "invocation/ID/response", "body": '"ok"'}
SCENES = {
    "the handler raises": Scene({"do": "raise"}),
    "the response is too large": Scene({"do": "large"}),
    "the response is too large, and the runtime ends because of it": Scene({"do": "large"}),
    "the response breaks off": Scene({"do": "break off"}),
    "the response has an unknown mode, and the runtime ends because its Next is refused": Scene({"do": "odd mode"}),
    "exit 0 while it works": Scene({"do": "exit 0"}),
    "exit 1 while it works": Scene({"do": "exit 1"}),
    "segmentation fault while it works": Scene({"do": "crash"}),
    "out of memory while it works": Scene({"do": "hoard"}, timeout=60),
    "the timeout passes while it works": Scene({"do": "sleep"}, timeout=3),
    "the function posts a response itself, and that of the runtime is refused": Scene(TWICE),
    "the function posts a response itself, and the runtime ends because its own is refused": Scene(TWICE),
    "exit after the response, before Next": Scene({"do": "work", "after": "exit 0"}),
    "the timeout passes after the response, the runtime does not ask for more":
        Scene({"do": "work", "after": "sleep"}, timeout=3),
    "exit between invocations": Scene({"do": "work"}, kill="/"),
    "the runtime posts an init error": init("error"),
    "exit 0 during Init": init("exit 0"),
    "exit 1 during Init": init("exit 1"),
    "segmentation fault during Init": init("crash"),
    "out of memory during Init": init("hoard", timeout=60),
    "Init takes more than ten seconds, and again more than the timeout": init("sleep", timeout=3),
    "there is no bootstrap": Scene({"do": "work"}, bootstrap=False, recovers=False),
    "the extension cannot be executed":
        extension("", 0, extension="#!/there/is/no/such/interpreter\n", recovers=False),
    "the extension posts an init error and exits": extension("init error", 2),
    "the extension exits during Init": extension("exit at init", 2),
    "the extension exits while the function works": extension("exit", 1, "sleep"),
    "the extension posts an exit error and exits": extension("exit error", 1, "sleep"),
    "the extension is not done when the timeout passes": extension("sleep", 1, timeout=3),
    "the extension exits between invocations": extension("", 0, kill="extensions/a"),
}  # fmt: skip
#: Those that take long begin first.
CASES = sorted(((situation, way) for situation, row in ROWS.items() for way in row.ways),
               key=lambda case: ("ten seconds" not in case[0], -SCENES[case[0]].timeout))  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One function's failure: the call that failed, its log up to the next one, and that next one."""

    call: Call
    log: str
    after: Call
    whole: str  #: the log with the next invocation


Plays = dict[Case, Future[tuple[Seen, Seen]]]


def play(server: Server, programs: Programs, situation: str, way: str) -> tuple[Seen, Seen]:
    """The row with the log in Text, and with the log in JSON, which holds the platform's events."""
    scene = SCENES[situation]
    name = f"row-{list(ROWS).index(situation)}-{way}"
    more: dict[str, Any] = {"Environment": {"Variables": scene.variables}}
    if ROWS[situation].extensions:
        more["Layers"] = [layer(server, name, {"extensions/a": scene.extension})]

    def function(suffix: str, **logging: Any) -> Function:
        return programs.function(way, name + suffix, after="after" in scene.event, bootstrap=scene.bootstrap,
                                 timeout=scene.timeout, more=more | logging)  # fmt: skip

    server.deploy(function("-text"), function("-json", LoggingConfig=EVENTS))
    text, events = at_once([lambda: fail(server, scene, name + "-text"), lambda: fail(server, scene, name + "-json")])
    return text, events


def fail(server: Server, scene: Scene, name: str) -> Seen:
    call = server.invoke(name, scene.event)
    if scene.kill:
        kill(server, call, scene.kill)
    until(lambda: server.environment(call.environment)["phase"] == "idle")
    log = server.stream(call)
    after = server.invoke(name, {"do": "tell"})
    server.idle(after.environment)
    return Seen(call, log, after, server.stream(after))


def kill(server: Server, call: Call, command: str) -> None:
    """From outside, as the kernel would."""
    pids = server.idle(call.environment)["pids"]
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}
    os.kill(next(pid for pid, line in lines.items() if command in line), signal.SIGKILL)
    until(lambda: "ProcessExited" in str(server.story(call.environment)["steps"]))
    until(lambda: server.environment(call.environment)["frozen"])


@pytest.fixture(scope="module")
def programs(server: Server) -> Programs:
    made = Programs(server)
    made.prepare()
    return made


@pytest.fixture(scope="module")
def plays(server: Server, programs: Programs, request: pytest.FixtureRequest) -> Iterator[Plays]:
    """All that the chosen tests will ask for, begun at once."""
    chosen = {item.callspec.params["case"] for item in request.session.items
              if isinstance(item, pytest.Function) and item.module is request.module
              and hasattr(item, "callspec") and "case" in item.callspec.params}  # fmt: skip
    with ThreadPoolExecutor(PLAYS_AT_ONCE) as pool:
        yield {case: pool.submit(play, server, programs, *case) for case in CASES if case in chosen}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]}-{case[0]}")
def test_failure(plays: Plays, case: Case) -> None:
    situation, _ = case
    text, events = plays[case].result()
    machine = STATES["play"](ROWS[situation])
    for seen in (text, events):
        check_answer(seen, machine.effects, SCENES[situation].timeout)
        check_environment(seen, STATES["kept"](machine), SCENES[situation].recovers)
    assert lines_of(text.log) == STATES["log_lines"](machine.effects)
    assert text.call.log.splitlines()[-1] in re.findall("^REPORT .*", text.log, re.M)  # the tail goes up to it
    assert no_order(events_of(events.log)) == no_order(STATES["telemetry"](machine.effects))


def check_answer(seen: Seen, effects: list[Any], timeout_s: int) -> None:
    """The caller is told what the machine says, with AWS's headers."""
    call = seen.call
    [outcome] = [effect.outcome for effect in effects if type(effect).__name__ == "Reply"]
    assert call.status == 200
    assert call.headers["x-amz-executed-version"] == "$LATEST"
    told = outcome.payload.decode().replace("r1", call.request_id).replace("1.00 s", f"{timeout_s:.2f} s")
    if outcome.kind.name == "RESPONSE":
        assert (call.error, call.raw.decode()) == (None, told)
        return
    assert call.error == "Unhandled" and call.headers["x-amz-function-error"] == "Unhandled"
    assert call.headers["content-type"] == "application/json"
    wanted = json.loads(told)
    assert call.payload["errorType"] == wanted["errorType"]
    assert wanted["errorMessage"] in ("...", call.payload["errorMessage"])


def check_environment(seen: Seen, kept: bool, recovers: bool) -> None:
    """The same sandbox, /tmp and log stream; the same memory or a new Init that nobody announces."""
    assert seen.after.environment == seen.call.environment
    assert seen.whole.startswith(seen.log)
    if not recovers:
        assert seen.after.payload["errorType"] == seen.call.payload["errorType"]
        return
    assert seen.after.error is None, seen.whole
    boots = re.findall(r"^boot (\S+)$", seen.log, re.M)
    told = seen.after.payload
    assert told["boots"] == (boots if kept else [*boots, told["boot"]])
    assert kept is (told["boot"] in boots)
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", told["stream"])
    after = seen.whole[len(seen.log) :]
    assert "Init Duration" not in after and "INIT_START" not in after
    again = [event for event in events_of(after) if event.startswith("initStart")]
    if events_of(seen.log):
        assert again == ([] if kept else ["initStart invoke"])


def lines_of(log: str) -> list[str]:
    """The platform's lines, as the page has them. INIT_START comes first and once."""
    assert re.findall("^INIT_START Runtime Version: ", log, re.M) in (["INIT_START Runtime Version: "], [])
    found = []
    for line in log.splitlines():
        fields = line.split("\t")
        status = "".join(f" {field}" for field in fields if field.startswith(("Phase: ", "Status: ", "Error Type: ")))
        if line.startswith("INIT_REPORT "):
            found.append(f"INIT_REPORT{status}")
        elif line.startswith("EXTENSION\t"):
            state = next(field for field in fields if field.startswith("State: "))
            found.append(f"EXTENSION {fields[1]} {state}{status}")
        elif line.startswith("REPORT "):
            found.append(f"REPORT{status}")
        elif line.startswith(("START ", "END ")):
            found.append(line.partition(" ")[0])
        elif "Error: Couldn't find valid bootstrap(s)" in line:
            found.append("Error: Couldn't find valid bootstrap(s)")
    return found


def events_of(log: str) -> list[str]:
    """The platform's events, as the page has them."""
    found = []
    for line in log.splitlines():
        event = json.loads(line) if line.startswith('{"time"') else {}
        if event.get("type", "").startswith("platform."):
            kind, record = event["type"].removeprefix("platform."), event["record"]
            shown = record["phase"] if kind == "initStart" else record.get("status", "") if kind != "start" else ""
            found.append(f"{kind} {shown}".strip())
    return found


def no_order(events: list[str]) -> tuple[list[str], int]:
    """An external extension may become ready before or after the runtime."""
    return [event for event in events if event != "extension"], events.count("extension")


CALLS = {
    "a response for another request": ("POST", "invocation/r9/response"),
    "an error for another request": ("POST", "invocation/r9/error"),
    "an init error after Next": ("POST", "init/error"),
}


@pytest.mark.parametrize("way", STATES["WAYS"])
def test_refusal(server: Server, programs: Programs, way: str) -> None:
    """Calls at the wrong moment, made by the function itself beside its runtime, which goes on."""
    server.deploy(programs.function(way, f"refused-{way}", after=False))
    first = server.invoke(f"refused-{way}", {"do": "tell"})
    for situation, call, status in STATES["REFUSALS"]:
        method, path = CALLS[situation]
        event = {"do": "call", "method": method, "path": path, "body": "{}" if method == "POST" else None}
        seen = server.invoke(f"refused-{way}", event)
        assert seen.error is None, (situation, seen)
        assert seen.payload == [status, STATES["error_type"](call)], situation
    event = {"do": "call", "method": "GET", "path": "invocation/next", "body": None}
    seen = server.invoke(f"refused-{way}", event)
    assert seen.payload == [200, None], seen  # the event itself
    last = server.invoke(f"refused-{way}", {"do": "tell"})
    assert last.payload == first.payload and last.environment == first.environment
