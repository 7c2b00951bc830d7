"""From Pending to Active, and from InProgress to Successful: the background half of creating and updating functions.

The answer to the caller says Pending; then this unpacks the code, has the runtime prepared, and writes the new state.
Until it has, invocations get the version before (or 409 if there is none). A function that the server finds Pending or
InProgress at its start is activated again, so a kill at any moment only delays it. Each end gives the function a new
RevisionId, as AWS does (trap 16).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from lambent.control.configuration import runnable
from lambent.core.model import FunctionVersion
from lambent.errors import ApiError
from lambent.names import LATEST
from lambent.store.directory import disk_trouble
from lambent.store.functions import Function, Key, Version
from lambent.store.store import Store
from lambent.store.writer import Change
from lambent.worker.base import PreparationFailed
from lambent.worker.packages import PackageStore


class Preparer(Protocol):
    """Whoever makes ready what environments of a function need."""

    async def prepare(self, function: FunctionVersion) -> FunctionVersion:
        """Make ready; the result may differ in what was found out, such as `actual_runtime`. PreparationFailed when
        it can never work here as things are."""
        ...


class Activation:
    """Owns one task per function that is being activated."""

    def __init__(self, store: Store, packages: PackageStore, preparer: Preparer,
                 report: Callable[[str, BaseException], None]) -> None:
        self._store = store
        self._packages = packages
        self._preparer = preparer
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, function: Function, number: str) -> None:
        """Activate one version of a function, in a task of its own."""
        task = asyncio.create_task(self._activate(function, function.versions[number]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def resume(self) -> None:
        """Begin again what an earlier server did not finish."""
        for function in self._store.functions:
            for number, version in function.versions.items():
                state = version.configuration
                if state["State"] == "Pending" or state.get("LastUpdateStatus") == "InProgress":
                    self.begin(function, number)

    async def stop(self) -> None:
        """Give up what is under way; the next start takes it up again."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _activate(self, function: Function, version: Version) -> None:
        # Held, since a change of the function may let go of what is being unpacked.
        with self._store.blobs.references.held(version.references):
            await self._activate_held(function, version)

    async def _activate_held(self, function: Function, version: Version) -> None:
        name = f"activation of {function.arn}:{version.version}"
        try:
            try:
                wanted = runnable(function.key, version)
                await self._packages.unpack(version.code_sha256)
                ended = _succeeded(await self._preparer.prepare(wanted))
            except PreparationFailed as failure:
                ended = _failed(failure.code, failure.reason)
            except ApiError as error:
                ended = _failed("InvalidZipFileException", error.message)
            except Exception as error:
                self._report(name, error)
                trouble = disk_trouble(error)
                ended = _failed("InternalError", "An internal error occurred; the server's log has it."
                                if trouble is None else f"The server's disk refuses: {trouble}.")  # fmt: skip
            await self._store.change(lambda: self._settle(function.key, version, ended))
        except Exception as error:
            self._report(name, error)

    def _settle(self, key: Key, version: Version, ended: Callable[[Version], Version]) -> Change[Any]:
        current = self._store.functions.get(*key)
        present = current.versions.get(version.version) if current is not None else None
        if current is None or present is None or present.generation != version.generation:
            return Change((), lambda: None)  # deleted meanwhile, and perhaps made anew
        settled = replace(current, versions={**current.versions, present.version: ended(present)})
        return self._store.functions.save(settled)


def _succeeded(serving: FunctionVersion) -> Callable[[Version], Version]:
    def settle(version: Version) -> Version:
        configuration = {name: value for name, value in version.configuration.items() if name not in _REASONS}
        configuration |= {"State": "Active", "LastUpdateStatus": "Successful"}
        if not _is_restored(version):  # then nothing of it has changed
            configuration["RevisionId"] = str(uuid.uuid4())
        snap_start = configuration["SnapStart"]
        if version.version != LATEST and snap_start["ApplyOn"] == "PublishedVersions":
            configuration["SnapStart"] = {**snap_start, "OptimizationStatus": "On"}  # recorded; fact sheet 11
        return replace(version, configuration=configuration, serving=serving)

    return settle


def _failed(code: str, reason: str) -> Callable[[Version], Version]:
    def settle(version: Version) -> Version:
        if _is_restored(version):
            inactive = {"State": "Inactive", "StateReason": reason, "StateReasonCode": code}
            return replace(version, configuration={**version.configuration, **inactive})
        configuration = {**version.configuration, "LastUpdateStatus": "Failed", "LastUpdateStatusReason": reason,
                         "LastUpdateStatusReasonCode": code, "RevisionId": str(uuid.uuid4())}  # fmt: skip
        if configuration["State"] not in ("Active", "Inactive"):
            configuration |= {"State": "Failed", "StateReason": reason, "StateReasonCode": code}
        return replace(version, configuration=configuration)

    return settle


def _is_restored(version: Version) -> bool:
    """Whether it comes back from Inactive (`control/inactivity.py`), where it returns to if that fails."""
    return version.configuration.get("StateReasonCode") == "Restoring"


_REASONS = frozenset({"StateReason", "StateReasonCode", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"})
