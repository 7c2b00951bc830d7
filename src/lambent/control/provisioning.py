"""Which versions are to have how many provisioned environments, from what is stored to what the scheduler is told.

A configuration hangs on a version or on an alias; environments belong to versions. So each change of a configuration,
of an alias, or of what a version serves leads here, and the difference to what was told before is told. Facts: fact
sheet, section 8.
"""

from __future__ import annotations

from typing import Any

from lambent.control.capacity import Capacity
from lambent.core.model import FunctionVersion
from lambent.store.documents import Shelf
from lambent.store.functions import Function, Key
from lambent.store.store import Store


class Provisioning:
    """Keeps the scheduler's targets equal to the stored configurations."""

    def __init__(self, store: Store, capacity: Capacity) -> None:
        self._store = store
        self._capacity = capacity
        #: what the scheduler was told: by function, what each version serves and its target
        self._told: dict[Key, dict[str, tuple[FunctionVersion, int]]] = {}

    def configured(self, function: Function) -> list[tuple[str, dict[str, Any]]]:
        """The configurations of a function, by qualifier."""
        return [(name, dict(document)) for name, document in self._store.documents.all(shelf(function.key))]

    def total(self, function: Function, without: str = "") -> int:
        """All that is requested for a function, but for one qualifier."""
        return sum(int(document["Requested"]) for name, document in self.configured(function) if name != without)

    def refresh(self, key: Key) -> None:
        """Tell the scheduler what has changed about one function."""
        before = self._told.get(key, {})
        now = self._wanted(key)
        for version, (serving, _) in before.items():
            if version not in now or now[version][0].generation != serving.generation:
                self._capacity.provision(serving, 0)
        for version, (serving, wanted) in now.items():
            if before.get(version) != (serving, wanted):
                self._capacity.provision(serving, wanted)
        if now:
            self._told[key] = now
        else:
            self._told.pop(key, None)

    def retry(self, function: Function, qualifier: str) -> None:
        """Somebody asks anew: an earlier failure does not count any more."""
        version = function.find(qualifier)
        if version is not None:
            self._told.get(function.key, {}).pop(version.version, None)
        self.refresh(function.key)

    def restore(self) -> None:
        """At the server's start: everything that is stored."""
        for function in self._store.functions:
            self.refresh(function.key)

    def _wanted(self, key: Key) -> dict[str, tuple[FunctionVersion, int]]:
        function = self._store.functions.get(*key)
        wanted: dict[str, tuple[FunctionVersion, int]] = {}
        for qualifier, document in self.configured(function) if function is not None else ():
            version = function.find(qualifier) if function is not None else None
            if version is not None and version.serving is not None:
                others = wanted.get(version.version, (version.serving, 0))[1]
                wanted[version.version] = (version.serving, others + int(document["Requested"]))
        return wanted

    def status(self, function: Function, qualifier: str, document: dict[str, Any]) -> dict[str, Any]:
        """A configuration as the API shows it."""
        requested = int(document["Requested"])
        version = function.find(qualifier)
        serving = version.serving if version is not None else None
        _, allocated, available, failure = self._capacity.provision_status(serving) if serving else (0, 0, 0, "")
        shown: dict[str, Any] = {
            "RequestedProvisionedConcurrentExecutions": requested,
            "AvailableProvisionedConcurrentExecutions": min(available, requested),
            "AllocatedProvisionedConcurrentExecutions": min(allocated, requested),
            "Status": "FAILED" if failure else "READY" if available >= requested else "IN_PROGRESS",
        }
        if failure:
            shown["StatusReason"] = failure
        return {**shown, "LastModified": document["LastModified"]}


def shelf(key: Key) -> Shelf:
    """Where the configurations of a function lie."""
    return Shelf(*key, "provisioned-concurrency")
