"""One environment from its first process to its end, with scripted guests on real Runtime API sockets."""

from __future__ import annotations

import asyncio
import json
import signal
from functools import partial
from typing import Any, cast

import pytest
from fakes import Api, invocation, obliging, request, until
from stage import crashing, silent, stage, stillborn

from lambent.core.events import ProcessesEnded
from lambent.core.model import ExitStatus, OutcomeKind
from lambent.core.states import Phase
from lambent.sandbox.base import SandboxError
from lambent.telemetry.capture import LINE_COST_BYTES, Allowance
from lambent.worker import awake, chronicle, spare
from lambent.worker import driver as module

# Serving


async def test_whoever_is_idle_while_memory_is_short_may_be_ended_first() -> None:
    async with stage() as made:
        await made.serve("r1")
        made.driver.memory_is_short()
        made.driver.memory_is_short()
        await made.serve("r2")
        assert made.sandbox.log[2:] == ["freeze", "expendable", "precious", "thaw", "freeze"]
        made.driver._parts.short_of_memory = True
        await made.serve("r3")
        assert made.sandbox.log[7:] == ["thaw", "freeze", "expendable"]


async def test_cold_then_warm_invocation_in_the_same_process() -> None:
    async with stage() as made:
        await made.serve("r1", "r2")
        assert [(reply[0], reply[2], reply[3].cold) for reply in made.host.replies] == [
            ("r1", b'"ok"', True), ("r2", b'"ok"', False)]  # fmt: skip
        assert made.sandbox.log == ["run", "limit_cpu", "freeze", "thaw", "freeze"]
        assert made.host.happened == ["settling", "replied r1", "idle", "settling", "replied r2", "idle"]


async def test_an_invocation_that_goes_on_gives_way_until_the_next_one_begins() -> None:
    done = asyncio.Event()

    async def slow(api: Api) -> ExitStatus:
        request_id = await api.next()
        await done.wait()
        await api.respond(request_id)
        return await obliging(api)

    async with stage(slow) as made:
        made.start(invocation("r1"))
        await until(lambda: made.phase is Phase.INVOKE and made.sandbox.gave_way[-1:] == [True])
        before = len(made.sandbox.gave_way)
        done.set()
        await until(lambda: "idle" in made.host.happened)
        assert len(made.sandbox.gave_way) == before  # frozen, so it makes no difference
        await made.serve("r2")
        assert made.sandbox.gave_way[before] is False


async def test_a_guest_that_asks_for_the_same_event_again_goes_on_giving_way() -> None:
    async def asking(api: Api) -> ExitStatus:
        request_id = await api.next()
        await until(lambda: made.sandbox.gave_way == [True])
        assert await api.next() == request_id
        await api.respond(request_id)
        return await obliging(api)

    async with stage(asking) as made:
        await made.serve("r1")
        assert made.sandbox.gave_way == [True]


async def test_who_has_given_way_does_not_while_its_extensions_are_told_of_the_end() -> None:
    async def external(api: Api) -> ExitStatus:
        identifier = await register(api, "ext", "SHUTDOWN")
        await api.call("GET", "extension/event/next", Lambda_Extension_Identifier=identifier)
        return ExitStatus(code=0)

    async def slow(api: Api) -> ExitStatus:
        request_id = await api.next()
        await until(lambda: made.sandbox.gave_way == [True])
        await api.respond(request_id)
        await api.send(request("GET", "runtime/invocation/next"))
        await until(lambda: signal.SIGTERM in made.sandbox.signals)
        return ExitStatus(code=0)

    async with stage(external, slow, extension_names=("ext",)) as made:
        await made.serve("r1")
        made.driver.retire("age")
        await made.ended()
        assert made.sandbox.gave_way == [True, False]


async def test_the_loop_stays_awake_for_who_was_prompt_and_works_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "PROMPT_S", 3600.0)
    expected: list[str] = []
    async with stage() as made:
        monkeypatch.setattr(made.driver._answers, "_awake", _Told(expected))
        await made.serve("r1", "r2")
        assert expected == ["came", "expected", "came"]  # nothing was known of the first
        turns, other = made.driver._parts.turns, cast(Any, object())
        turns.began(other)
        await made.serve("r3")
        turns.gone(other)
        assert expected[3:] == ["came"]


