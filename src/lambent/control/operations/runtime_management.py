"""Settings about the runtime and about loops: runtime management and recursion configurations.

Both are kept and shown. The runtime of a function is whatever the host has, so nothing is ever updated by itself; loops
are not detected yet. Facts: fact sheet 14.3, 14.4.
"""

from __future__ import annotations

from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.targets import Target, find_function, find_target
from lambent.errors import invalid_parameter
from lambent.names import LATEST, FunctionName
from lambent.store.documents import Shelf
from lambent.store.writer import Change

_ON_VERSIONS_ONLY = "Runtime management is a setting of a function or of a published version, not of an alias."
_ON_FUNCTIONS_ONLY = "The recursion configuration belongs to the whole function; name it without a qualifier."


@operation("PutRuntimeManagementConfig")
async def put_runtime_management_config(context: Context, params: Params) -> Answer:
    mode = params["UpdateRuntimeOn"]
    if (mode == "Manual") != ("RuntimeVersionArn" in params):
        raise invalid_parameter("RuntimeVersionArn is given with UpdateRuntimeOn=Manual, and only then.")
    document = {member: params[member] for member in ("UpdateRuntimeOn", "RuntimeVersionArn") if member in params}

    def decide() -> Change[Any]:
        target = _version(context, params, "PutRuntimeManagementConfig")
        return context.store.documents.save(Shelf(*target.key, "runtime-management"), target.qualifier, document)

    await context.store.change(decide)
    return _shown(context, params, "PutRuntimeManagementConfig")


@operation("GetRuntimeManagementConfig")
def get_runtime_management_config(context: Context, params: Params) -> Answer:
    """The one answer that was recorded with a null in it."""
    return {"RuntimeVersionArn": None, **_shown(context, params, "GetRuntimeManagementConfig")}


def _shown(context: Context, params: Params, action: str) -> dict[str, Any]:
    target = _version(context, params, action)
    document = context.store.documents.get(Shelf(*target.key, "runtime-management"), target.qualifier)
    return {"FunctionArn": f"{target.function.arn}:{target.qualifier}", **(document or {"UpdateRuntimeOn": "Auto"})}


@operation("PutFunctionRecursionConfig")
async def put_function_recursion_config(context: Context, params: Params) -> Answer:
    document = {"RecursiveLoop": params["RecursiveLoop"]}

    def decide() -> Change[Any]:
        function = find_function(context, _unqualified(context, params, "PutFunctionRecursionConfig"))
        return context.store.documents.save(Shelf(*function.key, "recursion"), "", document)

    await context.store.change(decide)
    return document


@operation("GetFunctionRecursionConfig")
def get_function_recursion_config(context: Context, params: Params) -> Answer:
    function = find_function(context, _unqualified(context, params, "GetFunctionRecursionConfig"))
    document = context.store.documents.get(Shelf(*function.key, "recursion"), "")
    return {"RecursiveLoop": "Terminate"} if document is None else dict(document)


def _version(context: Context, params: Params, action: str) -> Target:
    target = find_target(context, context.function(params["FunctionName"], params.get("Qualifier"), action=action))
    if target.qualifier in target.function.aliases:
        raise invalid_parameter(_ON_VERSIONS_ONLY)
    return target


def _unqualified(context: Context, params: Params, action: str) -> FunctionName:
    named = context.function(params["FunctionName"], action=action)
    if named.qualifier not in (None, LATEST):
        raise invalid_parameter(_ON_FUNCTIONS_ONLY)
    return named
