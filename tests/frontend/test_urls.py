"""Function URLs: requests as payload format 2.0 events, results as responses."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.frontend.urls import error_response, event_from_request, response_from_result
from lambent.http1 import render

ID = "a" * 32
HOST = f"{ID}.lambda-url.us-east-1.localhost:4566"
BROKEN = (502, (("Content-Type", "text/plain"),), b"Internal Server Error")


def event(method: str = "GET", path: str = "/", query: str = "", headers: dict[str, str] | None = None,
          body: bytes = b"") -> dict[str, Any]:  # fmt: skip
    shown = {"host": HOST} | (headers or {})
    made = event_from_request(method=method, path=path, query=query, headers=shown, body=body, source_ip="127.0.0.1",
                              url_id=ID, request_id="rid", trace_id="Root=1-x", wall_s=1_583_348_638.390,
                              port=4566)  # fmt: skip
    return json.loads(made)  # type: ignore[no-any-return]


def test_whole_event() -> None:
    headers = {"user-agent": "curl/8", "content-type": "application/json", "cookie": "c1=v1; c2=v2"}
    assert event("POST", "/my%20path", "a=1&a=2&b=x%20y", headers, b'{"k": 1}') == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/my%20path",
        "rawQueryString": "a=1&a=2&b=x%20y",
        "cookies": ["c1=v1", "c2=v2"],
        "headers": {
            "host": HOST,
            "user-agent": "curl/8",
            "content-type": "application/json",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": "4566",
            "x-forwarded-proto": "http",
            "x-amzn-trace-id": "Root=1-x",
        },
        "queryStringParameters": {"a": "1,2", "b": "x y"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": ID,
            "domainName": f"{ID}.lambda-url.us-east-1.localhost",
            "domainPrefix": ID,
            "http": {
                "method": "POST",
                "path": "/my%20path",
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "curl/8",
            },
            "requestId": "rid",
            "routeKey": "$default",
            "stage": "$default",
            "time": "04/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "body": '{"k": 1}',
        "isBase64Encoded": False,
    }


def test_what_is_not_there_is_absent() -> None:
    bare = event()
    assert {"cookies", "queryStringParameters", "body"}.isdisjoint(bare)
    assert bare["isBase64Encoded"] is False
    assert "authorizer" not in bare["requestContext"]


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("text/plain", True),
        ("text/html; charset=utf-8", True),
        ("Application/JSON", True),
        ("application/javascript", True),
        ("application/xml", True),
        ("application/problem+json", True),
        ("application/atom+xml;x=y", True),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=b", False),
        ("application/octet-stream", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_body_is_text_or_base64_by_its_type(content_type: str, text: bool) -> None:
    made = event("POST", headers={"content-type": content_type}, body="é=1".encode())
    assert made["isBase64Encoded"] is not text
    assert made["body"] == ("é=1" if text else base64.b64encode("é=1".encode()).decode())


def test_text_that_is_not_utf8_is_not_spoilt() -> None:
    made = event("POST", headers={"content-type": "text/plain"}, body=b"\xff\xfe")
    assert made["isBase64Encoded"] and base64.b64decode(made["body"]) == b"\xff\xfe"


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("a=1&b=2&a=3", {"a": "1,3", "b": "2"}),
        ("a", {"a": ""}),
        ("a=", {"a": ""}),
        ("&&a=1&", {"a": "1"}),
        ("a%20b=c+d", {"a b": "c d"}),
        ("a=%C3%A9&b=%ff", {"a": "é", "b": "\ufffd"}),
        ("a=1=2", {"a": "1=2"}),
        ("a=%zz", {"a": "%zz"}),
    ],
)
def test_query_is_decoded_and_repeats_are_joined(query: str, parameters: dict[str, str]) -> None:
    made = event(query=query)
    assert made["queryStringParameters"] == parameters
    assert made["rawQueryString"] == query


def test_caller_cannot_claim_another_address_and_connection_headers_stay_behind() -> None:
    headers = {"x-forwarded-for": "8.8.8.8", "connection": "close", "transfer-encoding": "chunked", "x-own": "1,2"}
    assert event(headers=headers)["headers"] == {
        "host": HOST, "x-own": "1,2", "x-forwarded-for": "127.0.0.1", "x-forwarded-port": "4566",
        "x-forwarded-proto": "http", "x-amzn-trace-id": "Root=1-x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b'"hello"', b"hello"),
        (b'{"hello": "world"}', b'{"hello":"world"}'),
        (b'["hello", 3, true]', b'["hello",3,true]'),
        (b"3", b"3"),
        (b"true", b"true"),
        (b"null", b"null"),
        (b'"caf\\u00e9"', "café".encode()),
        (b'{"a": "caf\\u00e9"}', '{"a":"café"}'.encode()),
        (b'{"body": "x", "headers": {}}', b'{"body":"x","headers":{}}'),
    ],
)
def test_result_without_status_code_is_the_body(payload: bytes, body: bytes) -> None:
    assert response_from_result(payload) == (200, (("Content-Type", "application/json"),), body)


JSON = ("Content-Type", "application/json")


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"statusCode": 201}, (201, (JSON,), b"")),
        ({"statusCode": "418", "body": "tea"}, (418, (JSON,), b"tea")),
        ({"statusCode": 200, "body": '{"a":  1}'}, (200, (JSON,), b'{"a":  1}')),
        ({"statusCode": 200, "body": None, "headers": None, "cookies": None}, (200, (JSON,), b"")),
        (
            {"statusCode": 200, "headers": {"content-type": "text/html", "X-N": 5, "X-B": True, "X-F": 1.5}},
            (200, (("content-type", "text/html"), ("X-N", "5"), ("X-B", "true"), ("X-F", "1.5")), b""),
        ),
        (
            {"statusCode": 200, "cookies": ["a=1; Secure", "b=2"]},
            (200, (JSON, ("Set-Cookie", "a=1; Secure"), ("Set-Cookie", "b=2")), b""),
        ),
        ({"statusCode": 200, "body": "AP8=", "isBase64Encoded": True}, (200, (JSON,), b"\x00\xff")),
        ({"statusCode": 200, "body": "AP8=", "isBase64Encoded": False}, (200, (JSON,), b"AP8=")),
        (
            {"statusCode": 200, "headers": {"Content-Length": "9999", "Transfer-Encoding": "chunked", "A": None}},
            (200, (JSON,), b""),
        ),
        ({"statusCode": 200, "headers": {"X-Amzn-RequestId": "mine", "x-amzn-trace-id": "mine"}}, (200, (JSON,), b"")),
        ({"statusCode": 200, "multiValueHeaders": {"a": ["1"]}}, (200, (JSON,), b"")),
        ({"statusCode": 200, "headers": {"A": "1", "a": "2"}}, (200, (("a", "2"), JSON), b"")),
    ],
)
def test_structured_result(result: dict[str, Any], expected: tuple[int, tuple[tuple[str, str], ...], bytes]) -> None:
    assert response_from_result(json.dumps(result).encode()) == expected


WRONG_STATUSES: list[Any] = [None, True, 99, 100, 600, -200, 200.0, "2e2", " 200", "", "²00", [], {}]


@pytest.mark.parametrize(
    "result",
    [
        *({"statusCode": status} for status in WRONG_STATUSES),
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"A": ["x"]}},
        {"statusCode": 200, "headers": {"A": "x\r\nSet-Cookie: b=1"}},
        {"statusCode": 200, "headers": {"A\r\nB": "x"}},
        {"statusCode": 200, "headers": {"A:": "x"}},
        {"statusCode": 200, "headers": {"": "x"}},
        {"statusCode": 200, "headers": {"A": "\0"}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": ["a=1\nb"]},
        {"statusCode": 200, "cookies": [None]},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "body": "no base64!", "isBase64Encoded": True},
    ],
)
def test_malformed_result_is_a_bad_gateway(result: dict[str, Any]) -> None:
    assert response_from_result(json.dumps(result).encode()) == BROKEN


@pytest.mark.parametrize("payload", [b"", b"plain words", b"NaN", b"{", b"\xff", b'"\\ud800"', b"[" * 100_000])
def test_what_is_not_json_is_a_bad_gateway(payload: bytes) -> None:
    assert response_from_result(payload) == BROKEN


def test_errors_without_a_result() -> None:
    assert error_response("function_error") == BROKEN
    assert error_response("unknown_url")[::2] == (403, b'{"Message":null}')
    status, headers, body = error_response("forbidden")
    assert status == 403 and ("x-amzn-ErrorType", "AccessDeniedException") in headers
    assert json.loads(body)["Message"].startswith("Forbidden. For troubleshooting")
    assert [error_response(kind)[0] for kind in ("throttled", "too_large", "pending", "internal")] == [
        429, 413, 502, 500,
    ]  # fmt: skip


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"statusCode": json_values | st.integers(100, 599), "headers": json_values,
       "cookies": json_values, "body": json_values, "isBase64Encoded": json_values}))  # fmt: skip
def test_any_result_gives_one_well_formed_response(result: dict[str, Any]) -> None:
    status, headers, body = response_from_result(json.dumps(result).encode())
    head = render(status, body, headers, None).partition(b"\r\n\r\n")[0]
    assert 200 <= status <= 599
    assert len(head.split(b"\r\n")) == 1 + len(headers) + (status not in (204, 304))
    assert sum(name.lower() == "content-type" for name, _ in headers) == 1


latin = st.text(st.characters(max_codepoint=255), max_size=20)


@given(latin, st.binary(max_size=40), st.dictionaries(latin, latin, max_size=5))
def test_any_request_gives_an_event(query: str, body: bytes, headers: dict[str, str]) -> None:
    made = event("POST", "/" + query, query, headers, body)
    shown = made.get("body", "")
    assert (base64.b64decode(shown) if made["isBase64Encoded"] else shown.encode()) == body
    assert made["rawQueryString"] == query
