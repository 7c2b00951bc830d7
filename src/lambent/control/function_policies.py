"""Whom the policy of a function lets call it: from another account, and anybody over its URL.

Within an account everybody may call every function, since callers are not authenticated; so identities are not told
apart either: a statement for one user or role of an account lets the whole account in. Statements with a condition are
for services, URLs and organisations, and let no caller of Invoke in. Facts: fact sheet 7.4, 14.1.
"""

from __future__ import annotations

from typing import Any

from lambent.names import LATEST, FunctionName
from lambent.store.documents import DocumentTable, Shelf
from lambent.store.urls import FunctionUrl

_ACTIONS = frozenset({"lambda:InvokeFunction", "lambda:*", "*"})
_URL_ACTIONS = frozenset({"lambda:InvokeFunctionUrl", "lambda:*", "*"})
#: What a statement's condition may ask for and a request to an open URL has.
_OF_OPEN_URLS = {
    ("StringEquals", "lambda:FunctionUrlAuthType"): "NONE",
    ("Bool", "lambda:InvokedViaFunctionUrl"): "true",
}


def may_invoke(documents: DocumentTable, named: FunctionName, account: str) -> bool:
    """Whether a caller of this account may invoke what it named, which is another account's."""
    policy = documents.get(Shelf(*named.key, "policy"), named.qualifier or LATEST)
    for statement in policy["Statement"] if policy is not None else ():
        if statement["Action"] in _ACTIONS and "Condition" not in statement and _is(statement["Principal"], account):
            return True
    return False


def may_use_url(documents: DocumentTable, url: FunctionUrl) -> bool:
    """Whether anybody may call over a URL with AuthType NONE. Since October 2025 that takes leave for both actions."""
    policy = documents.get(Shelf(*url.key[:3], "policy"), url.qualifier or LATEST)
    granted = [one["Action"] for one in policy["Statement"] if _is_for_anybody(one)] if policy is not None else []
    return not _URL_ACTIONS.isdisjoint(granted) and not _ACTIONS.isdisjoint(granted)


def _is_for_anybody(statement: dict[str, Any]) -> bool:
    asked = [(operator, key, value) for operator, values in statement.get("Condition", {}).items()
             for key, value in values.items()]  # fmt: skip
    return statement["Principal"] == "*" and all(_OF_OPEN_URLS.get((operator, key)) == value
                                                 for operator, key, value in asked)  # fmt: skip


def _is(principal: str | dict[str, str], account: str) -> bool:
    if isinstance(principal, str):
        return principal == "*"
    return principal.get("AWS", "::::").split(":")[4] == account