class _Told:
    def __init__(self, told: list[str]) -> None:
        self.expect, self.came = partial(told.append, "expected"), partial(told.append, "came")


async def test_what_is_written_of_an_invocation_waits_for_the_next_one_and_stands_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spare, "AT_MOST_S", 3600.0)

    async def talking(api: Api) -> ExitStatus:
        for word in ("one", "two"):
            request_id = await api.next()
            api.print(word)
            await api.respond(request_id)
        await api.next()
        raise AssertionError("there is no third one")

    def kinds() -> list[str]:
        return [line.split()[0] for line in made.host.written]

    async with stage(talking) as made:
        await made.serve("r1")
        assert kinds() == ["INIT_START", "START", "one"]
        made.driver.assign(invocation("r2", tail=True))
        assert kinds() == ["INIT_START", "START", "one", "END", "REPORT", "START"]
        await made.reply(2)
        tail = made.host.replies[1][3].log_tail.decode()
        assert [line.split()[0] for line in tail.splitlines()] == ["START", "two", "END", "REPORT"]


async def test_nothing_of_an_invocation_is_kept_once_it_is_answered() -> None:
    async with stage() as made:
        first = invocation(payload=b"[1]")
        made.start(first)
        await made.reply()
        assert (first.payload, made.host.replies[0][1].payload) == (b"", b"")


async def test_provisioned_environment_is_idle_before_anybody_asks() -> None:
    async with stage(init_type="provisioned-concurrency") as made:
        made.start(None)
        await until(lambda: made.host.happened == ["idle"])
        await made.serve("r1")
        assert not made.host.replies[0][3].cold  # its Init was over before


async def test_first_invocation_of_an_environment_made_ahead_is_warm_when_init_was_over() -> None:
    async with stage() as made:
        made.start(None)
        await until(lambda: made.host.happened == ["idle"])
        assert made.driver.machine.made_ahead and made.sandbox.log[-1] == "freeze"
        await made.serve("r1", "r2")
        assert [reply[3].cold for reply in made.host.replies] == [False, False]
        assert [(bill["start"], bill["init_ms"] is not None) for bill in made.driver.chronicle.bills()] == [
            ("warm", True), ("warm", False)]  # fmt: skip


async def test_first_invocation_of_an_environment_made_ahead_is_cold_when_it_came_during_init() -> None:
    async with stage(create_gate=(gate := asyncio.Event())) as made:
        made.start(None)
        made.driver.assign(invocation("r1"))
        gate.set()
        assert (await made.reply())[2] == b'"ok"'
        assert made.host.replies[0][3].cold and made.driver.machine.made_ahead


async def test_environment_made_ahead_whose_init_fails_is_kept_and_its_first_invocation_is_cold() -> None:
    async with stage(stillborn, obliging) as made:
        made.start(None)
        await until(lambda: made.host.happened == ["init failed", "idle"])
        await made.serve("r1")
        assert made.host.replies[0][2] == b'"ok"' and made.host.replies[0][3].cold


async def test_caller_who_wants_the_log_gets_what_was_printed_before_end_and_report() -> None:
    async def talking(api: Api) -> ExitStatus:
        request_id = await api.next()
        api.print("hello")
        await api.respond(request_id)
        return await obliging(api)

    async with stage(talking) as made:
        made.start(invocation(tail=True))
        await made.reply()
        tail = made.host.replies[0][3].log_tail.decode()
        assert [line.split()[0] for line in tail.splitlines()] == ["START", "hello", "END", "REPORT"]


