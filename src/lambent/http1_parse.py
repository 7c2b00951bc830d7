"""HTTP/1.1 requests out of bytes: the reading half of `http1`, on httptools, with every bound on what a peer may send.

It keeps what the parser tells until a request is whole, and says what is wrong with one that is not to be had. It
writes nothing and knows no transport; `http1_connection` does, and decides when to read.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httptools

#: Headers and request line together (AWS: 1 MB).
MAX_HEAD_BYTES = 1024 * 1024
#: Lines of one head. Each costs an object, whatever its length.
MAX_HEADERS = 1000
#: So many pieces of bodies are read in one turn of the loop, a whole request counting as a hundred of them: a fraction
#: of a millisecond, then others are served. It is looked at after each slice.
WORK_PER_TURN = 1000
FIRST_SLICE_BYTES = 512
#: Of the loop's time, what the connections of one environment may take, and what they may save up of it. Reading a
#: response of 6 MB takes about 5 ms.
PACE_SHARE = 0.2
PACE_SAVED_S = 0.03
#: What a byte has cost before it is handed to us: the kernel copies it twice.
PACE_BYTE_S = 1e-9
SLICE_BYTES = 16_384
#: Names and methods as clients and runtimes spell them, so that hot requests need no work for them.
_NAMES = {
    name.encode(): name.lower()
    for name in ("Host", "Content-Type", "Content-Length", "User-Agent", "Accept", "Accept-Encoding", "Connection",
                 "Authorization", "X-Amz-Date", "X-Amz-Log-Type", "X-Amz-Invocation-Type", "amz-sdk-invocation-id",
                 "amz-sdk-request")
}  # fmt: skip
_METHODS = {b"GET": "GET", b"POST": "POST"}


class Budget:
    """Bytes that connections together may hold: bodies until they are answered, answers until they are read."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        """Reserve so many bytes; False, and nothing is reserved, when that is too much."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        self.held -= size


class Pace:
    """The share of the loop's time that connections together may take, so that others are served between.

    What they have saved up goes fast: a large body that is read at once is not slowed down.
    """

    __slots__ = ("_at", "_left", "_monotonic", "_of_the_time")

    def __init__(self, monotonic: Callable[[], float], of_the_time: float = PACE_SHARE) -> None:
        self._of_the_time = of_the_time
        self._monotonic = monotonic
        self._at = monotonic()
        self._left = PACE_SAVED_S

    def begin(self) -> float:
        return self._monotonic()

    def rest(self, begun: float, size: int = 0) -> float:
        """Work on so many bytes that began then is done; for how many seconds none may follow, mostly 0."""
        now = self._monotonic()
        spent = now - begun + size * PACE_BYTE_S
        self._left = min(PACE_SAVED_S, self._left + (begun - self._at) * self._of_the_time) - spent
        self._at = now
        return 0.0 if self._left >= 0 else -self._left / self._of_the_time


class BodySink(Protocol):
    """Takes the body of a request as it comes. Either `end` or `lost` is the last call."""

    def chunk(self, data: bytes) -> None: ...

    def end(self, trailers: Mapping[str, str]) -> None:
        """The body is whole; now the request is to be answered."""
        ...

    def lost(self) -> None:
        """No more will come: the peer has hung up, or broken the message."""
        ...


