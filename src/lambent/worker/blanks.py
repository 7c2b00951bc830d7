"""The live body of `core.blanks`: makes sandboxes, most with a waiting runtime in them, and hands them out.

A blank that cannot be made into somebody's environment is ended, and the environment made from nothing, as if there had
been no blank. Blanks need a backend that can furnish a sandbox later; elsewhere nothing is ever parked.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from lambent import limits
from lambent.clock import Clock
from lambent.core import blanks as machine
from lambent.core.model import ExitStatus, FunctionVersion
from lambent.runtimes.prepared import BlankKind, PreparedRuntime, blank_kind
from lambent.sandbox.base import Places, ProcessSpec, Sandbox, SandboxBackend, SandboxError, SandboxSpec

#: Versions whose kinds are told in one go: a millisecond or two of the event loop.
AT_ONCE = 100


class _Blank:
    """One sandbox from before it is made until it is handed out or ended."""

    __slots__ = ("ended", "number", "on_death", "owner", "sandbox")

    def __init__(self, number: int, on_death: Callable[[], None]) -> None:
        self.number = number
        self.sandbox: Sandbox | None = None
        self.ended = False
        self.on_death = on_death  #: told when sandbox or runtime ends, as long as it is a blank
        self.owner: Callable[[str], None] | None = None  #: told when the sandbox dies, from then on

    def sandbox_died(self, reason: str) -> None:
        if self.owner is not None:
            self.owner(reason)
        else:
            self.on_death()

    def runtime_ended(self, _: ExitStatus) -> None:
        if self.owner is None:  # else `run` finds it dead, and starts another
            self.on_death()


class Blanks:
    """Parked blanks of one worker. `run` tells those of this start of the server from earlier ones."""

    def __init__(self, *, backend: SandboxBackend, clock: Clock, run: str, most: int,
                 memory_budget_bytes: int | None) -> None:
        self.machine = machine.Blanks(most, memory_budget_bytes)
        self._backend = backend
        self._clock = clock
        self._run = run
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._blanks: dict[int, _Blank] = {}
        self._handed: _Blank | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def can_park(self) -> bool:
        """Whether anything is ever parked, with these settings on this host."""
        spec = SandboxSpec("", None, limits.MEMORY_MIB_MIN, limits.EPHEMERAL_MIB_DEFAULT)
        return self._most > 0 and self._backend.can_furnish(spec)

    def expect(self, runtime: PreparedRuntime, function: FunctionVersion, network: str) -> None:
        """This function may be called soon."""
        kind = self._kind(runtime, function, network)
        if kind is not None:
            self._feed(machine.KindExpected(self._clock.monotonic(), kind))

    async def find(self, runtime: PreparedRuntime, functions: Sequence[FunctionVersion], network: str) -> None:
        """These versions, all of this runtime, were there when the server started."""
        kinds: Counter[BlankKind] = Counter()
        for number, function in enumerate(functions, 1):
            kind = self._kind(runtime, function, network)
            if kind is not None:
                kinds[kind] += 1
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._feed(machine.KindsFound(self._clock.monotonic(), kinds))

    async def take(self, runtime: PreparedRuntime, function: FunctionVersion, spec: SandboxSpec,
                   on_death: Callable[[str], None]) -> Sandbox | None:
        """A sandbox of `spec`, with this function's runtime waiting in it where one can, if one is parked."""
        kind = self._kind(runtime, function, spec.network)
        if kind is None or not self._backend.can_furnish(spec):
            return None
        self._handed = None
        self._feed(machine.EnvironmentStarting(self._clock.monotonic(), kind))
        blank, self._handed = self._handed, None
        if blank is None or blank.sandbox is None:
            return None
        died: list[bool] = []
        blank.on_death = lambda: died.append(True)
        try:
            await self._backend.furnish(blank.sandbox, spec)
            if died:
                raise SandboxError(f"sandbox {blank.sandbox.id} has ended")
        except SandboxError as error:
            print(f"lambent: a blank cannot be used: {error}", file=sys.stderr, flush=True)
            blank.on_death = _nothing
            await blank.sandbox.destroy("it could not be furnished")
            return None
        blank.owner = on_death
        return blank.sandbox

    def measured(self, used_bytes: int) -> None:
        """What all environments and blanks together take now."""
        self._feed(machine.MemoryMeasured(self._clock.monotonic(), used_bytes))

    async def stop(self) -> None:
        """End every blank; no more are made."""
        self._feed(machine.StopRequested(self._clock.monotonic()))
        if self._timer is not None:
            self._timer.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _kind(self, runtime: PreparedRuntime, function: FunctionVersion, network: str) -> BlankKind | None:
        if self._most == 0 or not self._backend.can_furnish(_spec("", runtime, network)):
            return None
        return blank_kind(runtime, Places(), function, network)

    # Events in, effects out

    def _feed(self, event: machine.Event) -> None:
        for effect in self.machine.handle(event):
            if isinstance(effect, machine.Hand):
                self._handed = self._blanks.pop(effect.number)
            elif isinstance(effect, machine.Make):
                assert isinstance(effect.kind, BlankKind)
                blank = self._blanks[effect.number] = _Blank(effect.number, _nothing)
                self._spawn(self._make(blank, effect.kind))
            elif isinstance(effect, machine.End):
                self._end(self._blanks.pop(effect.number))
            else:
                self._set_timer(effect.at)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # The loop counts in milliseconds, and would come back a little early again and again.
        self._timer = self._loop.call_later(max(0.0, at - self._clock.monotonic()) + 0.001, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._feed(machine.TimePassed(self._clock.monotonic()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, blank: _Blank, kind: BlankKind) -> None:
        """From now on it may be lost or ended at any moment; whoever notices first takes its sandbox away."""
        if blank.ended:
            return
        blank.on_death = lambda: self._lost(blank)
        try:
            spec = _spec(f"{self._run}-blank-{blank.number}", kind.runtime, kind.network)
            sandbox = await self._backend.create(spec, blank.sandbox_died)
            if blank.ended:
                await sandbox.destroy("not needed")
                return
            blank.sandbox = sandbox
            if kind.argv:
                environment = kind.environment(sandbox.places) | {"AWS_LAMBDA_RUNTIME_API": sandbox.api_address}
                await sandbox.park(ProcessSpec(kind.argv, environment, "/"), blank.runtime_ended)
        except Exception as error:
            if not isinstance(error, (SandboxError, OSError)):
                traceback.print_exception(error)
            self._lost(blank)
            return
        if not blank.ended:
            self._feed(machine.BlankParked(self._clock.monotonic(), blank.number))

    def _lost(self, blank: _Blank) -> None:
        if self._blanks.pop(blank.number, None) is None:
            return
        self._end(blank)
        self._feed(machine.BlankLost(self._clock.monotonic(), blank.number))

    def _end(self, blank: _Blank) -> None:
        blank.ended = True
        blank.on_death = _nothing
        if blank.sandbox is not None:
            self._spawn(blank.sandbox.destroy("not needed"))


def _spec(sandbox_id: str, runtime: PreparedRuntime, network: str) -> SandboxSpec:
    return SandboxSpec(id=sandbox_id, task=None, memory_mib=limits.MEMORY_MIB_MIN, tmp_mib=limits.EPHEMERAL_MIB_DEFAULT,
                       runtime=runtime.runtime_dir, lang=runtime.lang, network=network)  # fmt: skip


def _nothing() -> None:
    pass
