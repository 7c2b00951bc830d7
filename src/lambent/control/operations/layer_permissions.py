"""Resource policies of layer versions: AddLayerVersionPermission, RemoveLayerVersionPermission, GetLayerVersionPolicy.

They say which other accounts may use a layer (`control/layer_policies.py`). Facts: fact sheet 9.6, 14.1, and
recordings.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.layer_policies import policy_of, with_policy, without_policy
from lambent.control.operations.layers import named_layer
from lambent.control.operations.permissions import POLICY_BYTES
from lambent.control.targets import stale
from lambent.errors import ApiError, conflict, invalid_parameter, not_found
from lambent.store.documents import Document
from lambent.store.layers import LayerVersion
from lambent.store.writer import Change

_NO_POLICY = "No policy is associated with the given resource."


@operation("AddLayerVersionPermission")
async def add_layer_version_permission(context: Context, params: Params) -> Answer:
    def decide() -> Change[Document]:
        version = _version(context, params, "AddLayerVersionPermission")
        policy = policy_of(context, version)
        _check_revision(policy, params)
        statement = _statement(params, version)
        before = policy["Statement"] if policy is not None else []
        if any(one["Sid"] == statement["Sid"] for one in before):
            raise conflict(f"The statement id ({statement['Sid']}) provided already exists. Please provide a new "
                           "statement id, or remove the existing statement.")  # fmt: skip
        return with_policy(context, version, _policy([*before, statement]))

    policy = await context.store.change(decide)
    return {"Statement": msgspec.json.encode(policy["Statement"][-1]).decode(), "RevisionId": policy["RevisionId"]}


@operation("GetLayerVersionPolicy")
def get_layer_version_policy(context: Context, params: Params) -> Answer:
    policy = policy_of(context, _version(context, params, "GetLayerVersionPolicy"))
    if policy is None:
        raise not_found(_NO_POLICY)
    shown = {"Version": "2012-10-17", "Id": "default", "Statement": policy["Statement"]}
    return {"Policy": msgspec.json.encode(shown).decode(), "RevisionId": policy["RevisionId"]}


@operation("RemoveLayerVersionPermission")
async def remove_layer_version_permission(context: Context, params: Params) -> Answer:
    def decide() -> Change[Any]:
        version = _version(context, params, "RemoveLayerVersionPermission")
        policy = policy_of(context, version)
        if policy is None:
            raise not_found(_NO_POLICY)
        _check_revision(policy, params)
        left = [one for one in policy["Statement"] if one["Sid"] != params["StatementId"]]
        if len(left) == len(policy["Statement"]):
            raise not_found(f"Statement {params['StatementId']} is not found in resource policy.")
        return with_policy(context, version, _policy(left)) if left else without_policy(context, version)

    await context.store.change(decide)
    return None


def _version(context: Context, params: Params, action: str) -> LayerVersion:
    number = params["VersionNumber"]
    if number < 1:
        raise invalid_parameter("Layer Version Cannot be less than 1")
    named = named_layer(context, params, action)
    version = context.store.layers.get(*named.key).versions.get(number)
    if version is None:
        raise not_found(f"Layer version {named.arn}:{number} does not exist.")
    return version


def _check_revision(policy: Document | None, params: Params) -> None:
    wanted = params.get("RevisionId")
    if wanted is not None and (policy is None or wanted != policy["RevisionId"]):
        raise stale("GetLayerPolicy")


def _policy(statements: list[dict[str, Any]]) -> Document:
    size = len(msgspec.json.encode(statements))
    if size > POLICY_BYTES:
        raise ApiError("PolicyLengthExceededException",
                       f"The final policy size ({size}) is bigger than the limit ({POLICY_BYTES}).")  # fmt: skip
    return {"Statement": statements, "RevisionId": str(uuid.uuid4())}


def _statement(params: Params, version: LayerVersion) -> dict[str, Any]:
    principal = params["Principal"]
    if principal != "*":
        arn = principal if principal.startswith("arn:") else f"arn:aws:iam::{principal}:root"
        principal = {"AWS": arn}
    statement = {"Sid": params["StatementId"], "Effect": "Allow", "Principal": principal, "Action": params["Action"],
                 "Resource": version.arn}  # fmt: skip
    if "OrganizationId" in params:
        statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": params["OrganizationId"]}}
    return statement
