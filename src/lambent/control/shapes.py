"""The model's shapes as objects that decode one JSON value and list what is wrong with it, in AWS's words.

Two kinds of wrong: a value of another JSON type is a SerializationException at once; a broken constraint is a sentence
in `problems`, of which `control/validate.py` makes one ValidationException. Paths are written as AWS writes them
(`environment.variables`, `filters.1.member.pattern`). Wording: fact sheet 6.4, 9.5, 18.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import msgspec

from lambent.control import overrides
from lambent.control.model import LOGS_SHAPES, SHAPES
from lambent.errors import ApiError

Problems = list[str]
#: Whether a value obeys, and the sentence for when it does not.
Rule = tuple[Callable[[Any], bool], str]
_NOT_NULL = "Member must not be null"
#: Where base64 is decoded in slices, so that other threads get their turn in between. A multiple of four.
_SLICE = 1 << 20
#: The year 9999, in which calendars of most languages end.
_MAX_TIME_S = 253_402_300_800


def serialization_error(message: str) -> ApiError:
    return ApiError("SerializationException", message)


def lower_first(name: str) -> str:
    """`MemorySize` as the framework's messages say it."""
    return name[:1].lower() + name[1:]


class Shape:
    """A shape of the model: `decode` gives the value as plain Python and adds broken constraints to `problems`."""

    __slots__ = ("name", "rules", "sensitive")

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        self.name = name
        self.sensitive = bool(row.get("sensitive"))
        self.rules: list[Rule] = []

    def decode(self, value: Any, path: str, problems: Problems) -> Any:
        value = self.convert(value)
        self.check(value, path, problems)
        return value

    def convert(self, value: Any) -> Any:
        raise NotImplementedError

    def check(self, value: Any, path: str, problems: Problems) -> None:
        for obeys, sentence in self.rules:
            if not obeys(value):
                problems.append(f"{self.shown(value)} at '{path}' failed to satisfy constraint: {sentence}")

    def shown(self, value: Any) -> str:
        return "Value" if self.sensitive else f"Value '{display(value)}'"

    def obeys(self, value: Any) -> bool:
        return all(rule(value) for rule, _ in self.rules)

    def sentences(self) -> str:
        """All rules, as the message of a list or a map lists those of its members."""
        return ", ".join([sentence for _, sentence in self.rules] + [_NOT_NULL])


class String(Shape):
    __slots__ = ()

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        super().__init__(name, row)
        self.rules += _length_rules(row)
        if "pattern" in row:
            matches = _matcher(row["pattern"])
            self.rules.append((matches, f"Member must satisfy regular expression pattern: {row['pattern']}"))
        if "enum" in row:
            values = frozenset(row["enum"])
            sentence = f"Member must satisfy enum value set: [{', '.join(row['enum'])}]"
            self.rules.append((values.__contains__, sentence))

    def convert(self, value: Any) -> str:
        if not isinstance(value, str):
            raise _mismatch(value, "a String")
        return value


class Number(Shape):
    __slots__ = ("whole",)

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        super().__init__(name, row)
        self.whole = row["type"] in ("integer", "long")
        minimum, maximum = row.get("min"), row.get("max")
        if self.whole:
            # What does not fit would break whatever reads it later, SQLite first of all.
            limit = 2**63 if row["type"] == "long" else 2**31
            maximum = limit - 1 if maximum is None else maximum
            minimum = -limit if minimum is None else minimum
        self.rules += _bounds(minimum, maximum, "value", lambda value: value)

    def convert(self, value: Any) -> int | float:
        expected = "an Integer" if self.whole else "a Double"
        if not _is_number(value):
            raise _mismatch(value, expected)
        if self.whole and isinstance(value, float):
            if not value.is_integer():
                raise serialization_error(f"DECIMAL_VALUE can not be converted to {expected}")
            return int(value)
        return value if self.whole else float(value)  # messages show a double as Java does: 2.0