async def test_lines_that_are_dropped_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    async def loud(api: Api) -> ExitStatus:
        request_id = await api.next()
        for line in ("kept", "lost", "lost"):
            api.print(line)
        await api.respond(request_id)
        return await obliging(api)

    monkeypatch.setattr(chronicle, "Allowance", lambda monotonic: Allowance(monotonic, 1, LINE_COST_BYTES))
    async with stage(loud) as made:
        told: list[dict[str, Any]] = []
        telemetry = made.driver.chronicle.telemetry
        monkeypatch.setattr(telemetry, "emit", told.append)
        monkeypatch.setattr(telemetry, "settle", lambda: None)  # somebody listens on after Init
        await made.serve("r1")
        seen = [event for event in told if event["type"] in ("function", "platform.logsDropped")]
        assert [event["record"] for event in seen] == ["kept\n", {
            "droppedBytes": 10, "droppedRecords": 2, "reason": "written faster than 1 bytes per second"}]  # fmt: skip
        assert [line for line in made.host.lines if "DROPPED" in line] == [
            "LOGS_DROPPED\tRecords: 2\tBytes: 10\tReason: written faster than 1 bytes per second\n"]


# What the guest does wrong


async def test_timeout_ends_the_processes_keeps_the_sandbox_and_says_so() -> None:
    async with stage(silent, obliging, timeout_s=0.05) as made:
        made.start(invocation())
        kind, error_type, payload = await made.reply()
        assert (kind, error_type) == (OutcomeKind.FUNCTION_ERROR, "Sandbox.Timedout")
        assert b"Task timed out after 0.05 seconds" in payload
        await made.serve("r2")
        assert (await made.reply(2))[2] == b'"ok"'
        assert len(made.host.sandboxes) == 1 and made.sandbox.log.count("run") == 2


async def test_answer_that_comes_after_the_timeout_is_refused() -> None:
    answers: list[int] = []

    async def late(api: Api) -> ExitStatus:
        request_id = await api.next()
        await until(lambda: "kill" in made.sandbox.log)
        answers.append(await api.respond(request_id))
        made.host.sandbox_gates["kill"].set()
        await asyncio.Event().wait()
        raise AssertionError

    async with stage(late, timeout_s=0.05, sandbox_gates={"kill": asyncio.Event()}) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Sandbox.Timedout"
        assert answers == [403]
        assert len(made.host.replies) == 1


async def test_crash_is_answered_after_the_reset_and_the_next_invocation_starts_a_process() -> None:
    async with stage(crashing, obliging) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Runtime.ExitError"
        assert made.host.happened == ["idle", "replied r1"]
        report = next(i for i, line in enumerate(made.host.lines) if line.startswith("REPORT"))
        assert "about to crash\n" in made.host.lines[:report]
        await made.serve("r2", "r3")
        assert (await made.reply(2))[2] == b'"ok"'
        assert [(bill["start"], bill["init_repeated"]) for bill in made.driver.chronicle.bills()] == [
            ("cold", False), ("warm", True), ("warm", False)]  # fmt: skip


@pytest.mark.parametrize("held", [False, True], ids=["after", "before"])
async def test_process_that_ends_in_init_after_or_before_its_pid_is_known_is_run_again_and_reported(held: bool) -> None:
    gate = asyncio.Event()

    async def ends(api: Api) -> ExitStatus:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, gate.set)
        return await stillborn(api)

    async with stage(ends, sandbox_gates={"run": gate} if held else {}) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Runtime.ExitError"
        assert made.sandbox.log.count("run") == 2
        assert made.host.lines.count("no handler\n") == 2
        kinds = [line.split()[0] for line in made.host.lines if line != "no handler\n"]
        assert kinds == ["INIT_START", "INIT_REPORT", "INIT_REPORT", "START", "END", "REPORT"]
        assert made.host.lines.index("no handler\n") == 1 and made.host.lines[3] == "no handler\n"
        assert made.driver._processes.running == {} and made.driver.chronicle._captures == {}


async def test_init_error_is_the_answer_of_the_invocation_that_repeats_init() -> None:
    async def failing(api: Api) -> ExitStatus:
        body = json.dumps({"errorType": "Boom", "errorMessage": "no"}).encode()
        answer = await api.call("POST", "runtime/init/error", body, Lambda_Runtime_Function_Error_Type="Runtime.Boom")
        assert answer[0] == 202
        return ExitStatus(code=1)

    async with stage(failing) as made:
        made.start(invocation())
        kind, error_type, payload = await made.reply()
        assert (kind, error_type) == (OutcomeKind.FUNCTION_ERROR, "Runtime.Boom")
        assert json.loads(payload)["errorType"] == "Boom"


