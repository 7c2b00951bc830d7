"""What is left for later: in its order, before whatever follows, and soon in any case."""

from __future__ import annotations

import asyncio

import pytest

from lambent.worker.spare import SpareTime


async def test_what_is_left_is_done_in_its_order_when_there_is_time() -> None:
    spare, done = SpareTime(), list[str]()
    spare.leave(lambda: done.append("first"))
    spare.leave(lambda: done.append("second"))
    assert not done
    spare.use()
    assert done == ["first", "second"]
    spare.use()
    assert done == ["first", "second"]


async def test_what_nothing_makes_time_for_is_done_soon() -> None:
    spare, done = SpareTime(), asyncio.Event()
    for _ in range(2):  # the timer comes again
        spare.leave(done.set)
        async with asyncio.timeout(30):
            await done.wait()
        done.clear()


async def test_what_fails_keeps_nothing_else_from_being_done(capsys: pytest.CaptureFixture[str]) -> None:
    spare, done = SpareTime(), list[str]()

    def fails() -> None:
        raise ValueError("broken")

    spare.leave(fails)
    spare.leave(lambda: done.append("second"))
    spare.use()
    assert done == ["second"]
    assert "ValueError: broken" in capsys.readouterr().err
