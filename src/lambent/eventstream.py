"""AWS's event-stream encoding, as far as answers that are streams need it. Pure. Facts: fact sheet 6.5."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec

_STRING = 7
_PRELUDE_BYTES = 12
_CRC_BYTES = 4


def _headers(*pairs: tuple[str, str]) -> bytes:
    return b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name.encode(), _STRING, len(value), value.encode())
        for name, value in pairs
    )


_CHUNK = _headers((":message-type", "event"), (":event-type", "PayloadChunk"),
                  (":content-type", "application/octet-stream"))  # fmt: skip


def payload_chunk(data: bytes) -> bytes:
    """A part of the response."""
    return _message(_CHUNK, data)


def invoke_complete(members: dict[str, Any]) -> bytes:
    """The last message: ErrorCode and ErrorDetails of a failure, LogResult if it was asked for."""
    return event("InvokeComplete", members)


def event(kind: str, members: dict[str, Any]) -> bytes:
    """An event of JSON. The first of a service that speaks JSON-RPC is `initial-response`, the answer's own members."""
    headers = _headers((":message-type", "event"), (":event-type", kind), (":content-type", "application/json"))
    return _message(headers, msgspec.json.encode(members))


def exception(code: str, body: dict[str, str]) -> bytes:
    """Instead of the last message: the platform failed, or ends it."""
    headers = _headers((":message-type", "exception"), (":exception-type", code), (":content-type", "application/json"))
    return _message(headers, msgspec.json.encode(body))


def _message(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack(">II", _PRELUDE_BYTES + len(headers) + len(payload) + _CRC_BYTES, len(headers))
    message = b"".join((lengths, struct.pack(">I", zlib.crc32(lengths)), headers, payload))
    return message + struct.pack(">I", zlib.crc32(message))
