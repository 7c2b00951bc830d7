"""Code signing: GetFunctionCodeSigningConfig, whose answer for a function without one is empty (recorded; trap 47)."""

from __future__ import annotations

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.operations.functions import find


@operation("GetFunctionCodeSigningConfig")
def get_function_code_signing_config(context: Context, params: Params) -> Answer:
    find(context, params, "GetFunctionCodeSigningConfig")
    return {}
