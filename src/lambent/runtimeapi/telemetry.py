"""Subscriptions to telemetry: the bodies of Telemetry API 2022-07-01 and Logs API 2020-08-15, judged.

Pure: bytes in, a Subscription or Invalid out. Limits and names: fact sheet 4.1 and 4.3. A destination names a host
only so that it can be refused: what is kept of it is a port, and who may own that port is for `worker.reach` to check.
Delivery is `telemetry.delivery`.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lambent.core.subscription import Api, Category, Subscription

#: AWS's own pages write both with a slash at the end.
PATHS: dict[str, Api] = {"/2022-07-01/telemetry": "telemetry", "/2022-07-01/telemetry/": "telemetry",
                         "/2020-08-15/logs": "logs", "/2020-08-15/logs/": "logs"}  # fmt: skip

#: The first one is the default.
_SCHEMAS: dict[Api, tuple[str, ...]] = {
    "telemetry": ("2022-07-01", "2022-12-13", "2025-01-29"),
    "logs": ("2020-08-15", "2021-03-18"),
}
_CATEGORIES: tuple[Category, ...] = ("platform", "function", "extension")
#: name: lowest, highest, default
_BUFFERING = {"maxItems": (1000, 10_000, 10_000), "maxBytes": (262_144, 1_048_576, 262_144),
              "timeoutMs": (25, 30_000, 1000)}  # fmt: skip
_URI = re.compile(r"http://(sandbox(?:\.localdomain)?)(?::([0-9]{1,5}))?(/[!-~]*)?")
#: The Runtime API's own.
_RESERVED_PORT = 9001


class Invalid(ValueError):
    """The body is not a subscription. One sentence for its author."""


def parse(body: bytes, api: Api) -> Subscription:
    """A subscription from a request's body. Raises Invalid."""
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(str(error)) from None
    made: dict[str, Any] = {}
    problems: list[str] = []  # AWS names all of them at once, the destination's first
    for judged in (_destination, _types, _buffering, _schema):
        try:
            made |= judged(asked, api)
        except Invalid as error:
            problems.append(str(error))
    if problems:
        raise Invalid("; ".join(problems))
    return Subscription(api, **made)


def _schema(asked: _Asked, api: Api) -> dict[str, Any]:
    schema = asked.schemaVersion or _SCHEMAS[api][0]
    if schema not in _SCHEMAS[api]:
        raise Invalid(f"schemaVersion must be one of {', '.join(_SCHEMAS[api])}")
    return {"schema": schema}


def _types(asked: _Asked, _api: Api) -> dict[str, Any]:
    if not asked.types:
        raise Invalid("types should not be empty")
    if not set(asked.types) <= set(_CATEGORIES):
        raise Invalid(f"types must be out of {', '.join(_CATEGORIES)}")
    return {"categories": tuple(dict.fromkeys(asked.types))}  # in the order of the asker


def _buffering(asked: _Asked, _api: Api) -> dict[str, Any]:
    items, size, timeout_ms = (_figure(asked.buffering, name) for name in _BUFFERING)
    return {"max_items": items, "max_bytes": size, "timeout_s": timeout_ms / 1000}


def _destination(asked: _Asked, _api: Api) -> dict[str, Any]:
    destination = asked.destination
    if (destination.encoding or "JSON").upper() != "JSON":
        raise Invalid("destination.encoding must be JSON")
    protocol = destination.protocol.upper()
    if protocol == "TCP":
        return {"protocol": "TCP", "port": _port(destination.port)}
    if protocol != "HTTP":
        raise Invalid("destination.protocol must be HTTP or TCP")
    method = (destination.method or "POST").upper()
    if method not in ("POST", "PUT"):
        raise Invalid("destination.method must be POST or PUT")
    found = _URI.fullmatch(destination.URI)
    if found is None:
        raise Invalid("destination.URI must be http://sandbox.localdomain:<port>, with a path or without one")
    if found[2] is None:
        raise Invalid("URI port is not provided")
    return {"protocol": "HTTP", "port": _port(int(found[2])), "method": method, "path": found[3] or "/",
            "host": found[1]}  # fmt: skip


def _figure(buffering: dict[str, Any], name: str) -> int:
    lowest, highest, default = _BUFFERING[name]
    value = buffering.get(name, default)
    if type(value) is not int or not lowest <= value <= highest:
        raise Invalid(f"buffering.{name} must be a number from {lowest} to {highest}")
    return value


def _port(port: int) -> int:
    if not 0 < port < 65536:
        raise Invalid("the port of the destination must be from 1 to 65535")
    if port == _RESERVED_PORT:
        raise Invalid(f"port {_RESERVED_PORT} is reserved")
    return port


class _Destination(msgspec.Struct):
    protocol: str
    URI: str = ""
    port: int = 0
    method: str = ""
    encoding: str = ""


class _Asked(msgspec.Struct):
    destination: _Destination
    types: list[str]
    schemaVersion: str = ""
    buffering: dict[str, Any] = {}
