"""Filter patterns against messages, as the user guide's tables have them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.telemetry.pattern import LENGTH, BadPattern, compile_pattern


def matches(pattern: str, message: str) -> bool:
    match = compile_pattern(pattern)
    return match is None or match(message)


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("", ["anything", ""], []),
        ("  ", ["anything"], []),
        ("ERROR", ["[ERROR 400] BAD REQUEST", "ERRORS"], ["error", "WARN"]),
        ("ERROR ARGUMENTS", ["ERROR for ARGUMENTS", "ARGUMENTS: ERROR"], ["ERROR", "ARGUMENTS"]),
        ('"INTERNAL SERVER ERROR"', ["[500] INTERNAL SERVER ERROR"], ["SERVER INTERNAL ERROR"]),
        (r'"say \"hi\""', ['they say "hi"'], ["they say hi"]),
        ("?ERROR ?WARN", ["ERROR", "WARN"], ["INFO"]),
        ("ERROR -ARGUMENTS", ["ERROR"], ["ERROR ARGUMENTS", "INFO"]),
        ("-INFO", ["ERROR"], ["INFO"]),
        ('-"two words"', ["two other words"], ["of two words"]),
        ("?ERROR TASK", ["TASK"], ["ERROR"]),
        ("REPORT RequestId:", ["REPORT RequestId: 1"], ["END RequestId: 1"]),
    ],
)
def test_terms(pattern: str, hits: list[str], misses: list[str]) -> None:
    assert [matches(pattern, message) for message in hits] == [True] * len(hits)
    assert [matches(pattern, message) for message in misses] == [False] * len(misses)


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ('{ $.level = "ERROR" }', ['{"level":"ERROR"}', ' {"level": "ERROR", "a": 1}\n'],
         ['{"level":"INFO"}', "level ERROR", "{}", '{"level":null}', '{"level":["ERROR"]}']),
        ('{$.level="ERROR"}', ['{"level":"ERROR"}'], ['{"level":"INFO"}']),
        ('{ $.name = "a*z" }', ['{"name":"az"}', '{"name":"abcz"}'], ['{"name":"a"}', '{"name":"azb"}']),
        ("{ $.ip = 10.1.* }", ['{"ip":"10.1.2.3"}'], ['{"ip":"10.2.2.3"}']),
        ("{ $.name = * }", ['{"name":"x"}', '{"name":7}'], ['{"other":1}']),
        ("{ $.ms > 10 }", ['{"ms":11}', '{"ms":10.5}'], ['{"ms":10}', '{"ms":"11"}', '{"ms":true}']),
        ("{ $.ms <= 1e3 }", ['{"ms":1000}'], ['{"ms":1001}']),
        ("{ $.n = 7 }", ['{"n":7}', '{"n":7.0}', '{"n":"7"}'], ['{"n":8}']),
        ("{ $.n != 7 }", ['{"n":8}'], ['{"n":7}', "{}"]),
        ("{ $.a.b[1].c = 1 }", ['{"a":{"b":[0,{"c":1}]}}'], ['{"a":{"b":[{"c":1}]}}', '{"a":1}']),
        ("{ $['odd.name'] = 1 }", ['{"odd.name":1}'], ['{"odd":{"name":1}}']),
        ("{ $[0] = 1 }", ["[1]"], ["[]", "[2]"]),
        ("{ $.a IS NULL }", ['{"a":null}'], ["{}", '{"a":0}']),
        ("{ $.a IS TRUE }", ['{"a":true}'], ['{"a":1}']),
        ("{ $.a NOT EXISTS }", ["{}"], ['{"a":null}']),
        ("{ ($.a = 1 || $.a = 2) && $.b = 3 }", ['{"a":2,"b":3}'], ['{"a":2}', '{"a":3,"b":3}']),
        ("{ $.a = 1 || $.a = 2 && $.b = 3 }", ['{"a":1}', '{"a":2,"b":3}'], ['{"a":2}']),
    ],
)  # fmt: skip
def test_json_patterns(pattern: str, hits: list[str], misses: list[str]) -> None:
    assert [matches(pattern, message) for message in hits] == [True] * len(hits)
    assert [matches(pattern, message) for message in misses] == [False] * len(misses)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("[ip, user, ...]", "space-delimited"),
        ("%[Ee]rror%", "regular expressions"),
        ("{ $.a = 1", "closing brace"),
        ("{ }", "not a selector"),
        ("{ a = 1 }", "not a selector"),
        ("{ $.a }", "cannot read"),
        ("{ $.a = }", "nothing to compare"),
        ("{ $.a = = }", "nothing to compare"),
        ("{ $.a > x }", "needs a number"),
        ("{ $.a = 1 $.b = 2 }", "cannot read"),
        ("{ ($.a = 1 }", "cannot read"),
        ("{ $.a IS BIG }", "cannot read"),
        ("{ $..a = 1 }", "not a selector"),
        ("{ $.a = 'b | c' }", "cannot read"),
        ("{" + "(" * 100 + "$.a = 1" + ")" * 100 + "}", "too many parentheses"),
        ('"unclosed', "cannot read"),
        ("x" * (LENGTH + 1), "longer than"),
    ],
)  # fmt: skip
def test_wrong_patterns_say_what_is_wrong(pattern: str, says: str) -> None:
    with pytest.raises(BadPattern, match=says):
        compile_pattern(pattern)


def test_message_nested_beyond_reason_does_not_match() -> None:
    assert not matches("{ $.a = 1 }", "[" * 100_000)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_a_pattern_or_refused(pattern: str, message: str) -> None:
    try:
        match = compile_pattern(pattern)
    except BadPattern:
        return
    assert match is None or match(message) in (True, False)


@given(st.lists(st.text("ab*", max_size=4), min_size=1, max_size=4), st.text("ab", max_size=12))
def test_wildcards_agree_with_regular_expressions(pieces: list[str], text: str) -> None:
    literal = "*".join(pieces)
    expected = re.fullmatch(".*".join(map(re.escape, literal.split("*"))), text) is not None
    assert matches(f'{{ $.a = "{literal}" }}', json.dumps({"a": text})) is expected
