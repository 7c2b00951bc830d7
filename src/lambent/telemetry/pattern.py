"""Filter patterns of CloudWatch Logs, compiled to predicates on a message.

Terms (`ERROR`, `"a phrase"`, `-not`, `?any`) look for text, with case; `{ $.level = "ERROR" && $.ms > 10 }` looks
into messages that are JSON. Patterns over space-separated fields (`[ip, user, ...]`) and regular expressions
(`%...%`) are refused in words. Each match takes time linear in the message. Source: "Filter pattern syntax" in the
CloudWatch Logs user guide.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec

Match = Callable[[str], bool]
_Test = Callable[[Any], bool]

LENGTH = 1024  # API reference, FilterLogEvents
_DEPTH = 20
_MISSING = object()
_TERM = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"(?=\s|$)|([^\s"]+))')
_TOKEN = re.compile(r'\s*(\|\||&&|[()]|!=|<=|>=|[=<>]|"(?:[^"\\]|\\.)*"|[^\s()=<>!|&"]+)')
_STEP = re.compile(r"""\.?\[\s*(?:(\d+)|'([^']*)'|"([^"]*)")\s*\]|\.([^.\[\]]+)""")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


class BadPattern(ValueError):
    """A pattern is wrong, or of a kind that is not served; the message says what."""


def compile_pattern(text: str | None) -> Match | None:
    """A predicate; None when everything matches. Raises BadPattern."""
    if text is None or not text.strip():
        return None
    if len(text) > LENGTH:
        raise BadPattern(f"Invalid filter pattern: longer than {LENGTH} characters")
    pattern = text.strip()
    if pattern.startswith("{"):
        return _json_match(pattern)
    if pattern.startswith("["):
        raise BadPattern("Invalid filter pattern: patterns of space-delimited fields ([a, b, ...]) are not supported")
    return _terms_match(pattern)


def _terms_match(pattern: str) -> Match | None:
    wanted: list[str] = []
    unwanted: list[str] = []
    optional: list[str] = []
    position = 0
    while position < len(pattern):
        found = _TERM.match(pattern, position)
        if found is None:
            raise BadPattern(f"Invalid filter pattern: cannot read {pattern[position:].strip()!r}")
        position = found.end()
        sign, phrase, word = found.groups()
        if word is not None and len(word) > 1 and word[0] == word[-1] == "%":
            raise BadPattern("Invalid filter pattern: regular expressions (%...%) are not supported")
        term = word if phrase is None else _unescaped(phrase)
        {"": wanted, "-": unwanted, "?": optional}[sign].append(term)
    if wanted or unwanted:
        optional = []  # "?" counts only in patterns that have nothing else

    def match(message: str) -> bool:
        return (
            all(term in message for term in wanted)
            and not any(term in message for term in unwanted)
            and (not optional or any(term in message for term in optional))
        )

    return match


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _json_match(pattern: str) -> Match:
    if not pattern.endswith("}"):
        raise BadPattern("Invalid filter pattern: no closing brace")
    test = _Parser(pattern[1:-1]).expression_to_the_end()

    def match(message: str) -> bool:
        if message.lstrip()[:1] not in ("{", "["):
            return False
        try:
            return test(msgspec.json.decode(message))
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
            return False

    return match


class _Parser:
    """Recursive descent: `||` binds weaker than `&&`."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0

    def expression_to_the_end(self) -> _Test:
        test = self._any(0)
        if self._peek():
            self._fail()
        return test

    def _any(self, depth: int) -> _Test:
        tests = [self._all(depth)]
        while self._peek() == "||":
            self._take()
            tests.append(self._all(depth))
        return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)

    def _all(self, depth: int) -> _Test:
        tests = [self._one(depth)]
        while self._peek() == "&&":
            self._take()
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)

    def _one(self, depth: int) -> _Test:
        if self._peek() != "(":
            return self._condition()
        if depth >= _DEPTH:
            raise BadPattern("Invalid filter pattern: too many parentheses")
        self._take()
        test = self._any(depth + 1)
        if self._take() != ")":
            self._fail()
        return test

    def _condition(self) -> _Test:
        select = _selector(self._take())
        operation = self._take().upper()
        if operation in _COMPARE:
            compare = _comparison(operation, self._take())
            return lambda value: (found := select(value)) is not _MISSING and compare(found)
        word = self._take().upper()
        if operation == "NOT" and word == "EXISTS":
            return lambda value: select(value) is _MISSING
        if operation == "IS" and word in _CONSTANTS:
            constant = _CONSTANTS[word]
            return lambda value: select(value) is constant
        self._fail()

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _fail(self) -> NoReturn:
        raise BadPattern(f"Invalid filter pattern: cannot read {' '.join(self._tokens)!r}")


_CONSTANTS = {"NULL": None, "TRUE": True, "FALSE": False}


def _tokens(text: str) -> Iterator[str]:
    position, text = 0, text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise BadPattern(f"Invalid filter pattern: cannot read {text[position:].strip()!r}")
        position = found.end()
        yield found[1]


def _selector(text: str) -> Callable[[Any], Any]:
    """What `$.a.b[0]` points at in a value, or _MISSING."""
    if not text.startswith("$"):
        raise BadPattern(f"Invalid filter pattern: {text!r} is not a selector such as $.level")
    steps: list[int | str] = []
    position = 1
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            raise BadPattern(f"Invalid filter pattern: {text!r} is not a selector such as $.level")
        position = found.end()
        index, single, double, name = found.groups()
        steps.append(int(index) if index is not None else next(s for s in (single, double, name) if s is not None))

    def select(value: Any) -> Any:
        for step in steps:
            if isinstance(step, int):
                if not isinstance(value, list) or step >= len(value):
                    return _MISSING
            elif not isinstance(value, dict) or step not in value:
                return _MISSING
            value = value[step]
        return value

    return select


def _comparison(operation: str, literal: str) -> _Test:
    if not literal or literal in ("(", ")", "&&", "||") or literal in _COMPARE:
        raise BadPattern(f"Invalid filter pattern: nothing to compare with after {operation!r}")
    quoted = literal.startswith('"')
    text = _unescaped(literal[1:-1]) if quoted else literal
    number = None if quoted else _number(literal)
    if operation not in ("=", "!="):
        if number is None:
            raise BadPattern(f"Invalid filter pattern: {operation} needs a number, not {literal}")
        limit, compare = number, _COMPARE[operation]
        return lambda value: _is_number(value) and compare(value, limit)
    pieces = text.split("*")

    def equal(value: Any) -> bool:
        if isinstance(value, str):
            return _like(value, pieces)
        return _is_number(value) and (value == number or pieces == ["", ""])

    return equal if operation == "=" else lambda value: not equal(value)


def _like(text: str, pieces: list[str]) -> bool:
    """`pieces` stand between asterisks: the first and last at the ends, the others in order."""
    if len(pieces) == 1:
        return text == pieces[0]
    first, *middle, last = pieces
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle:
        position = text.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return True


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", text) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
