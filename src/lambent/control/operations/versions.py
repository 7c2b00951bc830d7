"""Published versions: PublishVersion, ListVersionsByFunction, and the deletion of one.

A version keeps code and configuration of `$LATEST` as they were; its number is never used again. Facts: fact sheet 9.3.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.control import targets
from lambent.control.code_storage import check_room
from lambent.control.configuration import listed, shown
from lambent.control.context import Answer, Context, Params, not_served, operation
from lambent.control.pages import page
from lambent.control.publication import check_settled, published
from lambent.control.targets import Target, find_function
from lambent.errors import conflict, invalid_parameter
from lambent.names import LATEST, FunctionName
from lambent.store.functions import Function, Version
from lambent.store.writer import Change, together


@operation("PublishVersion")
async def publish_version(context: Context, params: Params) -> Answer:
    named = context.function(params["FunctionName"], action="PublishVersion")
    if params.get("PublishTo"):
        raise not_served("The setting PublishTo")

    def decide() -> Change[tuple[Function, Version, bool]]:
        function = find_function(context, named)
        check_settled(function)
        if function.latest.configuration["State"] != "Active":
            raise conflict("The operation cannot be performed at this time. The function is currently in the following "
                           f"state: {function.latest.configuration['State']}")  # fmt: skip
        check_revision(function, params)
        _check_code(function, params.get("CodeSha256"))
        changed, version = published(function, context.clock.wall(), params.get("Description"))
        if changed is function:
            return Change((), lambda: (function, version, False))
        check_room(context, changed.code_bytes - function.code_bytes)
        # Publishing gives `$LATEST` a new RevisionId (recorded).
        saved = context.store.functions.save(Target(changed, LATEST, changed.arn).revised())
        return Change(saved.statements, lambda: (saved.apply(), version, True))

    function, version, is_new = await context.store.change(decide)
    if is_new and version.serving is None:
        context.activation.begin(function, version.version)
    return shown(function, version, version.version)


def check_revision(function: Function, params: Mapping[str, Any]) -> None:
    """The precondition `RevisionId` on `$LATEST`; an empty one is none. ApiError (412)."""
    targets.check_revision(Target(function, LATEST, function.arn), params.get("RevisionId") or None)


def _check_code(function: Function, wanted: str | None) -> None:
    current = base64.b64encode(bytes.fromhex(function.latest.code_sha256)).decode()
    if wanted and wanted != current:
        raise invalid_parameter(f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({current}). "
                                "Please try again with the CodeSHA256 in $LATEST.")  # fmt: skip


@operation("ListVersionsByFunction")
def list_versions_by_function(context: Context, params: Params) -> Answer:
    function = find_function(context, context.function(params["FunctionName"], action="ListVersionsByFunction"))
    versions, more = page(in_order(function), lambda version: order(version.version), params)
    return {"Versions": [listed(function, version, version.version) for version in versions], **more}


def in_order(function: Function) -> list[Version]:
    """`$LATEST`, then the others by number."""
    return sorted(function.versions.values(), key=lambda version: order(version.version))


def order(number: str) -> str:
    """A text that sorts as versions do: `$LATEST` before all numbers, 2 before 10."""
    return "$" if number == LATEST else number.zfill(20)


async def delete_version(context: Context, named: FunctionName, number: str) -> None:
    """Delete one version that no alias leads to. One that is not there is deleted already (recorded). ApiError."""
    if not number.isdecimal():
        raise invalid_parameter("Deletion of aliases is not currently supported.")

    def decide() -> Change[Any]:
        function = find_function(context, named)
        if number not in function.versions:
            return Change((), lambda: None)
        aliases = sorted(alias.name for alias in function.aliases.values() if number in alias.targets)
        if aliases:
            raise conflict("Unable to delete version because the following aliases reference it: "
                           f"[{', '.join(aliases)}]")  # fmt: skip
        versions = {other: version for other, version in function.versions.items() if other != number}
        saved = context.store.functions.save(replace(function, versions=versions))
        return together(saved, context.store.documents.remove_of(function.key, number))

    await context.store.change(decide)
