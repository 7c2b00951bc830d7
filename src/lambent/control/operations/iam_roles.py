"""IAM roles: made, shown, tagged, given policies, deleted. They are kept and open nothing; no call is judged by them.

Roles belong to an account, not to a region. Managed policies are in `iam_policies`. Facts: IAM's API reference.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from lambent.clock import rfc3339
from lambent.control.context import Context
from lambent.control.iam_pages import paged
from lambent.control.query import Form, QueryError, Result, need, numbered, pairs, query_operation
from lambent.store.documents import Document, Shelf
from lambent.store.writer import Change

_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_PATH = re.compile(r"/|/[\x21-\x7e]{1,510}/")
_POLICY = re.compile(r"arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\x21-\x7e]{1,600}")
_ALPHABET = string.ascii_uppercase + "234567"
MAX_TAGS = 50


@query_operation("iam", "CreateRole")
async def create_role(context: Context, form: Form) -> Result:
    name, path = checked_name(need(form, "RoleName"), "roleName"), checked_path(form)
    arn = f"arn:aws:iam::{context.account}:role{path}{name}"
    role = {
        "Path": path, "RoleName": name, "RoleId": new_id("AROA"), "Arn": arn,
        "CreateDate": rfc3339(context.clock.wall()), "Description": form.get("Description", ""),
        "MaxSessionDuration": _session_s(form, 3600),
        "AssumeRolePolicyDocument": policy_text(form, "AssumeRolePolicyDocument"),
        "Tags": tagged([], pairs(form, "Tags")), "Policies": {}, "Attached": [], **_bounded(form),
    }  # fmt: skip

    def decide() -> Change[Document]:
        if context.store.documents.get(_shelf(context), name) is not None:
            raise QueryError("EntityAlreadyExists", f"Role with name {name} already exists.", 409)
        return context.store.documents.save(_shelf(context), name, role)

    return {"Role": _shown(await context.store.change(decide))}


@query_operation("iam", "GetRole")
def get_role(context: Context, form: Form) -> Result:
    return {"Role": _shown(_find(context, form))}


@query_operation("iam", "ListRoles")
def list_roles(context: Context, form: Form) -> Result:
    start = form.get("PathPrefix", "/")
    roles = [_shown(role) for _, role in context.store.documents.all(_shelf(context)) if role["Path"].startswith(start)]
    for role in roles:
        for member in ("PermissionsBoundary", "Tags"):  # only GetRole has these (API reference)
            role.pop(member, None)
    return paged(form, "Roles", roles, _name_of)


@query_operation("iam", "DeleteRole")
async def delete_role(context: Context, form: Form) -> Result:
    def decide() -> Change[None]:
        role = _find(context, form)
        for member, words in (("Attached", "detach all policies"), ("Policies", "delete policies")):
            if role[member]:
                raise QueryError("DeleteConflict", f"Cannot delete entity, must {words} first.", 409)
        return context.store.documents.remove(_shelf(context), role["RoleName"])

    await context.store.change(decide)
    return None


@query_operation("iam", "UpdateRole")
async def update_role(context: Context, form: Form) -> Result:
    def changes(role: Document) -> Mapping[str, Any]:
        return {"Description": form.get("Description", role["Description"]),
                "MaxSessionDuration": _session_s(form, role["MaxSessionDuration"])}  # fmt: skip

    await _change(context, form, changes)
    return {}


@query_operation("iam", "UpdateRoleDescription")
async def update_role_description(context: Context, form: Form) -> Result:
    """The older form of UpdateRole, which Terraform still uses."""
    await _change(context, form, lambda role: {"Description": form.get("Description", "")})
    return {"Role": _shown(_find(context, form))}


@query_operation("iam", "PutRolePermissionsBoundary")
async def put_role_permissions_boundary(context: Context, form: Form) -> Result:
    need(form, "PermissionsBoundary")
    await _change(context, form, lambda role: _bounded(form))
    return None


@query_operation("iam", "DeleteRolePermissionsBoundary")
async def delete_role_permissions_boundary(context: Context, form: Form) -> Result:
    await _change(context, form, lambda role: {"PermissionsBoundary": ""})
    return None


@query_operation("iam", "UpdateAssumeRolePolicy")
async def update_assume_role_policy(context: Context, form: Form) -> Result:
    text = policy_text(form, "PolicyDocument")
    await _change(context, form, lambda role: {"AssumeRolePolicyDocument": text})
    return None


@query_operation("iam", "PutRolePolicy")
async def put_role_policy(context: Context, form: Form) -> Result:
    name, text = need(form, "PolicyName"), policy_text(form, "PolicyDocument")
    await _change(context, form, lambda role: {"Policies": {**role["Policies"], name: text}})
    return None


@query_operation("iam", "GetRolePolicy")
def get_role_policy(context: Context, form: Form) -> Result:
    role, name = _find(context, form), need(form, "PolicyName")
    if name not in role["Policies"]:
        raise _no_policy(name)
    return {"RoleName": role["RoleName"], "PolicyName": name, "PolicyDocument": quote(role["Policies"][name], safe="")}


@query_operation("iam", "DeleteRolePolicy")
async def delete_role_policy(context: Context, form: Form) -> Result:
    name = need(form, "PolicyName")

    def without(role: Document) -> Mapping[str, Any]:
        if name not in role["Policies"]:
            raise _no_policy(name)
        return {"Policies": {other: text for other, text in role["Policies"].items() if other != name}}

    await _change(context, form, without)
    return None


@query_operation("iam", "ListRolePolicies")
def list_role_policies(context: Context, form: Form) -> Result:
    return paged(form, "PolicyNames", _find(context, form)["Policies"], str)


@query_operation("iam", "AttachRolePolicy")
async def attach_role_policy(context: Context, form: Form) -> Result:
    arn = need(form, "PolicyArn")

    def attached(role: Document) -> Mapping[str, Any]:
        own = arn.startswith(f"arn:aws:iam::{context.account}:policy/")
        shelf = Shelf(context.account, "", "", "managed-policy")
        if not _POLICY.fullmatch(arn) or (own and context.store.documents.get(shelf, arn) is None):
            raise QueryError("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
        return {"Attached": role["Attached"] if arn in role["Attached"] else [*role["Attached"], arn]}

    await _change(context, form, attached)
    return None


@query_operation("iam", "DetachRolePolicy")
async def detach_role_policy(context: Context, form: Form) -> Result:
    arn = need(form, "PolicyArn")

    def detached(role: Document) -> Mapping[str, Any]:
        if arn not in role["Attached"]:
            raise QueryError("NoSuchEntity", f"Policy {arn} was not found.", 404)
        return {"Attached": [other for other in role["Attached"] if other != arn]}

    await _change(context, form, detached)
    return None


@query_operation("iam", "ListAttachedRolePolicies")
def list_attached_role_policies(context: Context, form: Form) -> Result:
    attached = [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in _find(context, form)["Attached"]]
    return paged(form, "AttachedPolicies", attached, lambda policy: policy["PolicyArn"])


@query_operation("iam", "ListInstanceProfilesForRole")
def list_instance_profiles_for_role(context: Context, form: Form) -> Result:
    _find(context, form)
    return {"InstanceProfiles": [], "IsTruncated": False}


@query_operation("iam", "TagRole")
async def tag_role(context: Context, form: Form) -> Result:
    added = pairs(form, "Tags")
    await _change(context, form, lambda role: {"Tags": tagged(role["Tags"], added)})
    return None


@query_operation("iam", "UntagRole")
async def untag_role(context: Context, form: Form) -> Result:
    gone = set(numbered(form, "TagKeys"))
    await _change(context, form, lambda role: {"Tags": [tag for tag in role["Tags"] if tag["Key"] not in gone]})
    return None


@query_operation("iam", "ListRoleTags")
def list_role_tags(context: Context, form: Form) -> Result:
    return paged(form, "Tags", _find(context, form)["Tags"], lambda tag: str(tag["Key"]))


def checked_name(name: str, member: str) -> str:
    """A name of a role or a policy, or QueryError."""
    if not _NAME.fullmatch(name):
        raise QueryError("ValidationError", f"1 validation error detected: Value at '{member}' failed to satisfy "
                         "constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]+")  # fmt: skip
    return name


def checked_path(form: Form) -> str:
    path = form.get("Path", "/")
    if not _PATH.fullmatch(path):
        raise QueryError("ValidationError", "The path begins and ends with a slash.")
    return path


def policy_text(form: Form, member: str) -> str:
    """A policy document, which must be a JSON object; it is kept as it was written."""
    text = need(form, member)
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return text
    except (msgspec.DecodeError, RecursionError):
        pass
    raise QueryError("MalformedPolicyDocument", "Syntax errors in policy.")


def tagged(before: list[dict[str, str]], added: list[dict[str, str]]) -> list[dict[str, str]]:
    """Tags after adding some; QueryError for too many."""
    tags = {tag["Key"]: tag["Value"] for tag in [*before, *added]}
    if len(tags) > MAX_TAGS:
        raise QueryError("LimitExceeded", f"A role or a policy has at most {MAX_TAGS} tags.", 409)
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def new_id(kind: str) -> str:
    return kind + "".join(secrets.choice(_ALPHABET) for _ in range(17))


def _name_of(role: Document) -> str:
    return str(role["RoleName"])


def role_of(context: Context, arn: str) -> Document | None:
    """The role of this ARN, if it was made here."""
    role = context.store.documents.get(Shelf(arn.split(":")[4], "", "", "role"), arn.rpartition("/")[2])
    return role if role is not None and role["Arn"] == arn else None


def role_id(context: Context, arn: str) -> str:
    """The unique id of a role; for one that was never made here, an id in AWS's form that is always the same."""
    role = role_of(context, arn)
    if role is not None:
        return str(role["RoleId"])
    return "AROA" + base64.b32encode(hashlib.sha256(arn.encode()).digest()).decode()[:17]


