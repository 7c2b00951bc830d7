"""UpdateFunctionCode and UpdateFunctionConfiguration: the new state is shown at once and served when it is ready.

While one update runs, a second one is refused, and invocations get what was there before. A function that Failed may
be updated: that is how its owner mends it (AWS's page "Lambda function states").
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from lambent.control.code_source import stored
from lambent.control.code_storage import check_room
from lambent.control.configuration import merged, shown, updating
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.layering import check_size, find_layers
from lambent.control.operations.versions import check_revision
from lambent.control.publication import check_settled, published
from lambent.control.rules import check_code, check_settings
from lambent.errors import invalid_parameter, not_found
from lambent.names import LATEST, FunctionName
from lambent.store.functions import Function, Version
from lambent.store.writer import Change


@operation("UpdateFunctionCode")
async def update_function_code(context: Context, params: Params) -> Answer:
    named = _named(context, params, "UpdateFunctionCode")
    check_code(params, params)
    function = _changeable(context, named, params)
    if params.get("DryRun"):
        return shown(function, function.latest, named.qualifier)
    async with stored(context, params) as (sha256, code_size):
        await check_size(context, sha256, function.latest.layers)

        def change(before: Version) -> Version:
            configuration = {**before.configuration, "CodeSize": code_size}
            if "Architectures" in params:
                configuration["Architectures"] = params["Architectures"]
            return replace(before, configuration=configuration, code_sha256=sha256)

        return await _update(context, named, params, change)


@operation("UpdateFunctionConfiguration")
async def update_function_configuration(context: Context, params: Params) -> Answer:
    named = _named(context, params, "UpdateFunctionConfiguration")
    check_settings(params)
    layering = find_layers(context, params.get("Layers", ()))
    with context.store.blobs.references.held(layering.digests):
        if layering.digests:
            await check_size(context, _changeable(context, named, params).latest.code_sha256, layering.digests)

        def change(before: Version) -> Version:
            configuration = merged(before.configuration, params)
            if "Layers" not in params:
                return replace(before, configuration=configuration)
            return replace(before, configuration=layering.applied(configuration), layers=layering.digests)

        return await _update(context, named, params, change)


def _named(context: Context, params: Params, action: str) -> FunctionName:
    named = context.function(params["FunctionName"], action=action)
    if named.qualifier not in (None, LATEST):
        raise invalid_parameter(f"Only {LATEST} can be changed; a version keeps its code and configuration.")
    return named


async def _update(context: Context, named: FunctionName, params: Params,
                  change: Callable[[Version], Version]) -> Answer:
    def decide() -> Change[tuple[Function, Version, bool]]:
        before = _changeable(context, named, params)
        changed = change(before.latest)
        configuration = updating(dict(changed.configuration), context.clock.wall())
        version = replace(changed, configuration=configuration, generation=uuid.uuid4().hex)
        function = before.with_version(version)
        if params.get("Publish"):
            function, version = published(function, context.clock.wall())
        check_room(context, function.code_bytes - before.code_bytes)
        saved = context.store.functions.save(function)
        return Change(saved.statements, lambda: (saved.apply(), version, version.version not in before.versions))

    function, version, is_new = await context.store.change(decide)
    context.activation.begin(function, LATEST)
    if version.version == LATEST:
        return shown(function, version, named.qualifier)
    if is_new:
        context.activation.begin(function, version.version)
    return shown(function, version, version.version)


def _changeable(context: Context, named: FunctionName, params: Params) -> Function:
    """The function, if it may be changed now; ApiError otherwise."""
    function = context.store.functions.get(*named.key)
    if function is None:
        raise not_found(f"Function not found: {named.qualified_arn}")
    check_settled(function)
    check_revision(function, params)
    return function
