"""Function URLs, the mapping: an HTTP request to an event in payload format 2.0, and a result to an HTTP response.

Pure: nothing here looks up a function, invokes it or writes to a connection. Serving is the front door's. Facts: fact
sheet 7.1 to 7.3. Where AWS's behaviour is not documented, the choice stands beside the line.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec

from lambent.core.model import Outcome, OutcomeKind

Headers = tuple[tuple[str, str], ...]
Response = tuple[int, Headers, bytes]
ErrorKind = Literal["function_error", "unknown_url", "forbidden", "throttled", "too_large", "pending", "internal"]

#: Of one connection, not of the message (RFC 9110, 7.6.1); and what our own server decides.
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
_NOT_FORWARDED = _HOP_BY_HOP | {"cookie", "expect"}
_NOT_RETURNED = _HOP_BY_HOP | {"content-length", "x-amzn-requestid", "x-amzn-trace-id"}
_TEXT_TYPES = frozenset({"application/json", "application/javascript", "application/xml"})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, 5.6.2
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_JSON: Headers = (("Content-Type", "application/json"),)
_TEXT: Headers = (("Content-Type", "text/plain"),)
_ERRORS: dict[ErrorKind, Response] = {
    "function_error": (502, _TEXT, b"Internal Server Error"),
    "unknown_url": (403, _JSON, b'{"Message":null}'),
    "forbidden": (
        403,
        (*_JSON, ("x-amzn-ErrorType", "AccessDeniedException")),
        b'{"Message":"Forbidden. For troubleshooting Function URL authorization issues, see: '
        b'https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"}',
    ),
    "throttled": (
        429,
        (*_JSON, ("x-amzn-ErrorType", "TooManyRequestsException")),
        b'{"Message":"Rate Exceeded."}',
    ),
    "too_large": (
        413,
        (*_JSON, ("x-amzn-ErrorType", "RequestEntityTooLargeException")),
        b'{"Message":"Request Entity Too Large"}',
    ),
    "pending": (502, _TEXT, b"Internal Server Error"),
    "internal": (500, _TEXT, b"Internal Server Error"),
}


def error_response(kind: ErrorKind) -> Response:
    """What a caller sees when there is no result to map (fact sheet 7.3)."""
    return _ERRORS[kind]


def event_from_request(*, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, source_ip: str,
                       url_id: str, request_id: str, trace_id: str, wall_s: float, port: int,
                       scheme: str = "http") -> bytes:  # fmt: skip
    """The event for a request to a URL without authentication.

    `path` and `query` as they came, still percent-encoded; header names lower-case, repeated ones joined with a comma
    and cookies with a semicolon. `port` and `scheme` are the server's; `trace_id` is a whole X-Amzn-Trace-Id value.
    """
    shown = {name: value for name, value in headers.items() if name not in _NOT_FORWARDED}
    shown["x-forwarded-for"] = source_ip  # what a caller claims here is not believed
    shown["x-forwarded-port"] = str(port)
    shown["x-forwarded-proto"] = scheme
    shown["x-amzn-trace-id"] = trace_id
    # Function URLs leave the path encoded, which API Gateway's HTTP APIs do not.
    event: dict[str, Any] = {"version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query}
    cookies = [cookie.strip() for cookie in headers.get("cookie", "").split(";")]
    if any(cookies):
        event["cookies"] = [cookie for cookie in cookies if cookie]
    event["headers"] = shown
    parameters = _query_parameters(query)
    if parameters:
        event["queryStringParameters"] = parameters
    event["requestContext"] = {
        "accountId": "anonymous",
        "apiId": url_id,
        "domainName": _without_port(headers.get("host", "")),
        "domainPrefix": url_id,
        "http": {
            "method": method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": _common_log_time(wall_s),
        "timeEpoch": int(wall_s * 1000),
    }
    text = _text(headers.get("content-type", ""), body)
    if body:
        event["body"] = base64.b64encode(body).decode() if text is None else text
    event["isBase64Encoded"] = text is None and bool(body)
    return msgspec.json.encode(event)


def response_from_result(payload: bytes) -> Response:
    """Status, headers (Content-Type among them) and body for what a handler returned, in BUFFERED mode.

    What AWS would not understand gives 502: no JSON at all (whatever type the runtime declared: shell runtimes post
    JSON as a form), or a structured response with a wrong member.
    """
    try:
        result = msgspec.json.decode(payload)
        if isinstance(result, dict) and "statusCode" in result:
            return _structured(result)
        body = result.encode() if isinstance(result, str) else msgspec.json.encode(result)
    except (ValueError, RecursionError):  # no JSON, no Unicode, or _Malformed
        return error_response("function_error")
    return 200, _JSON, body


def response_from_prelude(prelude: bytes) -> Response | None:
    """Status and headers of a streamed response, from the JSON that it begins with; None when AWS would not take it.

    Every member may be missing.
    """
    try:
        result = msgspec.json.decode(prelude)
        if not isinstance(result, dict):
            return None
        status, headers, _ = _structured({"statusCode": 200, **result, "body": None}, "application/octet-stream")
    except (ValueError, RecursionError):
        return None
    return status, headers, b""


def response_without_result(outcome: Outcome) -> Response:
    """The answer to an invocation that has no result."""
    match outcome.kind:
        case OutcomeKind.REFUSED:
            return error_response("throttled")
        case OutcomeKind.PLATFORM_ERROR:
            return error_response("internal")
        case _:
            return error_response("function_error")


class _Malformed(ValueError):
    """A structured response that AWS would not take."""


def _structured(result: dict[str, Any], content_type: str = "application/json") -> Response:
    headers = _response_headers(result.get("headers"))
    headers.setdefault("content-type", ("Content-Type", content_type))
    cookies = result.get("cookies")
    if cookies is None:
        cookies = []
    if not isinstance(cookies, list):
        raise _Malformed("cookies")
    listed = (*headers.values(), *(("Set-Cookie", _header_value(cookie)) for cookie in cookies))
    return _status(result["statusCode"]), listed, _body(result)


def _status(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{3}", value):
        value = int(value)
    # An interim status would leave the caller waiting for the final one.
    if not isinstance(value, int) or isinstance(value, bool) or not 200 <= value <= 599:
        raise _Malformed("statusCode")
    return value


def _response_headers(given: Any) -> dict[str, tuple[str, str]]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _Malformed("headers")
    headers = {}
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise _Malformed("header name")
        if value is not None and name.lower() not in _NOT_RETURNED:
            headers[name.lower()] = (name, _header_value(value))
    return headers


def _header_value(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return msgspec.json.encode(value).decode()
    if not isinstance(value, str) or _CONTROLS.search(value):
        raise _Malformed("header value")
    return value


def _body(result: dict[str, Any]) -> bytes:
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        # Not documented. API Gateway answers this mistake with an error, so it shows here too.
        raise _Malformed("body")
    if result.get("isBase64Encoded") is not True:
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise _Malformed("body") from None


def _text(content_type: str, body: bytes) -> str | None:
    """The body as text, or None when it goes as base64. Text that is not UTF-8 would be spoilt otherwise."""
    kind = content_type.partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml"))):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _query_parameters(query: str) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if pair:
            values.setdefault(_decoded(name), []).append(_decoded(value))
    return {name: ",".join(several) for name, several in values.items()}


def _decoded(text: str) -> str:
    # The server hands on bytes as latin-1.
    return unquote_to_bytes(text.replace("+", " ").encode("latin-1", "replace")).decode("utf-8", "replace")


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if re.search(r":\d*$", host) else host


def _common_log_time(wall_s: float) -> str:
    at = datetime.fromtimestamp(wall_s, UTC)
    return f"{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"
