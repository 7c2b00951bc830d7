"""The layers of a function: from the ARNs in a request to the zips that are merged into /opt.

Rules and messages: fact sheet 9.4, 9.6, 20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lambent.control.context import Context
from lambent.control.layer_policies import shared_version
from lambent.errors import invalid_parameter
from lambent.limits import MAX_LAYERS, UNZIPPED_BYTES
from lambent.names import not_allowed, parse_layer, validation_error
from lambent.store.layers import LayerVersion


class Layering(NamedTuple):
    """What a function's layers are: for its configuration and for its environments."""

    shown: list[dict[str, Any]]  #: the member Layers of FunctionConfiguration
    digests: tuple[str, ...]  #: of their zips, in the order of /opt

    def applied(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with these layers in place of those that it has."""
        without = {member: value for member, value in configuration.items() if member != "Layers"}
        return {**without, "Layers": self.shown} if self.shown else without


def find_layers(context: Context, arns: Sequence[str]) -> Layering:
    """The layer versions that these ARNs name. Raises ApiError for any that a function must not have."""
    if len(arns) > MAX_LAYERS:
        raise invalid_parameter(f"Cannot reference more than {MAX_LAYERS} layers.")
    found: dict[tuple[str, str, str], LayerVersion] = {}
    for arn in arns:
        version = _find(context, arn)
        earlier = found.get(version.key)
        if earlier is not None:
            raise invalid_parameter("Two different versions of the same layer are not allowed to be referenced in the "
                                    f"same function. {earlier.arn} and {version.arn} are versions of the same layer.")
        found[version.key] = version
    shown = [{"Arn": version.arn, "CodeSize": version.shown["CodeSize"]} for version in found.values()]
    return Layering(shown, tuple(version.code_sha256 for version in found.values()))


def _find(context: Context, arn: str) -> LayerVersion:
    try:
        named = parse_layer(arn, account=context.account, region=context.region)
    except ValueError:  # the pattern also lets AWS's own layers through, which have another form
        raise invalid_parameter(f"Layer version {arn} does not exist.") from None
    if named.version is None:
        raise validation_error([f"Value '[{arn}]' at 'layers' failed to satisfy constraint: the ARN has no version"])
    if named.region != context.region:
        raise invalid_parameter("Layers are not in the same region as the function. Layers are expected to be in "
                                f"region {context.region}.")  # fmt: skip
    if named.account != context.account:
        shared = shared_version(context, named, named.version)
        if shared is None:
            raise not_allowed(context.account, "GetLayerVersion", arn)
        return shared
    version = context.store.layers.get(*named.key).versions.get(named.version)
    if version is None:
        raise invalid_parameter(f"Layer version {arn} does not exist.")
    return version


async def check_size(context: Context, code_sha256: str, layers: Sequence[str]) -> None:
    """The limit for code and layers together. Raises ApiError."""
    if not layers:
        return
    size = await context.packages.unzipped_bytes((code_sha256, *layers))
    if size > UNZIPPED_BYTES:
        raise invalid_parameter("Function code combined with layers exceeds the maximum allowed size of "
                                f"{UNZIPPED_BYTES} bytes. The actual size is {size} bytes.")  # fmt: skip
