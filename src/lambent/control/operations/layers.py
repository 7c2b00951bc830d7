"""Layers and their versions: published, shown, listed, deleted.

What a function does with them is in `control/layering.py`. Facts: fact sheet 9.6, 18.1, 20.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from lambent.clock import lambda_time
from lambent.control.code_source import check_source, stored
from lambent.control.code_storage import check_room
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.layer_policies import shared_version, without_policy
from lambent.control.pages import page
from lambent.control.rules import check_compatible
from lambent.errors import ApiError, invalid_parameter, not_found
from lambent.names import LayerName, not_allowed, parse_layer, validation_error
from lambent.store.layers import LayerVersion
from lambent.store.writer import Change, together

_GIVEN = ("CompatibleRuntimes", "LicenseInfo", "CompatibleArchitectures")


@operation("PublishLayerVersion")
async def publish_layer_version(context: Context, params: Params) -> Answer:
    named = named_layer(context, params, "PublishLayerVersion")
    check_compatible(params.get("CompatibleRuntimes", []), params.get("CompatibleArchitectures", []))
    check_source(params["Content"], "Content")
    async with stored(context, params["Content"]) as (sha256, code_size):
        shown = {"Description": params.get("Description", ""), "CreatedDate": lambda_time(context.clock.wall()),
                 "CodeSize": code_size}  # fmt: skip
        shown |= {member: params[member] for member in _GIVEN if member in params}

        def decide() -> Change[LayerVersion]:
            check_room(context, code_size)
            number = context.store.layers.get(*named.key).next_version
            return context.store.layers.add(LayerVersion(*named.key, number, sha256, shown))

        version = await context.store.change(decide)
    return _whole(context, version)


@operation("GetLayerVersion")
def get_layer_version(context: Context, params: Params) -> Answer:
    return _get(context, params["LayerName"], params["VersionNumber"])


@operation("GetLayerVersionByArn")
def get_layer_version_by_arn(context: Context, params: Params) -> Answer:
    arn = params["Arn"]
    try:
        number = parse_layer(arn, account=context.account, region=context.region).version
    except ValueError:
        raise _missing() from None
    if number is None:
        raise validation_error([f"Value '{arn}' at 'arn' failed to satisfy constraint: the ARN has no version"])
    return _get(context, arn, number)


def _get(context: Context, text: str, number: int) -> Answer:
    """A version of a layer of the caller's account, or of one that is shared with it."""
    if number < 1:
        raise invalid_parameter("Layer Version Cannot be less than 1")
    named = _in_region(context, text)
    if named.account != context.account:
        version = shared_version(context, named, number)
        if version is None:
            raise not_allowed(context.account, "GetLayerVersion", f"{named.arn}:{number}")
    else:
        version = context.store.layers.get(*named.key).versions.get(number)
        if version is None:
            raise _missing()
    return _whole(context, version)


@operation("ListLayers")
def list_layers(context: Context, params: Params) -> Answer:
    names, more = page(_matching_names(context, params), lambda name: name, params)
    layers = []
    for name in names:
        latest = next(_matching(_newest_first(context, LayerName(context.account, context.region, name)), params))
        layers.append({"LayerName": name, "LayerArn": latest.arn.rpartition(":")[0],
                       "LatestMatchingVersion": _row(latest)})  # fmt: skip
    return {"Layers": layers, **more}


def _matching_names(context: Context, params: Params) -> Iterable[str]:
    for name in context.store.layers.names(context.account, context.region):
        versions = _newest_first(context, LayerName(context.account, context.region, name))
        if any(True for _ in _matching(versions, params)):
            yield name


@operation("ListLayerVersions")
def list_layer_versions(context: Context, params: Params) -> Answer:
    found = _matching(_newest_first(context, named_layer(context, params, "ListLayerVersions")), params)
    versions, more = page(found, lambda version: str(10**19 - version.version), params)
    return {"LayerVersions": [_row(version) for version in versions], **more}


@operation("DeleteLayerVersion")
async def delete_layer_version(context: Context, params: Params) -> Answer:
    """A version that is not there is deleted already. Functions that have it keep it."""
    named = named_layer(context, params, "DeleteLayerVersion")
    number = params["VersionNumber"]
    if number < 1:
        raise invalid_parameter("Layer Version Cannot be less than 1")

    def decide() -> Change[None]:
        version = context.store.layers.get(*named.key).versions.get(number)
        if version is None:
            return Change((), lambda: None)
        return together(context.store.layers.remove(version), without_policy(context, version))

    await context.store.change(decide)
    return None


def named_layer(context: Context, params: Params, action: str) -> LayerName:
    """The layer of the caller's account that `LayerName` means. Raises ApiError."""
    named = _in_region(context, params["LayerName"])
    if named.account != context.account:
        raise not_allowed(context.account, action, params["LayerName"])
    return named


def _in_region(context: Context, text: str) -> LayerName:
    """The layer that a caller named. Raises ApiError for one of another region."""
    named = parse_layer(text, account=context.account, region=context.region)
    if named.region != context.region:
        raise not_found(f"Layers from '{named.region}' are not reachable in this region ('{context.region}')")
    return named


def _newest_first(context: Context, named: LayerName) -> list[LayerVersion]:
    versions = context.store.layers.get(*named.key).versions
    return [versions[number] for number in sorted(versions, reverse=True)]


def _matching(versions: Iterable[LayerVersion], params: Params) -> Any:
    """Those that say they are compatible with the runtime and the architecture that were asked for."""
    runtime, architecture = params.get("CompatibleRuntime"), params.get("CompatibleArchitecture")
    return (version for version in versions
            if (runtime is None or runtime in version.shown.get("CompatibleRuntimes", ()))
            and (architecture is None or architecture in version.shown.get("CompatibleArchitectures", ())))  # fmt: skip


def _row(version: LayerVersion) -> dict[str, Any]:
    """LayerVersionsListItem."""
    shown = {member: value for member, value in version.shown.items() if member != "CodeSize"}
    return {"LayerVersionArn": version.arn, "Version": version.version, **shown}


def _whole(context: Context, version: LayerVersion) -> dict[str, Any]:
    """GetLayerVersionResponse."""
    content = {"Location": context.links.make(version.code_sha256), "CodeSize": version.shown["CodeSize"],
               "CodeSha256": base64.b64encode(bytes.fromhex(version.code_sha256)).decode()}  # fmt: skip
    return {"Content": content, "LayerArn": version.arn.rpartition(":")[0], **_row(version)}


def _missing() -> ApiError:
    return not_found("The resource you requested does not exist.")
