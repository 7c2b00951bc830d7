"""What is provoked, in a driver: Inits that fail without a process, and processes that are killed."""

from __future__ import annotations

import asyncio
import json

from fakes import Api, invocation, obliging, until
from stage import silent, stage

from lambent.clock import Clock
from lambent.core.model import ExitStatus, OutcomeKind
from lambent.core.states import Phase


async def test_init_made_to_fail_twice_launches_nothing_and_is_the_answer() -> None:
    async with stage(init_failures=["exit", "exit"]) as made:
        await made.serve("r1")
        kind, error_type, payload = await made.reply()
        assert (kind, error_type) == (OutcomeKind.FUNCTION_ERROR, "Runtime.ExitError")
        assert json.loads(payload)["errorMessage"].endswith("Runtime exited with error: exit status 1")
        assert "run" not in made.sandbox.log
        assert [line.split("\t")[1:] for line in made.host.lines if line.startswith("INIT_REPORT")] == [
            ["Phase: init", "Status: error", "Error Type: Runtime.ExitError\n"],
            ["Phase: invoke", "Status: error", "Error Type: Runtime.ExitError\n"]]  # fmt: skip
        await made.serve("r2")
        assert (await made.reply(2))[0] is OutcomeKind.RESPONSE


async def test_init_made_to_fail_once_runs_again_inside_the_invocation() -> None:
    async with stage(init_failures=["timeout"]) as made:
        await made.serve("r1")
        assert (await made.reply())[0] is OutcomeKind.RESPONSE
        assert made.sandbox.log.count("run") == 1


async def test_runtime_is_killed_while_it_works() -> None:
    async with stage(silent, timeout_s=60.0) as made:
        made.start(invocation("r1"))
        await until(lambda: made.phase is Phase.INVOKE)
        assert made.driver.crash("runtime")
        kind, error_type, payload = await made.reply()
        assert (kind, error_type) == (OutcomeKind.FUNCTION_ERROR, "Runtime.ExitError")
        assert b"signal: killed" in payload


async def test_frozen_runtime_is_killed_and_the_next_invocation_runs_init_again() -> None:
    async with stage() as made:
        await made.serve("r1")
        assert made.driver.crash("runtime")
        assert not made.driver.crash("runtime")
        await until(lambda: made.phase is Phase.IDLE)
        assert not made.driver.crash("runtime") and not made.driver.crash("agent")
        await made.serve("r2")
        assert [(reply[0], reply[2]) for reply in made.host.replies] == [("r1", b'"ok"'), ("r2", b'"ok"')]
        assert made.sandbox.log.count("run") == 2


async def test_runtime_that_is_still_being_launched_is_killed_when_it_is_there() -> None:
    async def slow(api: Api) -> ExitStatus:
        await asyncio.Event().wait()
        raise AssertionError

    gate = asyncio.Event()
    async with stage(slow, obliging, sandbox_gates={"run": gate}) as made:
        made.start(invocation("r1"))
        await until(lambda: bool(made.host.sandboxes) and "run" in made.sandbox.log)
        assert made.driver.crash("runtime")
        gate.set()
        assert (await made.reply())[0] is OutcomeKind.RESPONSE  # Init was run again


async def test_deadline_that_a_guest_is_told_does_not_move_with_platform_time() -> None:
    told: list[int] = []

    async def reading(api: Api) -> ExitStatus:
        _, headers, _ = await api.call("GET", "runtime/invocation/next")
        told.append(int(headers["lambda-runtime-deadline-ms"]))
        await api.respond(headers["lambda-runtime-aws-request-id"])
        await asyncio.Event().wait()
        raise AssertionError

    async with stage(reading) as made:
        made.driver._clock.advance(18_000)
        before_ms = Clock().wall() * 1000
        made.start(invocation("r1"))
        await made.reply()
        assert before_ms < told[0] < before_ms + 60_000
