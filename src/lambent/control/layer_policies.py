"""The policies of layer versions: where they lie, and whom they let use a layer of another account.

Numbers are never used again, so a policy goes with its version.
"""

from __future__ import annotations

from lambent.control.context import Context
from lambent.names import LayerName
from lambent.store.documents import Document, Shelf
from lambent.store.layers import LayerVersion
from lambent.store.writer import Change


def policy_of(context: Context, version: LayerVersion) -> Document | None:
    """The policy of a version with its RevisionId, or None."""
    return context.store.documents.get(_shelf(version), _name(version))


def shared_version(context: Context, named: LayerName, number: int) -> LayerVersion | None:
    """The version of another account's layer, if its policy lets the caller's account use it.

    Nobody here knows organisations: a statement that is meant for one lets nobody in.
    """
    version = context.store.layers.get(*named.key).versions.get(number)
    policy = policy_of(context, version) if version is not None else None
    whole = {"AWS": f"arn:aws:iam::{context.account}:root"}
    for statement in policy["Statement"] if policy is not None else ():
        if statement["Principal"] in ("*", whole) and "Condition" not in statement:
            return version
    return None


def with_policy(context: Context, version: LayerVersion, policy: Document) -> Change[Document]:
    return context.store.documents.save(_shelf(version), _name(version), policy)


def without_policy(context: Context, version: LayerVersion) -> Change[None]:
    """Take the policy away, if there is one."""
    if policy_of(context, version) is None:
        return Change((), lambda: None)
    return context.store.documents.remove(_shelf(version), _name(version))


def _shelf(version: LayerVersion) -> Shelf:
    return Shelf(version.account, version.region, "", "layer-policy")


def _name(version: LayerVersion) -> str:
    return f"{version.name}:{version.version}"
