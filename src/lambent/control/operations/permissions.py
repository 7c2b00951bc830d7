"""Resource policies of functions: AddPermission, RemovePermission, GetPolicy.

One policy per function, version and alias. Invocations from other accounts are judged by them, those of the same
account are not, since callers are not authenticated (`control/function_policies.py`). A change of the policy changes
the RevisionId of what it hangs on, and that is the policy's RevisionId too (recorded). Facts: fact sheet 14.1.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.targets import Target, check_revision, find_function, find_target
from lambent.errors import ApiError, conflict, invalid_parameter, not_found
from lambent.names import LATEST, FunctionName
from lambent.store.documents import Document, Shelf
from lambent.store.writer import Change, together

#: Of the whole policy, as JSON (quotas page).
POLICY_BYTES = 20_480

_ACCOUNT = re.compile(r"[0-9]{12}")
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com(\.cn)?|amazon\.com|aws\.internal)")
_IDENTITY = re.compile(r"arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:\S+")

Statement = dict[str, Any]


@operation("AddPermission")
async def add_permission(context: Context, params: Params) -> Answer:
    named = _named(context, params, "AddPermission")
    if named.qualifier == LATEST:
        raise invalid_parameter("We currently do not support adding policies for $LATEST.")
    if "FunctionUrlAuthType" in params and params["Action"] != "lambda:InvokeFunctionUrl":
        raise invalid_parameter("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
    statement = _statement(params, named.qualified_arn)

    def decide() -> Change[None]:
        target = find_target(context, named)
        check_revision(target, params.get("RevisionId"), "GetPolicy")
        before = _policy(context, target)
        statements: list[Statement] = before["Statement"] if before is not None else []
        if any(one["Sid"] == statement["Sid"] for one in statements):
            raise conflict(f"The statement id ({statement['Sid']}) provided already exists. Please provide a new "
                           "statement id, or remove the existing statement.")  # fmt: skip
        return _change(context, target, [*statements, statement])

    await context.store.change(decide)
    return {"Statement": msgspec.json.encode(statement).decode()}


@operation("RemovePermission")
async def remove_permission(context: Context, params: Params) -> Answer:
    named = _named(context, params, "RemovePermission")

    def decide() -> Change[None]:
        if context.store.functions.get(*named.key) is None:
            raise not_found(f"No policy found for: {named.arn}")
        target = find_target(context, named)
        policy = _policy(context, target)
        if policy is None:
            raise not_found("No policy is associated with the given resource.")
        left = [one for one in policy["Statement"] if one["Sid"] != params["StatementId"]]
        if len(left) == len(policy["Statement"]):
            raise not_found(f"Statement {params['StatementId']} is not found in resource policy.")
        check_revision(target, params.get("RevisionId"), "GetPolicy")
        return _change(context, target, left)

    await context.store.change(decide)
    return None


@operation("GetPolicy")
def get_policy(context: Context, params: Params) -> Answer:
    named = _named(context, params, "GetPolicy")
    find_function(context, named)
    # A version or an alias that is not there has no policy, and that is all that is said of it (recorded).
    policy = context.store.documents.get(Shelf(*named.key, "policy"), named.qualifier or LATEST)
    if policy is None:
        raise not_found("The resource you requested does not exist.")
    target = find_target(context, named)
    return {"Policy": msgspec.json.encode(policy).decode(), "RevisionId": target.revision}


def _named(context: Context, params: Params, action: str) -> FunctionName:
    return context.function(params["FunctionName"], params.get("Qualifier"), action=action)


def _policy(context: Context, target: Target) -> Document | None:
    return context.store.documents.get(Shelf(*target.key, "policy"), target.qualifier)


def _change(context: Context, target: Target, statements: list[Statement]) -> Change[None]:
    shelf = Shelf(*target.key, "policy")
    changed: Change[Any]
    if statements:
        document = {"Version": "2012-10-17", "Id": "default", "Statement": statements}
        size = len(msgspec.json.encode(document))
        if size > POLICY_BYTES:
            raise ApiError("PolicyLengthExceededException",
                           f"The final policy size ({size}) is bigger than the limit ({POLICY_BYTES}).")  # fmt: skip
        changed = context.store.documents.save(shelf, target.qualifier, document)
    else:
        changed = context.store.documents.remove(shelf, target.qualifier)
    return together(changed, context.store.functions.save(target.revised()))


def _statement(params: Params, resource: str) -> Statement:
    statement: Statement = {"Sid": params["StatementId"], "Effect": "Allow", "Principal": _principal(params),
                            "Action": params["Action"], "Resource": resource}  # fmt: skip
    wanted = {
        "lambda:FunctionUrlAuthType": params.get("FunctionUrlAuthType"),
        "lambda:EventSourceToken": params.get("EventSourceToken"),
        "aws:PrincipalOrgID": params.get("PrincipalOrgID"),
        "AWS:SourceAccount": params.get("SourceAccount"),
    }
    equals = {key: value for key, value in wanted.items() if value is not None}
    condition: dict[str, dict[str, str]] = {}
    if equals:
        condition["StringEquals"] = equals
    if "SourceArn" in params:
        condition["ArnLike"] = {"AWS:SourceArn": params["SourceArn"]}
    if "InvokedViaFunctionUrl" in params:
        condition["Bool"] = {"lambda:InvokedViaFunctionUrl": str(params["InvokedViaFunctionUrl"]).lower()}
    if condition:
        statement["Condition"] = condition
    return statement


def _principal(params: Params) -> Any:
    principal: str = params["Principal"]
    if principal == "*":
        return principal
    if _ACCOUNT.fullmatch(principal):
        return {"AWS": f"arn:aws:iam::{principal}:root"}
    if _IDENTITY.fullmatch(principal):
        return {"AWS": principal}
    if _SERVICE.fullmatch(principal):
        return {"Service": principal}
    raise invalid_parameter("The provided principal was invalid. Please check the principal and try again.")
