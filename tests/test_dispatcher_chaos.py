"""What is provoked, through the dispatcher: the clock, throttles, and who wants to know when all are gone."""

from __future__ import annotations

import pytest

from lambent.core.chaos import EVERY_FUNCTION, InitFailureArmed, ThrottleArmed
from lambent.core.keepalive.fixed import Fixed
from lambent.core.model import OutcomeKind
from test_dispatcher import FUNCTION, stage, until


async def test_advancing_the_clock_retires_what_was_due_at_once_and_says_so() -> None:
    async with stage() as made:
        made.invoke("r1")
        made.worker.serve(1)
        retired = made.dispatcher.advance(601)
        assert [(effect.number, effect.reason) for effect in retired] == [(1, "idle")]
        assert made.worker.told[-1] == ("retire", 1, "idle")


async def test_advancing_the_clock_brings_the_timer_of_what_is_not_due_forward() -> None:
    async with stage(keep_alive=Fixed(600.0)) as made:
        made.invoke("r1")
        made.worker.serve(1)
        assert made.dispatcher.advance(599.999) == []
        await until(lambda: made.worker.told[-1] == ("retire", 1, "idle"))


async def test_clock_that_cannot_be_moved_so_retires_nobody() -> None:
    async with stage() as made:
        made.invoke("r1")
        made.worker.serve(1)
        with pytest.raises(ValueError, match="platform time"):
            made.dispatcher.advance(-1)
        assert made.worker.told == [("start", 1)]


async def test_provoked_throttle_answers_with_its_reason_and_starts_nothing() -> None:
    async with stage() as made:
        made.dispatcher.chaos.handle(ThrottleArmed(0.0, EVERY_FUNCTION, "CallerRateLimitExceeded", 1))
        refused = made.invoke("r1", b"x" * 1000)
        assert made.outcomes["r1"][:2] == (OutcomeKind.REFUSED, "CallerRateLimitExceeded")
        assert made.worker.told == [] and refused.payload == b""
        made.invoke("r2")
        assert made.worker.told == [("start", 1)]


async def test_init_is_made_to_fail_for_whom_it_is_armed() -> None:
    async with stage() as made:
        assert made.dispatcher.init_failure(FUNCTION, "e-1") is None
        made.dispatcher.chaos.handle(InitFailureArmed(0.0, FUNCTION.function_arn, "timeout", 1))
        assert made.dispatcher.init_failure(FUNCTION, "e-1") == "timeout"
        assert made.dispatcher.init_failure(FUNCTION, "e-2") is None


async def test_who_wants_to_know_is_told_when_the_last_one_is_gone() -> None:
    async with stage() as made:
        told: list[str] = []
        for request_id in ("r1", "r2", "r3"):
            made.invoke(request_id)
        made.dispatcher.when_gone({1, 2, 99}, lambda: told.append("both"))
        made.dispatcher.when_gone({99}, lambda: told.append("nobody"))
        assert told == ["nobody"]
        for number in (3, 1):
            made.worker.reply(number)
            made.worker.end(number)
        assert told == ["nobody"]
        made.worker.reply(2)
        made.worker.end(2)
        assert told == ["nobody", "both"]