async def test_missing_bootstrap_is_answered() -> None:
    async with stage(bootstrap_missing=True) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Runtime.InvalidEntrypoint"


async def test_provisioned_environment_whose_init_fails_tells_its_owner_and_ends() -> None:
    async with stage(stillborn, init_type="provisioned-concurrency") as made:
        made.start(None)
        await made.ended()
        assert made.host.happened == ["init failed", "gone", "ended"]


async def test_process_that_ends_while_the_environment_is_idle_is_replaced_when_it_is_needed() -> None:
    leave = asyncio.Event()

    async def leaving(api: Api) -> ExitStatus:
        await api.respond(await api.next())
        await api.send(request("GET", "runtime/invocation/next"))
        await leave.wait()
        return ExitStatus(signal=9)

    async with stage(leaving, obliging) as made:
        await made.serve("r1")
        leave.set()
        await until(lambda: made.host.happened.count("idle") == 2)
        await made.serve("r2")
        assert (await made.reply(2))[2] == b'"ok"'


async def test_runtime_that_hung_up_while_it_waited_gets_its_invocation_when_it_asks_again() -> None:
    asked_again = asyncio.Event()

    async def impatient(api: Api) -> ExitStatus:
        first = api.another()
        await first.send(request("GET", "runtime/invocation/next"))
        await until(lambda: made.host.happened == ["idle"])
        first.hang_up()
        await asked_again.wait()
        return await obliging(api)

    async with stage(impatient, init_type="provisioned-concurrency") as made:
        made.start(None)
        await until(lambda: made.host.happened == ["idle"] and not made.driver._door.connections)
        made.driver.assign(invocation())
        asked_again.set()
        assert (await made.reply())[2] == b'"ok"'


async def test_of_two_connections_that_ask_for_work_the_later_gets_it() -> None:
    async def doubling(api: Api) -> ExitStatus:
        first = api.another()
        await first.send(request("GET", "runtime/invocation/next"))
        await until(lambda: made.host.happened == ["idle"])
        return await obliging(api)

    async with stage(doubling, init_type="provisioned-concurrency") as made:
        made.start(None)
        await until(lambda: made.host.happened == ["idle"] and len(made.driver._door.connections) == 2)
        await asyncio.sleep(0.01)  # the second request is read
        await made.serve("r1")
        assert (await made.reply())[2] == b'"ok"'


async def test_request_that_a_killed_process_had_sent_is_not_taken_for_one_of_its_successor() -> None:
    async def pipelining(api: Api) -> ExitStatus:
        request_id = await api.next()
        # A second one waits behind a first that is not answered before the end.
        await api.send(request("GET", "runtime/invocation/next"))
        await api.send(request("GET", "runtime/invocation/next"))
        await asyncio.Event().wait()
        raise AssertionError(request_id)

    async with stage(pipelining, obliging, timeout_s=0.05) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Sandbox.Timedout"
        made.driver.machine.timeout_s = 3.0
        await made.serve("r2")
        assert (await made.reply(2))[2] == b'"ok"'


# Extensions


async def register(api: Api, name: str, *events: str) -> str:
    status, headers, body = await api.call("POST", "extension/register", json.dumps({"events": events}).encode(),
                                           Lambda_Extension_Name=name)
    assert status == 200, body
    return headers["lambda-extension-identifier"]


async def test_identifier_of_an_extension_is_void_after_a_reset_and_its_name_may_be_registered_anew() -> None:
    identifiers: list[str] = []
    refused: list[bytes] = []

    async def extended(api: Api) -> ExitStatus:
        side = api.another()
        if identifiers:
            answer = await side.call("GET", "extension/event/next", Lambda_Extension_Identifier=identifiers[0])
            refused.append(answer[2])
        identifiers.append(await register(side, "inner", "INVOKE"))
        await side.send(request("GET", "extension/event/next", Lambda_Extension_Identifier=identifiers[-1]))
        request_id = await api.next()
        if len(identifiers) == 1:
            return ExitStatus(code=1)
        await side.answer()
        await side.send(request("GET", "extension/event/next", Lambda_Extension_Identifier=identifiers[-1]))
        await api.respond(request_id)
        await api.next()
        raise AssertionError

    async with stage(extended) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Runtime.ExitError"
        await made.serve("r2")
        assert (await made.reply(2))[2] == b'"ok"'
        assert b"Extension.UnknownExtensionIdentifier" in refused[0]


