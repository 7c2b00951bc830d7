"""Aliases: CreateAlias, GetAlias, ListAliases, UpdateAlias, DeleteAlias.

An alias names a version, and perhaps gives a share of its invocations to a second one; the frontend draws lots. What
hangs on an alias goes with it, except its URL, which then answers 403 (fact sheet 7.3). Facts: fact sheet 9.3, 20.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.pages import page
from lambent.control.targets import Target, check_revision, find_function
from lambent.errors import conflict, invalid_parameter, not_found
from lambent.names import LATEST
from lambent.store.functions import Alias, Function
from lambent.store.writer import Change, together


@operation("CreateAlias")
async def create_alias(context: Context, params: Params) -> Answer:
    named = context.function(params["FunctionName"], action="CreateAlias")
    alias = _described(Alias(params["Name"], params["FunctionVersion"], str(uuid.uuid4())), params)

    def decide() -> Change[Function]:
        function = context.store.functions.get(*named.key)
        if function is None:
            raise not_found(f"Function not found: {named.arn}:{alias.version}")
        _check(function, alias)
        if alias.name in function.aliases:
            raise conflict(f"Alias already exists: {function.arn}:{alias.name}")
        return _saved(context, function, alias)

    return _shown(await context.store.change(decide), alias)


@operation("GetAlias")
def get_alias(context: Context, params: Params) -> Answer:
    function = find_function(context, context.function(params["FunctionName"], action="GetAlias"))
    alias = function.aliases.get(params["Name"])
    if alias is None:
        raise not_found(f"Cannot find alias arn: {function.arn}:{params['Name']}")
    return _shown(function, alias)


@operation("ListAliases")
def list_aliases(context: Context, params: Params) -> Answer:
    function = find_function(context, context.function(params["FunctionName"], action="ListAliases"))
    version = params.get("FunctionVersion")
    found = [function.aliases[name] for name in sorted(function.aliases)]
    wanted = [alias for alias in found if version is None or alias.version == version]
    aliases, more = page(wanted, lambda alias: alias.name, params)
    return {"Aliases": [_shown(function, alias) for alias in aliases], **more}


@operation("UpdateAlias")
async def update_alias(context: Context, params: Params) -> Answer:
    named = context.function(params["FunctionName"], action="UpdateAlias")
    name = params["Name"]

    def decide() -> Change[Function]:
        function = find_function(context, named)
        before = function.aliases.get(name)
        if before is None:
            raise not_found(f"Alias not found: {function.arn}:{name}")
        check_revision(Target(function, name, f"{function.arn}:{name}"), params.get("RevisionId") or None)
        alias = replace(before, version=params.get("FunctionVersion", before.version), revision_id=str(uuid.uuid4()))
        alias = _described(alias, params)
        _check(function, alias)
        return _saved(context, function, alias)

    function = await context.store.change(decide)
    context.provisioning.refresh(function.key)
    return _shown(function, function.aliases[name])


@operation("DeleteAlias")
async def delete_alias(context: Context, params: Params) -> Answer:
    """An alias that is not there is deleted already."""
    named = context.function(params["FunctionName"], action="DeleteAlias")
    name = params["Name"]

    def decide() -> Change[Any]:
        function = find_function(context, named)
        if name not in function.aliases:
            return Change((), lambda: None)
        aliases = {other: alias for other, alias in function.aliases.items() if other != name}
        saved = context.store.functions.save(replace(function, aliases=aliases))
        return together(saved, context.store.documents.remove_of(function.key, name))

    await context.store.change(decide)
    context.provisioning.refresh(named.key)
    return None


def _saved(context: Context, function: Function, alias: Alias) -> Change[Function]:
    return context.store.functions.save(replace(function, aliases={**function.aliases, alias.name: alias}))


def _described(alias: Alias, params: Params) -> Alias:
    """The alias with what a request says beside its version."""
    if "Description" in params:
        alias = replace(alias, description=params["Description"])
    if "RoutingConfig" in params:
        alias = replace(alias, weights=dict(params["RoutingConfig"].get("AdditionalVersionWeights") or {}))
    return alias


def _check(function: Function, alias: Alias) -> None:
    """What the versions of an alias must obey. Raises ApiError."""
    if alias.version not in function.versions:
        raise not_found(f"Function not found: {function.arn}:{alias.version}")
    if len(alias.weights) > 1:
        raise invalid_parameter("Number of items in AdditionalVersionWeights cannot be greater than 1")
    for other in alias.weights:
        if other == alias.version:
            raise invalid_parameter(f"Invalid function version {other}. Function version {other} is already included "
                                    "in routing configuration.")  # fmt: skip
        if alias.version == LATEST:
            raise invalid_parameter("$LATEST is not supported for an alias pointing to more than 1 version",
                                    typed=False)  # fmt: skip
        if other not in function.versions:
            raise not_found(f"Function not found: {function.arn}:{other}")
        _check_alike(function, alias.version, other)


def _check_alike(function: Function, one: str, other: str) -> None:
    """Versions that share an alias have one role and one dead letter queue (developer guide; the words are ours)."""
    first, second = (function.versions[number].configuration for number in (one, other))
    for member, what in (("Role", "execution role"), ("DeadLetterConfig", "dead letter queue")):
        if first.get(member) != second.get(member):
            raise invalid_parameter(f"Function versions {one} and {other} cannot share an alias: they differ in their "
                                    f"{what}.")  # fmt: skip


def _shown(function: Function, alias: Alias) -> dict[str, Any]:
    """AliasConfiguration as the API gives it."""
    weights: Mapping[str, float] = alias.weights
    routing = {"RoutingConfig": {"AdditionalVersionWeights": weights}} if weights else {}
    return {"AliasArn": f"{function.arn}:{alias.name}", "Name": alias.name, "FunctionVersion": alias.version,
            "Description": alias.description, **routing, "RevisionId": alias.revision_id}  # fmt: skip
