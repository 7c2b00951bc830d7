"""Event source mappings: Create, Get, List, Update and DeleteEventSourceMapping.

They are judged, kept and shown with AWS's shapes. No poller reads their sources yet, and StateTransitionReason says so.
An answer to a change shows the state on the way (Creating, Updating, Deleting); what is kept is the state that it leads
to, so a kill in between changes nothing. Facts: fact sheet 13.1, trap 35.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from lambent.control.context import Answer, Context, Params, operation
from lambent.control.event_sources import already_there, check_mapping, kind_of, with_defaults
from lambent.control.pages import page
from lambent.control.rules import check_tags
from lambent.control.targets import find_target
from lambent.errors import ApiError, conflict, invalid_parameter, not_found
from lambent.names import FunctionName
from lambent.store.documents import Document, Shelf
from lambent.store.writer import Change

NO_POLLER = "no poller runs yet: this server keeps event source mappings and does not read their sources"
#: Members of requests that are not members of a mapping.
_NOT_KEPT = frozenset({"Enabled", "FunctionName", "Tags", "UUID"})
#: What tells one mapping of a function from another.
_SOURCE = ("EventSourceArn", "SelfManagedEventSource", "Topics", "Queues")


@operation("CreateEventSourceMapping")
async def create_event_source_mapping(context: Context, params: Params) -> Answer:
    said = _said(params)
    kind = kind_of(said)
    check_tags(params.get("Tags", {}))
    mapping_id = str(uuid.uuid4())

    def decide() -> Change[Document]:
        named = _function(context, params["FunctionName"], "CreateEventSourceMapping")
        mapping = {**with_defaults(kind, said), "FunctionArn": named.qualified_arn}
        check_mapping(kind, said, mapping)
        for other, document in context.store.documents.all(_shelf(context)):
            if all(document.get(member) == mapping.get(member) for member in ("FunctionArn", *_SOURCE)):
                raise conflict(already_there(kind, mapping, named.name, other))
        kept = _settled(context, mapping, params.get("Enabled", True)) | {"Tags": params.get("Tags", {})}
        return context.store.documents.save(_shelf(context), mapping_id, kept)

    return _on_the_way(context, mapping_id, await context.store.change(decide), "Creating")


@operation("GetEventSourceMapping")
def get_event_source_mapping(context: Context, params: Params) -> Answer:
    return _shown(context, params["UUID"], _find(context, params))


@operation("ListEventSourceMappings")
def list_event_source_mappings(context: Context, params: Params) -> Answer:
    wanted = {}
    if "EventSourceArn" in params:
        wanted["EventSourceArn"] = params["EventSourceArn"]
    if "FunctionName" in params:
        named = context.function(params["FunctionName"], action="ListEventSourceMappings")
        wanted["FunctionArn"] = named.qualified_arn
    chosen = ((mapping_id, document) for mapping_id, document in context.store.documents.all(_shelf(context))
              if all(document.get(member) == value for member, value in wanted.items()))  # fmt: skip
    found, more = page(chosen, lambda item: item[0], params)
    return {"EventSourceMappings": [_shown(context, *item) for item in found], **more}


@operation("UpdateEventSourceMapping")
async def update_event_source_mapping(context: Context, params: Params) -> Answer:
    said = _said(params)
    before: dict[str, Any] = {}

    def decide() -> Change[Document]:
        before.update(_find(context, params))
        mapping = {**before, **said}
        if "FunctionName" in params:
            named = _function(context, params["FunctionName"], "UpdateEventSourceMapping")
            mapping["FunctionArn"] = named.qualified_arn
        check_mapping(kind_of(mapping), said, mapping)
        kept = _settled(context, mapping, params.get("Enabled", before["State"] == "Enabled"))
        return context.store.documents.save(_shelf(context), params["UUID"], kept)

    after = await context.store.change(decide)
    turned = {"Enabled": "Enabling", "Disabled": "Disabling"}[after["State"]]
    return _on_the_way(context, params["UUID"], after, "Updating" if after["State"] == before["State"] else turned)


@operation("DeleteEventSourceMapping")
async def delete_event_source_mapping(context: Context, params: Params) -> Answer:
    gone: dict[str, Any] = {}

    def decide() -> Change[None]:
        gone.update(_find(context, params))
        return context.store.documents.remove(_shelf(context), params["UUID"])

    await context.store.change(decide)
    return _on_the_way(context, params["UUID"], gone, "Deleting")


def _said(params: Params) -> dict[str, Any]:
    return {member: value for member, value in params.items() if member not in _NOT_KEPT}


def _function(context: Context, text: str, action: str) -> FunctionName:
    named = context.function(text, action=action)
    try:
        find_target(context, named)
    except ApiError:
        raise invalid_parameter("Function does not exist") from None
    return named


def _shelf(context: Context) -> Shelf:
    return Shelf(context.account, context.region, "", "event-source-mapping")


def _find(context: Context, params: Params) -> Document:
    document = context.store.documents.get(_shelf(context), params["UUID"])
    if document is None:
        raise not_found("The resource you requested does not exist.")
    return document


def _settled(context: Context, mapping: Mapping[str, Any], enabled: bool) -> dict[str, Any]:
    reason = kind_of(mapping).reason
    return {**mapping, "State": "Enabled" if enabled else "Disabled", "LastModified": round(context.clock.wall(), 3),
            "StateTransitionReason": f"{reason} ({NO_POLLER})" if enabled else reason}  # fmt: skip


def _shown(context: Context, mapping_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
    arn = f"arn:aws:lambda:{context.region}:{context.account}:event-source-mapping:{mapping_id}"
    members = {member: value for member, value in document.items() if member != "Tags"}
    return {"UUID": mapping_id, "EventSourceMappingArn": arn, **members}


def _on_the_way(context: Context, mapping_id: str, document: Mapping[str, Any], state: str) -> dict[str, Any]:
    return _shown(context, mapping_id, document) | {"State": state, "StateTransitionReason": kind_of(document).reason}
