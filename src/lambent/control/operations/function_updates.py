"""UpdateFunctionCode and UpdateFunctionConfiguration: the new state is shown at once and served when it is ready.

While one update runs, a second one is refused, and invocations get what was there before. A function that Failed may
be updated: that is how its owner mends it (AWS's page "Lambda function states").
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from lambent.control.code_source import store_code
from lambent.control.configuration import Configuration, merged, shown, updating
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.rules import check_code, check_settings
from lambent.errors import ApiError, conflict, invalid_parameter, not_found
from lambent.names import LATEST, FunctionName
from lambent.store.functions import Function
from lambent.store.writer import Change


@operation("UpdateFunctionCode")
async def update_function_code(context: Context, params: Params) -> Answer:
    named = _named(context, params, "UpdateFunctionCode")
    check_code(params, params)
    function = _changeable(context, named, params)
    if params.get("DryRun"):
        return shown(function, function.latest, named.qualifier)
    content = params["ZipFile"]
    sha256 = await store_code(context, content)

    def change(before: Configuration) -> Configuration:
        before["CodeSize"] = len(content)
        if "Architectures" in params:
            before["Architectures"] = params["Architectures"]
        return before

    return await _update(context, named, params, change, sha256)


@operation("UpdateFunctionConfiguration")
async def update_function_configuration(context: Context, params: Params) -> Answer:
    named = _named(context, params, "UpdateFunctionConfiguration")
    check_settings(params)
    return await _update(context, named, params, lambda before: merged(before, params), None)


def _named(context: Context, params: Params, action: str) -> FunctionName:
    named = context.function(params["FunctionName"], action=action)
    if named.qualifier not in (None, LATEST):
        raise invalid_parameter(f"Only {LATEST} can be changed; a version keeps its code and configuration.")
    return named


async def _update(context: Context, named: FunctionName, params: Params,
                  change: Callable[[Configuration], Configuration], sha256: str | None) -> Answer:
    def decide() -> Change[Function]:
        function = _changeable(context, named, params)
        latest = function.latest
        configuration = updating(change(dict(latest.configuration)), context.clock.wall())
        updated = replace(latest, code_sha256=sha256 or latest.code_sha256, configuration=configuration,
                          generation=uuid.uuid4().hex)  # fmt: skip
        return context.store.functions.save(replace(function, versions={**function.versions, LATEST: updated}))

    function = await context.store.change(decide)
    context.activation.begin(function, LATEST)
    return shown(function, function.latest, named.qualifier)


def _changeable(context: Context, named: FunctionName, params: Params) -> Function:
    """The function, if it may be changed now; ApiError otherwise."""
    function = context.store.functions.get(*named.key)
    if function is None:
        raise not_found(f"Function not found: {named.qualified_arn}")
    configuration = function.latest.configuration
    if configuration["State"] == "Pending":
        raise conflict("The operation cannot be performed at this time. "
                       "The function is currently in the following state: Pending")  # fmt: skip
    if configuration.get("LastUpdateStatus") == "InProgress":
        raise conflict("The operation cannot be performed at this time. "
                       f"An update is in progress for resource: {function.arn}")  # fmt: skip
    if params.get("RevisionId", configuration["RevisionId"]) != configuration["RevisionId"]:
        raise ApiError("PreconditionFailedException",
                       "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias "
                       "API to retrieve the latest Revision Id")  # fmt: skip
    return function
