"""Log groups: made, deleted, tagged, and told how long to keep events.

Tags are documents of the store, since a group is a folder of files. A group's tags are written before it is made and
removed before it goes, so a kill in between leaves at most the tags of no group, which the next CreateLogGroup of that
name replaces. Facts: the CloudWatch Logs API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lambent.control.context import Answer, Context, Params, logs_operation, not_served
from lambent.control.operations.logs import invalid, lookup_errors, store_of
from lambent.control.rules import MAX_TAGS
from lambent.errors import ApiError
from lambent.store.documents import Shelf
from lambent.store.writer import Change
from lambent.telemetry.logs import NoSuchGroup
from lambent.telemetry.retention import DAYS_ALLOWED

Tags = Mapping[str, str]

_ARN = re.compile(r"arn:[^:]*:logs:([^:]*):([^:]*):log-group:([^:]+)")


@logs_operation("CreateLogGroup")
async def create_log_group(context: Context, params: Params) -> Answer:
    for member in ("kmsKeyId", "deletionProtectionEnabled"):
        if params.get(member):
            raise not_served(f"{member} of log groups")
    if params.get("logGroupClass", "STANDARD") != "STANDARD":
        raise not_served(f"The class {params['logGroupClass']} of log groups")
    name = params["logGroupName"]

    def decide() -> Change[Any]:
        if _exists(context, name):
            raise ApiError("ResourceAlreadyExistsException", "The specified log group already exists")
        tags = _tagging(context, name, params.get("tags") or {})
        return _followed(tags, lambda: store_of(context).create_group(name))

    await context.store.change(decide)
    return None


@logs_operation("DeleteLogGroup")
async def delete_log_group(context: Context, params: Params) -> Answer:
    name = params["logGroupName"]

    def decide() -> Change[Any]:
        _check(context, name)
        return _followed(_tagging(context, name, {}), lambda: store_of(context).delete_group(name))

    await context.store.change(decide)
    return None


@logs_operation("PutRetentionPolicy")
def put_retention_policy(context: Context, params: Params) -> Answer:
    days = params["retentionInDays"]
    if days not in DAYS_ALLOWED:
        allowed = ", ".join(map(str, DAYS_ALLOWED))
        raise invalid(f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy "
                      f"constraint: Member must satisfy enum value set: [{allowed}]")  # fmt: skip
    with lookup_errors():
        store_of(context).retain(params["logGroupName"], days)
    return None


@logs_operation("DeleteRetentionPolicy")
def delete_retention_policy(context: Context, params: Params) -> Answer:
    with lookup_errors():
        store_of(context).retain(params["logGroupName"], None)
    return None


@logs_operation("ListTagsForResource")
def list_tags_for_resource(context: Context, params: Params) -> Answer:
    return {"tags": _tags(context, _named(context, params))}


@logs_operation("TagResource")
async def tag_resource(context: Context, params: Params) -> Answer:
    return await _change(context, lambda: _named(context, params), lambda before: {**before, **params["tags"]})


@logs_operation("UntagResource")
async def untag_resource(context: Context, params: Params) -> Answer:
    return await _change(context, lambda: _named(context, params), lambda before: _without(before, params["tagKeys"]))


# The older three name the group itself.


@logs_operation("ListTagsLogGroup")
def list_tags_log_group(context: Context, params: Params) -> Answer:
    _check(context, params["logGroupName"])
    return {"tags": _tags(context, params["logGroupName"])}


@logs_operation("TagLogGroup")
async def tag_log_group(context: Context, params: Params) -> Answer:
    return await _change(context, lambda: str(params["logGroupName"]), lambda before: {**before, **params["tags"]})


@logs_operation("UntagLogGroup")
async def untag_log_group(context: Context, params: Params) -> Answer:
    return await _change(context, lambda: str(params["logGroupName"]), lambda before: _without(before, params["tags"]))


async def _change(context: Context, named: Callable[[], str], change: Callable[[Tags], Tags]) -> Answer:
    def decide() -> Change[Any]:
        name = named()
        _check(context, name)
        return _tagging(context, name, change(_tags(context, name)))

    await context.store.change(decide)
    return None


def _without(before: Tags, keys: list[str]) -> Tags:
    return {key: value for key, value in before.items() if key not in keys}


def _tagging(context: Context, name: str, tags: Tags) -> Change[Any]:
    """These tags and no others. Raises ApiError for too many."""
    if len(tags) > MAX_TAGS:
        raise ApiError("TooManyTagsException", f"A log group can have at most {MAX_TAGS} tags.", status=400)
    if tags:
        return context.store.documents.save(_shelf(context), name, {"Tags": tags})
    if context.store.documents.get(_shelf(context), name) is None:
        return Change((), lambda: None)
    return context.store.documents.remove(_shelf(context), name)


def _tags(context: Context, name: str) -> Tags:
    document = context.store.documents.get(_shelf(context), name)
    tags: Tags = document["Tags"] if document is not None else {}
    return tags


def _shelf(context: Context) -> Shelf:
    return Shelf(context.account, context.region, "", "log-group")


def _followed(change: Change[Any], then: Callable[[], Any]) -> Change[None]:
    """The change, and what is to be done in the files after it."""

    def apply() -> None:
        change.apply()
        with lookup_errors():
            then()

    return Change(change.statements, apply)


def _named(context: Context, params: Params) -> str:
    """The group that `resourceArn` names. Raises ApiError."""
    found = _ARN.fullmatch(params["resourceArn"])
    if found is None or (found[1], found[2]) != (context.region, context.account):
        raise ApiError("ResourceNotFoundException", "The specified resource does not exist.", status=400)
    _check(context, found[3])
    return found[3]


def _check(context: Context, name: str) -> None:
    if not _exists(context, name):
        with lookup_errors():
            raise NoSuchGroup


def _exists(context: Context, name: str) -> bool:
    return any(group.name == name for group in store_of(context).groups())
