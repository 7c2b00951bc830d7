"""InvokeWithResponseStream: an invocation whose caller reads the response while the handler still makes it.

What Invoke checks is checked there. A response that comes in one piece is sent as one part. Facts: fact sheet 6.5.
"""

from __future__ import annotations

import base64

from lambent import eventstream
from lambent.core.model import Invocation, Outcome, OutcomeKind
from lambent.dispatcher import Dispatcher
from lambent.errors import ApiError
from lambent.frontend.invoke import Invoke, new_request_id, outcome_error
from lambent.http1 import Request
from lambent.worker.base import Served, Sink, Source

PREFIX = "/2021-11-15/functions/"
SUFFIX = "/response-streaming-invocations"


class StreamingInvoke:
    """The operation InvokeWithResponseStream."""

    def __init__(self, invoking: Invoke, dispatcher: Dispatcher) -> None:
        self._invoking = invoking
        self._dispatcher = dispatcher

    def handle(self, request: Request) -> None:
        request_id = new_request_id()
        try:
            name = request.path[len(PREFIX) : -len(SUFFIX)]
            kind, invocation = self._invoking.read(request, request_id, name, ("RequestResponse", "DryRun"))
        except ApiError as error:
            self._invoking.refuse(request, error, request_id)
            return
        if kind == "DryRun":
            request.respond(204, headers=(("x-amzn-RequestId", request_id), ("Date", self._invoking.date())))
            return
        answer = _Answer(request, invocation, self._invoking)
        self._dispatcher.invoke_streaming(invocation, answer.open, answer.complete)


class _Answer:
    """One answer: parts while they come, then how it ended."""

    def __init__(self, request: Request, invocation: Invocation, invoking: Invoke) -> None:
        self._invoking = invoking
        self._request = request
        self._invocation = invocation
        self._begun = False

    def open(self, _content_type: str, served: Served, source: Source) -> Sink:
        self._begin(served)
        follow(self._request, source)
        return self._part

    def _begin(self, served: Served | None) -> None:
        self._begun = True
        invocation = self._invocation
        headers = (("x-amzn-RequestId", invocation.request_id), ("Date", self._invoking.date()),
                   ("X-Amz-Executed-Version", invocation.function.version),
                   ("X-Amzn-Trace-Id", invocation.trace_id))  # fmt: skip
        self._request.begin(200, headers + served_headers(served), "application/vnd.amazon.eventstream")

    def _part(self, data: bytes) -> None:
        self._request.write(eventstream.payload_chunk(data))

    def complete(self, outcome: Outcome, served: Served | None) -> None:
        ours = outcome.kind is OutcomeKind.REFUSED or outcome.kind is OutcomeKind.PLATFORM_ERROR
        if ours and not self._begun:
            self._invoking.refuse(self._request, outcome_error(outcome), self._invocation.request_id)
            return
        if not self._begun:
            self._begin(served)
            if outcome.kind is OutcomeKind.RESPONSE and outcome.payload:
                self._part(outcome.payload)
        if ours:
            error = outcome_error(outcome)
            self._request.write(eventstream.exception(error.code, {"Message": error.message}))
        else:
            self._request.write(eventstream.invoke_complete(self._members(outcome, served)))
        self._request.finish()

    def _members(self, outcome: Outcome, served: Served | None) -> dict[str, str]:
        members = {}
        if outcome.kind is OutcomeKind.FUNCTION_ERROR:
            members = {"ErrorCode": "Unhandled", "ErrorDetails": outcome.payload.decode("utf-8", "replace")}
        if served is not None and self._invocation.reply_after_report:
            members["LogResult"] = base64.b64encode(served.log_tail).decode()
        return members


def follow(request: Request, source: Source) -> None:
    """Take from the guest only as fast as the peer reads; when the peer has hung up, take everything."""

    def flow(flows: bool) -> None:
        if flows:
            source.resume()
        else:
            source.pause()

    request.on_flow = flow


def served_headers(served: Served | None) -> tuple[tuple[str, str], ...]:
    """Where and how, in headers of our own."""
    if served is None:
        return ()
    return (("X-Lambent-Environment", served.environment_id), ("X-Lambent-Start", "cold" if served.cold else "warm"))
