"""The HTTP APIs inside one environment: Runtime API 2018-06-01, and the doors to extensions, telemetry and metadata.

It turns a guest's calls into events of `core.environment` and the machine's deliveries into answers. What a guest gets
wrong is asked of the machine first and refused with AWS's error; nothing here decides. Facts: fact sheet, section 2.
"""

from __future__ import annotations

import msgspec

from lambent import limits
from lambent.core import outcomes
from lambent.core.events import (
    RUNTIME,
    ErrorPosted,
    Event,
    InitErrorPosted,
    NextRequested,
    ResponsePosted,
    ResponseRefused,
    ResponseStarted,
)
from lambent.core.model import Invocation, Outcome, OutcomeKind
from lambent.core.states import State
from lambent.http1 import Request, Streamed
from lambent.http1_parse import BodySink
from lambent.runtimeapi import extensions, metadata, telemetry
from lambent.runtimeapi import lane as lanes
from lambent.runtimeapi.answers import (
    ACCEPTED,
    NOT_ALLOWED,
    STATE_WORDS,
    TEXT,
    refuse,
    refuse_route,
    refuse_too_large,
    refuse_truncated,
    render_invoke,
    render_next,
    render_shutdown,
)
from lambent.runtimeapi.errortype import UNNAMED, function_error_type
from lambent.runtimeapi.lifecycle import Lifecycle
from lambent.runtimeapi.stream import Bandwidth, ResponseStream, error_of_trailers

_INVOCATION = "/2018-06-01/runtime/invocation/"
_NEXT = _INVOCATION + "next"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_PING = "/2018-06-01/ping"
#: What is asked for by which method, apart from an invocation's own paths and from extensions.
_METHODS = {_NEXT: "GET", _INIT_ERROR: "POST", _PING: "GET"} | dict.fromkeys(telemetry.PATHS, "PUT")
_RESPONSE_MODE = "lambda-runtime-function-response-mode"
_ERROR_TYPE = "lambda-runtime-function-error-type"
#: An error that brings its cause for X-Ray along; the cause is not the caller's.
_ERROR_WITH_CAUSE = "application/vnd.aws.lambda.error.cause+json"
#: A body is read this far, so that what is over the limit can be told from what is not.
BODY_LIMIT = limits.RESPONSE_PAYLOAD_BYTES


