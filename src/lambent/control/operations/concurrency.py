"""Reserved concurrency: PutFunctionConcurrency, GetFunctionConcurrency, DeleteFunctionConcurrency.

What is stored here is told to the scheduler, which enforces it. Facts: fact sheet, section 8 and trap 29.
"""

from __future__ import annotations

from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.operations.functions import find
from lambent.errors import invalid_parameter, not_found
from lambent.limits import UNRESERVED_MINIMUM
from lambent.names import LATEST
from lambent.store.documents import Shelf
from lambent.store.functions import Function
from lambent.store.writer import Change

_ON_FUNCTIONS_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)


def _shelf(function: Function) -> Shelf:
    return Shelf(*function.key, "reserved-concurrency")


def reserved(context: Context, function: Function) -> int | None:
    """A function's reserved concurrency; None without the setting."""
    document = context.store.documents.get(_shelf(function), "")
    return None if document is None else int(document["ReservedConcurrentExecutions"])


def unreserved(context: Context, beside: Function | None = None) -> int:
    """What of the account's concurrency no function has reserved; `beside` does not count."""
    taken = 0
    for name, _, document in context.store.documents.on_functions(context.account, context.region,
                                                                  "reserved-concurrency"):
        if beside is None or name != beside.name:
            taken += int(document["ReservedConcurrentExecutions"])
    return context.capacity.account_limit - taken


def unreserved_minimum(context: Context) -> int:
    """What must stay for functions without a reservation: all of it in an account that has less than usual, as new ones
    have (AWS's message says 10 in accounts of 10)."""
    return min(UNRESERVED_MINIMUM, context.capacity.account_limit)


@operation("GetFunctionConcurrency")
def get_function_concurrency(context: Context, params: Params) -> Answer:
    function, _, _ = find(context, params, "GetFunctionConcurrency")
    setting = reserved(context, function)
    return {} if setting is None else {"ReservedConcurrentExecutions": setting}


@operation("PutFunctionConcurrency")
async def put_function_concurrency(context: Context, params: Params) -> Answer:
    wanted: int = params["ReservedConcurrentExecutions"]

    def decide() -> Change[Any]:
        function = _unqualified(context, params, "PutFunctionConcurrency")
        provisioned = context.provisioning.total(function)
        if wanted < provisioned:
            raise invalid_parameter(f" ReservedConcurrentExecutions  {wanted} should not be lower than function's "
                                    f"total provisioned concurrency [{provisioned}].", typed=False)  # fmt: skip
        minimum = unreserved_minimum(context)
        if wanted and unreserved(context, beside=function) - wanted < minimum:
            raise invalid_parameter("Specified ReservedConcurrentExecutions for function decreases account's "
                                    "UnreservedConcurrentExecution below its minimum value of "
                                    f"[{minimum}].", typed=False)  # fmt: skip
        return context.store.documents.save(_shelf(function), "", {"ReservedConcurrentExecutions": wanted})

    await context.store.change(decide)
    context.capacity.reserve(_unqualified(context, params, "PutFunctionConcurrency").arn, wanted)
    return {"ReservedConcurrentExecutions": wanted}


@operation("DeleteFunctionConcurrency")
async def delete_function_concurrency(context: Context, params: Params) -> Answer:
    function = _unqualified(context, params, "DeleteFunctionConcurrency")
    if reserved(context, function) is not None:
        await context.store.change(lambda: context.store.documents.remove(_shelf(function), ""))
        context.capacity.reserve(function.arn, None)
    return None


def _unqualified(context: Context, params: Params, action: str) -> Function:
    named = context.function(params["FunctionName"], action=action)
    if named.qualifier is not None:
        raise invalid_parameter(_ON_FUNCTIONS_ONLY)
    function = context.store.functions.get(*named.key)
    if function is None:
        # Put says the version that nobody named, as Invoke does (recorded).
        raise not_found(f"Function not found: {named.arn}" + (f":{LATEST}" if action.startswith("Put") else ""))
    return function


def restore_reservations(context: Context) -> None:
    """At the server's start: tell the scheduler what was stored."""
    for function in context.store.functions:
        setting = reserved(context, function)
        if setting is not None:
            context.capacity.reserve(function.arn, setting)
