"""Managed policies of an account, with one version each. They are kept and shown; no call is judged by them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from lambent.clock import rfc3339
from lambent.control.context import Context
from lambent.control.operations.iam_roles import checked_name, checked_path, new_id, policy_text
from lambent.control.query import Form, QueryError, Result, need, pairs, query_operation
from lambent.store.documents import Document, Shelf
from lambent.store.writer import Change

_VERSION = "v1"


@query_operation("iam", "CreatePolicy")
async def create_policy(context: Context, form: Form) -> Result:
    name, path = checked_name(need(form, "PolicyName"), "policyName"), checked_path(form)
    arn, now = f"arn:aws:iam::{context.account}:policy{path}{name}", rfc3339(context.clock.wall())
    policy = {"PolicyName": name, "PolicyId": new_id("ANPA"), "Arn": arn, "Path": path, "DefaultVersionId": _VERSION,
              "IsAttachable": True, "Description": form.get("Description", ""), "CreateDate": now, "UpdateDate": now,
              "Tags": pairs(form, "Tags"), "Document": policy_text(form, "PolicyDocument")}  # fmt: skip

    def decide() -> Change[Document]:
        if context.store.documents.get(_shelf(context), arn) is not None:
            raise QueryError("EntityAlreadyExists", f"A policy called {name} already exists. Duplicate names are not "
                             "allowed.", 409)  # fmt: skip
        return context.store.documents.save(_shelf(context), arn, policy)

    return {"Policy": _shown(context, await context.store.change(decide))}


@query_operation("iam", "GetPolicy")
def get_policy(context: Context, form: Form) -> Result:
    return {"Policy": _shown(context, _find(context, form))}


@query_operation("iam", "GetPolicyVersion")
def get_policy_version(context: Context, form: Form) -> Result:
    policy, version = _find(context, form), need(form, "VersionId")
    if version != _VERSION:
        raise QueryError("NoSuchEntity", f"Policy {policy['Arn']} version {version} does not exist or is not "
                         "attachable.", 404)  # fmt: skip
    return {"PolicyVersion": {**_version(policy), "Document": quote(policy["Document"], safe="")}}


@query_operation("iam", "ListPolicyVersions")
def list_policy_versions(context: Context, form: Form) -> Result:
    return {"Versions": [_version(_find(context, form))], "IsTruncated": False}


@query_operation("iam", "ListPolicies")
def list_policies(context: Context, form: Form) -> Result:
    policies = [_shown(context, policy) for _, policy in context.store.documents.all(_shelf(context))]
    return {"Policies": policies, "IsTruncated": False}


@query_operation("iam", "DeletePolicy")
async def delete_policy(context: Context, form: Form) -> Result:
    def decide() -> Change[None]:
        policy = _find(context, form)
        if _attachments(context, policy["Arn"]):
            raise QueryError("DeleteConflict", "Cannot delete a policy attached to entities.", 409)
        return context.store.documents.remove(_shelf(context), policy["Arn"])

    await context.store.change(decide)
    return None


def _shelf(context: Context) -> Shelf:
    return Shelf(context.account, "", "", "managed-policy")


def _find(context: Context, form: Form) -> Document:
    arn = need(form, "PolicyArn")
    policy = context.store.documents.get(_shelf(context), arn)
    if policy is None:
        raise QueryError("NoSuchEntity", f"Policy {arn} was not found.", 404)
    return policy


def _attachments(context: Context, arn: str) -> int:
    roles = context.store.documents.all(Shelf(context.account, "", "", "role"))
    return sum(arn in role["Attached"] for _, role in roles)


def _version(policy: Document) -> dict[str, Any]:
    return {"VersionId": _VERSION, "IsDefaultVersion": True, "CreateDate": policy["CreateDate"]}


def _shown(context: Context, policy: Document) -> dict[str, Any]:
    shown = {name: value for name, value in policy.items() if name != "Document" and value not in ("", [])}
    return shown | {"AttachmentCount": _attachments(context, policy["Arn"]), "PermissionsBoundaryUsageCount": 0}
