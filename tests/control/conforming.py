"""Answers judged by the model that SDKs read them with: known members, right types, known values.

`control_plane` hangs this on each of its clients, so that every test of an operation checks its answers.
"""

from __future__ import annotations

import json
from typing import Any

from botocore.client import BaseClient

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "long": (int,), "double": (int, float), "float": (int, float),
    "boolean": (bool,), "blob": (str,), "list": (list,), "map": (dict,), "structure": (dict,),
}  # fmt: skip


#: What was recorded of AWS although its model does not know it (fact sheet 9.1, trap 47).
_RECORDED = {("LastUpdateStatusReasonCode", "Creating")}
_MAY_BE_EMPTY = frozenset({"GetFunctionCodeSigningConfig"})


def watch(client: BaseClient) -> None:
    """Check every answer of a JSON service from now on. Broken ones are an AssertionError of the call."""
    if client.meta.service_model.metadata["protocol"] in ("rest-json", "json"):
        client.meta.events.register("after-call", _check)


def _check(http_response: Any, model: Any, **_: Any) -> None:
    shape = model.output_shape
    if http_response.status_code >= 300 or shape is None or model.has_streaming_output or model.has_event_stream_output:
        return
    document = json.loads(http_response.content or b"{}")
    if document or model.name not in _MAY_BE_EMPTY:
        _judge(document, shape, model.name)


def _judge(value: Any, shape: Any, where: str) -> None:
    """`value` is JSON, `shape` one of botocore's, `where` its place in the answer."""
    if value is None or (shape.name, str(value)) in _RECORDED:
        return
    expected: tuple[type, ...] = (str,) if _is_text_time(shape) else _TYPES.get(shape.type_name, (int, float))
    right = isinstance(value, expected) and (shape.type_name == "boolean" or not isinstance(value, bool))
    assert right, f"{where} is {value!r}, not {shape.type_name}"
    enum = getattr(shape, "enum", ())
    assert not enum or value in enum, f"{where} is {value!r}, not one of {enum}"
    if shape.type_name == "structure":
        members = {member.serialization.get("name", name): member for name, member in shape.members.items()
                   if "location" not in member.serialization}  # fmt: skip
        assert value.keys() <= members.keys(), f"{where} has unknown members {value.keys() - members.keys()}"
        missing = {name for name in shape.required_members if name in members} - value.keys()
        assert not missing, f"{where} lacks {missing}"
        for name, item in value.items():
            _judge(item, members[name], f"{where}.{name}")
    elif shape.type_name == "list":
        for number, item in enumerate(value):
            _judge(item, shape.member, f"{where}[{number}]")
    elif shape.type_name == "map":
        for name, item in value.items():
            _judge(item, shape.value, f"{where}.{name}")


def _is_text_time(shape: Any) -> bool:
    return shape.type_name == "timestamp" and shape.serialization.get("timestampFormat") in ("iso8601", "rfc822")
