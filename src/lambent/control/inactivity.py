"""The state Inactive: into it after a long time without use, and out of it again when somebody calls.

Drives `core/idleness.py`, which decides. The versions that it is about are those in a VPC: AWS takes their network
interfaces back, and makes new ones when the next invocation fails. Here nothing is taken; what users and their tools
see is the same. A server knows of no use before its start, so it counts from there at the earliest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from lambent.clock import Clock
from lambent.control.activation import Activation
from lambent.control.capacity import Capacity
from lambent.core import idleness
from lambent.core.idleness import Idleness, VersionKey
from lambent.core.model import FunctionVersion
from lambent.names import function_arn
from lambent.store.functions import Function, Key, Version
from lambent.store.store import Store
from lambent.store.writer import Change

#: AWS's words for it, as recorded; of the way back nothing was, so those are ours.
IDLE = {"State": "Inactive", "StateReason": "The function is currently idle.", "StateReasonCode": "Idle"}
RESTORING = {"State": "Pending", "StateReason": "The function is being restored.", "StateReasonCode": "Restoring"}


class Inactivity:
    """Makes idle versions Inactive after `after_s` seconds (0: never), and called ones Active again."""

    def __init__(self, store: Store, activation: Activation, capacity: Capacity, clock: Clock, after_s: float,
                 report: Callable[[str, BaseException], None]) -> None:
        self._store = store
        self._activation = activation
        self._capacity = capacity
        self._clock = clock
        self._report = report
        self._after_s = after_s
        self._machine = Idleness(after_s)
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waking: set[tuple[Key, str]] = set()
        self._stopped = False

    def start(self) -> None:
        """Look at what is stored, then listen."""
        self._store.functions.when_inactive_is_called(self._wake)
        if not self._after_s:
            return
        self._capacity.watch_environments(self._environment)
        self._store.functions.watch(self._look)
        self._clock.watch(lambda _: self._time_passed())
        for function in self._store.functions:
            for number in function.versions:
                self._look(function.arn, number, None)

    async def stop(self) -> None:
        """Give up what is under way; nothing was changed by it then."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What happens

    def _look(self, arn: str, number: str, _serving: FunctionVersion | None) -> None:
        """A version was made, changed or deleted."""
        _, version = self._find((arn, number))
        if version is not None and _has_resources(version):
            self._feed(idleness.Kept(self._clock.platform(), (arn, number)))
        else:
            self._feed(idleness.Dropped((arn, number)))

    def _environment(self, arn: str, number: str, environment: int, made: bool) -> None:
        version = (arn, number)
        if made:
            self._feed(idleness.EnvironmentMade(version, environment))
        else:
            self._feed(idleness.EnvironmentGone(self._clock.platform(), version, environment))

    def _time_passed(self) -> None:
        self._timer = None
        self._feed(idleness.TimePassed(self._clock.platform()))

    def _wake(self, key: Key, number: str) -> None:
        """Somebody has called an inactive version, and was refused."""
        if (key, number) not in self._waking and not self._stopped:
            self._waking.add((key, number))
            self._own(f"restoring of {function_arn(*key)}:{number}", self._restore(key, number))

    # What follows

    def _feed(self, event: idleness.Event) -> None:
        if self._stopped:
            return
        for effect in self._machine.handle(event):
            match effect:
                case idleness.Deactivate(version=version):
                    self._own(f"deactivation of {':'.join(version)}", self._deactivate(version))
                case idleness.SetTimer(at=at):
                    if self._timer is not None:
                        self._timer.cancel()
                    delay_s = max(0.0, at - self._clock.platform())
                    self._timer = asyncio.get_running_loop().call_later(delay_s, self._time_passed)

    async def _deactivate(self, key: VersionKey) -> None:
        def decide() -> Change[Any]:
            function, version = self._find(key)
            used = self._machine.is_used(key)  # since it was decided
            if function is None or version is None or not _has_resources(version) or used:
                return Change((), lambda: None)
            configuration = {**version.configuration, **IDLE}
            return self._store.functions.save(
                function.with_version(replace(version, configuration=configuration, serving=None)))

        await self._store.change(decide)
        self._look(*key, None)

    async def _restore(self, key: Key, number: str) -> None:
        def decide() -> Change[Function | None]:
            function = self._store.functions.get(*key)
            version = function.versions.get(number) if function is not None else None
            if function is None or version is None or not _may_be_restored(version):
                return Change((), lambda: None)
            restoring = replace(version, configuration={**version.configuration, **RESTORING})
            saved = self._store.functions.save(function.with_version(restoring))
            return Change(saved.statements, saved.apply)

        try:
            function = await self._store.change(decide)
        finally:
            self._waking.discard((key, number))
        if function is not None:
            self._activation.begin(function, number)

    def _find(self, key: VersionKey) -> tuple[Function | None, Version | None]:
        arn, number = key
        _, _, _, region, account, _, name = arn.split(":")
        function = self._store.functions.get(account, region, name)
        return function, function.versions.get(number) if function is not None else None

    def _own(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._report(what, error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _has_resources(version: Version) -> bool:
    """Whether AWS would keep network interfaces for it now."""
    shown = version.configuration
    return bool(shown["State"] == "Active" and shown.get("VpcConfig", {}).get("SubnetIds")
                and shown.get("LastUpdateStatus") != "InProgress")  # fmt: skip


def _may_be_restored(version: Version) -> bool:
    """Whether a call brings it back: an update that is under way does so, too."""
    shown = version.configuration
    return bool(shown["State"] == "Inactive" and shown.get("LastUpdateStatus") != "InProgress")