def _shelf(context: Context) -> Shelf:
    return Shelf(context.account, "", "", "role")


def _find(context: Context, form: Form) -> Document:
    name = need(form, "RoleName")
    role = context.store.documents.get(_shelf(context), name)
    if role is None:
        raise QueryError("NoSuchEntity", f"The role with name {name} cannot be found.", 404)
    return role


async def _change(context: Context, form: Form, change: Any) -> None:
    def decide() -> Change[Document]:
        role = _find(context, form)
        return context.store.documents.save(_shelf(context), role["RoleName"], {**role, **change(role)})

    await context.store.change(decide)


def _session_s(form: Form, usual_s: int) -> int:
    """`MaxSessionDuration` in seconds, or what it is without one."""
    text = form.get("MaxSessionDuration", str(usual_s))
    if not (text.isascii() and text.isdecimal() and 3600 <= int(text[:9]) <= 43_200):
        raise QueryError("ValidationError", "MaxSessionDuration is 3600 to 43200.")
    return int(text)


def _bounded(form: Form) -> dict[str, Any]:
    """The member PermissionsBoundary of a role, if the request has one. It bounds nothing: no call is judged by it."""
    arn = form.get("PermissionsBoundary", "")
    if not arn:
        return {}
    if not _POLICY.fullmatch(arn):
        raise QueryError("ValidationError", f"{arn} is not the ARN of a policy.")
    return {"PermissionsBoundary": {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}}


def _no_policy(name: str) -> QueryError:
    return QueryError("NoSuchEntity", f"The role policy with name {name} cannot be found.", 404)


def _shown(role: Document) -> dict[str, Any]:
    shown = {name: value for name, value in role.items() if name not in ("Policies", "Attached") and value != ""}
    shown["AssumeRolePolicyDocument"] = quote(role["AssumeRolePolicyDocument"], safe="")
    if not shown["Tags"]:
        del shown["Tags"]
    return shown
