"""HTTP/1.1 as handlers see it: a request with the ways to answer it, and answers as bytes.

Who reads and writes is `http1_connection`, which makes the requests; what is read becomes a request in `http1_parse`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from lambent.http1_parse import BodySink

if TYPE_CHECKING:
    from lambent.http1_connection import Connection

_NONE: dict[str, str] = {}


class Request:
    """One parsed request. Header names are lower-case; repeated headers are joined with a comma (cookies with `; `).

    `respond` may be called once, at any later time; if the peer has gone, it does nothing.
    """

    __slots__ = ("_connection", "body", "charge", "headers", "keep_alive", "method", "on_flow", "oversize", "path",
                 "query", "responded", "trailers")  # fmt: skip

    def __init__(self, connection: Connection, method: str, path: str, query: str,
                 headers: dict[str, str], body: bytes, keep_alive: bool) -> None:
        self._connection = connection
        self.method = method
        self.path = path  #: raw, still percent-encoded
        self.query = query  #: raw, without the question mark
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.oversize = 0  #: bytes that came, when they were over the limit; `body` is then empty
        self.charge = 0  #: bytes of the budget that the body takes
        self.trailers = _NONE  #: what came after a chunked body
        #: told False when the peer reads a begun answer too slowly, True when it has caught up or is gone
        self.on_flow: Callable[[bool], None] | None = None
        self.responded = False

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the other end."""
        return self._connection.peer

    @property
    def local(self) -> tuple[str, int]:
        """Address and port of this end."""
        return self._connection.local

    @property
    def gone(self) -> bool:
        """True once the peer has hung up."""
        return self._connection.closed

    def drop_body(self) -> None:
        """The body is not needed any more, although the answer may be long in coming."""
        self.body = b""
        self._connection.settle(self)

    def respond(self, status: int, body: bytes = b"", headers: tuple[tuple[str, str], ...] = (),
                content_type: str | None = "application/json") -> None:
        """Answer. `Content-Length` and `Connection` are added; the body of a HEAD, 204 or 304 is left out."""
        if self.responded:
            return
        self.responded = True
        self._connection.send(self, status, body, headers, content_type)

    def respond_raw(self, message: bytes, *, may_wait: bool = False) -> None:
        """Answer with a whole message that the caller has rendered (the hot routes).

        `may_wait`: if the peer has asked for more already, without waiting for this answer, it goes out in one write
        with the next one.
        """
        if self.responded:
            return
        self.responded = True
        self._connection.send_raw(self, message, may_wait)

    @property
    def alone(self) -> bool:
        """The peer has sent nothing after this request, so that another protocol can follow its answer."""
        return self._connection.has_only(self)

    def hand_over(self, message: bytes, successor: Successor) -> None:
        """Answer with a whole message, and leave the connection to another protocol. Only while `alone`."""
        if not self.responded:
            self.responded = True
            self._connection.hand_over(self, message, successor)

    # A body that is taken as it comes

    def pause(self) -> None:
        """Read no more of the body for now."""
        self._connection.hold_back(True)

    def resume(self) -> None:
        self._connection.hold_back(False)

    # An answer that is sent as it is made

    def begin(self, status: int, headers: tuple[tuple[str, str], ...] = (), content_type: str | None = None) -> None:
        """Begin an answer of unknown length: `write`, `finish` or `break_off`. Raises ValueError for a bad header."""
        if not self.responded:
            self._connection.begin(self, status, headers, content_type)
            self.responded = True

    def write(self, data: bytes) -> None:
        self._connection.write(self, data)

    def finish(self) -> None:
        self._connection.finish(self)

    def break_off(self) -> None:
        """End a begun answer in a way that the peer can tell from its end."""
        self._connection.break_off(self)


class Successor(asyncio.Protocol):
    """A protocol that takes a connection over from HTTP. Whoever kept the connection goes on keeping it."""

    def __init__(self) -> None:
        self._predecessor: Connection | None = None
        self._transport: Any = None

    def take_over(self, predecessor: Connection, transport: asyncio.BaseTransport) -> None:
        self._predecessor = predecessor
        self._transport = transport

    @property
    def closed(self) -> bool:
        return self._predecessor is None or self._predecessor.closed

    def write(self, data: bytes) -> None:
        """Send; nothing happens once the peer has gone."""
        if not self.closed:
            self._transport.write(data)

    def abort(self) -> None:
        if self._predecessor is not None:
            self._predecessor.abort()

    def pause_writing(self) -> None:
        if self._predecessor is not None:
            self._predecessor.pause_writing()

    def resume_writing(self) -> None:
        if self._predecessor is not None:
            self._predecessor.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._predecessor is not None:
            self._predecessor.connection_lost(exc)

    def eof_received(self) -> bool:
        return False


Handler = Callable[[Request], None]


class Streamed(NamedTuple):
    """Which requests are told of before their body is whole.

    Those with this header, if `open` returns who takes the body; and those whose body ends too early, without one.
    """

    header: str
    open: Callable[[Request], BodySink | None]
    #: It may answer, in case the peer still reads
    cut_off: Callable[[Request], None] | None = None


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def render(status: int, body: bytes, headers: tuple[tuple[str, str], ...], content_type: str | None,
           *, keep_alive: bool = True, head_only: bool = False, chunked: bool | None = None) -> bytes:
    """A response as bytes. `chunked` is None unless the length is not known: then only the head is rendered.

    Raises ValueError for a header that would break the message apart.
    """
    lines = [f"{name}: {value}" for name, value in headers]
    bodiless = status == 204 or status == 304 or status < 200
    if content_type is not None and not bodiless:
        lines.insert(0, f"Content-Type: {content_type}")
    parts = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n".encode()]
    for line in lines:
        if "\r" in line or "\n" in line or "\0" in line:
            raise ValueError(f"header {line.partition(':')[0]!r} holds a line break")
        parts.append(line.encode("utf-8") + b"\r\n")
    if chunked:
        parts.append(b"" if bodiless else b"Transfer-Encoding: chunked\r\n")
    elif not bodiless and chunked is None:
        parts.append(b"Content-Length: %d\r\n" % len(body))
    if not keep_alive:
        parts.append(b"Connection: close\r\n")
    parts.append(b"\r\n")
    if body and not bodiless and not head_only:
        parts.append(body)
    return b"".join(parts)
