"""Invocations to outcomes through the dispatcher, on a worker that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lambent import dispatcher as module
from lambent.clock import Clock
from lambent.core.headroom import Headroom
from lambent.core.keepalive.fixed import Fixed
from lambent.core.model import FunctionVersion, Invocation, Outcome, OutcomeKind
from lambent.core.scheduler import RESERVE_BYTES, Scheduler
from lambent.dispatcher import Dispatcher
from lambent.worker.base import Served

FUNCTION = FunctionVersion("000000000000", "us-east-1", "f", "$LATEST", "g1", "python3.12", "app.handler", "0" * 64)


class FakeWorker:
    """Notes what it is told. `on_start` and `on_assign` may act at once; a method in `fail` raises."""

    def __init__(self, owner: Dispatcher) -> None:
        self.owner = owner
        self.short = False
        self.told: list[tuple[Any, ...]] = []
        self.invocations: dict[int, Invocation] = {}
        self.alive: set[int] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.fail: set[str] = set()
        self.used_bytes = 0
        self.on_start: Callable[[int], None] = lambda number: None
        self.on_assign: Callable[[int], None] = lambda number: None

    def _tell(self, what: str, number: int, *more: Any) -> None:
        self.told.append((what, number, *more))
        if what in self.fail:
            raise RuntimeError(f"{what} fails on purpose")

    def start(self, number: int, invocation: Invocation) -> None:
        self._tell("start", number)
        self._add(number)
        self.invocations[number] = invocation
        self.on_start(number)

    def provision(self, number: int, function: FunctionVersion) -> None:
        self._tell("provision", number)
        self._add(number)

    def start_ahead(self, number: int, function: FunctionVersion) -> None:
        self._tell("start ahead", number)
        self._add(number)

    def _add(self, number: int) -> None:
        self.alive.add(number)
        self.empty.clear()

    def assign(self, number: int, invocation: Invocation) -> None:
        self._tell("assign", number)
        self.invocations[number] = invocation
        self.on_assign(number)

    def retire(self, number: int, reason: str, *, force: bool = False) -> None:
        self._tell("retire", number, reason, *(["by force"] if force else []))

    def environments(self) -> list[dict[str, Any]]:
        return []

    def look(self, tell: Callable[[list[dict[str, Any]]], None], *, pss: bool = False) -> None:
        tell([])

    def story(self, environment_id: str) -> dict[str, Any] | None:
        return None

    def stories(self, function_arn: str) -> list[dict[str, Any]]:
        return []

    def at_rest(self, number: int) -> bool:
        return number not in self.invocations

    def crash(self, number: int, participant: str) -> bool:
        return False

    def find(self, environment_id: str) -> int | None:
        return None

    def memory(self) -> tuple[int, bool] | None:
        return self.used_bytes, False

    def expect_shortage(self, short: bool) -> None:
        self.short = short

    async def prepare(self, function: FunctionVersion) -> FunctionVersion:
        return function

    async def stop(self) -> None:
        await self.empty.wait()

    # What environments do

    def reply(self, number: int, payload: bytes = b'"ok"') -> None:
        served = Served(f"env-{number}", True)
        self.owner.replied(self.invocations.pop(number), Outcome(OutcomeKind.RESPONSE, payload), served)

    def serve(self, number: int) -> None:
        """Answer and be idle again."""
        self.reply(number)
        self.owner.idle(number)

    def end(self, number: int) -> None:
        self.owner.gone(number)
        self.alive.discard(number)
        if not self.alive:
            self.empty.set()


class Stage:
    def __init__(self, **options: Any) -> None:
        settings: dict[str, Any] = {"account_limit": 10, "keep_alive": Fixed(600.0), "max_age_s": 14_400.0} | options
        self.dispatcher = Dispatcher(Scheduler(**settings), Clock())
        self.worker = FakeWorker(self.dispatcher)
        self.dispatcher.use(self.worker)
        self.outcomes: dict[str, tuple[OutcomeKind, str, bytes]] = {}

    def invoke(self, request_id: str, payload: bytes = b"{}") -> Invocation:
        made = Invocation(request_id, FUNCTION, payload, FUNCTION.function_arn)

        def note(outcome: Outcome, served: Served | None) -> None:
            assert request_id not in self.outcomes
            self.outcomes[request_id] = (outcome.kind, outcome.error_type, outcome.payload)

        self.dispatcher.invoke(made, note)
        return made


@asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[Stage]:
    made = Stage(**options)
    yield made
    for number in list(made.worker.alive):
        if number in made.worker.invocations:
            made.worker.reply(number)
        made.worker.end(number)
    await made.dispatcher.stop(1.0)
    assert made.dispatcher.in_flight == 0
    made.dispatcher.scheduler.check()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_first_invocation_starts_an_environment_and_the_next_is_assigned_to_it() -> None:
    async with stage() as made:
        made.invoke("r1")
        assert made.dispatcher.in_flight == 1
        made.worker.serve(1)
        made.invoke("r2")
        made.worker.serve(1)
        assert made.worker.told == [("start", 1), ("assign", 1)]
        assert made.outcomes == dict.fromkeys(("r1", "r2"), (OutcomeKind.RESPONSE, "", b'"ok"'))


async def test_throttled_invocation_has_its_outcome_at_once_and_keeps_no_payload() -> None:
    async with stage(account_limit=1) as made:
        made.invoke("r1")
        refused = made.invoke("r2", b"x" * 1000)
        assert made.outcomes["r2"][:2] == (OutcomeKind.REFUSED, "ConcurrentInvocationLimitExceeded")
        assert refused.payload == b""  # the scheduler's journal still holds the invocation


async def test_without_memory_for_another_environment_the_answer_is_a_platform_error_that_says_so() -> None:
    async with stage(memory_budget_bytes=RESERVE_BYTES) as made:
        made.invoke("r1")
        made.invoke("r2")
        kind, cause, _ = made.outcomes["r2"]
        assert kind is OutcomeKind.PLATFORM_ERROR and "memory" in cause


async def test_environment_that_answers_and_is_idle_within_its_start_is_told_in_order() -> None:
    async with stage() as made:
        made.worker.on_start = made.worker.on_assign = made.worker.serve
        for number in range(3):
            made.invoke(f"r{number}")
        assert made.worker.told == [("start", 1), ("assign", 1), ("assign", 1)]
        assert len(made.outcomes) == 3


async def test_environment_that_ends_within_its_start_is_forgotten() -> None:
    async with stage() as made:
        def fail(number: int) -> None:
            made.worker.reply(number)
            made.worker.end(number)

        made.worker.on_start = fail
        made.invoke("r1")
        made.invoke("r2")
        assert made.worker.told == [("start", 1), ("start", 2)]
        assert made.dispatcher.scheduler.members == {}


async def test_invocation_waits_a_moment_for_an_environment_that_has_just_answered() -> None:
    async with stage() as made:
        made.invoke("r1")
        made.dispatcher.settling(1)
        made.worker.reply(1)
        made.invoke("r2")
        assert made.worker.told == [("start", 1)]
        made.dispatcher.idle(1)
        assert made.worker.told == [("start", 1), ("assign", 1)]


async def test_invocation_that_has_waited_long_enough_gets_an_environment_of_its_own() -> None:
    async with stage() as made:
        made.invoke("r1")
        made.dispatcher.settling(1)
        made.worker.reply(1)
        made.invoke("r2")
        await until(lambda: made.worker.told == [("start", 1), ("start", 2)])


async def test_idle_environment_is_retired_when_its_keep_alive_is_over() -> None:
    async with stage(keep_alive=Fixed(0.01)) as made:
        made.invoke("r1")
        made.worker.serve(1)
        await until(lambda: ("retire", 1, "idle") in made.worker.told)


async def test_memory_is_measured_and_the_least_useful_idle_environment_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEASURE_S", 0.005)
    async with stage(memory_budget_bytes=10 * RESERVE_BYTES) as made:
        made.invoke("r1")
        made.worker.serve(1)
        made.worker.used_bytes = 11 * RESERVE_BYTES
        await until(lambda: ("retire", 1, "memory") in made.worker.told)
        assert made.worker.short
        made.worker.used_bytes = 7 * RESERVE_BYTES
        made.dispatcher.memory_grew()
        assert not made.worker.short
        made.worker.end(1)
        await until(lambda: made.dispatcher._measuring is None)  # nothing to measure, no timer


async def test_deleted_function_retires_what_serves_it() -> None:
    async with stage() as made:
        made.invoke("r1")
        made.worker.serve(1)
        made.dispatcher.function_changed(FUNCTION.function_arn, "$LATEST", None)
        assert made.worker.told[-1] == ("retire", 1, "deleted")


async def test_provisioned_environments_are_made_ahead_and_their_failure_is_told() -> None:
    async with stage() as made:
        made.dispatcher.provision(FUNCTION, 1)
        assert made.worker.told == [("provision", 1)]
        made.dispatcher.init_failed(1)
        made.worker.end(1)
        assert made.dispatcher.provision_status(FUNCTION) == (1, 0, 0, "FUNCTION_ERROR_INIT_FAILURE")


async def test_environments_are_started_ahead_of_invocations_and_serve_them_even_during_init() -> None:
    async with stage(headroom=Headroom()) as made:
        seen: list[tuple[int, bool]] = []
        made.dispatcher.watch_environments(lambda arn, version, number, born: seen.append((number, born)))
        made.invoke("r1")
        made.worker.serve(1)
        made.invoke("r2")
        assert made.worker.told[1:] == [("assign", 1), ("start ahead", 2)]
        assert seen == [(1, True), (2, True)]
        made.invoke("r3")
        assert made.worker.told[3:] == [("assign", 2), ("start ahead", 3)]
        made.worker.serve(2)
        made.dispatcher.idle(3)
        made.invoke("r4")
        assert made.worker.told[5:] == [("assign", 2)]
        assert made.outcomes.keys() == {"r1", "r3"}


async def test_environment_that_cannot_be_started_ahead_costs_nobody_an_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stage(headroom=Headroom()) as made:
        made.worker.fail = {"start ahead"}
        made.invoke("r1")
        made.worker.serve(1)
        made.invoke("r2")
        assert made.dispatcher.scheduler.members.keys() == {1}
        made.invoke("r3")
        made.worker.serve(1)
        made.worker.serve(3)
        assert [kind for kind, _, _ in made.outcomes.values()] == [OutcomeKind.RESPONSE] * 3
        assert [told for told in made.worker.told if told[0] == "start ahead"] == [("start ahead", 2)]
    assert "fails on purpose" in capsys.readouterr().err


# Faults of ours


async def test_callback_that_fails_is_called_again_with_what_is_easier_to_tell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stage() as made:
        seen: list[OutcomeKind] = []

        def fail_once(outcome: Outcome, served: Served | None) -> None:
            seen.append(outcome.kind)
            if len(seen) == 1:
                raise RuntimeError("broken on purpose")

        made.dispatcher.invoke(Invocation("r1", FUNCTION, b"{}", FUNCTION.function_arn), fail_once)
        made.worker.serve(1)
        assert seen == [OutcomeKind.RESPONSE, OutcomeKind.PLATFORM_ERROR]
        made.invoke("r2")
        assert made.worker.told[-1] == ("assign", 1)
    assert "broken on purpose" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["start", "assign"])
async def test_worker_that_cannot_take_an_invocation_costs_an_answer_but_no_concurrency(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stage(account_limit=1) as made:
        if what == "assign":
            made.invoke("r0")
            made.worker.serve(1)
            made.worker.alive.clear()  # the dispatcher has not been told
        made.worker.fail = {what}
        made.invoke("r1")
        assert made.outcomes["r1"][0] is OutcomeKind.PLATFORM_ERROR
        assert made.dispatcher.scheduler.members == {}
        made.worker.fail = set()
        made.invoke("r2")
        assert made.worker.told[-1][0] == "start"
    assert "fails on purpose" in capsys.readouterr().err


async def test_news_of_an_environment_that_nobody_knows_is_loud_and_harms_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with stage() as made:
        made.dispatcher.idle(99)
        made.dispatcher.gone(99)
        made.invoke("r1")
        assert made.worker.told == [("start", 1)]
    assert "IllegalEvent" in capsys.readouterr().err


async def test_second_outcome_of_an_invocation_is_ignored() -> None:
    async with stage() as made:
        sent = made.invoke("r1")
        made.worker.reply(1)
        made.dispatcher.replied(sent, Outcome(OutcomeKind.RESPONSE, b"again"), None)
        assert made.outcomes["r1"][2] == b'"ok"'


# The end


async def test_stop_lets_running_invocations_finish_and_refuses_new_ones() -> None:
    async with stage() as made:
        made.invoke("r1")
        stopping = asyncio.create_task(made.dispatcher.stop(5.0))
        await asyncio.sleep(0)
        made.invoke("r2")
        assert made.outcomes["r2"][:2] == (OutcomeKind.PLATFORM_ERROR, "the server is stopping")
        assert made.worker.told == [("start", 1), ("retire", 1, "stopping")]
        made.worker.reply(1)
        made.worker.end(1)
        await stopping
        assert made.outcomes["r1"][0] is OutcomeKind.RESPONSE


@pytest.mark.parametrize("answered", [False, True], ids=["running", "lingering after its answer"])
async def test_stop_ends_by_force_what_takes_longer_than_the_drain(answered: bool) -> None:
    async with stage() as made:
        made.invoke("r1")
        if answered:
            made.worker.reply(1)
        stopping = asyncio.create_task(made.dispatcher.stop(0.01))
        await until(lambda: ("retire", 1, "stopping", "by force") in made.worker.told)
        if not answered:
            made.worker.reply(1)
        made.worker.end(1)
        await stopping


async def test_stop_does_not_wait_for_ever_for_what_does_not_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "STOP_S", 0.01)
    async with stage() as made:
        made.invoke("r1")
        await made.dispatcher.stop(0.0)
        assert "left behind: 1 of" in capsys.readouterr().err
