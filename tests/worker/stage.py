"""One environment's driver on a fake host, and guests that go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fakes import Api, FakeHost, FakeSandbox, Guest, function, invocation, obliging, until

from lambent.core.model import ExitStatus, InitType, Invocation, OutcomeKind
from lambent.core.states import Phase
from lambent.worker.driver import Driver


class Stage:
    """A driver on a fake host."""

    def __init__(self, host: FakeHost, init_type: InitType = "on-demand", timeout_s: float = 3.0) -> None:
        self.host = host
        self.driver = Driver(7, "env-7", function(), host.parts(), init_type)
        self.driver.machine.timeout_s = timeout_s

    @property
    def sandbox(self) -> FakeSandbox:
        return self.host.sandboxes[0]

    @property
    def phase(self) -> Phase:
        return self.driver.machine.phase

    def start(self, first: Invocation | None) -> None:
        self.driver.start(first)

    async def reply(self, number: int = 1) -> tuple[OutcomeKind, str, bytes]:
        """Kind, error type and payload of the n-th reply, once it is there."""
        await until(lambda: len(self.host.replies) >= number)
        _, outcome, payload, _ = self.host.replies[number - 1]
        return outcome.kind, outcome.error_type, payload

    async def serve(self, *request_ids: str) -> None:
        """Have these invocations served, one after the other, until the environment is idle again."""
        for request_id in request_ids:
            before = self.host.happened.count("idle")
            if self.phase is Phase.INIT:
                self.start(invocation(request_id))
            else:
                self.driver.assign(invocation(request_id))
            await until(lambda: self.host.happened.count("idle") > before)  # noqa: B023

    async def ended(self) -> None:
        await until(lambda: "ended" in self.host.happened)


@asynccontextmanager
async def stage(*guests: Guest, init_type: InitType = "on-demand", timeout_s: float = 3.0,
                **options: Any) -> AsyncIterator[Stage]:
    """Afterwards the environment has ended, and left no task, connection or charge behind."""
    before = asyncio.all_tasks()
    host = FakeHost(list(guests) or [obliging], **options)
    made = Stage(host, init_type, timeout_s)
    try:
        yield made
    finally:
        for gate in [host.create_gate, *host.sandbox_gates.values()]:
            if gate is not None:
                gate.set()
        made.driver.retire("test over", force=True)
        await made.ended()
    await until(lambda: not made.driver._door.connections and asyncio.all_tasks() <= before)
    assert host.happened.count("gone") == host.happened.count("ended") == 1
    assert made.driver._door.budget.held == 0
    assert all(sandbox.dead for sandbox in host.sandboxes)


async def silent(api: Api) -> ExitStatus:
    """Takes one invocation and never answers."""
    await api.next()
    await asyncio.Event().wait()
    raise AssertionError


async def crashing(api: Api) -> ExitStatus:
    await api.next()
    api.print("about to crash")
    return ExitStatus(code=3)


async def stillborn(api: Api) -> ExitStatus:
    api.print("no handler")
    return ExitStatus(code=1)
