"""GetAccountSettings: the limits that this server keeps to, and what is in use of the caller's account and region."""

from __future__ import annotations

from lambent import limits
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.operations.concurrency import unreserved


@operation("GetAccountSettings")
def get_account_settings(context: Context, params: Params) -> Answer:
    here = (context.account, context.region)
    own = [function for function in context.store.functions if function.key[:2] == here]
    used = sum(version.configuration["CodeSize"] for function in own for version in function.versions.values())
    # "Deployment packages and layer archives" (API reference, AccountUsage).
    used += sum(version.shown["CodeSize"] for version in context.store.layers if version.key[:2] == here)
    return {
        "AccountLimit": {
            "TotalCodeSize": limits.CODE_STORAGE_BYTES, "CodeSizeUnzipped": limits.UNZIPPED_BYTES,
            "CodeSizeZipped": limits.ZIPPED_BYTES, "ConcurrentExecutions": context.capacity.account_limit,
            "UnreservedConcurrentExecutions": unreserved(context),
        },
        "AccountUsage": {"TotalCodeSize": used, "FunctionCount": len(own)},
    }  # fmt: skip
