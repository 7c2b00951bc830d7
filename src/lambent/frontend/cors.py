"""Cross-origin rules of a function URL: the answer to a preflight, and the headers of every other answer.

Pure: a configuration as the API keeps it, request headers in, response headers out. Where a URL has rules, they win
over what the function says; where it has none, nothing here is called and `OPTIONS` reaches the function (fact sheet
7.4). The protocol is that of the Fetch standard: a wildcard means nothing to requests with credentials, so the asked
value itself is answered there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.frontend.urls import Headers, Response

_OURS = "access-control-"


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight(cors: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """The answer to a preflight; without rules for an origin that is not allowed, which the browser takes as a no."""
    said = _origin(cors, headers["origin"])
    if said is None:
        return 200, _vary(cors), b""
    listed = [*said]
    for member, name, asked in (
        ("AllowMethods", "Access-Control-Allow-Methods", headers["access-control-request-method"]),
        ("AllowHeaders", "Access-Control-Allow-Headers", headers.get("access-control-request-headers", "")),
    ):
        values = cors.get(member) or []
        if "*" in values and cors.get("AllowCredentials"):
            values = [asked] if asked.isprintable() and asked.isascii() and asked else []
        if values:
            listed.append((name, ",".join(values)))
    if "MaxAge" in cors:
        listed.append(("Access-Control-Max-Age", str(cors["MaxAge"])))
    return 200, (*listed, *_vary(cors)), b""


def ruled(cors: Mapping[str, Any], origin: str | None, response: Response) -> Response:
    """A response with the URL's rules in place of the function's."""
    status, headers, body = response
    kept = tuple((name, value) for name, value in headers if not name.lower().startswith(_OURS))
    said = _origin(cors, origin) if origin is not None else None
    if said is None:
        return status, (*kept, *_vary(cors)), body
    exposed = cors.get("ExposeHeaders")
    shown: Headers = (("Access-Control-Expose-Headers", ",".join(exposed)),) if exposed else ()
    return status, (*kept, *said, *shown, *_vary(cors)), body


def _origin(cors: Mapping[str, Any], origin: str) -> Headers | None:
    """The headers that let this origin in, or None."""
    allowed = cors.get("AllowOrigins") or []
    credentials = bool(cors.get("AllowCredentials"))
    if "*" in allowed and not credentials:
        return (("Access-Control-Allow-Origin", "*"),)
    named = origin.lower() in (one.lower() for one in allowed)
    if not (named or "*" in allowed) or not (origin.isprintable() and origin.isascii()):
        return None
    said: Headers = (("Access-Control-Allow-Origin", origin),)
    return (*said, ("Access-Control-Allow-Credentials", "true")) if credentials else said


def _vary(cors: Mapping[str, Any]) -> Headers:
    """Caches must not give one origin's answer to another."""
    same = "*" in (cors.get("AllowOrigins") or []) and not cors.get("AllowCredentials")
    return () if same else (("Vary", "Origin"),)
