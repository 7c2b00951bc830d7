"""Functions: CreateFunction, GetFunction, GetFunctionConfiguration, ListFunctions, DeleteFunction.

Updates are in `function_updates`, versions and aliases in modules of their own. Facts: fact sheet 9.1, 9.5, 18.1.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from lambent.control.code_source import stored
from lambent.control.code_storage import check_room
from lambent.control.configuration import begun, initial, listed, shown
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.layering import check_size, find_layers
from lambent.control.operations.code_signing import created_with
from lambent.control.operations.versions import delete_version, in_order, order
from lambent.control.pages import next_marker, read_marker, size
from lambent.control.publication import published
from lambent.control.rules import check_create
from lambent.errors import conflict, invalid_parameter, not_found
from lambent.names import LATEST, MAX_NAME, FunctionName
from lambent.store.documents import Shelf
from lambent.store.functions import Function, Version
from lambent.store.writer import Change


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
    layering = find_layers(context, params.get("Layers", ()))
    configuration = layering.applied(initial(name, params))
    _check_absent(context, named)
    with context.store.blobs.references.held(layering.digests):
        async with stored(context, params["Code"]) as (sha256, code_size):
            await check_size(context, sha256, layering.digests)
            configuration["CodeSize"] = code_size
            version = Version(LATEST, sha256, begun(configuration, context.clock.wall()), uuid.uuid4().hex,
                              layers=layering.digests)  # fmt: skip
            function = Function(*named.key, {LATEST: version}, dict(params.get("Tags", {})))
            if params.get("Publish"):
                function, version = published(function, context.clock.wall())

            def decide() -> Change[Any]:
                _check_absent(context, named)
                check_room(context, function.code_bytes)
                return created_with(context, named, params, context.store.functions.save(function))

            await context.store.change(decide)
    for number in function.versions:
        context.activation.begin(function, number)
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
    setting = context.store.documents.get(Shelf(*function.key, "reserved-concurrency"), "")
    if setting is not None:
        answer["Concurrency"] = dict(setting)
    return answer


@operation("GetFunctionConfiguration")
def get_function_configuration(context: Context, params: Params) -> Answer:
    return shown(*find(context, params, "GetFunctionConfiguration"))


def find(context: Context, params: Params, action: str) -> tuple[Function, Version, str | None]:
    """The function, its version and the qualifier that `FunctionName` and `Qualifier` mean; ApiError without one.
    An alias means its main version."""
    named = context.function(params["FunctionName"], params.get("Qualifier") or None, action=action)
    function = context.store.functions.get(*named.key)
    version = function.find(named.qualifier) if function is not None else None
    if function is None or version is None:
        raise not_found(f"Function not found: {named.qualified_arn}")
    return function, version, named.qualifier


@operation("ListFunctions")
def list_functions(context: Context, params: Params) -> Answer:
    limit = size(params)
    after = read_marker(params)
    if params.get("FunctionVersion") == "ALL":
        return _list_versions(context, after, limit)
    found = context.store.functions.page(context.account, context.region, after, limit + 1)
    more = next_marker(found[limit - 1].name) if len(found) > limit else {}
    return {"Functions": [listed(function, function.latest) for function in found[:limit]], **more}


def _list_versions(context: Context, after: str, limit: int) -> Answer:
    """Every version of every function, by name and number; `after` is `<name>:<order of the number>`."""
    name, _, last = after.partition(":")
    found: list[tuple[Function, Version]] = []
    present = context.store.functions.get(context.account, context.region, name)
    functions = [present] if present is not None else []
    while len(found) <= limit:
        for function in functions:
            skipped = last if function.name == name else ""
            found += [(function, version) for version in in_order(function) if order(version.version) > skipped]
        start = functions[-1].name if functions else name
        functions = context.store.functions.page(context.account, context.region, start, limit + 1)
        if not functions:
            break
    page = found[:limit]
    more = {}
    if len(found) > limit:
        function, version = page[-1]
        more = next_marker(f"{function.name}:{order(version.version)}")
    return {"Functions": [listed(function, version, version.version) for function, version in page], **more}


@operation("DeleteFunction")
async def delete_function(context: Context, params: Mapping[str, Any]) -> Answer:
    named = context.function(params["FunctionName"], params.get("Qualifier") or None, action="DeleteFunction")
    if named.qualifier == LATEST:
        raise invalid_parameter("$LATEST version cannot be deleted without deleting the function.")
    if named.qualifier is not None:
        await delete_version(context, named, named.qualifier)
        return None

    def decide() -> Change[None]:
        function = context.store.functions.get(*named.key)
        if function is None:
            raise not_found(f"Function not found: {named.arn}")
        return context.store.remove(function)

    await context.store.change(decide)
    return None
