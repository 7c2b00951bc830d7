"""From `$LATEST` to a numbered version: what it takes over, and when there is nothing to publish.

Pure functions on records; committing and activating is the operations'. Facts: fact sheet 9.3 and trap 19.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace

import msgspec

from lambent.control.configuration import STATE, begun
from lambent.errors import conflict
from lambent.store.functions import Function, Version

#: Members of a configuration that differ without anybody having changed code or configuration.
_STAMPS = frozenset({"RevisionId", "LastModified"})


def published(function: Function, wall_s: float, description: str | None = None) -> tuple[Function, Version]:
    """The function with its `$LATEST` published, and the new version.

    It is Active at once where `$LATEST` serves what it shows (recorded); Pending while that is being made ready,
    and with SnapStart, which makes a snapshot first.

    When neither code nor configuration changed since the last version, it is that one, and the function is the same
    object. A last version that was deleted is made again, under a new number.
    """
    latest = function.latest
    origin = fingerprint(latest)
    last = function.versions.get(str(function.next_version - 1))
    if last is not None and last.origin == origin:
        return function, last
    configuration = {name: value for name, value in latest.configuration.items() if name not in STATE}
    number, generation, serving = str(function.next_version), uuid.uuid4().hex, None
    if _is_ready(latest) and latest.serving is not None:
        serving = replace(latest.serving, version=number, generation=generation)
        configuration |= {"State": "Active", "LastUpdateStatus": "Successful"}
    else:
        configuration |= {"State": "Pending", "StateReason": "The function is being created.",
                          "StateReasonCode": "Creating"}  # fmt: skip
    if description is not None:
        configuration["Description"] = description
    version = replace(latest, version=number, configuration=begun(configuration, wall_s), generation=generation,
                      serving=serving, origin=origin)  # fmt: skip
    return replace(function.with_version(version), next_version=function.next_version + 1), version


def _is_ready(latest: Version) -> bool:
    """Whether what invocations of it get is what it shows, and nothing is missing for a version of it."""
    shown = latest.configuration
    return bool(shown["State"] == "Active" and shown.get("LastUpdateStatus") == "Successful"
                and shown["SnapStart"]["ApplyOn"] == "None")  # fmt: skip


def fingerprint(version: Version) -> str:
    """The same for the same code, layers and configuration."""
    said = {name: value for name, value in version.configuration.items() if name not in STATE | _STAMPS}
    document = msgspec.json.encode([version.code_sha256, version.layers, said], order="deterministic")
    return hashlib.sha256(document).hexdigest()


def check_settled(function: Function) -> None:
    """Raise the conflict (409) of a function that is being created or updated now."""
    configuration = function.latest.configuration
    if configuration["State"] == "Pending":
        raise conflict("The operation cannot be performed at this time. "
                       "The function is currently in the following state: Pending")  # fmt: skip
    if configuration.get("LastUpdateStatus") == "InProgress":
        raise conflict("The operation cannot be performed at this time. "
                       f"An update is in progress for resource: {function.arn}")  # fmt: skip
