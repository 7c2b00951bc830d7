"""Where the policies of layer versions lie. Numbers are never used again, so a policy goes with its version."""

from __future__ import annotations

from lambent.control.context import Context
from lambent.store.documents import Document, Shelf
from lambent.store.layers import LayerVersion
from lambent.store.writer import Change


def policy_of(context: Context, version: LayerVersion) -> Document | None:
    """The policy of a version with its RevisionId, or None."""
    return context.store.documents.get(_shelf(version), _name(version))


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
