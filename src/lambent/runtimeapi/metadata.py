"""The metadata endpoint 2026-01-15: in which availability zone an environment runs (fact sheet 2.8).

There is one zone here, the first of the function's region. Whoever asks shows a token that every process of the
environment has in its variables.
"""

from __future__ import annotations

import hmac

import msgspec

from lambent.http1 import Request

PATH = "/2026-01-15/metadata/execution-environment"
#: It never changes while an environment lives.
_CACHED = (("Cache-Control", "private, max-age=43200, immutable"),)
_DIRECTIONS = {"north": "n", "south": "s", "east": "e", "west": "w", "central": "c", "northeast": "ne",
               "northwest": "nw", "southeast": "se", "southwest": "sw"}  # fmt: skip


def respond(request: Request, token: str, region: str) -> None:
    """Answer one request for PATH."""
    if request.method != "GET":
        request.respond(405, b'{"message":"Method Not Allowed"}', (("Allow", "GET"),))
        return
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        request.respond(401, b'{"message":"Unauthorized"}', (("WWW-Authenticate", "Bearer"),))
        return
    request.respond(200, msgspec.json.encode({"AvailabilityZoneID": zone_id(region)}), _CACHED)


def zone_id(region: str) -> str:
    """The id of a region's first zone: `use1-az1` for us-east-1, `usgw1-az1` for us-gov-west-1."""
    parts = region.split("-")
    short = [_DIRECTIONS.get(part, part[:1] if index == 1 else part) for index, part in enumerate(parts)]
    return "".join(short) + "-az1"
