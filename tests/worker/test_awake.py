"""When the event loop does not sleep: while a prompt answer is due, and no longer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from lambent.worker import awake
from lambent.worker.awake import Answers, Awake


class Loop:
    """For how long the running loop asks the kernel to wait, each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waits: list[float | None] = []
        selector = cast(Any, asyncio.get_running_loop())._selector
        select = selector.select

        def selecting(timeout: float | None = None) -> object:
            self.waits.append(timeout)
            return select(timeout)

        monkeypatch.setattr(selector, "select", selecting)

    async def sleeps(self) -> bool:
        """Whether it does while nothing happens."""
        self.waits.clear()
        await asyncio.sleep(0.005)
        return any(self.waits)


async def test_the_loop_is_awake_until_the_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "AWAKE_S", 3600.0)
    loop, made = Loop(monkeypatch), Awake(processors=2)
    made.came()  # nobody expected it
    assert await loop.sleeps()
    for _ in range(2):
        made.expect()
        made.expect()
        assert not await loop.sleeps()
        made.came()
        await asyncio.sleep(0)
        assert await loop.sleeps()


async def test_who_answers_late_is_waited_for_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "AWAKE_S", 0.0001)
    loop, made = Loop(monkeypatch), Awake(processors=2)
    made.expect()
    await asyncio.sleep(0.001)
    assert await loop.sleeps()


async def test_a_guest_has_the_only_processor_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "AWAKE_S", 3600.0)
    loop, made = Loop(monkeypatch), Awake(processors=1)
    made.expect()
    assert await loop.sleeps()


class Counted(Awake):
    __slots__ = ("expected",)

    def __init__(self) -> None:
        super().__init__()
        self.expected = 0

    def expect(self) -> None:
        self.expected += 1


@pytest.mark.parametrize(("prompt_s", "alone", "expected"), [(3600.0, True, 1), (3600.0, False, 0), (0.0, True, 0)])
def test_only_the_prompt_and_only_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, prompt_s: float, alone: bool, expected: int
) -> None:
    monkeypatch.setattr(awake, "PROMPT_S", prompt_s)
    made = Counted()
    answers = Answers(made)
    answers.asked(alone=alone)
    assert made.expected == 0  # nothing is known of the first
    answers.answered()
    answers.asked(alone=alone)
    assert made.expected == expected
