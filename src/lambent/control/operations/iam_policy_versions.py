"""Versions of managed policies: at most five, one of them the default. Facts: IAM's API reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from lambent.clock import rfc3339
from lambent.control.context import Context
from lambent.control.iam_pages import paged
from lambent.control.operations.iam_policies import change, find, versions
from lambent.control.operations.iam_roles import policy_text
from lambent.control.query import Form, QueryError, Result, need, query_operation
from lambent.store.documents import Document

MAX_VERSIONS = 5
#: Above every number: lists begin with the newest.
_LAST = 10**12


@query_operation("iam", "CreatePolicyVersion")
async def create_policy_version(context: Context, form: Form) -> Result:
    text, now = policy_text(form, "PolicyDocument"), rfc3339(context.clock.wall())
    chosen = form.get("SetAsDefault", "").lower() == "true"

    def added(policy: Document) -> Mapping[str, Any]:
        before = versions(policy)
        if len(before) >= MAX_VERSIONS:
            raise QueryError("LimitExceeded", f"A managed policy can have up to {MAX_VERSIONS} versions. Before you "
                             "create a new version, you must delete an existing version.", 409)  # fmt: skip
        number = policy.get("LastVersion", 1) + 1
        version = {"VersionId": f"v{number}", "CreateDate": now, "Document": text}
        default = version["VersionId"] if chosen else policy["DefaultVersionId"]
        return {"Versions": [*before, version], "LastVersion": number, "DefaultVersionId": default, "UpdateDate": now}

    policy = await change(context, form, added)
    return {"PolicyVersion": _shown(policy, versions(policy)[-1])}


@query_operation("iam", "GetPolicyVersion")
def get_policy_version(context: Context, form: Form) -> Result:
    policy = find(context, form)
    version = _find(policy, need(form, "VersionId"))
    return {"PolicyVersion": {**_shown(policy, version), "Document": quote(version["Document"], safe="")}}


@query_operation("iam", "ListPolicyVersions")
def list_policy_versions(context: Context, form: Form) -> Result:
    policy = find(context, form)
    shown = [_shown(policy, version) for version in versions(policy)]
    return paged(form, "Versions", shown, lambda version: f"{_LAST - int(version['VersionId'][1:]):012}")


@query_operation("iam", "SetDefaultPolicyVersion")
async def set_default_policy_version(context: Context, form: Form) -> Result:
    wanted = need(form, "VersionId")
    await change(context, form, lambda policy: {"DefaultVersionId": _find(policy, wanted)["VersionId"]})
    return None


@query_operation("iam", "DeletePolicyVersion")
async def delete_policy_version(context: Context, form: Form) -> Result:
    gone = need(form, "VersionId")

    def without(policy: Document) -> Mapping[str, Any]:
        _find(policy, gone)
        if gone == policy["DefaultVersionId"]:
            raise QueryError("DeleteConflict", "Cannot delete the default version of a policy.", 409)
        return {"Versions": [version for version in versions(policy) if version["VersionId"] != gone]}

    await change(context, form, without)
    return None


def _find(policy: Document, wanted: str) -> dict[str, Any]:
    for version in versions(policy):
        if version["VersionId"] == wanted:
            return version
    raise QueryError("NoSuchEntity", f"Policy {policy['Arn']} version {wanted} does not exist or is not attachable.",
                     404)  # fmt: skip


def _shown(policy: Document, version: Mapping[str, Any]) -> dict[str, Any]:
    return {"VersionId": version["VersionId"], "IsDefaultVersion": version["VersionId"] == policy["DefaultVersionId"],
            "CreateDate": version["CreateDate"]}  # fmt: skip
