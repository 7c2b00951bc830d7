"""Every form of a function's name, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.errors import ApiError
from lambent.names import PATTERNS, LayerName, is_alias, parse_function, parse_layer, split_qualifier

HERE: dict[str, Any] = {"account": "000000000000", "region": "us-east-1"}
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


@pytest.mark.parametrize(
    ("text", "qualifier", "name", "expected"),
    [
        ("f", None, "f", None),
        ("f:prod", None, "f", "prod"),
        ("f", "7", "f", "7"),
        ("f:7", "7", "f", "7"),
        ("f:$LATEST", None, "f", "$LATEST"),
        ("f:$LATEST.PUBLISHED", None, "f", "$LATEST.PUBLISHED"),
        ("function", None, "function", None),
        ("function:function", None, "function", None),
        ("function:f:prod", None, "f", "prod"),
        ("000000000000:f", None, "f", None),
        ("000000000000:function:f:1", None, "f", "1"),
        ("000000000000", None, "000000000000", None),
        (ARN + "f", None, "f", None),
        (ARN + "f:prod", "prod", "f", "prod"),
        ("arn:aws-us-gov:lambda:us-east-1:000000000000:function:f", None, "f", None),
        ("a" * 65, None, "a" * 65, None),
    ],
)
def test_forms_that_name_a_function(text: str, qualifier: str | None, name: str, expected: str | None) -> None:
    named = parse_function(text, qualifier, **HERE)
    assert (named.name, named.qualifier) == (name, expected)
    assert named.key == ("000000000000", "us-east-1", name)
    assert named.qualified_arn == ARN + name + (f":{expected}" if expected else "")


@pytest.mark.parametrize(
    ("text", "name", "qualifier"),
    [
        ("f", "f", None),
        ("f:prod", "f", "prod"),
        ("function:function", "function:function", None),
        (ARN + "f", ARN + "f", None),
        (ARN + "f:7", ARN + "f", "7"),
        ("000000000000:function:f:$LATEST", "000000000000:function:f", "$LATEST"),
        ("no name:7", "no name:7", None),
    ],
)
def test_a_name_without_its_qualifier(text: str, name: str, qualifier: str | None) -> None:
    assert split_qualifier(text) == (name, qualifier)


def test_an_alias_is_no_number_and_not_the_latest() -> None:
    assert [is_alias(qualifier) for qualifier in ("live", "7a", "7", "$LATEST", "$LATEST.PUBLISHED")] == [
        True, True, False, False, False]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "qualifier", "code", "words"),
    [
        ("f:1", "2", "InvalidParameterValueException",
         "The derived qualifier from the function name does not match the specified qualifier."),
        ("arn:aws:lambda:us-west-2:000000000000:function:f", None, "ResourceNotFoundException",
         "Functions from 'us-west-2' are not reachable in this region ('us-east-1')"),
        ("arn:aws:lambda:us-east-1:111111111111:function:f", None, "AccessDeniedException",
         "arn:aws:lambda:us-east-1:111111111111:function:f"),
        ("", None, "ValidationException", "Value '' at 'functionName'"),
        ("a b", None, "ValidationException", PATTERNS["NamespacedFunctionName"]),
        ("a" * 257, None, "ValidationException", "Member must have length less than or equal to 256"),
        ("f", "a b", "ValidationException", "at 'qualifier'"),
        ("f:prod:1", None, "ValidationException", "at 'functionName'"),
        ("a b" * 90, "!" * 129, "ValidationException", "4 validation errors detected: Value 'a b"),
    ],
)  # fmt: skip
def test_forms_that_are_refused(text: str, qualifier: str | None, code: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_function(text, qualifier, **HERE)
    assert caught.value.code == code
    assert words in caught.value.message


@given(st.from_regex(re.compile(PATTERNS["NamespacedFunctionName"], re.ASCII), fullmatch=True) | st.text(max_size=300))
def test_what_the_model_accepts_is_what_we_accept(text: str) -> None:
    legal = len(text) <= 256 and re.fullmatch(PATTERNS["NamespacedFunctionName"], text, re.ASCII) is not None
    try:
        named = parse_function(text, **HERE)
    except ApiError as error:
        assert (error.code == "ValidationException") is not legal
    else:
        assert legal and named.name in text


def test_layers_are_named_by_name_and_by_arn() -> None:
    arn = "arn:aws:lambda:eu-west-1:123456789012:layer:l-1"
    here = LayerName("000000000000", "us-east-1", "l_1")
    assert parse_layer("l_1", account=here.account, region=here.region) == here
    assert here.arn == "arn:aws:lambda:us-east-1:000000000000:layer:l_1"
    there = parse_layer(arn, account=here.account, region=here.region)
    assert there == LayerName("123456789012", "eu-west-1", "l-1") and there.arn == arn
    assert parse_layer(arn + ":12", account="", region="").version == 12
    for text in ("", "a b", "arn:aws:lambda:::awslayer:x", arn + ":1x", arn.replace("layer", "function")):
        with pytest.raises(ValueError, match="names no layer"):
            parse_layer(text, account=here.account, region=here.region)