async def test_external_extension_is_told_of_the_shutdown_and_the_runtime_gets_sigterm() -> None:
    told: list[dict[str, Any]] = []

    async def external(api: Api) -> ExitStatus:
        identifier = await register(api, "ext", "SHUTDOWN")
        answer = await api.call("GET", "extension/event/next", Lambda_Extension_Identifier=identifier)
        told.append(json.loads(answer[2]))
        return ExitStatus(code=0)

    async def runtime(api: Api) -> ExitStatus:
        await api.send(request("GET", "runtime/invocation/next"))
        await until(lambda: 15 in made.sandbox.signals)
        return ExitStatus(code=0)

    async with stage(external, runtime, init_type="provisioned-concurrency", extension_names=("ext",)) as made:
        made.start(None)
        await until(lambda: made.host.happened == ["idle"])
        made.driver.retire("idle")
        await made.ended()
        assert [(event["eventType"], event["shutdownReason"]) for event in told] == [("SHUTDOWN", "spindown")]


# Retirement


async def test_retiring_an_idle_environment_destroys_its_sandbox_with_the_reason() -> None:
    async with stage() as made:
        await made.serve("r1")
        made.driver.retire("age")
        await made.ended()
        assert made.sandbox.log[-2:] == ["kill", "destroy: age"]
        made.driver.retire("age")  # again, too late: nothing happens


async def test_retirement_while_the_sandbox_is_made_takes_it_away_unused() -> None:
    async with stage(create_gate=asyncio.Event(), init_type="provisioned-concurrency") as made:
        made.start(None)
        made.driver.retire("not wanted")
        assert made.host.create_gate is not None
        made.host.create_gate.set()
        await made.ended()
        assert made.sandbox.log == ["limit_cpu", "kill", "destroy: not wanted"]


async def test_forced_retirement_while_the_sandbox_is_made_answers_whoever_waits() -> None:
    async with stage(create_gate=asyncio.Event()) as made:
        made.start(invocation())
        made.driver.retire("stopping", force=True)
        assert (await made.reply())[:2] == (OutcomeKind.PLATFORM_ERROR, "stopping")
        assert made.host.create_gate is not None
        made.host.create_gate.set()
        await made.ended()


async def test_retirement_while_a_process_is_being_started_ends_it() -> None:
    async with stage(sandbox_gates={"run": asyncio.Event()}, init_type="provisioned-concurrency") as made:
        made.start(None)
        await until(lambda: made.host.sandboxes != [] and "run" in made.sandbox.log)
        made.driver.retire("not wanted")
        await made.ended()
        assert made.host.complaints == []


# What the host does wrong