class Reader:
    """The request that is being read. `complete` is called when it is whole, from within `feed`, and finds it in the
    attributes; `fail(status, message)` when no more can be read; `expected` when the peer waits before its body.
    """

    __slots__ = (
        "_again", "_budget", "_complete", "_expected", "_fail", "_head_bytes", "_head_done", "_head_lines", "_limit",
        "_parser", "_piece", "_repeated", "_silent_bytes", "_streamed", "_target", "_unbuffered", "_work", "body",
        "charge", "failed", "headers", "reading", "sink", "size", "trailers",
    )  # fmt: skip

    def __init__(self, complete: Callable[[], None], fail: Callable[[int, str], None], expected: Callable[[], None],
                 body_limit: int, budget: Budget | None, streamed: str | None = None,
                 unbuffered: Callable[[], BodySink | None] | None = None) -> None:
        self._streamed = streamed  #: the header of requests for which `unbuffered` may name who takes the body
        self._unbuffered = unbuffered
        self._complete = complete
        self._fail = fail
        self._expected = expected
        self._limit = body_limit
        self._budget = budget
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._repeated: dict[str, list[str]] = {}
        self._head_bytes = self._head_lines = 0
        self._head_done = False
        self._again: tuple[bytes, dict[str, str]] | None = None  #: the head, while an upgrade is declined
        self._silent_bytes = 0  #: since the parser last had something to tell
        self._work = 0  #: in this turn
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.sink: BodySink | None = None  #: who takes the body of this request
        self._piece: bytes | bytearray = b""  #: for the sink: what one read of the socket brought
        self.body: bytes | bytearray = b""
        self.size = 0  #: bytes of the body that came; over the limit `body` is empty
        self.charge = 0  #: bytes of the budget that it takes; whoever takes the body over has to give them back
        self.reading = False  #: a request has begun and is not whole
        self.failed = False

    @property
    def method(self) -> str:
        method = self._parser.get_method()
        return _METHODS.get(method) or str(method.decode("ascii"))

    @property
    def target(self) -> tuple[str, str]:
        """Path and query as they came."""
        path, _, query = self._target.decode("latin-1").partition("?")
        return path, query

    @property
    def body_due(self) -> bool:
        """The head of a request has come, and its body is not whole."""
        return self.reading and self._head_done and not self.failed

    @property
    def http_1_0(self) -> bool:
        """Of the request that was read last."""
        return bool(self._parser.get_http_version() == "1.0")

    @property
    def keep_alive(self) -> bool:
        return bool(self._parser.should_keep_alive())

    @property
    def oversize(self) -> int:
        """Bytes that came, when they were over the limit."""
        return self.size if self.size > self._limit else 0

    def feed(self, data: bytes) -> bytes:
        """Read on. Returns what is to be fed in a later turn of the loop: tiny requests and chunks are dear to read.

        Does nothing after a failure.
        """
        self._silent_bytes += len(data)
        self._work = at = 0
        size = FIRST_SLICE_BYTES
        while at < len(data) and self._work < WORK_PER_TURN and not self.failed:
            self._parse(data[at : at + size])
            at += size
            size = min(2 * size, SLICE_BYTES)
        if self._piece:
            self._pass_on()
        if self._silent_bytes > MAX_HEAD_BYTES:  # an endless line: the parser gathers it and tells at its end
            self.give_up(431, "Request Header Fields Too Large")
        return b"" if self.failed else data[at:]

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._parser.get_method() == b"CONNECT":
                    return self.give_up(400, "CONNECT is not supported")
                self._decline_upgrade()
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError:
                return self.give_up(400, "Bad Request")

    def give_up(self, status: int, message: str) -> None:
        """Read no further, and tell the owner once."""
        if not self.failed:
            self._pass_on()  # what came before it went wrong is whole
        if not self.failed:
            self.failed = True
            self.reading = False
            self.forget()
            self._fail(status, message)

    def forget(self) -> None:
        """Let go of what came of the body."""
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.lost()
        self.body = b""
        if self._budget is not None:
            self._budget.give_back(self.charge)
        self.charge = 0

    def close(self) -> None:
        """Let go of everything, and of the owner: nothing is read any more."""
        self.forget()
        self.failed = True
        self.reading = False
        self._target, self._piece, self._again = b"", b"", None
        self.headers, self.trailers, self._repeated = {}, {}, {}
        self._complete = self._expected = _nothing
        self._fail = _nothing
        self._unbuffered = self._parser = None

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1 as if the peer had not offered another protocol (RFC 9110, 7.8).

        The parser stops after the head then, so a new one is told what it must know of the request to read the rest.
        """
        headers = self.headers
        self._again = (self._target, headers)
        head = f"{self.method} / HTTP/{self._parser.get_http_version()}\r\n"
        for name in ("content-length", "transfer-encoding"):
            if name in headers:
                head += f"{name}: {headers[name]}\r\n"
        if "close" in headers.get("connection", "").lower():
            head += "connection: close\r\n"
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(f"{head}\r\n".encode("latin-1"))

    # httptools callbacks

    def on_message_begin(self) -> None:
        self.reading = True
        self._target = b""
        self.headers = {}
        self._head_bytes = self._head_lines = 0
        self._head_done = False
        self.trailers = {}
        self.size = 0

    def on_url(self, url: bytes) -> None:
        self._silent_bytes = 0
        self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.give_up(431, "Request Header Fields Too Large")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._silent_bytes = 0
        self._head_lines = lines = self._head_lines + 1
        self._head_bytes = size = self._head_bytes + len(name) + len(value)
        if size > MAX_HEAD_BYTES or lines > MAX_HEADERS:
            self.give_up(431, "Request Header Fields Too Large")
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers = self.headers
        if self._head_done:  # it must not pass for a header
            self.trailers[key] = text
        elif key in headers:
            self._repeated.setdefault(key, [headers[key]]).append(text)
        else:
            headers[key] = text

    def on_headers_complete(self) -> None:
        self._head_done = True
        if self._again is not None:
            (self._target, self.headers), self._again = self._again, None
            return
        if self._repeated:
            for key, texts in self._repeated.items():
                self.headers[key] = ("; " if key == "cookie" else ",").join(texts)
            self._repeated = {}
        if not self.failed and self.headers.get("expect", "").lower() == "100-continue":
            self._expected()
        if self._streamed is not None and self._streamed in self.headers and self._unbuffered is not None:
            self.sink = self._unbuffered()

    def _pass_on(self) -> None:
        """Give the sink what came, in one piece: the chunks of a hostile peer hold a byte each."""
        piece, self._piece = self._piece, b""
        if self.sink is None or not piece:
            return
        try:
            self.sink.chunk(bytes(piece))
        except Exception:  # our fault; the parser would make it the peer's
            traceback.print_exc()
            self.give_up(500, "Internal Server Error")

    def on_body(self, body: bytes) -> None:
        if self.failed:
            return
        self._silent_bytes = 0
        self._work += 1
        if self.sink is not None:
            if not self._piece:
                self._piece = body
                return
            if isinstance(self._piece, bytes):
                self._piece = bytearray(self._piece)
            self._piece += body
            return
        self.size += len(body)
        if self.size > self._limit:
            self.forget()  # read on, so that the peer can be answered, and keep nothing
        elif self._budget is not None and not self._budget.take(len(body)):
            self.give_up(503, "Too much is being received at once. Try again.")
        else:
            self.charge += len(body)
            if not self.body:
                self.body = body
                return
            if isinstance(self.body, bytes):  # a list of pieces would cost fifty times its bytes in a hostile case
                self.body = bytearray(self.body)
            self.body += body

    def on_message_complete(self) -> None:
        if self._piece:
            self._pass_on()
        if self.failed or self._parser.should_upgrade():
            return
        self._silent_bytes = 0
        self._work += 100
        self.reading = False
        self._complete()


def _nothing(*_: object) -> None:
    pass
