"""A request as plain Python: path labels, query, headers and JSON body of one operation, judged against the model.

What comes out has the model's member names, only known members, every constraint checked. What goes wrong is AWS's
framework error: `ValidationException` for broken constraints, all of them in one message; `SerializationException` for
a body that is not JSON or has a value of another type. Rules that are not in the model belong to the operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from lambent.control.model import LOGS_OPERATIONS
from lambent.control.routes import Operation
from lambent.control.shapes import Boolean, List, Number, Shape, Structure, serialization_error, shape
from lambent.errors import ApiError
from lambent.names import validation_error


def decode(operation: Operation, labels: Mapping[str, str], query: str, headers: Mapping[str, str],
           body: bytes) -> dict[str, Any]:
    """The parameters of a Lambda request. Raises ApiError as told above."""
    if operation.shape is None:
        return {}
    request = shape(operation.shape)
    assert isinstance(request, Structure)
    given = _located(request, labels, query, headers)
    if request.body is not None:
        inner = request.members[request.body][0]
        given[request.body] = _json(body) if isinstance(inner, Structure) and body else body or None
    elif any(where == "" for _, where, _ in request.members.values()):
        document = _json(body) if body.strip() else {}
        if not isinstance(document, dict):
            raise serialization_error("Start of structure or map was expected.")
        # A member that travels elsewhere is not taken from the body, whatever the body says.
        given |= {wire: document.get(wire) for _, where, wire in request.members.values() if where == ""}
    return judge(request, given)


def decode_logs(name: str, body: bytes) -> dict[str, Any]:
    """The parameters of a CloudWatch Logs request (JSON 1.1). Raises ApiError; constraints are the service's
    InvalidParameterException."""
    name = LOGS_OPERATIONS[name][3] or ""
    request = shape(name, True)
    assert isinstance(request, Structure)
    document = _json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise serialization_error("Start of structure or map was expected.")
    try:
        return judge(request, document)
    except ApiError as error:
        if error.code == "ValidationException":
            raise ApiError("InvalidParameterException", error.message) from None
        raise


def judge(request: Structure, given: dict[str, Any]) -> dict[str, Any]:
    """A document as the structure's members, or the one error that lists what is wrong."""
    problems: list[str] = []
    params = request.decode(given, "", problems)
    if problems:
        raise validation_error(problems)
    return params


def _json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise serialization_error(f"Could not parse request body into json: {error}") from None
    except RecursionError:
        raise serialization_error("Could not parse request body into json: nested too deeply") from None


def _located(request: Structure, labels: Mapping[str, str], query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    pairs: list[tuple[str, str]] | None = None
    for member, (member_shape, where, wire) in request.members.items():
        if where == "uri":
            given[member] = _text(member_shape, labels.get(wire))
        elif where == "header":
            given[member] = _text(member_shape, headers.get(wire.lower()))
        elif where == "query":
            if pairs is None:
                pairs = parse_qsl(query, keep_blank_values=True)
            values = [value for name, value in pairs if name == wire]
            if isinstance(member_shape, List):
                given[member] = [_text(member_shape.element, value) for value in values] or None
            else:
                given[member] = _text(member_shape, values[0] if values else None)
    return given


def _text(target: Shape, text: str | None) -> Any:
    """Text of a query or a header as the JSON value that its shape takes."""
    if text is None:
        return None
    if isinstance(target, Boolean):
        return {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(target, Number):
        try:
            return int(text) if target.whole else float(text)
        except ValueError:
            return text
    return text
