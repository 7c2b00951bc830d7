"""What is armed goes wrong as often as asked, for whom it was asked, and is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.core import chaos
from lambent.core.chaos import (
    EVERY_FUNCTION,
    Chaos,
    Cleared,
    FailInit,
    InitBegan,
    InitFailureArmed,
    InvocationArrived,
    Throttle,
    ThrottleArmed,
)
from lambent.core.model import ExitStatus

F, G = (f"arn:aws:lambda:us-east-1:000000000000:function:{name}" for name in "fg")


def throttled(made: Chaos, arn: str = F) -> str | None:
    effect = made.handle(InvocationArrived(1.0, arn, "r"))
    return effect.reason if isinstance(effect, Throttle) else None


def failed(made: Chaos, arn: str = F) -> str | None:
    effect = made.handle(InitBegan(1.0, arn, "e"))
    return effect.failure if isinstance(effect, FailInit) else None


def test_throttle_counts_down_and_ends() -> None:
    made = Chaos()
    made.handle(ThrottleArmed(0.0, F, "CallerRateLimitExceeded", 2))
    assert throttled(made, G) is None
    assert [throttled(made) for _ in range(3)] == ["CallerRateLimitExceeded"] * 2 + [None]
    assert made.armed == []


def test_throttle_without_a_number_lasts_until_it_is_cleared() -> None:
    made = Chaos()
    made.handle(ThrottleArmed(0.0, EVERY_FUNCTION, "a"))
    assert {throttled(made, arn) for arn in (F, G) * 10} == {"a"}
    made.handle(Cleared(2.0))
    assert throttled(made) is None


def test_what_is_armed_for_a_function_goes_before_what_is_for_all() -> None:
    made = Chaos()
    made.handle(ThrottleArmed(0.0, EVERY_FUNCTION, "all", 1))
    made.handle(ThrottleArmed(0.0, F, "own", 1))
    assert [throttled(made) for _ in range(3)] == ["own", "all", None]


def test_init_fails_as_often_as_asked_and_of_that_function_alone() -> None:
    made = Chaos()
    made.handle(InitFailureArmed(0.0, F, "exit", 2))
    assert failed(made, G) is None and throttled(made) is None
    assert [failed(made) for _ in range(3)] == ["exit", "exit", None]


def test_arming_again_replaces_and_clearing_one_function_leaves_the_others() -> None:
    made = Chaos()
    made.handle(InitFailureArmed(0.0, F, "exit", 5))
    made.handle(InitFailureArmed(0.0, F, "timeout", 1))
    made.handle(InitFailureArmed(0.0, G, "exit", 1))
    made.handle(ThrottleArmed(0.0, G, "a"))
    made.handle(Cleared(1.0, G))
    (left,) = made.armed
    assert (left.what, left.function_arn, left.how, left.left) == ("init failure", F, "timeout", 1)


def test_what_was_provoked_is_told_with_whom_it_met() -> None:
    made = Chaos()
    made.handle(ThrottleArmed(0.0, EVERY_FUNCTION, "a", 1))
    made.handle(InitFailureArmed(0.0, F, "exit", 1))
    made.handle(InvocationArrived(3.0, G, "r7"))
    made.handle(InitBegan(4.0, F, "e-1"))
    assert [(row.at, row.what, row.function_arn, row.how, row.subject) for row in made.provoked] == [
        (3.0, "throttle", G, "a", "r7"), (4.0, "init failure", F, "exit", "e-1")]  # fmt: skip


@given(times=st.integers(1, 20), calls=st.integers(0, 40))
def test_never_more_and_never_fewer_than_asked(times: int, calls: int) -> None:
    made = Chaos()
    made.handle(ThrottleArmed(0.0, F, "a", times))
    assert sum(throttled(made) is not None for _ in range(calls)) == min(times, calls) == len(made.provoked)


@pytest.mark.parametrize(("text", "possible"), [
    ("exit", True), ("timeout", True), ("Runtime.ImportModuleError", True), ("Runtime.ExitError", True),
    ("", False), ("Runtime.", False), ("Runtime.No thing", False), ('Runtime."', False), ("Extension.Crash", False),
    ("runtime.ExitError", False), ("Runtime." + "x" * 65, False), ("Runtime.\u00e9", False),
])  # fmt: skip
def test_ways_in_which_an_init_can_fail(text: str, possible: bool) -> None:
    assert chaos.is_init_failure(text) is possible


def test_failures_are_those_of_a_runtime() -> None:
    assert chaos.init_failure("exit") == (ExitStatus(code=1), None)
    assert chaos.init_failure("Runtime.OutOfMemory") == (ExitStatus(signal=9, oom=True), None)
    exit, outcome = chaos.init_failure("Runtime.ImportModuleError")
    assert exit == ExitStatus(code=1) and outcome is not None
    assert json.loads(outcome.payload) == {
        "errorMessage": "this Init was made to fail (lambent chaos)", "errorType": "Runtime.ImportModuleError",
        "requestId": "", "stackTrace": []}  # fmt: skip
