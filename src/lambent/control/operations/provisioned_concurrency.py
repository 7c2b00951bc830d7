"""Provisioned concurrency: Put-, Get-, List- and DeleteProvisionedConcurrencyConfig.

On versions and aliases, never on $LATEST. What is stored becomes environments in `control/provisioning.py`. Facts and
messages: fact sheet, section 8.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.operations.concurrency import reserved, unreserved, unreserved_minimum
from lambent.control.pages import page
from lambent.control.provisioning import shelf
from lambent.control.targets import find_function
from lambent.errors import ApiError, conflict, invalid_parameter, not_found
from lambent.names import LATEST
from lambent.store.functions import Function
from lambent.store.writer import Change


@operation("PutProvisionedConcurrencyConfig")
async def put_provisioned_concurrency_config(context: Context, params: Params) -> Answer:
    wanted: int = params["ProvisionedConcurrentExecutions"]
    moment = datetime.fromtimestamp(context.clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
    document = {"Requested": wanted, "LastModified": moment}

    def decide() -> Change[Any]:
        function, qualifier = _published_target(context, params)
        _check_overlap(context, function, qualifier)
        _check_room(context, function, qualifier, wanted)
        return context.store.documents.save(shelf(function.key), qualifier, document)

    await context.store.change(decide)
    function, qualifier = _target(context, params, "PutProvisionedConcurrencyConfig")
    context.provisioning.retry(function, qualifier)
    version = function.find(qualifier)
    if version is not None and version.configuration["State"] == "Inactive":
        context.store.functions.wake(function.key, version.version)  # environments need it Active
    return {
        "RequestedProvisionedConcurrentExecutions": wanted,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": moment,
    }


@operation("GetProvisionedConcurrencyConfig")
def get_provisioned_concurrency_config(context: Context, params: Params) -> Answer:
    function, qualifier = _target(context, params, "GetProvisionedConcurrencyConfig")
    document = context.store.documents.get(shelf(function.key), qualifier)
    if document is None:
        raise ApiError("ProvisionedConcurrencyConfigNotFoundException",
                       "No Provisioned Concurrency Config found for this function")
    return context.provisioning.status(function, qualifier, dict(document))


@operation("ListProvisionedConcurrencyConfigs")
def list_provisioned_concurrency_configs(context: Context, params: Params) -> Answer:
    function = find_function(context, context.function(params["FunctionName"], action="ListProvisioned"))
    found, more = page(context.provisioning.configured(function), lambda item: item[0], params)
    status = context.provisioning.status
    shown = [{"FunctionArn": f"{function.arn}:{qualifier}", **status(function, qualifier, document)}
             for qualifier, document in found]  # fmt: skip
    return {"ProvisionedConcurrencyConfigs": shown, **more}


@operation("DeleteProvisionedConcurrencyConfig")
async def delete_provisioned_concurrency_config(context: Context, params: Params) -> Answer:
    function, qualifier = _target(context, params, "DeleteProvisionedConcurrencyConfig")
    if context.store.documents.get(shelf(function.key), qualifier) is not None:
        await context.store.change(lambda: context.store.documents.remove(shelf(function.key), qualifier))
        context.provisioning.refresh(function.key)
    return None


def _target(context: Context, params: Params, action: str) -> tuple[Function, str]:
    """The function and the version or alias that were named. ApiError for $LATEST and for what is not there."""
    named = context.function(params["FunctionName"], params["Qualifier"], action=action)
    qualifier = params["Qualifier"]
    if qualifier == LATEST:
        raise invalid_parameter("The function resource provided must be an alias or a published version.")
    function = context.store.functions.get(*named.key)
    if function is not None and (qualifier in function.versions or qualifier in function.aliases):
        return function, qualifier
    # The same words whether the function is there or not (recorded).
    raise not_found(f"{'Function' if qualifier.isdecimal() else 'Alias'} not found: {named.qualified_arn}")


def _published_target(context: Context, params: Params) -> tuple[Function, str]:
    """The same for a change, which an alias of $LATEST cannot have either."""
    if params["Qualifier"] == LATEST:
        raise _unpublished()
    function, qualifier = _target(context, params, "PutProvisionedConcurrencyConfig")
    alias = function.aliases.get(qualifier)
    if alias is not None and alias.version == LATEST:
        raise _unpublished()
    return function, qualifier


def _unpublished() -> ApiError:
    return invalid_parameter("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")


def _check_overlap(context: Context, function: Function, qualifier: str) -> None:
    """A version and an alias that leads to it cannot both be provisioned."""
    version = function.find(qualifier)
    assert version is not None
    for other, _ in context.provisioning.configured(function):
        found = function.find(other)
        if other == qualifier or found is None or found.version != version.version:
            continue
        if other.isdecimal():
            raise conflict("Alias can't be used for Provisioned Concurrency configuration on an already Provisioned "
                           "version")  # fmt: skip
        if qualifier.isdecimal():
            raise conflict("Version is pointed by a Provisioned Concurrency alias")


def _check_room(context: Context, function: Function, qualifier: str, wanted: int) -> None:
    setting = reserved(context, function)
    others = context.provisioning.total(function, without=qualifier)
    if setting is not None:
        if others + wanted > setting:
            raise invalid_parameter("Requested Provisioned Concurrency should not be greater than the "
                                    "reservedConcurrentExecution for function")  # fmt: skip
        return
    left = unreserved(context)
    if wanted > left:
        raise invalid_parameter("Specified ConcurrentExecutions for function is greater than account's unreserved "
                                f"concurrency [{left}].", typed=False)  # fmt: skip
    minimum = unreserved_minimum(context)
    if left - _provisioned_beside(context, function) - others - wanted < minimum:
        raise invalid_parameter("Specified ConcurrentExecutions for function decreases account's "
                                f"UnreservedConcurrentExecution below its minimum value of [{minimum}].",
                                typed=False)  # fmt: skip


def _provisioned_beside(context: Context, function: Function) -> int:
    """What is provisioned for other functions that have nothing reserved."""
    return sum(context.provisioning.total(other) for other in context.store.functions
               if other.key[:2] == function.key[:2] and other.name != function.name
               and reserved(context, other) is None)  # fmt: skip
