"""Concurrency settings of functions: GetFunctionConcurrency, whose answer without a setting is empty (trap 47)."""

from __future__ import annotations

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.operations.functions import find


@operation("GetFunctionConcurrency")
def get_function_concurrency(context: Context, params: Params) -> Answer:
    find(context, params, "GetFunctionConcurrency")
    return {}
