"""The room for code that an account has in a region: what is in use of it, and the error when it is full.

Every version of a function and of a layer counts with its whole zip, also where two have the same one (API reference,
AccountLimit and AccountUsage). The words are AWS's, as CloudFormation and deployment tools quote them.
"""

from __future__ import annotations

from lambent.control.context import Context
from lambent.errors import ApiError


def used_bytes(context: Context) -> int:
    """What the caller's account and region keep."""
    here = (context.account, context.region)
    return context.store.functions.code_bytes[here] + context.store.layers.code_bytes[here]


def check_room(context: Context, more_bytes: int) -> None:
    """ApiError when so much more does not fit. To be asked where a change is decided, so that two cannot both have the
    last of the room. What does not grow is let through, also where the limit has been lowered below what there is."""
    if more_bytes > 0 and used_bytes(context) + more_bytes > context.code_storage_bytes:
        raise ApiError("CodeStorageExceededException", "Code storage limit exceeded.")
