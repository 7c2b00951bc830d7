"""The fast lane: the Runtime API's two hot calls as length-prefixed frames, for the runtimes that we ship.

A runtime offers it with the header `Lambent-Lane: 1` on its first GET of `next`, and sends nothing more before the
answer. That repeats the header, and from then on the connection speaks frames: a result with the question for the next
invocation in it, and an invocation. Everything else (init errors, streams, extensions) stays HTTP, on connections of
its own. The same events reach the same machine as over HTTP; without the two HTTP requests the server executes a fifth
less for a warm call.

Guest to platform: kind (1 byte: `r` a result, `e` an error, `x` a result that is too large to be taken), sizes of text
and body (3 and 8 bytes, little-endian), text, body. The text of a result is its content type (empty: JSON); that of an
error its cause for X-Ray. After an `x` the runtime ends, so it asks for nothing, and the connection is closed.
Platform to guest: sizes of head and body (4 bytes each), head, body. The head is lines: request id, deadline in ms
since the epoch, invoked ARN, trace id and client context (which may be empty), content type.
"""

from __future__ import annotations

from typing import Protocol

from lambent import limits
from lambent.core import outcomes
from lambent.core.events import ErrorPosted, Event, NextRequested, ResponsePosted
from lambent.core.model import Invocation, Outcome, OutcomeKind
from lambent.http1 import Successor

HEADER = "lambent-lane"
HEAD_BYTES = 12
#: The official client cuts its causes here.
TEXT_BYTES = 64 * 1024
MAX_CONTENT_TYPE = 1024
_RESULT, _ERROR, _TOO_LARGE = b"rex"


class Lifecycle(Protocol):
    """What a lane needs of the environment's driver."""

    def now(self) -> float: ...

    def refusal(self, event: Event) -> str | None: ...

    def feed(self, event: Event) -> None: ...


class Lane(Successor):
    """One runtime's connection, once it speaks frames. A guest that breaks the format is cut off."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        super().__init__()
        self._lifecycle = lifecycle
        self._request_id = ""  #: of the invocation that was delivered last
        self._buffer = bytearray()
        self._left = 0  #: bytes of a frame that is too large, still to be dropped
        self.asking = False  #: a result is being fed, and its question follows

    def deliver(self, invocation: Invocation, deadline_ms: int) -> None:
        """Hand over an invocation."""
        self.serves(invocation)
        self.write(render(invocation, deadline_ms))

    def serves(self, invocation: Invocation) -> None:
        """The results that come from now on are this invocation's."""
        self._request_id = invocation.request_id

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._buffer or self._left:
            self._cut_off()

    def _cut_off(self) -> None:
        """The result that was coming will not be whole."""
        self._buffer.clear()
        self._last(outcomes.truncated_response())

    def _last(self, outcome: Outcome) -> None:
        """A result that asks for nothing."""
        event = ErrorPosted(self._lifecycle.now(), self._request_id, outcome)
        if self._lifecycle.refusal(event) is None:
            self._lifecycle.feed(event)

    def data_received(self, data: bytes) -> None:
        if not self._buffer and not self._left and len(data) >= HEAD_BYTES:
            text_size = int.from_bytes(data[1:4], "little")
            body_at = HEAD_BYTES + text_size
            if len(data) == body_at + int.from_bytes(data[4:HEAD_BYTES], "little") and text_size <= TEXT_BYTES:
                self._frame(data[0], data[HEAD_BYTES:body_at], data[body_at:])  # as nearly always
                return
        self._buffer += data
        while not self.closed and self._take_frame():
            pass

    def _take_frame(self) -> bool:
        """Take one frame from the buffer; False when there is no whole one."""
        buffer = self._buffer
        if self._left:
            dropped = min(self._left, len(buffer))
            del buffer[:dropped]
            self._left -= dropped
            if not self._left:
                self._too_large()
            return bool(buffer)
        if len(buffer) < HEAD_BYTES:
            return False
        text_size, body_size = int.from_bytes(buffer[1:4], "little"), int.from_bytes(buffer[4:HEAD_BYTES], "little")
        if text_size > TEXT_BYTES or buffer[0] not in (_RESULT, _ERROR, _TOO_LARGE):
            self.abort()
            return False
        end = HEAD_BYTES + text_size + body_size
        if body_size > limits.RESPONSE_PAYLOAD_BYTES:
            self._left = end
            return True
        if len(buffer) < end:
            return False
        kind, body_at = buffer[0], HEAD_BYTES + text_size
        text, body = bytes(buffer[HEAD_BYTES:body_at]), bytes(buffer[body_at:end])
        del buffer[:end]
        self._frame(kind, text, body)
        return True

    def _frame(self, kind: int, text: bytes, body: bytes) -> None:
        now = self._lifecycle.now()
        if len(body) > limits.RESPONSE_PAYLOAD_BYTES:
            self._too_large()
        elif kind == _RESULT:
            outcome = Outcome(OutcomeKind.RESPONSE, body, content_type(text.decode("latin-1") or "application/json"))
            self._end(ResponsePosted(now, self._request_id, outcome))
        elif kind == _ERROR:
            self._end(ErrorPosted(now, self._request_id, Outcome(OutcomeKind.FUNCTION_ERROR, body)))
        else:
            if kind == _TOO_LARGE:
                self._last(outcomes.response_too_large(limits.RESPONSE_PAYLOAD_BYTES))
            self.abort()

    def _too_large(self) -> None:
        outcome = outcomes.response_too_large(limits.RESPONSE_PAYLOAD_BYTES)
        self._end(ErrorPosted(self._lifecycle.now(), self._request_id, outcome))

    def _end(self, event: ResponsePosted | ErrorPosted) -> None:
        """The invocation's result, and the question for the next one in it."""
        lifecycle = self._lifecycle
        if lifecycle.refusal(event) is not None:
            return self.abort()
        self.asking = True
        lifecycle.feed(event)
        self.asking = False
        following = NextRequested(lifecycle.now())
        if lifecycle.refusal(following) is None:
            lifecycle.feed(following)
        else:
            self.abort()  # over HTTP it is told 403, and ends


def content_type(given: str) -> str:
    """What a runtime calls its response. It goes to the caller and stays in the story, so it must be short."""
    return given if len(given) <= MAX_CONTENT_TYPE else "application/octet-stream"


def render(invocation: Invocation, deadline_ms: int) -> bytes:
    """An invocation as a frame."""
    head = (
        f"{invocation.request_id}\n{deadline_ms}\n{invocation.invoked_arn}\n{invocation.trace_id}\n"
        f"{invocation.client_context}\n{invocation.content_type}"
    ).encode()
    payload = invocation.payload
    return len(head).to_bytes(4, "little") + len(payload).to_bytes(4, "little") + head + payload