class Boolean(Shape):
    __slots__ = ()

    def convert(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise _mismatch(value, "a Boolean")
        return value


class Timestamp(Shape):
    """Seconds since the epoch."""

    __slots__ = ()

    def convert(self, value: Any) -> float:
        if not _is_number(value) or abs(value) >= _MAX_TIME_S:
            raise _mismatch(value, "a Timestamp")
        return float(value)


class Blob(Shape):
    """Base64 in JSON, bytes here."""

    __slots__ = ()

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        super().__init__(name, row)
        self.rules += _length_rules(row)

    def convert(self, value: Any) -> bytes:
        if isinstance(value, bytes):  # the whole request body
            return value
        if not isinstance(value, str):
            raise _mismatch(value, "a Blob")
        try:
            # msgspec is as strict as base64.b64decode(validate=True), and seven times as fast.
            parts = [msgspec.convert(value[start : start + _SLICE], bytes) for start in range(0, len(value), _SLICE)]
        except msgspec.ValidationError:
            raise serialization_error("The value is not Base64-encoded") from None
        if any(len(part) != _SLICE // 4 * 3 for part in parts[:-1]):  # padding, and no end
            raise serialization_error("The value is not Base64-encoded")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def shown(self, value: Any) -> str:
        return "Value"


class List(Shape):
    __slots__ = ("element",)

    def __init__(self, name: str, row: dict[str, Any], element: Shape) -> None:
        super().__init__(name, row)
        self.rules += _length_rules(row)
        self.element = element
        self.sensitive = self.sensitive or element.sensitive

    def decode(self, value: Any, path: str, problems: Problems) -> list[Any]:
        if not isinstance(value, list):
            raise _mismatch(value, "a List")
        if isinstance(self.element, Structure | List | Map):
            result = [self.element.decode({} if item is None else item, f"{path}.{number}.member", problems)
                      for number, item in enumerate(value, 1)]  # fmt: skip
            self.check(result, path, problems)
            return result
        present = [item if item is None else self.element.convert(item) for item in value]
        if not all(item is not None and self.element.obeys(item) for item in present):
            problems.append(f"{self.shown(present)} at '{path}' failed to satisfy constraint: "
                            f"Member must satisfy constraint: [{self.element.sentences()}]")  # fmt: skip
        self.check(present, path, problems)
        return present


class Map(Shape):
    __slots__ = ("item", "key")

    def __init__(self, name: str, row: dict[str, Any], key: Shape, item: Shape) -> None:
        super().__init__(name, row)
        self.rules += _length_rules(row)
        self.key = key
        self.item = item
        self.sensitive = self.sensitive or key.sensitive or item.sensitive

    def decode(self, value: Any, path: str, problems: Problems) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, "a Map")
        if isinstance(self.item, Structure | List | Map):
            result = {key: self.item.decode(item, f"{path}.{key}.member", problems)
                      for key, item in value.items() if item is not None}  # fmt: skip
        else:
            result = {key: self.item.convert(item) for key, item in value.items() if item is not None}
            self._check_each(result.values(), self.item, "value", result, path, problems)
        if len(result) < len(value):
            problems.append(f"{self.shown(value)} at '{path}' failed to satisfy constraint: "
                            f"Map value must satisfy constraint: [{self.item.sentences()}]")  # fmt: skip
        self._check_each(result.keys(), self.key, "keys", result, path, problems)
        self.check(result, path, problems)
        return result

    def _check_each(self, values: Iterable[Any], shape: Shape, what: str, whole: dict[str, Any], path: str,
                    problems: Problems) -> None:
        if not all(shape.obeys(value) for value in values):
            problems.append(f"{self.shown(whole)} at '{path}' failed to satisfy constraint: "
                            f"Map {what} must satisfy constraint: [{shape.sentences()}]")  # fmt: skip


class Structure(Shape):
    """Members that are unknown are ignored; a null is the same as none."""

    __slots__ = ("body", "members", "required", "row")

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        super().__init__(name, row)
        self.required = frozenset(row.get("required", ()))
        self.body: str | None = row.get("body")
        self.members: dict[str, tuple[Shape, str, str]] = {}

    def decode(self, value: Any, path: str, problems: Problems) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, "a Structure")
        result: dict[str, Any] = {}
        for member, (shape, _, _) in self.members.items():
            item = value.get(member)
            inner = lower_first(member) if not path else f"{path}.{lower_first(member)}"
            if item is not None:
                result[member] = shape.decode(item, inner, problems)
            elif member in self.required:
                problems.append(f"Value null at '{inner}' failed to satisfy constraint: {_NOT_NULL}")
        return result


_SCALARS: dict[str, type[Shape]] = {
    "string": String, "integer": Number, "long": Number, "double": Number, "float": Number, "boolean": Boolean,
    "timestamp": Timestamp, "blob": Blob,
}  # fmt: skip


@cache
def shape(name: str, logs: bool = False) -> Shape:
    """The shape of this name, with the overrides laid over it; made when first asked for."""
    row = dict((LOGS_SHAPES if logs else SHAPES)[name])
    if not logs:
        row |= overrides.SHAPES.get(name, {})
    kind = row["type"]
    if kind == "list":
        return List(name, row, shape(row["member"], logs))
    if kind == "map":
        return Map(name, row, shape(row["key"], logs), shape(row["value"], logs))
    if kind == "structure":
        structure = Structure(name, row)
        for member, (member_shape, where, wire) in row["members"].items():
            chosen = member_shape if logs else overrides.MEMBERS.get((name, member), member_shape)
            structure.members[member] = (shape(chosen, logs), where, wire)
        return structure
    return _SCALARS[kind](name, row)


def display(value: Any) -> str:
    """A value as Java prints it, which is how AWS's messages show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(display, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{display(key)}={display(item)}" for key, item in value.items()) + "}"
    return "null" if value is None else str(value)


def _length_rules(row: dict[str, Any]) -> list[Rule]:
    return _bounds(row.get("min"), row.get("max"), "length", len)


def _bounds(minimum: Any, maximum: Any, what: str, measure: Callable[[Any], Any]) -> list[Rule]:
    rules: list[Rule] = []
    if maximum is not None:
        sentence = f"Member must have {what} less than or equal to {maximum}"
        rules.append((lambda value: measure(value) <= maximum, sentence))
    if minimum is not None:
        sentence = f"Member must have {what} greater than or equal to {minimum}"
        rules.append((lambda value: measure(value) >= minimum, sentence))
    return rules


def _matcher(pattern: str) -> Callable[[Any], bool]:
    compiled: Any = None

    def matches(value: str) -> bool:
        nonlocal compiled
        if compiled is None:
            if "\\p{" in pattern:
                import regex  # type: ignore[import-untyped]  # only the patterns with Unicode classes

                compiled = regex.compile(pattern)
            else:
                compiled = re.compile(pattern, re.ASCII)
        return compiled.fullmatch(value) is not None

    return matches


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _mismatch(value: Any, expected: str) -> ApiError:
    if isinstance(value, dict):
        return serialization_error("Start of structure or map found where not expected.")
    if isinstance(value, list):
        return serialization_error("Start of list found where not expected")
    found = {str: "STRING_VALUE", bool: "TRUE_VALUE" if value else "FALSE_VALUE", int: "NUMBER_VALUE",
             float: "DECIMAL_VALUE"}.get(type(value), "VALUE_NULL")  # fmt: skip
    return serialization_error(f"{found} can not be converted to {expected}")
