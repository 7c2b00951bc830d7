"""A streamed response on its way from the guest to the caller: its limits, its pace, and how it ends.

Bytes go past the machine of the environment; head and end are its events. Nothing is kept here: when the caller is
slow, or the bandwidth is used up, nothing more is read from the guest. Facts: fact sheet 2.4.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Protocol

from lambent import limits
from lambent.core import outcomes
from lambent.core.events import Event, ResponseEnded
from lambent.core.model import Outcome, OutcomeKind
from lambent.http1 import Request
from lambent.runtimeapi.answers import refuse_truncated
from lambent.runtimeapi.errortype import function_error_type


class Responding(Protocol):
    """What a stream needs of the environment's driver."""

    def now(self) -> float: ...

    def refusal(self, event: Event) -> str | None: ...

    def feed(self, event: Event) -> None: ...

    def responding(self) -> bool:
        """Whether the response may still go on: its time may be up."""
        ...


class Bandwidth:
    """AWS's rate for one streamed response: the first 6 MiB at full speed, then 2 MiB a second."""

    def __init__(self, now: float) -> None:
        self._tokens = float(limits.STREAM_BURST_BYTES)
        self._at = now

    def spend(self, size: int, now: float) -> float:
        """Seconds to wait after so many bytes."""
        refilled = self._tokens + (now - self._at) * limits.STREAM_BYTES_PER_S
        self._tokens = min(float(limits.STREAM_BURST_BYTES), refilled) - size
        self._at = now
        return max(0.0, -self._tokens / limits.STREAM_BYTES_PER_S)


class ResponseStream:
    """One streamed response. `sink` is set when the machine opens the caller's answer; `ended` answers the guest."""

    def __init__(self, lifecycle: Responding, request: Request, request_id: str, bandwidth: Bandwidth | None,
                 ended: Callable[[Request, Event], None]) -> None:
        self.sink: Callable[[bytes], None] | None = None
        self.too_large = False
        self.over = False  #: the machine knows of its end
        self._lifecycle = lifecycle
        self._request = request
        self._request_id = request_id
        self._bandwidth = bandwidth
        self._ended = ended
        self.bytes = 0  #: that came from the guest so far
        self._caller_is_slow = False
        self._refill: asyncio.TimerHandle | None = None

    # The guest's side (http1.BodySink)

    def chunk(self, data: bytes) -> None:
        if self.sink is None or not self._lifecycle.responding():
            return  # read and dropped, so that the guest can be answered
        room = limits.STREAM_RESPONSE_BYTES - self.bytes
        self.bytes += len(data)
        self.sink(data[:room])
        if len(data) > room:
            self.too_large = True
            self._let_go()  # the rest is read and dropped, however slow the caller is
            self._lifecycle.feed(self._end(outcomes.response_too_large(limits.STREAM_RESPONSE_BYTES)))
        elif self._bandwidth is not None:
            delay = self._bandwidth.spend(len(data), self._lifecycle.now())
            if delay > 0.0 and self._refill is None:
                self._refill = asyncio.get_running_loop().call_later(delay, self._refilled)
                self._pace()

    def end(self, trailers: Mapping[str, str]) -> None:
        self._let_go()
        error_type = function_error_type(trailers.get("lambda-runtime-function-error-type", ""))
        if error_type or "lambda-runtime-function-error-body" in trailers:
            outcome = error_of_trailers(trailers)
        else:
            outcome = Outcome(OutcomeKind.RESPONSE)
        self._ended(self._request, self._end(outcome))

    def lost(self) -> None:
        self._let_go()
        event = self._end(outcomes.truncated_response())
        if self._lifecycle.refusal(event) is None:
            self._lifecycle.feed(event)
        refuse_truncated(self._request)

    # The caller's side (worker.base.Source)

    def pause(self) -> None:
        self._caller_is_slow = True
        self._pace()

    def resume(self) -> None:
        self._caller_is_slow = False
        self._pace()

    def _refilled(self) -> None:
        self._refill = None
        self._pace()

    def _pace(self) -> None:
        if self._caller_is_slow or self._refill is not None:
            self._request.pause()
        else:
            self._request.resume()

    def _let_go(self) -> None:
        self.sink = None
        if self._refill is not None:
            self._refill.cancel()
            self._refill = None
        self._caller_is_slow = False
        self._pace()

    def _end(self, outcome: Outcome) -> ResponseEnded:
        self.over = True
        return ResponseEnded(self._lifecycle.now(), self._request_id, outcome, self.bytes)


def error_of_trailers(trailers: Mapping[str, str]) -> Outcome:
    """The handler failed after it had begun to respond. A body that is not Base64 is taken as it is."""
    error_type = function_error_type(trailers.get("lambda-runtime-function-error-type", ""))
    text = trailers.get("lambda-runtime-function-error-body", "").encode("latin-1", "replace")
    try:
        body = base64.b64decode(text, validate=True)
    except binascii.Error:
        body = text
    return Outcome(OutcomeKind.FUNCTION_ERROR, body, error_type=error_type)
