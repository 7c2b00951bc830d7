"""`lambent story`: the journal of an environment as a timeline."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambent.cli.story import EFFECTS, EVENTS, words
from lambent.core import effects as core_effects
from lambent.core import events as core_events
from lambent.core.events import ClockAdvanced, CrashProvoked, InitFailureProvoked, ProcessExited, RetireRequested
from lambent.core.journal import describe
from lambent.core.model import ExitStatus

from .conftest import Lambent
from .fake_server import FakeServer

RID = "0a1b2c3d-0000-4000-8000-000000000001"


def step(offset_ms: float, event: str, phase: str, following: str, *effects: str) -> dict[str, Any]:
    return {
        "at": "2026-11-21T09:00:00.000Z",
        "offset_ms": offset_ms,
        "event": event,
        "phase": phase,
        "next": following,
        "effects": list(effects),
    }


STORY: dict[str, Any] = {
    "id": "3f9a0001",
    "function_name": "hello",
    "version": "$LATEST",
    "log_stream": "2026/11/21/[$LATEST]ab",
    "phase": "idle",
    "steps": [
        step(0.0, f"Started(invocation={RID})", "new", "init", "CreateSandbox()", "SetDeadline(deadline=1, epoch=1)"),
        step(8.5, "SandboxCreated()", "init", "init", "ReportInitStart(phase=init)", "Launch(participant=runtime)"),
        step(120.1, "NextRequested(participant=runtime)", "init", "invoke", f"Deliver(invocation={RID}, deadline=9)"),
        step(123.2, f"ResponsePosted(request_id={RID}, outcome=response)", "invoke", "invoke", "Reply(invocation=x)"),
        step(15_123.4, "RetireRequested(reason=keep-alive, force=True)", "idle", "shutdown", "Thaw()", "Terminate()"),
    ],
    "invocations": [
        {
            "request_id": RID,
            "started_at": "2026-11-21T09:00:00.120Z",
            "duration_ms": 3.01,
            "billed_ms": 124,
            "start": "cold",
            "init_ms": 120.1,
            "status": "success",
            "memory_mib": 128,
            "max_memory_mib": 36,
            "cost_usd": 4.5e-07,
        },
        {
            "request_id": RID,
            "started_at": "2026-11-21T09:00:01.000Z",
            "duration_ms": 1.5,
            "billed_ms": 2,
            "start": "warm",
            "init_ms": None,
            "status": "error",
            "memory_mib": 128,
            "max_memory_mib": 37,
            "cost_usd": 2e-07,
        },
    ],
}


def test_a_timeline_with_offsets_durations_and_cost(lambent: Lambent, server: FakeServer) -> None:
    server.stories["3f9a0001"] = STORY
    ran = lambent("story", "3f9a0001")
    assert (ran.code, ran.err) == (0, "")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0] == "environment 3f9a0001 of hello:$LATEST, now idle"
    assert "+0.00 ms new → init wanted create sandbox" in lines
    assert "+8.50 ms init sandbox created launch runtime" in lines
    assert "+120.10 ms init → invoke runtime asks for work deliver 0a1b2c3d" in lines
    assert "+123.20 ms invoke response to 0a1b2c3d reply" in lines
    assert "+15.12 s idle → shutdown retire: keep-alive thaw, end processes" in lines
    assert "0a1b2c3d cold 3.01 ms 120.10 ms 124 ms 36 of 128 MB success $0.0000004500" in lines
    assert "0a1b2c3d warm 1.50 ms - 2 ms 37 of 128 MB error $0.0000002000" in lines
    assert lines[-1] == "2 invocations, $0.0000006500 on AWS"


def test_an_init_that_ran_again_inside_an_invocation_is_told(lambent: Lambent, server: FakeServer) -> None:
    server.stories["3f9a0001"] = STORY | {"invocations": [STORY["invocations"][1] | {"init_repeated": True}]}
    lines = [" ".join(line.split()) for line in lambent("story", "3f9a0001").out.splitlines()]
    assert "0a1b2c3d warm 1.50 ms again 2 ms 37 of 128 MB error $0.0000002000" in lines


def test_an_environment_that_was_made_ahead_says_so(lambent: Lambent, server: FakeServer) -> None:
    begun = step(0.0, "Started()", "init", "init", "CreateSandbox()")
    server.stories["3f9a0001"] = STORY | {"made_ahead": True, "steps": [begun, *STORY["steps"][1:]]}
    lines = [" ".join(line.split()) for line in lambent("story", "3f9a0001").out.splitlines()]
    assert "initialised in expectation of invocations (--proactive-init)" in lines
    assert "+0.00 ms init wanted ahead of invocations create sandbox" in lines


def test_json_is_the_servers_own(lambent: Lambent, server: FakeServer) -> None:
    server.stories["3f9a0001"] = STORY
    assert json.loads(lambent("story", "3f9a0001", "--json").out) == STORY


def test_the_start_of_a_living_environments_id_is_enough(lambent: Lambent, server: FakeServer) -> None:
    server.add_environment("3f9a0001")
    server.stories["3f9a0001"] = STORY
    assert lambent("story", "3f9").out.startswith("environment 3f9a0001")


def test_an_environment_that_nobody_knows_exits_4(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("story", "beef")
    assert (ran.code, ran.out) == (4, "")
    assert "no environment or function beef is known; lambent ps lists" in ran.err


def test_the_name_of_a_function_tells_all_of_its_environments_and_what_met_none(
    lambent: Lambent, server: FakeServer
) -> None:
    throttled = {"at": "2026-11-21T09:00:00.000Z", "request_id": RID, "how": "CallerRateLimitExceeded"}
    told = {"function_arn": "arn:f", "throttled": [throttled], "environments": [STORY, STORY | {"id": "3f9a0002"}]}
    server.function_stories["hello"] = told
    out = lambent("story", "hello").out
    assert out.startswith("throttled arn:f, which met no environment (provoked)")
    assert "0a1b2c3d CallerRateLimitExceeded" in " ".join(out.split())
    assert out.index("environment 3f9a0001 of") < out.index("environment 3f9a0002 of")
    assert json.loads(lambent("story", "hello", "--json").out) == told


def test_a_version_as_ps_names_it_tells_its_environments_alone(lambent: Lambent, server: FakeServer) -> None:
    seventh = STORY | {"id": "3f9a0002", "version": "7"}
    server.function_stories["hello"] = {"function_arn": "arn:f", "throttled": [], "environments": [STORY, seventh]}
    for name, told in (("hello:7", "3f9a0002 of hello:7"), ("hello:$LATEST", "3f9a0001 of hello:$LATEST")):
        ran = lambent("story", name)
        assert ran.out.startswith(f"environment {told}, now idle") and ran.out.count("\nlog stream") == 1
    assert lambent("story", "hello:8").err == "arn:f:8 has had no environment; an invocation makes one\n"
    assert lambent("story", "hello:live").code == 4


def test_an_alias_tells_the_environments_of_the_versions_it_leads_to(lambent: Lambent, server: FakeServer) -> None:
    lives = [STORY | {"id": f"3f9a000{version}", "version": version} for version in "5678"]
    server.function_stories["hello"] = {"function_arn": "arn:f", "throttled": [], "environments": lives}
    weights = {"AdditionalVersionWeights": {"7": 0.1}}
    server.aliases["hello", "live"] = {"FunctionVersion": "6", "RoutingConfig": weights}
    told = json.loads(lambent("story", "hello:live", "--json").out)
    assert told == {"function_arn": "arn:f:live", "throttled": [], "environments": lives[1:3]}
    assert "no environment or function hello:nope is known" in lambent("story", "hello:nope").err


def test_a_story_whose_beginning_was_dropped_says_so(lambent: Lambent, server: FakeServer) -> None:
    server.stories["3f9a0001"] = STORY | {"steps": STORY["steps"][1:], "invocations": []}
    ran = lambent("story", "3f9a0001")
    assert "(earlier steps are no longer kept)" in ran.out
    assert "on AWS" not in ran.out


def test_a_story_without_steps(lambent: Lambent, server: FakeServer) -> None:
    server.stories["3f9a0001"] = STORY | {"steps": [], "invocations": [], "log_stream": ""}
    assert lambent("story", "3f9a0001").code == 0


def test_every_event_and_effect_of_the_machine_has_its_words() -> None:
    assert set(EVENTS) == {kind.__name__ for kind in core_events.Event.__args__}
    assert set(EFFECTS) == {kind.__name__ for kind in core_effects.Effect.__args__}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("SandboxFailed(reason=mount: a, b=c failed)", "sandbox failed: mount: a, b=c failed"),
        ("SandboxFailed(reason=no memory, sorry)", "sandbox failed: no memory, sorry"),
        (describe(ProcessExited(0.0, ExitStatus(code=1), "ext")), "ext ended: exit status 1"),
        (describe(ProcessExited(0.0, ExitStatus(signal=9))), "runtime ended: signal 9"),
        (describe(ProcessExited(0.0, ExitStatus(signal=9, oom=True))), "runtime ended: out of memory"),
        (describe(RetireRequested(0.0, "idle", force=True)), "retire: idle"),
        (describe(ClockAdvanced(0.0, 18_000.0)), "platform time moved on by 18000.0 s (provoked)"),
        (describe(InitFailureProvoked(0.0, "timeout")), "Init made to fail: timeout (provoked)"),
        (describe(CrashProvoked(0.0, "agent")), "crash of agent (provoked)"),
        ("SomethingNew(count=3)", "something new count=3"),
        ("SomethingNew", "something new"),
        ("SomethingNew()", "something new"),
        ("not a call at all", "not a call at all"),
    ],
)
def test_events_in_words(call: str, expected: str) -> None:
    assert words(call, EVENTS) == expected
