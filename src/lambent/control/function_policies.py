"""Whom the policy of a function lets call it from another account.

Within an account everybody may call every function, since callers are not authenticated; so identities are not told
apart either: a statement for one user or role of an account lets the whole account in. Statements with a condition are
for services, URLs and organisations, and let no caller of Invoke in. Facts: fact sheet 14.1.
"""

from __future__ import annotations

from lambent.names import LATEST, FunctionName
from lambent.store.documents import DocumentTable, Shelf

_ACTIONS = frozenset({"lambda:InvokeFunction", "lambda:*", "*"})


def may_invoke(documents: DocumentTable, named: FunctionName, account: str) -> bool:
    """Whether a caller of this account may invoke what it named, which is another account's."""
    policy = documents.get(Shelf(*named.key, "policy"), named.qualifier or LATEST)
    for statement in policy["Statement"] if policy is not None else ():
        if statement["Action"] in _ACTIONS and "Condition" not in statement and _is(statement["Principal"], account):
            return True
    return False


def _is(principal: str | dict[str, str], account: str) -> bool:
    if isinstance(principal, str):
        return principal == "*"
    return principal.get("AWS", "::::").split(":")[4] == account
