"""Tags: TagResource, UntagResource, ListTags, on functions, event source mappings and code signing configurations.

Tags hang on the whole function, never on a version or an alias. Facts: fact sheet 14.5; each change gives `$LATEST` a
new RevisionId (recorded).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.rules import check_tags
from lambent.control.targets import Target, find_function
from lambent.errors import ApiError, invalid_parameter, not_found
from lambent.names import LATEST, FunctionName
from lambent.store.documents import Kind, Shelf
from lambent.store.writer import Change

Tags = Mapping[str, str]

#: Kinds of resources that are documents, by the part of the ARN that names them.
_DOCUMENTS: dict[str, Kind] = {
    "event-source-mapping": "event-source-mapping", "code-signing-config": "code-signing-config",
}  # fmt: skip


@operation("TagResource")
async def tag_resource(context: Context, params: Params) -> Answer:
    added: Tags = params["Tags"]
    if not added:
        raise invalid_parameter("An error occurred and the request cannot be processed.")
    await _change(context, params["Resource"], "TagResource", lambda before: {**before, **added})
    return None


@operation("UntagResource")
async def untag_resource(context: Context, params: Params) -> Answer:
    gone = set(params["TagKeys"])
    await _change(context, params["Resource"], "UntagResource",
                  lambda before: {key: value for key, value in before.items() if key not in gone})  # fmt: skip
    return None


@operation("ListTags")
def list_tags(context: Context, params: Params) -> Answer:
    arn = params["Resource"]
    named = _function(context, arn, "ListTags")
    if named is not None:
        return {"Tags": dict(find_function(context, named).tags)}
    shelf, name = _place(context, arn)
    return {"Tags": dict(_document(context, shelf, name, arn).get("Tags", {}))}


async def _change(context: Context, arn: str, action: str, change: Callable[[Tags], Tags]) -> None:
    named = _function(context, arn, action)

    def decide() -> Change[Any]:
        if named is not None:
            function = find_function(context, named)
            tags = change(function.tags)
            check_tags(tags)
            revised = Target(function, LATEST, function.arn).revised()
            return context.store.functions.save(replace(revised, tags=tags))
        shelf, name = _place(context, arn)
        document = _document(context, shelf, name, arn)
        tags = change(document.get("Tags", {}))
        check_tags(tags)
        return context.store.documents.save(shelf, name, {**document, "Tags": tags})

    await context.store.change(decide)


def _function(context: Context, arn: str, action: str) -> FunctionName | None:
    """The function that an ARN means; None when it means something else."""
    if arn.split(":")[5] != "function":
        return None
    named = context.function(arn, action=action)
    if named.qualifier is not None:
        raise invalid_parameter("Tags on function aliases and versions are not supported. Please specify a function "
                                "ARN.")  # fmt: skip
    return named


def _place(context: Context, arn: str) -> tuple[Shelf, str]:
    _, _, _, region, account, kind, name = arn.split(":", 6)
    if kind not in _DOCUMENTS or (account, region) != (context.account, context.region):
        raise _missing(kind, arn)
    return Shelf(account, region, "", _DOCUMENTS[kind]), name


def _document(context: Context, shelf: Shelf, name: str, arn: str) -> Mapping[str, Any]:
    document = context.store.documents.get(shelf, name)
    if document is None:
        raise _missing(shelf.kind, arn)
    return document


def _missing(kind: str, arn: str) -> ApiError:
    """A 404 in the words of each kind (fact sheet 20)."""
    if kind == "code-signing-config":
        return not_found(f"The Lambda code signing configuration {arn} can not be found.")
    return not_found(f"{kind.replace('-', ' ').capitalize()} not found: {arn}")