class RuntimeApi:
    """One environment's API. Pending `next` calls wait here until the machine delivers."""

    def __init__(self, lifecycle: Lifecycle, *, metadata_token: str = "", limit_bandwidth: bool = False) -> None:
        self._lifecycle = lifecycle
        self._metadata_token = metadata_token
        self._limit_bandwidth = limit_bandwidth
        #: what connections are to ask about bodies
        self.streamed = Streamed(_RESPONSE_MODE, self.on_head, self.on_cut_off)
        #: the streamed response that began last
        self.stream: ResponseStream | None = None
        #: the runtime's connection, once it speaks frames
        self._lane: lanes.Lane | None = None
        self._pending: dict[str, Request] = {}
        #: what was delivered to a participant that had hung up while it waited, and SHUTDOWN for an extension that is
        #: still busy; they get it when they ask again
        self._early: dict[str, bytes] = {}
        self._extensions = extensions.ExtensionsApi(lifecycle, self._next)

    def on_request(self, request: Request) -> None:
        """Answer one call of a guest, now or when there is something to deliver."""
        path = request.path
        if path == _NEXT and request.method == "GET":
            self._next(request, RUNTIME)
        elif path.startswith(_INVOCATION):
            self._invocation(request, path[len(_INVOCATION) :])
        elif path == _INIT_ERROR and request.method == "POST":
            self._init_error(request)
        elif path == _PING and request.method == "GET":
            request.respond(200, b"pong", content_type=TEXT)
        elif path.startswith(extensions.PREFIX):
            self._extensions.on_request(request, path[len(extensions.PREFIX) :])
        elif path in telemetry.PATHS and request.method == "PUT":
            self._extensions.subscribe(request, telemetry.PATHS[path])
        elif path == metadata.PATH:
            metadata.respond(request, self._metadata_token, self._lifecycle.function.region)
        else:
            refuse_route(request, _METHODS.get(path))

    def on_head(self, request: Request) -> BodySink | None:
        """Take the body of a streamed response as it comes; None for every other call, and to collect it.

        It is collected when the caller of the function wants the whole, and when it is to be refused at its end.
        """
        request_id = _answered(request)
        if request_id is None or request.headers[_RESPONSE_MODE] != "streaming":
            return None
        lifecycle = self._lifecycle
        event = ResponseStarted(lifecycle.now(), request_id, _content_type(request, ""))
        if lifecycle.refusal(event) is not None:
            return None
        bandwidth = Bandwidth(lifecycle.now()) if self._limit_bandwidth else None
        self.stream = ResponseStream(lifecycle, request, request_id, bandwidth, self._stream_ended)
        lifecycle.feed(event)
        return self.stream

    def on_cut_off(self, request: Request) -> None:
        """A body ended before it was whole. If it was the response that the caller waits for, that is the outcome."""
        request_id = _answered(request)
        if request_id is not None:
            event = ErrorPosted(self._lifecycle.now(), request_id, outcomes.truncated_response())
            if self._lifecycle.refusal(event) is None:
                self._lifecycle.feed(event)
        refuse_truncated(request)

    @property
    def unfinished_bytes(self) -> int:
        """What has come of a streamed response that has not come to its end."""
        return 0 if self.stream is None or self.stream.over else self.stream.bytes

    # Runtime API

    def _invocation(self, request: Request, rest: str) -> None:
        """A call below an invocation's path."""
        request_id, _, what = rest.partition("/")
        if what not in ("response", "error"):
            refuse_route(request, _METHODS.get(request.path))
        elif request.method != "POST":
            refuse_route(request, "POST")
        elif what == "response":
            self._response(request, request_id)
        else:
            self._error(request, request_id)

    def _stream_ended(self, request: Request, event: Event) -> None:
        stream = self.stream
        if stream is not None and stream.too_large:
            refuse_too_large(request, limits.STREAM_RESPONSE_BYTES)
        elif not self._refused(request, event, "InvocationResponse"):
            self._lifecycle.feed(event)
            request.respond_raw(ACCEPTED, may_wait=True)

    def _next(self, request: Request, participant: str) -> None:
        early = self._early.pop(participant, None)
        if early is not None:
            request.respond_raw(early)
            return
        lifecycle = self._lifecycle
        event = NextRequested(lifecycle.now(), participant)
        refusal = lifecycle.refusal(event)
        if refusal is not None:
            if participant == RUNTIME:
                self._refuse_transition(request, "Ready")
            else:
                self._extensions.refuse_transition(request, participant, "Ready", refusal)
            return
        request.drop_body()
        self._pending[participant] = request
        if participant == RUNTIME and lifecycle.runtime_state() is not State.BUSY:
            self._lane = None
        lifecycle.feed(event)

    def _response(self, request: Request, request_id: str) -> None:
        lifecycle = self._lifecycle
        now = lifecycle.now()
        mode = request.headers.get(_RESPONSE_MODE, "")
        event: ErrorPosted | ResponsePosted | ResponseRefused
        if mode not in ("", "streaming"):
            event = ResponseRefused(now, request_id, outcomes.invalid_response_mode())
        elif request.oversize:
            event = ErrorPosted(now, request_id, outcomes.response_too_large(BODY_LIMIT))
        elif mode and _ERROR_TYPE in request.trailers:  # all that is left of a collected stream is its error
            event = ErrorPosted(now, request_id, error_of_trailers(request.trailers))
        else:
            outcome = Outcome(OutcomeKind.RESPONSE, request.body, _content_type(request))
            event = ResponsePosted(now, request_id, outcome)
        if self._refused(request, event, "InvocationResponse"):
            return
        lifecycle.feed(event)  # first, since the caller of the function is the one who waits
        if mode not in ("", "streaming"):
            refuse(request, 400, "InvalidFunctionResponseMode", "Invalid function response mode")
        elif request.oversize:
            refuse_too_large(request)
        else:
            request.respond_raw(ACCEPTED, may_wait=True)

    def _error(self, request: Request, request_id: str) -> None:
        event = ErrorPosted(self._lifecycle.now(), request_id, _posted_error(request))
        if not self._refused(request, event, "InvocationErrorResponse"):
            self._lifecycle.feed(event)
            request.respond_raw(ACCEPTED, may_wait=True)

    def _init_error(self, request: Request) -> None:
        error = _posted_error(request, init=True)
        error.error_type = error.error_type or UNNAMED
        event = InitErrorPosted(self._lifecycle.now(), error)
        if not self._refused(request, event, "InitError"):
            self._lifecycle.feed(event)
            request.respond_raw(ACCEPTED)

    def _refused(self, request: Request, event: Event, target: str) -> bool:
        refusal = self._lifecycle.refusal(event)
        if refusal is None:
            return False
        if refusal == "InvalidRequestID":
            refuse(request, 400, refusal, "Invalid request ID")
        else:
            self._refuse_transition(request, target)
        return True

    def _refuse_transition(self, request: Request, target: str) -> None:
        state = STATE_WORDS[self._lifecycle.runtime_state()]
        refuse(request, 403, "InvalidStateTransition",
               f"State transition from {state} to {target} failed for runtime. {NOT_ALLOWED}")

    # Deliveries

    def deliver(self, participant: str, invocation: Invocation, deadline_ms: int) -> None:
        """Hand an invocation to a participant that waits in Next."""
        if participant == RUNTIME:
            self._deliver(invocation, deadline_ms)
        else:
            self._hand(participant, render_invoke(invocation, deadline_ms))

    def _deliver(self, invocation: Invocation, deadline_ms: int) -> None:
        """Hand it to the runtime, in whichever way it asked."""
        self.stream = None
        if self._lane is not None and RUNTIME not in self._pending:
            if self._lane.closed:  # it gets it when it asks again, over HTTP
                self._lane = None
                self._early[RUNTIME] = render_next(invocation, deadline_ms)
            else:
                self._lane.deliver(invocation, deadline_ms)
            return
        request = self._pending[RUNTIME]
        if lanes.HEADER not in request.headers or not request.alone or request.gone:
            self._hand(RUNTIME, render_next(invocation, deadline_ms))
            return
        del self._pending[RUNTIME]
        lane = self._lane = lanes.Lane(self._lifecycle)
        lane.serves(invocation)
        request.hand_over(render_next(invocation, deadline_ms, "Lambent-Lane: 1\r\n"), lane)

    @property
    def asks_at_once(self) -> bool:
        """Whether the result that is being fed has the question for more in it: the runtime is idle at once."""
        return self._lane is not None and self._lane.asking

    def deliver_shutdown(self, participant: str, reason: str, deadline_ms: int) -> None:
        """Hand an external extension its SHUTDOWN event."""
        self._hand(participant, render_shutdown(reason, deadline_ms))

    def _hand(self, participant: str, message: bytes) -> None:
        request = self._pending.pop(participant, None)
        if request is None or request.gone:
            self._early[participant] = message
        else:
            request.respond_raw(message)

    def forget(self) -> None:
        """The guest's processes are gone: nobody waits any more and every identifier is void."""
        self._lane = None
        self._pending.clear()
        self._early.clear()
        self._extensions.forget()


