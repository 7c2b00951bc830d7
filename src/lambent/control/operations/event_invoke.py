"""How asynchronous invocations are to be treated: Put, Update, Get, List and DeleteFunctionEventInvokeConfig.

One configuration per function, version and alias; Put replaces it, Update merges into it. Whoever delivers events
reads them. That a destination exists is checked for functions only. Facts: fact sheet 12, and recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.pages import page
from lambent.control.targets import Target, find_target
from lambent.errors import ApiError, invalid_parameter, not_found
from lambent.names import LATEST, FunctionName
from lambent.store.documents import Document, Shelf
from lambent.store.functions import Function
from lambent.store.writer import Change

_LIMITS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds")
#: Services that a result may be sent to; S3 takes failures only (API reference, DestinationConfig).
_SERVICES = {"OnSuccess": {"sqs", "sns", "lambda", "events"}, "OnFailure": {"sqs", "sns", "lambda", "events", "s3"}}


@operation("PutFunctionEventInvokeConfig")
async def put_function_event_invoke_config(context: Context, params: Params) -> Answer:
    return await _save(context, params, "PutFunctionEventInvokeConfig", merge=False)


@operation("UpdateFunctionEventInvokeConfig")
async def update_function_event_invoke_config(context: Context, params: Params) -> Answer:
    return await _save(context, params, "UpdateFunctionEventInvokeConfig", merge=True)


@operation("GetFunctionEventInvokeConfig")
def get_function_event_invoke_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "GetFunctionEventInvokeConfig")
    return _shown(named, _present(context, named))


@operation("DeleteFunctionEventInvokeConfig")
async def delete_function_event_invoke_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "DeleteFunctionEventInvokeConfig")

    def decide() -> Change[None]:
        _present(context, named)
        return context.store.documents.remove(_shelf(named), named.qualifier or LATEST)

    await context.store.change(decide)
    return None


@operation("ListFunctionEventInvokeConfigs")
def list_function_event_invoke_configs(context: Context, params: Params) -> Answer:
    named = context.function(params["FunctionName"], action="ListFunctionEventInvokeConfigs")
    if context.store.functions.get(*named.key) is None:
        raise _no_function()
    found, more = page(context.store.documents.all(_shelf(named)), lambda item: item[0], params)
    shown = [_shown(FunctionName(*named.key, qualifier), document) for qualifier, document in found]
    return {"FunctionEventInvokeConfigs": shown, **more}


async def _save(context: Context, params: Params, action: str, *, merge: bool) -> Answer:
    named = _named(context, params, action)

    def decide() -> Change[Document]:
        target = _target(context, named)
        before = _present(context, named) if merge else {}
        if not any(member in params for member in (*_LIMITS, "DestinationConfig")):
            raise invalid_parameter("You must specify at least one of error handling or destination setting.")
        document = {member: before[member] for member in (*_LIMITS, "DestinationConfig") if member in before}
        document |= {member: params[member] for member in _LIMITS if member in params}
        if "DestinationConfig" in params:
            document["DestinationConfig"] = _destinations(context, target.function, params["DestinationConfig"])
        document["LastModified"] = round(context.clock.wall(), 3)
        return context.store.documents.save(_shelf(named), target.qualifier, document)

    return _shown(named, await context.store.change(decide))


def _destinations(context: Context, function: Function, given: Mapping[str, Any]) -> dict[str, Any]:
    """The destinations that were given, judged; an empty one is none."""
    kept = {}
    for side, services in _SERVICES.items():
        arn = given.get(side, {}).get("Destination")
        if not arn:
            continue
        service = arn.split(":")[2] if arn.startswith("arn:") else ""
        if service not in services:
            shown = ", ".join(f"{name[0].lower()}{name[1:]}={_java(name, given.get(name))}" for name in _SERVICES)
            raise invalid_parameter(f"The provided destination config DestinationConfig({shown}) is invalid.")
        if service == "lambda":
            _check_function(context, function, arn)
        kept[side] = {"Destination": arn}
    return kept


def _java(name: str, given: Mapping[str, Any] | None) -> str:
    """One side of a destination config as AWS's message shows it (recorded)."""
    return "null" if given is None else f"{name}(destination={given.get('Destination', 'null')})"


def _check_function(context: Context, function: Function, arn: str) -> None:
    parts = arn.split(":")
    if len(parts) not in (7, 8) or parts[5] != "function":
        raise invalid_parameter(f"The destination ARN {arn} is invalid.")
    named = FunctionName(parts[4], parts[3], parts[6], parts[7] if len(parts) == 8 else None)
    if named.key == function.key:
        raise invalid_parameter("You can't specify the function as a destination for itself.")
    try:
        find_target(context, named)
    except ApiError:
        raise invalid_parameter(f"The destination ARN {arn} is invalid.") from None


def _named(context: Context, params: Params, action: str) -> FunctionName:
    return context.function(params["FunctionName"], params.get("Qualifier"), action=action)


def _shelf(named: FunctionName) -> Shelf:
    return Shelf(*named.key, "event-invoke")


def _target(context: Context, named: FunctionName) -> Target:
    try:
        return find_target(context, named)
    except ApiError:
        raise _no_function() from None


def _no_function() -> ApiError:
    return not_found("The function doesn't exist.")


def _present(context: Context, named: FunctionName) -> Document:
    document = context.store.documents.get(_shelf(named), named.qualifier or LATEST)
    if document is None:
        raise not_found(f"The function {named.arn}:{named.qualifier or LATEST} doesn't have an EventInvokeConfig")
    return document


def _shown(named: FunctionName, document: Document) -> dict[str, Any]:
    destinations = document.get("DestinationConfig", {})
    return {**document, "FunctionArn": f"{named.arn}:{named.qualifier or LATEST}",
            "DestinationConfig": {side: destinations.get(side, {}) for side in _SERVICES}}  # fmt: skip
