"""From method and path to an operation of the Lambda API.

The URI templates are the model's. Path segments are split before they are percent-decoded, so an ARN with an encoded
slash stays one label; a trailing slash is accepted, since older SDKs send one (trap 48).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lambent.control import overrides
from lambent.control.model import OPERATIONS


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the model."""

    name: str
    method: str
    uri: str
    status: int  #: of a success
    shape: str | None  #: of its request


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    label: _Node | None = None
    #: method -> (literal query that must be there or "", operation, names of the labels), the strictest first
    operations: dict[str, list[tuple[str, Operation, tuple[str, ...]]]] = field(default_factory=dict)


def _plant(table: dict[str, Any]) -> tuple[_Node, dict[str, Operation]]:
    root = _Node()
    operations = {}
    for name, (method, uri, status, shape, _) in table.items():
        operation = Operation(name, method, uri, overrides.STATUSES.get(name, status), shape)
        operations[name] = operation
        path, _, query = uri.partition("?")
        node, labels = root, []
        for segment in path.strip("/").split("/"):
            if segment.startswith("{"):
                labels.append(segment.strip("{}"))
                node.label = node.label or _Node()
                node = node.label
            else:
                node = node.literal.setdefault(segment, _Node())
        rows = node.operations.setdefault(method, [])
        rows.append((query, operation, tuple(labels)))
        rows.sort(key=lambda row: not row[0])
    return root, operations


_ROOT, BY_NAME = _plant(OPERATIONS)


def find(method: str, path: str, query: str) -> tuple[Operation, dict[str, str]] | None:
    """The operation and its decoded labels, or None when there is no such route. `path` is still percent-encoded."""
    segments = path.strip("/").split("/")
    values: list[str] = []
    node: _Node | None = _ROOT
    for segment in segments:
        assert node is not None
        following = node.literal.get(segment)
        if following is None:
            following = node.label
            values.append(unquote(segment, errors="replace"))
        if following is None or not segment:
            return None
        node = following
    assert node is not None
    parts = query.split("&") if query else []
    for needed, operation, labels in node.operations.get(method, ()):
        if not needed or needed in parts:
            return operation, dict(zip(labels, values, strict=True))
    return None
