"""HTTP/1.1 for servers: our own protocol on httptools, one object per connection, no task per request.

Used by the API edge and by the Runtime API inside environments. It parses, keeps pipelined requests in order, bounds
what a peer may send (a body over the limit is read, dropped and flagged), and writes head and body of an answer in
one go, since a split write costs the official runtime client 40 ms of delayed ACK.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools

#: Headers and request line together (AWS: 1 MB).
MAX_HEAD_BYTES = 1024 * 1024
#: A request that was not complete this long after its first byte is given up (slow-loris).
REQUEST_TIMEOUT_S = 60.0


class Request:
    """One parsed request. Header names are lower-case; repeated headers are joined with a comma (cookies with `; `).

    `respond` may be called once, at any later time; if the peer has gone, it does nothing.
    """

    __slots__ = ("_connection", "body", "headers", "keep_alive", "method", "oversize", "path", "query", "responded")

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


Handler = Callable[[Request], None]

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


#: Names as clients and runtimes spell them, so that hot requests need no work for them.
_NAMES = {
    name.encode(): name.lower()
    for name in ("Host", "Content-Type", "Content-Length", "User-Agent", "Accept", "Accept-Encoding", "Connection",
                 "Authorization", "X-Amz-Date", "X-Amz-Log-Type", "X-Amz-Invocation-Type", "amz-sdk-invocation-id",
                 "amz-sdk-request")
}  # fmt: skip


def render(status: int, body: bytes, headers: tuple[tuple[str, str], ...], content_type: str | None,
           *, keep_alive: bool = True, head_only: bool = False) -> bytes:
    """A response as bytes. Raises ValueError for a header that would break the message apart."""
    parts = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n".encode()]
    bodiless = status == 204 or status == 304 or status < 200
    if content_type is not None and not bodiless:
        parts.append(f"Content-Type: {content_type}\r\n".encode("latin-1"))
    for name, value in headers:
        line = f"{name}: {value}"
        if "\r" in line or "\n" in line or "\0" in line:
            raise ValueError(f"header {name!r} holds a line break")
        parts.append(line.encode("utf-8") + b"\r\n")
    if not bodiless:
        parts.append(b"Content-Length: %d\r\n" % len(body))
    if not keep_alive:
        parts.append(b"Connection: close\r\n")
    parts.append(b"\r\n")
    if body and not bodiless and not head_only:
        parts.append(body)
    return b"".join(parts)


class Connection(asyncio.Protocol):
    """One client connection. Requests on it are handled one after the other."""

    __slots__ = (
        "_body", "_body_bytes", "_current", "_failed", "_head_bytes", "_headers", "_held", "_limit", "_loop",
        "_on_close", "_on_request", "_parser", "_parsing", "_reading", "_refuse", "_target", "_timeout_s", "_timer",
        "_transport", "_waiting", "closed", "context", "local", "peer",
    )  # fmt: skip

    def __init__(self, on_request: Handler, loop: asyncio.AbstractEventLoop, body_limit: int,
                 on_close: Callable[[Connection], None] | None = None,
                 refuse: Callable[[Connection], str | None] | None = None,
                 timeout_s: float | None = REQUEST_TIMEOUT_S) -> None:
        self._on_request = on_request
        self._on_close = on_close
        self._refuse = refuse
        self._loop = loop
        self._limit = body_limit
        self._timeout_s = timeout_s
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._failed = False
        self._reading = False
        self._parsing = False
        self._held = b""  #: an answer that waits for the next one; only while a later request is parsed or pending
        self._timer: asyncio.TimerHandle | None = None
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()
        self.closed = False
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)
        #: free for the owner of the server (the Runtime API keeps the environment's driver here)
        self.context: Any = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if peer:
            self.peer = (peer[0], peer[1])
            own = transport.get_extra_info("sockname")
            self.local = (own[0], own[1])
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._refuse is not None and self._refuse(self) is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._stop_timer()
        self._waiting.clear()
        if self._on_close is not None:
            self._on_close(self)

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self._failed:
            return
        self._parsing = True
        try:
            self._parser.feed_data(data)
            if self._reading and self._timer is None and self._timeout_s is not None:
                self._timer = self._loop.call_later(self._timeout_s, self._give_up)
        except httptools.HttpParserUpgrade:
            self._fail(400, b'{"message":"Upgrade is not supported"}')
        except httptools.HttpParserError:
            self._fail(400, b'{"message":"Bad Request"}')
        finally:
            self._parsing = False
            if self._held and self._current is None and not self.closed:
                self._flush()

    # httptools callbacks

    def on_message_begin(self) -> None:
        self._reading = True
        self._target = b""
        self._headers = {}
        self._body = []
        self._body_bytes = 0
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers = self._headers
        if key in headers:
            text = headers[key] + ("; " if key == "cookie" else ",") + text
        headers[key] = text

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and not self._failed:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes <= self._limit:
            self._body.append(body)
        else:
            self._body.clear()  # read on, so that the peer can be answered, and keep nothing

    def on_message_complete(self) -> None:
        if self._failed:
            return
        self._reading = False
        self._stop_timer()
        path, _, query = self._target.decode("latin-1").partition("?")
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        request = Request(self, self._parser.get_method().decode("ascii"), path, query, self._headers, body,
                          self._parser.should_keep_alive())
        if self._body_bytes > self._limit:
            request.oversize = self._body_bytes
        if self._current is None:
            self._current = request
            self._on_request(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) >= 16:
                self._transport.pause_reading()

    # answers

    def send(self, request: Request, status: int, body: bytes, headers: tuple[tuple[str, str], ...],
             content_type: str | None) -> None:
        if not self.closed:
            try:
                message = render(status, body, headers, content_type, keep_alive=request.keep_alive,
                                 head_only=request.method == "HEAD")
            except (ValueError, UnicodeEncodeError):
                message = render(502, b'{"message":"Internal Server Error"}', (), "application/json",
                                 keep_alive=request.keep_alive)
            self.send_raw(request, message)

    def send_raw(self, request: Request, message: bytes, may_wait: bool = False) -> None:
        if self.closed:
            return
        if may_wait and request.keep_alive and (self._parsing or self._waiting):
            self._held += message
        elif self._held:
            self._held += message
            self._flush()
        else:
            self._transport.write(message)
        self._current = None
        if not request.keep_alive:
            self._transport.close()
        elif self._waiting:
            following = self._waiting.popleft()
            if len(self._waiting) == 8:
                self._transport.resume_reading()
            self._current = following
            self._loop.call_soon(self._on_request, following)

    def _flush(self) -> None:
        held, self._held = self._held, b""
        self._transport.write(held)

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None and not self.closed:
            self._transport.abort()

    def file_descriptor(self) -> int:
        sock = self._transport.get_extra_info("socket")
        return int(sock.fileno())

    # limits

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(431, b'{"message":"Request Header Fields Too Large"}')

    def _give_up(self) -> None:
        self._fail(408, b'{"message":"Request Timeout"}')

    def _fail(self, status: int, body: bytes) -> None:
        if self._failed or self.closed:
            return
        self._failed = True
        self._stop_timer()
        self._held += render(status, body, (), "application/json", keep_alive=False)
        self._flush()
        self._transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