def _answered(request: Request) -> str | None:
    """The request id that a posted response is for; None for every other call."""
    request_id, _, what = request.path.removeprefix(_INVOCATION).partition("/")
    is_response = what == "response" and request.method == "POST" and request.path.startswith(_INVOCATION)
    return request_id if is_response else None


class _ErrorWithCause(msgspec.Struct, omit_defaults=True):
    errorMessage: str
    errorType: str
    stackTrace: list[str] | None = None


def _posted_error(request: Request, *, init: bool = False) -> Outcome:
    """The error that a runtime posted, its body as it came; its type is that of the header.

    That of an Init is called JSON only if it is (rapi/handler/initerror.go of AWS's published emulator).
    """
    error_type = function_error_type(request.headers.get(_ERROR_TYPE, ""))
    body, content_type = request.body, "application/json"
    if request.oversize:
        body = outcomes.response_too_large(BODY_LIMIT).payload
    elif init:
        content_type = content_type if _is_json(body) else "application/octet-stream"
    elif request.headers.get("content-type") == _ERROR_WITH_CAUSE:
        try:
            body = msgspec.json.encode(msgspec.json.decode(body, type=_ErrorWithCause))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            body, content_type = b'"Invalid error body"', "application/octet-stream"
    return Outcome(OutcomeKind.FUNCTION_ERROR, body, content_type, error_type)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _content_type(request: Request, default: str = "application/json") -> str:
    """What the runtime calls its response. It goes to the caller and stays in the story, so it must be short."""
    return lanes.content_type(request.headers.get("content-type") or default)
