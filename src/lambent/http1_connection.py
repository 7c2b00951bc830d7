"""HTTP/1.1 for servers: our own protocol on httptools, one object per connection, no task per request.

Used by the API edge and by the Runtime API inside environments. It keeps pipelined requests in order, and writes head
and body of an answer in one go, since a split write costs the official runtime client 40 ms of delayed ACK.

What a peer can make us hold is bounded: nothing more is read while a request waits for its turn or answers wait for the
peer to read them; connections may share a `Budget` of bytes; the bounds of one request stand in `http1_parse`.
"""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from lambent.http1 import Handler, Request, Streamed, Successor, render
from lambent.http1_parse import BodySink, Budget, Pace, Reader

#: A request that was not complete this long after its first byte is given up (slow-loris), and so is a peer that has
#: read nothing of an answer for this long.
REQUEST_TIMEOUT_S = 60.0
#: How long a peer that still sends may take to see why nothing more is read. A close at once would be a reset to it.
LINGER_S = 1.0


class Connection(asyncio.Protocol):
    """One client connection. Requests on it are handled one after the other."""

    __slots__ = (
        "_bodiless", "_budget", "_chunked", "_clogged", "_continue_due", "_current", "_ended", "_failure", "_held",
        "_held_back", "_loop", "_next_turn", "_on_close", "_on_request", "_parsing", "_paused", "_reader", "_refuse",
        "_rest", "_resting", "_share", "_stall", "_streamed", "_streaming", "_timeout_s", "_timer", "_transport",
        "_unread_bytes", "_waiting", "closed", "local", "peer",
    )  # fmt: skip

    def __init__(self, on_request: Handler, loop: asyncio.AbstractEventLoop, body_limit: int,
                 on_close: Callable[[Connection], None] | None = None,
                 refuse: Callable[[Connection], str | None] | None = None,
                 timeout_s: float | None = REQUEST_TIMEOUT_S, budget: Budget | None = None,
                 streamed: Streamed | None = None, share: Pace | None = None) -> None:
        self._on_request = on_request
        self._on_close = on_close
        self._refuse = refuse
        self._loop = loop
        self._timeout_s = timeout_s
        self._budget = budget
        self._share = share
        self._resting: asyncio.TimerHandle | None = None  #: nothing is read until then
        self._streamed = streamed
        self._reader = Reader(self._complete, self._fail, self._expected, body_limit, budget,
                              streamed.header if streamed is not None else None, self._unbuffered)
        self._streaming: Request | None = None  #: the request whose body is taken as it comes
        self._held_back = False  #: whoever takes it wants no more for now
        self._chunked = self._bodiless = False  #: of the answer that is being made
        self._transport: Any = None
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()
        self._rest = b""  #: what was received and is to be read in a later turn of the loop
        self._next_turn: asyncio.Handle | None = None
        self._parsing = False
        self._held = b""  #: an answer that waits for the next one; only while a later request is parsed or pending
        self._failure = b""  #: what the peer is told last, after the answers that come before
        self._ended = False  #: the last answer was written
        self._continue_due = False  #: the peer waits for leave to send its body
        self._clogged = False  #: the peer does not read its answers
        self._unread_bytes = 0  #: bytes of answers that are charged to the budget
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self.closed = False
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)

    @property
    def idle(self) -> bool:
        """No request is being read or answered."""
        return self._current is None and not self._reader.reading and not self._clogged

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
        if self.closed:
            self._transport.abort()
        elif self._refuse is not None and self._refuse(self) is not None:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._stop_timer()
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self.resume_writing()
        self._body_ends()
        self._reader.forget()
        for request in self._waiting:
            self.settle(request)
        self._waiting.clear()
        # The garbage collector comes seldom, so a request is not to keep us, and its body, by being kept by us.
        self._current = self._streaming = None
        self._rest = self._held = b""
        self._reader.close()
        if self._on_close is not None:
            self._on_close(self)

    def eof_received(self) -> bool:
        self._body_ends()
        return False

    def _body_ends(self) -> None:
        """No more will come. Whoever waits for the rest of a body is told; it can still be answered after an EOF."""
        reader = self._reader
        if not reader.body_due:
            return
        if reader.sink is not None:
            reader.forget()
        elif self._streamed is not None and self._streamed.cut_off is not None and not self._waiting:
            path, query = reader.target
            request = Request(self, reader.method, path, query, reader.headers, b"", False)
            if self._current is None:
                self._current = request
            else:
                request.responded = True  # the answer before it is not out yet
            reader.forget()
            self._streamed.cut_off(request)
        reader.reading = False

    def data_received(self, data: bytes) -> None:
        if self.closed or self._ended:
            return
        if self._rest:
            self._rest += data
            return
        begun = self._share.begin() if self._share is not None else 0.0
        self._parsing = True
        try:
            self._rest = self._reader.feed(data)
        finally:
            self._parsing = False
            if self._held and self._current is None and not self.closed:
                self._flush()
        if self._share is not None and not (self.closed or self._ended):
            self._rest_for(self._share.rest(begun, len(data)))
        self._pace()

    # requests

    def _complete(self) -> None:
        reader = self._reader
        if self._ended:
            return
        self._continue_due = False
        self._stop_timer()
        if self._streaming is not None:
            self._complete_streaming()
            return
        path, query = reader.target
        request = Request(self, reader.method, path, query, reader.headers, bytes(reader.body), reader.keep_alive)
        request.oversize = reader.oversize
        request.trailers = reader.trailers
        request.charge, reader.charge, reader.body = reader.charge, 0, b""
        if self._current is None and not self._waiting and not self._clogged:
            self._current = request
            self._handle(request)
        else:
            self._waiting.append(request)

    def _unbuffered(self) -> BodySink | None:
        """Who takes the body of the request whose head has come; one that must wait for its turn is gathered."""
        if self._streamed is None or self._current is not None or self._waiting or self._clogged or self._ended:
            return None
        reader = self._reader
        path, query = reader.target
        request = Request(self, reader.method, path, query, reader.headers, b"", reader.keep_alive)
        sink = self._streamed.open(request)
        if sink is not None:
            self._current = self._streaming = request
        return sink

    def _complete_streaming(self) -> None:
        request, self._streaming = self._streaming, None
        sink, self._reader.sink = self._reader.sink, None
        assert request is not None and sink is not None
        request.trailers = self._reader.trailers
        try:
            sink.end(request.trailers)
        except Exception:
            traceback.print_exc()
            request.respond(500, b'{"message":"Internal Server Error"}')

    def _handle(self, request: Request) -> None:
        if self.closed:
            self.settle(request)
            return
        try:
            self._on_request(request)
        except Exception:  # our fault; the parser would make it the peer's
            traceback.print_exc()
            request.respond(500, b'{"message":"Internal Server Error"}')

    def _expected(self) -> None:
        self._continue_due = True
        self._say_continue()

    def _fail(self, status: int, message: str) -> None:
        """Read no further; say why once every request that came before is answered."""
        self._stop_timer()
        if self._streaming is not None:  # it will not be whole, so this is its answer
            self._streaming = self._current = None
        self._failure = render(status, f'{{"message":"{message}"}}'.encode(), (), "application/json", keep_alive=False)
        self._advance()

    def _advance(self) -> None:
        """Once an answer is out: the next request, or what is to be said when there is none."""
        if self._clogged or self._current is not None or self._ended or self.closed:
            return
        if self._waiting:
            self._current = self._waiting.popleft()
            self._loop.call_soon(self._handle, self._current)
        elif self._failure:
            self._linger()
        else:
            self._say_continue()

    def _say_continue(self) -> None:
        if self._continue_due and self._current is None and not self._waiting:
            self._continue_due = False
            self._held += b"HTTP/1.1 100 Continue\r\n\r\n"
            self._flush()

    # answers

    def send(self, request: Request, status: int, body: bytes, headers: tuple[tuple[str, str], ...],
             content_type: str | None) -> None:
        try:
            message = render(status, body, headers, content_type, keep_alive=request.keep_alive,
                             head_only=request.method == "HEAD")
        except ValueError:
            message = render(502, b'{"message":"Internal Server Error"}', (), "application/json",
                             keep_alive=request.keep_alive, head_only=request.method == "HEAD")
        self.send_raw(request, message)

    def send_raw(self, request: Request, message: bytes, may_wait: bool = False) -> None:
        self.settle(request)
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
        if request.keep_alive:
            self._advance()
            if not self._parsing:  # else it is done at the end of the data
                self._pace()
        else:
            self._end()

    def begin(self, request: Request, status: int, headers: tuple[tuple[str, str], ...],
              content_type: str | None) -> None:
        if self.closed:
            self.settle(request)
            return
        self._chunked = not self._reader.http_1_0
        if not self._chunked:
            request.keep_alive = False  # the end of the connection is the end of the answer
        head = render(status, b"", headers, content_type, keep_alive=request.keep_alive, chunked=self._chunked)
        self._bodiless = request.method == "HEAD" or status == 204 or status == 304
        self.settle(request)
        self._held += head
        self._flush()

    def write(self, request: Request, data: bytes) -> None:
        if data and request is self._current and not self.closed and not self._bodiless:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self, request: Request) -> None:
        if request is self._current:
            self.send_raw(request, b"0\r\n\r\n" if self._chunked and not self._bodiless else b"")

    def break_off(self, request: Request) -> None:
        if request is not self._current or self.closed:
            return
        self._current = None
        if self._chunked and not self._bodiless:
            self._end()  # what was written still goes out; the last chunk is what is missing
        else:
            self.abort()

    def has_only(self, request: Request) -> bool:
        return request is self._current and not (self._waiting or self._held or self._rest or self._reader.reading)

    def hand_over(self, request: Request, message: bytes, successor: Successor) -> None:
        self.settle(request)
        if self.closed:
            return
        self._transport.write(message)
        self._current = None
        self._ended = True
        self._stop_timer()
        successor.take_over(self, self._transport)
        self._transport.set_protocol(successor)

    def settle(self, request: Request) -> None:
        """The request's body is held no more."""
        if request.charge and self._budget is not None:
            self._budget.give_back(request.charge)
        request.charge = 0

    def abort(self) -> None:
        """Drop the connection at once, with every request that waits on it; or as soon as it is made."""
        if not self.closed:
            self.closed = True
            if self._transport is not None:
                self._transport.abort()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        self._transport.write(held)

    def _end(self) -> None:
        self._ended = True
        self._stop_timer()
        self._transport.close()

    def _linger(self) -> None:
        """Say why nothing more is read, and drop what comes until the peer has seen it."""
        self._held += self._failure
        self._failure = b""
        self._flush()
        self._ended = True
        self._transport.write_eof()
        self._timer = self._loop.call_later(LINGER_S, self.abort)

    # pace

    def pause_writing(self) -> None:
        self._clogged = True
        unread = self._transport.get_write_buffer_size()
        if self._budget is not None and not self._budget.take(unread):
            self.abort()
            return
        self._unread_bytes = unread
        self._tell_flow(False)
        if self._timeout_s is not None:
            self._stall = self._loop.call_later(self._timeout_s, self._check_progress, unread)
        self._pace()

    def resume_writing(self) -> None:
        self._clogged = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._budget is not None:
            self._budget.give_back(self._unread_bytes)
        self._unread_bytes = 0
        self._tell_flow(True)
        self._advance()
        self._pace()

    def _tell_flow(self, flows: bool) -> None:
        if self._current is not None and self._current.on_flow is not None:
            self._current.on_flow(flows)

    def hold_back(self, wanted: bool) -> None:
        """Whether whoever takes a body wants no more for now."""
        self._held_back = wanted
        self._pace()

    def _check_progress(self, before: int) -> None:
        left = self._transport.get_write_buffer_size()
        if left >= before:
            self.abort()
        else:
            self._stall = self._loop.call_later(self._timeout_s or 0.0, self._check_progress, left)

    def _pace(self) -> None:
        """Read only what can be handled soon, and give half a request only so much time."""
        if self.closed:
            return
        reader = self._reader
        if self._rest and self._next_turn is None and not (self._waiting or self._clogged or self._resting):
            self._next_turn = self._loop.call_soon(self._read_rest)
        paused = bool(self._clogged or self._waiting or self._failure or self._held_back or self._rest or self._resting)
        if paused is not self._paused and not self._transport.is_closing():
            self._paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        if self._ended:
            return
        if paused or not reader.reading or self._streaming is not None:
            self._stop_timer()
        elif self._timer is None and self._timeout_s is not None:
            self._timer = self._loop.call_later(self._timeout_s, reader.give_up, 408, "Request Timeout")

    def _rest_for(self, seconds: float) -> None:
        if seconds > 0 and self._resting is None:
            self._resting = self._loop.call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = None
        self._pace()

    def _read_rest(self) -> None:
        self._next_turn = None
        rest, self._rest = self._rest, b""
        self.data_received(rest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
