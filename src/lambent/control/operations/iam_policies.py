"""Managed policies of an account. They are kept and shown; no call is judged by them.

Their versions are in `iam_policy_versions`. Facts: IAM's API reference.
"""

from __future__ import annotations

from typing import Any

from lambent.clock import rfc3339
from lambent.control.context import Context
from lambent.control.iam_pages import paged
from lambent.control.operations.iam_roles import checked_name, checked_path, new_id, policy_text, tagged
from lambent.control.query import Form, QueryError, Result, need, numbered, pairs, query_operation
from lambent.store.documents import Document, Shelf
from lambent.store.writer import Change

_FIRST = "v1"
#: Members of a stored policy that are no members of an answer.
_KEPT = frozenset({"Document", "LastVersion", "Versions"})


@query_operation("iam", "CreatePolicy")
async def create_policy(context: Context, form: Form) -> Result:
    name, path = checked_name(need(form, "PolicyName"), "policyName"), checked_path(form)
    arn, now = f"arn:aws:iam::{context.account}:policy{path}{name}", rfc3339(context.clock.wall())
    first = {"VersionId": _FIRST, "CreateDate": now, "Document": policy_text(form, "PolicyDocument")}
    policy = {"PolicyName": name, "PolicyId": new_id("ANPA"), "Arn": arn, "Path": path, "DefaultVersionId": _FIRST,
              "IsAttachable": True, "Description": form.get("Description", ""), "CreateDate": now, "UpdateDate": now,
              "Tags": tagged([], pairs(form, "Tags")), "Versions": [first], "LastVersion": 1}  # fmt: skip

    def decide() -> Change[Document]:
        if context.store.documents.get(shelf(context), arn) is not None:
            raise QueryError("EntityAlreadyExists", f"A policy called {name} already exists. Duplicate names are not "
                             "allowed.", 409)  # fmt: skip
        return context.store.documents.save(shelf(context), arn, policy)

    return {"Policy": _shown(context, await context.store.change(decide))}


@query_operation("iam", "GetPolicy")
def get_policy(context: Context, form: Form) -> Result:
    return {"Policy": _shown(context, find(context, form))}


@query_operation("iam", "ListPolicies")
def list_policies(context: Context, form: Form) -> Result:
    policies = [_shown(context, policy) for _, policy in context.store.documents.all(shelf(context))]
    for policy in policies:
        policy.pop("Tags", None)
    return paged(form, "Policies", policies, lambda policy: str(policy["Arn"]))


@query_operation("iam", "ListEntitiesForPolicy")
def list_entities_for_policy(context: Context, form: Form) -> Result:
    """Only roles: there are no users and groups here."""
    arn = find(context, form)["Arn"]
    roles = [{"RoleName": role["RoleName"], "RoleId": role["RoleId"]} for role in _attached(context, arn)]
    return {"PolicyGroups": [], "PolicyUsers": [], **paged(form, "PolicyRoles", roles, lambda role: role["RoleName"])}


@query_operation("iam", "DeletePolicy")
async def delete_policy(context: Context, form: Form) -> Result:
    def decide() -> Change[None]:
        policy = find(context, form)
        if _attached(context, policy["Arn"]):
            raise QueryError("DeleteConflict", "Cannot delete a policy attached to entities.", 409)
        if len(versions(policy)) > 1:
            raise QueryError("DeleteConflict", "This policy has more than one version. Before you delete a policy, you "
                             "must delete the policy's versions. The default version is deleted with the policy.", 409)
        return context.store.documents.remove(shelf(context), policy["Arn"])

    await context.store.change(decide)
    return None


@query_operation("iam", "TagPolicy")
async def tag_policy(context: Context, form: Form) -> Result:
    added = pairs(form, "Tags")
    await change(context, form, lambda policy: {"Tags": tagged(policy["Tags"], added)})
    return None


@query_operation("iam", "UntagPolicy")
async def untag_policy(context: Context, form: Form) -> Result:
    gone = set(numbered(form, "TagKeys"))
    await change(context, form, lambda policy: {"Tags": [tag for tag in policy["Tags"] if tag["Key"] not in gone]})
    return None


@query_operation("iam", "ListPolicyTags")
def list_policy_tags(context: Context, form: Form) -> Result:
    return paged(form, "Tags", find(context, form)["Tags"], lambda tag: str(tag["Key"]))


def shelf(context: Context) -> Shelf:
    return Shelf(context.account, "", "", "managed-policy")


def find(context: Context, form: Form) -> Document:
    """The policy that `PolicyArn` names. Raises QueryError."""
    arn = need(form, "PolicyArn")
    policy = context.store.documents.get(shelf(context), arn)
    if policy is None:
        raise QueryError("NoSuchEntity", f"Policy {arn} was not found.", 404)
    return policy


def versions(policy: Document) -> list[dict[str, Any]]:
    """The versions, the oldest first. Of policies that were stored before there could be several, the only one."""
    found: list[dict[str, Any]] | None = policy.get("Versions")
    if found is None:
        return [{"VersionId": _FIRST, "CreateDate": policy["CreateDate"], "Document": policy["Document"]}]
    return found


async def change(context: Context, form: Form, changes: Any) -> Document:
    """Lay what `changes(policy)` gives over the policy that `PolicyArn` names; it is the new one."""

    def decide() -> Change[Document]:
        policy = find(context, form)
        return context.store.documents.save(shelf(context), policy["Arn"], {**policy, **changes(policy)})

    return await context.store.change(decide)


def _attached(context: Context, arn: str) -> list[Document]:
    roles = context.store.documents.all(Shelf(context.account, "", "", "role"))
    return [role for _, role in roles if arn in role["Attached"]]


def _shown(context: Context, policy: Document) -> dict[str, Any]:
    shown = {name: value for name, value in policy.items() if name not in _KEPT and value not in ("", [])}
    return shown | {"AttachmentCount": len(_attached(context, policy["Arn"])), "PermissionsBoundaryUsageCount": 0}
