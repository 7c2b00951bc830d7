"""JSON of plain values: what `simplejson` makes of them in the official client, without an import of it.

That package takes 4 ms of a cold start (`re`, `decimal`, classes of its own), while the interpreter's `_json` reads and
writes the same texts. Whatever the two may see in different ways is not plain: then the official client decides. A test
compares both on any values.
"""

import os
from _json import encode_basestring, encode_basestring_ascii, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Parts of a text that are written here; there are faster ways for more.
MOST_PARTS = 300
_SPACE = " \t\n\r"
#: Where the official client writes what is not ASCII as it is.
_UNESCAPED = {f"AWS_Lambda_python3.{minor}" for minor in range(12, 16)}


class NotPlain(Exception):
    """The official client may see this in another way."""


def _refuse(constant: str) -> "Any":
    raise NotPlain(constant)  # NaN and its like


class _Reading:
    """What the scanner of the standard library asks for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse)


_scan = make_scanner(_Reading)  # type: ignore[arg-type]


def loads(body: bytes) -> "Any":
    """The value of a JSON text. Raises NotPlain, or whatever else, if only the official client can tell."""
    text = body.decode()
    begin, end = 0, len(text)
    while begin < end and text[begin] in _SPACE:
        begin += 1
    try:
        value, at = _scan(text, begin)
    except StopIteration:
        raise NotPlain("no value") from None
    if at != end and text[at:].strip(_SPACE):
        raise NotPlain("more than one value")
    return value


class Writer:
    """For the conventions of the running version, which the environment names."""

    def __init__(self) -> None:
        unescaped = os.environ.get("AWS_EXECUTION_ENV") in _UNESCAPED
        self._quote = encode_basestring if unescaped else encode_basestring_ascii

    def dumps(self, value: "Any") -> str:
        """The value's text. Raises NotPlain for what is not made of exact, finite built-in values, or large."""
        if type(value) is str:
            return self._quote(value)
        parts: list[str] = []
        self._write(value, parts)
        return "".join(parts)

    def _write(self, value: "Any", parts: "list[str]") -> None:
        kind = type(value)
        if kind is str:
            parts.append(self._quote(value))
        elif value is None:
            parts.append("null")
        elif kind is bool:
            parts.append("true" if value else "false")
        elif kind is int or (kind is float and value - value == 0):
            parts.append(repr(value))
        elif kind is dict:
            self._write_dict(value, parts)
        elif kind is list or kind is tuple:
            self._write_list(value, parts)
        else:
            raise NotPlain(kind.__name__)

    def _write_dict(self, values: "dict[Any, Any]", parts: "list[str]") -> None:
        before = "{"
        for name, value in values.items():
            if type(name) is not str or len(parts) > MOST_PARTS:
                raise NotPlain("a key, or too many")
            parts.append(f"{before}{self._quote(name)}: ")
            self._write(value, parts)
            before = ", "
        parts.append("}" if values else "{}")

    def _write_list(self, values: "list[Any] | tuple[Any, ...]", parts: "list[str]") -> None:
        before = "["
        for value in values:
            if len(parts) > MOST_PARTS:
                raise NotPlain("too many")
            parts.append(before)
            self._write(value, parts)
            before = ", "
        parts.append("]" if values else "[]")
