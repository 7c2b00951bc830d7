"""GetAccountSettings: the limits that this server keeps to, and what is in use of the caller's account and region."""

from __future__ import annotations

from lambent import limits
from lambent.control.code_storage import used_bytes
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.operations.concurrency import unreserved


@operation("GetAccountSettings")
def get_account_settings(context: Context, params: Params) -> Answer:
    here = (context.account, context.region)
    count = sum(function.key[:2] == here for function in context.store.functions)
    return {
        "AccountLimit": {
            "TotalCodeSize": context.code_storage_bytes, "CodeSizeUnzipped": limits.UNZIPPED_BYTES,
            "CodeSizeZipped": limits.ZIPPED_BYTES, "ConcurrentExecutions": context.capacity.account_limit,
            "UnreservedConcurrentExecutions": unreserved(context),
        },
        "AccountUsage": {"TotalCodeSize": used_bytes(context), "FunctionCount": count},
    }  # fmt: skip
