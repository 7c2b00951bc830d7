"""Functions: CreateFunction, GetFunction, GetFunctionConfiguration, ListFunctions, DeleteFunction.

Updates are in `function_updates`; versions and aliases come with their own modules. Facts: fact sheet 9.1, 9.5, 18.1.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from typing import Any

from lambent.control.code_source import store_code
from lambent.control.configuration import begun, initial, listed, shown
from lambent.control.context import Answer, Context, Params, not_served, operation
from lambent.control.rules import check_create
from lambent.errors import conflict, invalid_parameter, not_found
from lambent.names import LATEST, MAX_NAME, FunctionName
from lambent.store.functions import Function, Version
from lambent.store.writer import Change

#: Functions on one page of ListFunctions, whatever MaxItems says (API reference).
PAGE = 50


@operation("CreateFunction")
async def create_function(context: Context, params: Params) -> Answer:
    named = context.function(params["FunctionName"], action="CreateFunction")
    name = named.name
    if len(name) > MAX_NAME:
        raise invalid_parameter(f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy "
                                f"constraint: Member must have length less than or equal to {MAX_NAME}")  # fmt: skip
    if named.qualifier is not None:
        raise invalid_parameter("A function is created without a qualifier in its name.")
    check_create(params)
    configuration = initial(name, params)
    _check_absent(context, named)
    content = params["Code"]["ZipFile"]
    sha256 = await store_code(context, content)
    configuration["CodeSize"] = len(content)
    version = Version(LATEST, sha256, begun(configuration, context.clock.wall()), uuid.uuid4().hex)
    function = Function(*named.key, {LATEST: version}, dict(params.get("Tags", {})))

    def decide() -> Change[Function]:
        _check_absent(context, named)
        return context.store.functions.save(function)

    await context.store.change(decide)
    context.activation.begin(function, LATEST)
    return shown(function, version)


def _check_absent(context: Context, named: FunctionName) -> None:
    if context.store.functions.get(*named.key) is not None:
        raise conflict(f"Function already exist: {named.name}")


@operation("GetFunction")
def get_function(context: Context, params: Params) -> Answer:
    function, version, qualifier = find(context, params, "GetFunction")
    answer: dict[str, Any] = {
        "Configuration": shown(function, version, qualifier),
        "Code": {"RepositoryType": "S3", "Location": context.links.make(version.code_sha256)},
    }
    if function.tags:
        answer["Tags"] = function.tags
    return answer


@operation("GetFunctionConfiguration")
def get_function_configuration(context: Context, params: Params) -> Answer:
    return shown(*find(context, params, "GetFunctionConfiguration"))


def find(context: Context, params: Params, action: str) -> tuple[Function, Version, str | None]:
    """The function, its version and the qualifier that `FunctionName` and `Qualifier` mean; ApiError without one."""
    named = context.function(params["FunctionName"], params.get("Qualifier") or None, action=action)
    function = context.store.functions.get(*named.key)
    version = function.versions.get(named.qualifier or LATEST) if function is not None else None
    if function is None or version is None:
        raise not_found(f"Function not found: {named.qualified_arn}")
    return function, version, named.qualifier


@operation("ListFunctions")
def list_functions(context: Context, params: Params) -> Answer:
    limit = min(params.get("MaxItems", PAGE), PAGE)
    after = _marker(params.get("Marker"))
    found = context.store.functions.page(context.account, context.region, after, limit + 1)
    page = found[:limit]
    qualifier = LATEST if params.get("FunctionVersion") == "ALL" else None
    answer: dict[str, Any] = {"Functions": [listed(function, function.latest, qualifier) for function in page]}
    if len(found) > limit:
        answer["NextMarker"] = base64.urlsafe_b64encode(page[-1].name.encode()).decode()
    return answer


def _marker(marker: str | None) -> str:
    try:
        return base64.b64decode(marker or "", altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        raise invalid_parameter("The marker is not one that a list gave.") from None


@operation("DeleteFunction")
async def delete_function(context: Context, params: Mapping[str, Any]) -> Answer:
    named = context.function(params["FunctionName"], params.get("Qualifier") or None, action="DeleteFunction")
    if named.qualifier == LATEST:
        raise invalid_parameter("$LATEST version cannot be deleted without deleting the function.")

    def decide() -> Change[None]:
        function = context.store.functions.get(*named.key)
        if function is None or (named.qualifier is not None and named.qualifier not in function.versions):
            raise not_found(f"Function not found: {named.qualified_arn}")
        if named.qualifier is not None:
            raise not_served("Deleting one version")
        return context.store.remove(function)

    await context.store.change(decide)
    return None