@pytest.mark.parametrize("error", [SandboxError("no memory"), OSError("no space"), RuntimeError("a bug")])
async def test_sandbox_that_cannot_be_made_is_answered_with_its_cause_and_leaves_nothing(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage(create_error=error) as made:
        made.start(invocation())
        kind, cause, _ = await made.reply()
        assert kind is OutcomeKind.PLATFORM_ERROR
        ours = isinstance(error, RuntimeError)
        assert cause == ("an internal error; the server's log has it" if ours else str(error))
        await made.ended()
        assert made.host.happened == ["replied r1", "gone", "ended"]
        assert made.host.complaints
    assert ("a bug" in capsys.readouterr().err) is ours


@pytest.mark.parametrize("error", [SandboxError("it cannot"), RuntimeError("a bug")])
@pytest.mark.parametrize(("method", "replies"), [
    ("run", ["platform_error"]),
    ("limit_cpu", ["platform_error"]),
    ("freeze", ["response"]),
    ("thaw", ["response", "platform_error"]),
])  # fmt: skip
async def test_whatever_fails_everybody_is_answered_and_the_sandbox_goes(method: str, replies: list[str],
                                                                         error: Exception) -> None:
    async with stage(sandbox_fails={method: error}) as made:
        made.start(invocation())
        if len(replies) == 2:
            await until(lambda: made.phase is Phase.IDLE)
            made.driver.assign(invocation("r2"))
        await made.ended()
        assert [reply[1].kind.value for reply in made.host.replies] == replies
        assert made.sandbox.log[-1].startswith("destroy: ")


async def test_kill_that_fails_still_answers_and_destroys() -> None:
    async with stage(silent, timeout_s=0.05, sandbox_fails={"kill": SandboxError("it cannot")}) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Sandbox.Timedout"
        await made.ended()
        assert made.sandbox.log[-1] == "destroy: it cannot"


async def test_processes_that_cannot_be_killed_cost_the_sandbox_and_nobody_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KILL_S", 0.02)
    async with stage(silent, timeout_s=0.05, sandbox_gates={"kill": asyncio.Event()}) as made:
        made.start(invocation())
        assert (await made.reply())[1] == "Sandbox.Timedout"
        await made.ended()
        assert made.sandbox.log[-1] == "destroy: its processes have not ended in 0.02 s"


async def test_invocation_that_is_assigned_while_the_freeze_fails_is_answered() -> None:
    async with stage(sandbox_fails={"freeze": SandboxError("it cannot")}) as made:
        made.host.on_idle = lambda: made.driver.assign(invocation("r2"))
        made.start(invocation())
        await made.ended()
        assert [(reply[0], reply[1].kind.value) for reply in made.host.replies] == [
            ("r1", "response"), ("r2", "platform_error")]  # fmt: skip


async def test_log_that_cannot_be_written_costs_nobody_an_answer() -> None:
    async with stage(log_error=OSError("disk full")) as made:
        made.start(invocation(tail=True))
        assert (await made.reply())[2] == b'"ok"'
        await made.ended()


@pytest.mark.parametrize("moment", ["init", "invoke", "idle", "kill"])
async def test_sandbox_that_dies_by_itself_answers_whoever_waits_and_is_destroyed_once(moment: str) -> None:
    waiting = asyncio.Event()

    async def stuck(api: Api) -> ExitStatus:
        if moment != "init":
            request_id = await api.next()
            if moment == "idle":
                await api.respond(request_id)
                await api.next()
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    gates = {"kill": asyncio.Event()}
    async with stage(stuck, timeout_s=0.05 if moment == "kill" else 3.0, sandbox_gates=gates) as made:
        made.start(invocation())
        if moment == "idle":
            await until(lambda: made.phase is Phase.IDLE)
        elif moment == "kill":
            await until(lambda: made.host.sandboxes != [] and "kill" in made.sandbox.log)
        else:
            await waiting.wait()
        made.sandbox.die()
        gates["kill"].set()
        await made.ended()
        expected = {"idle": "response", "kill": "function_error"}.get(moment, "platform_error")
        assert [reply[1].kind.value for reply in made.host.replies] == [expected]
        assert [entry for entry in made.sandbox.log if entry.startswith("destroy")] == [
            "destroy: process 1 of the sandbox ended"]  # fmt: skip


async def test_event_that_the_machine_cannot_have_is_loud_and_ends_the_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stage() as made:
        await made.serve("r1")
        made.driver.feed(ProcessesEnded(made.driver.now()))
        made.driver.assign(invocation("r2"))
        assert (await made.reply(2))[0] is OutcomeKind.PLATFORM_ERROR
        assert "is given up" in made.host.complaints[0]
        assert "ProcessesEnded" not in made.host.replies[1][1].error_type  # the story is not for callers
    assert "IllegalEvent" in capsys.readouterr().err


async def test_second_invocation_for_a_busy_environment_is_answered_although_it_is_our_fault() -> None:
    async with stage(silent) as made:
        made.start(invocation())
        await until(lambda: made.phase is Phase.INVOKE)
        made.driver.assign(invocation("r2"))
        await made.ended()
        assert sorted(reply[0] for reply in made.host.replies) == ["r1", "r2"]
