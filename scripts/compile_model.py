"""Compile botocore's service models into `src/lambent/control/model.py`.

The Lambda API's contract (routes, shapes, limits, error codes) is taken from the pinned botocore, which is a
development dependency only: the package reads the committed result and never imports botocore. `tests/control/
test_model_drift.py` fails when the committed file is not what this script makes. Where the service behaves otherwise
than its model says, `src/lambent/control/overrides.py` has the difference; nothing is corrected here.

Usage: python scripts/compile_model.py [--check]
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "src" / "lambent" / "control" / "model.py"

#: CloudWatch Logs operations that the server answers, or may answer soon; the others are unknown to it.
LOGS_OPERATIONS = (
    "CreateLogGroup", "CreateLogStream", "DeleteLogGroup", "DeleteLogStream", "DeleteRetentionPolicy",
    "DescribeLogGroups", "DescribeLogStreams", "FilterLogEvents", "GetLogEvents", "ListTagsForResource",
    "ListTagsLogGroup", "PutLogEvents", "PutRetentionPolicy", "StartLiveTail", "TagLogGroup", "TagResource",
    "UntagLogGroup", "UntagResource",
)  # fmt: skip

HEAD = '''"""Routes, shapes and errors of the Lambda API and of the CloudWatch Logs operations that tools use.

Written by `scripts/compile_model.py` from botocore {version}; do not edit. `control/overrides.py` holds the
differences between the model and the service; `control/routes.py` and `control/validate.py` read these tables.

OPERATIONS: name -> (method, URI template, success status, input shape or None, codes of its errors)
SHAPES: name -> type and constraints; `members` maps a member's name to (shape, where, wire name), where being
"", "uri", "query" or "header"; `body` names the member that is the whole request body.
ERRORS: code -> (status, name of the message member)
"""

# ruff: noqa
from typing import Any

'''


def load(service: str, version: str) -> dict[str, Any]:
    """botocore's model of a service, as it lies in the package."""
    import botocore

    path = Path(botocore.__file__).parent / "data" / service / version / "service-2.json.gz"
    model: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return model


def reachable(shapes: dict[str, Any], roots: list[str]) -> list[str]:
    """Names of the shapes that requests can contain, sorted."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        shape = shapes[name]
        todo += [member["shape"] for member in shape.get("members", {}).values()]
        todo += [shape[part]["shape"] for part in ("member", "key", "value") if part in shape]
    return sorted(found)


WHERE = {"uri": "uri", "querystring": "query", "header": "header"}


def compact(shape: dict[str, Any]) -> dict[str, Any]:
    """One shape without its prose."""
    result: dict[str, Any] = {"type": shape["type"]}
    for key in ("min", "max", "pattern", "enum", "required", "sensitive"):
        value = shape.get(key)
        if value not in (None, []) and value is not False:  # a minimum of 0 equals False, and is a minimum
            result[key] = value
    for part in ("member", "key", "value"):
        if part in shape:
            result[part] = shape[part]["shape"]
    if shape["type"] == "structure":
        result["members"] = {
            name: (member["shape"], WHERE[member["location"]] if "location" in member else "",
                   member.get("locationName", name))
            for name, member in shape.get("members", {}).items()
        }  # fmt: skip
        if "payload" in shape:
            result["body"] = shape["payload"]
    return result


def operations(model: dict[str, Any], names: list[str]) -> list[str]:
    lines = []
    for name in names:
        operation = model["operations"][name]
        http = operation["http"]
        shape = operation.get("input", {}).get("shape")
        codes = tuple(error["shape"] for error in operation.get("errors", ()))
        row = (http["method"], http["requestUri"], http.get("responseCode", 200), shape, codes)
        lines.append(f"    {name!r}: {row!r},")
    return lines


def shapes(model: dict[str, Any], names: list[str]) -> list[str]:
    roots = [model["operations"][name]["input"]["shape"] for name in names if "input" in model["operations"][name]]
    return [f"    {name!r}: {compact(model['shapes'][name])!r}," for name in reachable(model["shapes"], roots)]


def errors(model: dict[str, Any]) -> list[str]:
    lines = []
    for name, shape in sorted(model["shapes"].items()):
        if shape.get("exception"):
            status = shape.get("error", {}).get("httpStatusCode", 500 if shape.get("fault") else 400)
            member = next((member for member in shape["members"] if member.lower() == "message"), "message")
            lines.append(f"    {name!r}: {(status, member)!r},")
    return lines


def render() -> str:
    """The whole text of the committed module."""
    import botocore

    functions = load("lambda", "2015-03-31")
    logs = load("logs", "2014-03-28")
    names = sorted(functions["operations"])
    row = "tuple[str, str, int, str | None, tuple[str, ...]]"
    parts = [HEAD.format(version=botocore.__version__)]
    tables = (
        ("OPERATIONS", row, operations(functions, names)),
        ("SHAPES", "dict[str, Any]", shapes(functions, names)),
        ("ERRORS", "tuple[int, str]", errors(functions)),
        ("LOGS_OPERATIONS", row, operations(logs, list(LOGS_OPERATIONS))),
        ("LOGS_SHAPES", "dict[str, Any]", shapes(logs, list(LOGS_OPERATIONS))),
    )
    for name, kind, lines in tables:
        parts.append(f"{name}: dict[str, {kind}] = {{\n" + "\n".join(lines) + "\n}\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def main(arguments: list[str]) -> int:
    text = render()
    if arguments == ["--check"]:
        if TARGET.read_text("utf-8") != text:
            print(f"{TARGET} is not what the pinned botocore gives; run scripts/compile_model.py", file=sys.stderr)
            return 1
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    TARGET.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
