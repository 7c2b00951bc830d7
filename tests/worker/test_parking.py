"""Blanks as they are made. Where one is not needed any more, whoever notices first takes the sandbox away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from fakes import FakeHost

from lambent.clock import Clock
from lambent.core.blanks import KindExpected
from lambent.runtimes.prepared import BlankKind
from lambent.sandbox.base import Places, ProcessSpec, SandboxError, SandboxSpec
from lambent.worker.blanks import Blanks

BUDGET_BYTES = 1000
KIND = BlankKind(FakeHost().get("python3.12"), ("/var/lang/bin/python3",), "host")


class Parking:
    """A sandbox that can be parked in, and its backend; `made` and `park` say when, `fails` whether at all."""

    id = "blank"
    api_address = "127.0.0.1:1"
    places = Places()

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.made, self.parks = asyncio.Event(), asyncio.Event()
        self.fails = False

    async def create(self, spec: SandboxSpec, on_death: Callable[[str], None]) -> Parking:
        self.happened.append("create")
        await self.made.wait()
        return self

    async def park(self, spec: ProcessSpec, on_exit: Callable[..., None]) -> None:
        self.happened.append("park")
        await self.parks.wait()
        if self.fails:
            raise SandboxError("it cannot")

    async def destroy(self, reason: str) -> None:
        self.happened.append("destroy")


def blanks_of(parking: Parking, kind: BlankKind = KIND) -> Blanks:
    blanks = Blanks(backend=cast(Any, parking), clock=Clock(), run="r", most=1, memory_budget_bytes=BUDGET_BYTES)
    blanks._feed(KindExpected(Clock().monotonic(), kind))
    return blanks


async def test_a_bare_one_is_parked_as_soon_as_its_sandbox_is_made() -> None:
    parking = Parking()
    parking.made.set()
    blanks = blanks_of(parking, replace(KIND, argv=()))
    await asyncio.sleep(0)
    assert parking.happened == ["create"] and blanks.machine.parked() == 1
    await blanks.stop()
    assert parking.happened == ["create", "destroy"]


async def test_one_that_is_not_needed_before_it_was_begun_is_never_made() -> None:
    parking = Parking()
    blanks = blanks_of(parking)
    blanks.measured(BUDGET_BYTES)
    await blanks.stop()
    assert parking.happened == []


async def test_one_that_is_not_needed_while_its_sandbox_is_made_is_taken_away() -> None:
    parking = Parking()
    blanks = blanks_of(parking)
    await asyncio.sleep(0)
    blanks.measured(BUDGET_BYTES)
    parking.made.set()
    await blanks.stop()
    assert parking.happened == ["create", "destroy"]


async def test_one_whose_runtime_does_not_start_while_it_is_not_needed_any_more_is_taken_away() -> None:
    parking = Parking()
    parking.made.set()
    parking.fails = True
    blanks = blanks_of(parking)
    await asyncio.sleep(0)
    assert parking.happened == ["create", "park"]
    blanks.measured(BUDGET_BYTES)
    parking.parks.set()
    await blanks.stop()
    assert parking.happened == ["create", "park", "destroy"]
