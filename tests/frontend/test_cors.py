"""Cross-origin rules of function URLs: preflights, and the headers of other answers."""

from __future__ import annotations

from typing import Any

import pytest

from lambent.frontend.cors import is_preflight, preflight, ruled

ORIGIN = "https://a.example"
ASKED = {"origin": ORIGIN, "access-control-request-method": "PUT", "access-control-request-headers": "x-one,x-two"}
RULES = {"AllowOrigins": [ORIGIN], "AllowMethods": ["GET", "PUT"], "AllowHeaders": ["x-one"], "MaxAge": 60,
         "ExposeHeaders": ["x-two", "x-three"]}  # fmt: skip
VARY = {"Vary": "Origin"}


def test_preflights_are_told_from_other_options() -> None:
    assert is_preflight("OPTIONS", ASKED) and not is_preflight("GET", ASKED)
    assert not is_preflight("OPTIONS", {"origin": ORIGIN})


@pytest.mark.parametrize(("changes", "origin", "expected"), [
    ({}, ORIGIN, {"Access-Control-Allow-Origin": ORIGIN, "Access-Control-Allow-Methods": "GET,PUT",
                  "Access-Control-Allow-Headers": "x-one", "Access-Control-Max-Age": "60", **VARY}),
    ({}, "HTTPS://A.EXAMPLE", {"Access-Control-Allow-Origin": "HTTPS://A.EXAMPLE",
                               "Access-Control-Allow-Methods": "GET,PUT", "Access-Control-Allow-Headers": "x-one",
                               "Access-Control-Max-Age": "60", **VARY}),
    ({}, "https://b.example", VARY),
    ({"AllowOrigins": []}, ORIGIN, VARY),
    ({"AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"]}, ORIGIN, {
        "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "*",
        "Access-Control-Max-Age": "60"}),
    ({"AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"], "AllowCredentials": True}, ORIGIN, {
        "Access-Control-Allow-Origin": ORIGIN, "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "PUT", "Access-Control-Allow-Headers": "x-one,x-two",
        "Access-Control-Max-Age": "60", **VARY}),
    ({"AllowOrigins": ["*"], "AllowCredentials": True}, "https://\r\nX-Evil: 1", VARY),
])  # fmt: skip
def test_preflight_answers(changes: dict[str, Any], origin: str, expected: dict[str, str]) -> None:
    status, headers, body = preflight({**RULES, **changes}, {**ASKED, "origin": origin})
    assert (status, dict(headers), body) == (200, expected, b"")


def test_rules_win_over_what_the_function_says() -> None:
    response = (201, (("X-One", "1"), ("access-control-allow-origin", "*"), ("Access-Control-Max-Age", "9")), b"x")
    allowed = ruled(RULES, ORIGIN, response)
    assert allowed == (201, (("X-One", "1"), ("Access-Control-Allow-Origin", ORIGIN),
                             ("Access-Control-Expose-Headers", "x-two,x-three"), ("Vary", "Origin")), b"x")
    for origin in (None, "https://b.example"):
        assert ruled(RULES, origin, response) == (201, (("X-One", "1"), ("Vary", "Origin")), b"x")
