"""The HTTP APIs inside one environment: Runtime API 2018-06-01, Extensions API 2020-01-01, subscriptions to telemetry.

It turns a guest's calls into events of `core.environment` and the machine's deliveries into answers. What a guest gets
wrong is asked of the machine first and refused with AWS's error; nothing here decides. Bodies and messages are those of
AWS's published emulator (fact sheet, sections 2 and 3).
"""

from __future__ import annotations

import uuid
from typing import Protocol

import msgspec

from lambent import limits
from lambent.core import outcomes
from lambent.core.events import (
    RUNTIME,
    ErrorPosted,
    Event,
    ExtensionExitErrorPosted,
    ExtensionInitErrorPosted,
    ExtensionRegistered,
    InitErrorPosted,
    NextRequested,
    ResponsePosted,
    ResponseStarted,
)
from lambent.core.model import FunctionVersion, Invocation, Outcome, OutcomeKind
from lambent.core.states import State
from lambent.core.subscription import Api, Subscription
from lambent.http1 import Request, Streamed
from lambent.http1_parse import BodySink
from lambent.runtimeapi import lane as lanes
from lambent.runtimeapi import telemetry
from lambent.runtimeapi.errortype import function_error_type
from lambent.runtimeapi.stream import Bandwidth, ResponseStream, error_of_trailers

_INVOCATION = "/2018-06-01/runtime/invocation/"
_NEXT = _INVOCATION + "next"
_RESPONSE_MODE = "lambda-runtime-function-response-mode"
_EXTENSION = "/2020-01-01/extension/"
_ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    b'{"status":"OK"}\n'
)
#: A body is read this far, so that what is over the limit can be told from what is not.
BODY_LIMIT = limits.RESPONSE_PAYLOAD_BYTES

#: What a guest says of itself stays in the story of its environment.
MAX_NAME = 255  # that of a file

#: The runtime's states in the words of the error messages.
_STATE_WORDS = {
    State.ABSENT: "Terminated", State.STARTED: "Started", State.READY: "Ready", State.BUSY: "Running",
    State.RESPONDING: "Responding", State.RESPONDED: "ResponseSent", State.FAILED: "InitError",
    State.REGISTERED: "Registered",
}  # fmt: skip


class Lifecycle(Protocol):
    """What this API needs of the environment's driver."""

    function: FunctionVersion

    def now(self) -> float: ...

    def refusal(self, event: Event) -> str | None: ...

    def feed(self, event: Event) -> None: ...

    def runtime_state(self) -> State: ...

    def responding(self) -> bool:
        """Whether a streamed response is under way and may go on."""
        ...

    def subscription_refusal(self, name: str, api: Api) -> str | None:
        """Why this extension cannot subscribe now: `SubscriptionClosed`, `NotSupported` or `Taken`; None when it can.

        `Taken`: it has subscribed by the other API.
        """
        ...

    def subscribe(self, name: str, subscription: Subscription) -> None: ...


class RuntimeApi:
    """One environment's API. Pending `next` calls wait here until the machine delivers."""

    def __init__(self, lifecycle: Lifecycle, *, limit_bandwidth: bool = False) -> None:
        self._lifecycle = lifecycle
        self._limit_bandwidth = limit_bandwidth
        #: what connections are to ask `on_head` about
        self.streamed = Streamed(_RESPONSE_MODE, self.on_head)
        #: the streamed response that began last
        self.stream: ResponseStream | None = None
        #: the runtime's connection, once it speaks frames
        self._lane: lanes.Lane | None = None
        self._pending: dict[str, Request] = {}
        #: what was delivered to a participant that had hung up while it waited, and SHUTDOWN for an extension that is
        #: still busy; they get it when they ask again
        self._early: dict[str, bytes] = {}
        self._extensions: dict[str, str] = {}  # identifier -> participant

    def on_request(self, request: Request) -> None:
        """Answer one call of a guest, now or when there is something to deliver."""
        path = request.path
        if path == _NEXT and request.method == "GET":
            self._next(request, RUNTIME)
        elif path.startswith(_INVOCATION) and request.method == "POST":
            request_id, _, what = path[len(_INVOCATION) :].partition("/")
            if what == "response":
                self._response(request, request_id)
            elif what == "error":
                self._error(request, request_id)
            else:
                _refuse(request, 404, "", "404 page not found")
        elif path == "/2018-06-01/runtime/init/error" and request.method == "POST":
            self._init_error(request)
        elif path == "/2018-06-01/ping" and request.method == "GET":
            request.respond(200, b"pong", content_type="text/plain")
        elif path.startswith(_EXTENSION):
            self._extension(request, request.method, path[len(_EXTENSION) :])
        elif path in telemetry.PATHS and request.method == "PUT":
            self._subscribe(request, telemetry.PATHS[path])
        else:
            _refuse(request, 404, "", "404 page not found")

    def on_head(self, request: Request) -> BodySink | None:
        """Take the body of a streamed response as it comes; None for every other call, and to collect it.

        It is collected when the caller of the function wants the whole, and when it is to be refused at its end.
        """
        headers = request.headers
        if headers[_RESPONSE_MODE].lower() != "streaming":
            return None
        request_id, _, what = request.path.removeprefix(_INVOCATION).partition("/")
        if what != "response" or request.method != "POST" or not request.path.startswith(_INVOCATION):
            return None
        lifecycle = self._lifecycle
        event = ResponseStarted(lifecycle.now(), request_id, _content_type(request, ""))
        if lifecycle.refusal(event) is not None:
            return None
        bandwidth = Bandwidth(lifecycle.now()) if self._limit_bandwidth else None
        self.stream = ResponseStream(lifecycle, request, request_id, bandwidth, self._stream_ended)
        lifecycle.feed(event)
        return self.stream

    # Runtime API

    def _stream_ended(self, request: Request, event: Event) -> None:
        stream, self.stream = self.stream, None
        if stream is not None and stream.too_large:
            _refuse_too_large(request, limits.STREAM_RESPONSE_BYTES)
        elif not self._refused(request, event, "InvocationResponse"):
            self._lifecycle.feed(event)
            request.respond_raw(_ACCEPTED, may_wait=True)

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
                _refuse(request, 403, refusal, "State transition is not allowed")
            return
        request.drop_body()
        self._pending[participant] = request
        if participant == RUNTIME:
            self._lane = None
        lifecycle.feed(event)

    def _response(self, request: Request, request_id: str) -> None:
        lifecycle = self._lifecycle
        if request.oversize:
            outcome = outcomes.response_too_large(limits.RESPONSE_PAYLOAD_BYTES)
            event: ErrorPosted | ResponsePosted = ErrorPosted(lifecycle.now(), request_id, outcome)
            if self._refused(request, event, "InvocationResponse"):
                return
            lifecycle.feed(event)
            _refuse_too_large(request, limits.RESPONSE_PAYLOAD_BYTES)
            return
        mode = request.headers.get(_RESPONSE_MODE)
        if mode is not None and mode.lower() not in ("streaming", "buffered"):
            _refuse(request, 400, "InvalidFunctionResponseMode", "Invalid function response mode")
            return
        if mode is not None and "lambda-runtime-function-error-type" in request.trailers:
            self._post(request, ErrorPosted(lifecycle.now(), request_id, error_of_trailers(request.trailers)))
            return
        content_type = _content_type(request)
        outcome = Outcome(OutcomeKind.RESPONSE, request.body, content_type)
        event = ResponsePosted(lifecycle.now(), request_id, outcome)
        if not self._refused(request, event, "InvocationResponse"):
            lifecycle.feed(event)  # first, since the caller of the function is the one who waits
            request.respond_raw(_ACCEPTED, may_wait=True)

    def _post(self, request: Request, event: ErrorPosted) -> None:
        """What is left of a collected response that ended in an error: the error."""
        if not self._refused(request, event, "InvocationResponse"):
            self._lifecycle.feed(event)
            request.respond_raw(_ACCEPTED, may_wait=True)

    def _error(self, request: Request, request_id: str) -> None:
        event = ErrorPosted(self._lifecycle.now(), request_id, _posted_error(request))
        if not self._refused(request, event, "InvocationErrorResponse"):
            self._lifecycle.feed(event)
            request.respond_raw(_ACCEPTED, may_wait=True)

    def _init_error(self, request: Request) -> None:
        event = InitErrorPosted(self._lifecycle.now(), _posted_error(request))
        if not self._refused(request, event, "InitError"):
            self._lifecycle.feed(event)
            request.respond_raw(_ACCEPTED)

    def _refused(self, request: Request, event: Event, target: str) -> bool:
        refusal = self._lifecycle.refusal(event)
        if refusal is None:
            return False
        if refusal == "InvalidRequestID":
            _refuse(request, 400, refusal, "Invalid request ID")
        else:
            self._refuse_transition(request, target)
        return True

    def _refuse_transition(self, request: Request, target: str) -> None:
        state = _STATE_WORDS[self._lifecycle.runtime_state()]
        _refuse(request, 403, "InvalidStateTransition",
                f"State transition from {state} to {target} failed for runtime. "
                "Error: State transition is not allowed")

    # Extensions API

    def _extension(self, request: Request, method: str, what: str) -> None:
        if what == "register" and method == "POST":
            self._register(request)
            return
        name = self._identified(request)
        if name is None:
            return
        if what == "event/next" and method == "GET":
            self._next(request, name)
        elif what in ("init/error", "exit/error") and method == "POST":
            self._extension_error(request, name, ExtensionInitErrorPosted if what == "init/error"
                                  else ExtensionExitErrorPosted)
        else:
            _refuse(request, 404, "", "404 page not found")

    def _identified(self, request: Request) -> str | None:
        """The extension that calls; None when it is not known, and told so."""
        identifier = request.headers.get("lambda-extension-identifier")
        if not identifier:
            _refuse(request, 403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        elif not _is_uuid(identifier):
            _refuse(request, 403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        elif identifier not in self._extensions:
            _refuse(request, 403, "Extension.UnknownExtensionIdentifier", "Unknown extension " + identifier)
        else:
            return self._extensions[identifier]
        return None

    def _extension_error(self, request: Request, name: str,
                         kind: type[ExtensionInitErrorPosted | ExtensionExitErrorPosted]) -> None:
        error_type = request.headers.get("lambda-extension-function-error-type", "")
        if not error_type:
            _refuse(request, 403, "Extension.MissingHeader", "Missing Lambda-Extension-Function-Error-Type header")
            return
        event = kind(self._lifecycle.now(), name, _printable(error_type))
        refusal = self._lifecycle.refusal(event)
        if refusal is not None:
            _refuse(request, 403, refusal, "State transition is not allowed")
            return
        request.respond_raw(_ACCEPTED)  # first, since the reset that follows ends whoever asked
        self._lifecycle.feed(event)

    def _subscribe(self, request: Request, api: Api) -> None:
        name = self._identified(request)
        if name is None:
            return
        refusal = self._lifecycle.subscription_refusal(name, api)
        title = api.capitalize()
        if refusal == "NotSupported":
            _refuse(request, 202, f"{title}.NotSupported", f"{title} API is not supported")
        elif refusal == "SubscriptionClosed":
            _refuse(request, 403, f"{title}.SubscriptionClosed", f"{title} API subscription is closed already")
        elif refusal is not None:
            _refuse(request, 400, "ValidationError", "This extension has subscribed by the other API")
        else:
            try:
                subscription = telemetry.parse(request.body, api)
            except telemetry.Invalid as error:
                _refuse(request, 400, "ValidationError", str(error))
                return
            request.respond(200, b'"OK"')
            self._lifecycle.subscribe(name, subscription)

    def _register(self, request: Request) -> None:
        lifecycle = self._lifecycle
        name = request.headers.get("lambda-extension-name", "")
        if not name or len(name) > MAX_NAME:
            what = "Empty extension name" if not name else "Extension name is too long"
            _refuse(request, 403, "Extension.InvalidExtensionName", what)
            return
        try:
            wanted = msgspec.json.decode(request.body, type=_Registration)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _refuse(request, 403, "InvalidRequestFormat", str(error))
            return
        unknown = [event for event in wanted.events if event not in ("INVOKE", "SHUTDOWN")]
        if wanted.configurationKeys or unknown:
            what = f"Unknown event {unknown[0]}" if unknown else "configurationKeys are not supported"
            _refuse(request, 403, "Extension.InvalidEventType" if unknown else "InvalidRequestFormat", what)
            return
        event = ExtensionRegistered(lifecycle.now(), name, "INVOKE" in wanted.events, "SHUTDOWN" in wanted.events)
        refusal = lifecycle.refusal(event)
        if refusal is not None:
            _refuse(request, 403, refusal, _REGISTER_MESSAGES.get(refusal, "State transition is not allowed"))
            return
        identifier = str(uuid.uuid4())
        self._extensions[identifier] = name
        lifecycle.feed(event)
        function = lifecycle.function
        body = {"functionName": function.name, "functionVersion": function.version, "handler": function.handler}
        features = request.headers.get("lambda-extension-accept-feature", "").split(",")
        if "accountId" in (feature.strip() for feature in features):
            body["accountId"] = function.account
        request.respond(200, msgspec.json.encode(body), (("Lambda-Extension-Identifier", identifier),))

    # Deliveries

    def deliver(self, participant: str, invocation: Invocation, deadline_ms: int) -> None:
        """Hand an invocation to a participant that waits in Next."""
        if participant == RUNTIME:
            self._deliver(invocation, deadline_ms)
            return
        event = {"eventType": "INVOKE", "deadlineMs": deadline_ms, "requestId": invocation.request_id,
                 "invokedFunctionArn": invocation.invoked_arn}  # fmt: skip
        if invocation.trace_id:
            event["tracing"] = {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}
        self._hand(participant, _render_event(event))

    def _deliver(self, invocation: Invocation, deadline_ms: int) -> None:
        """Hand it to the runtime, in whichever way it asked."""
        if self._lane is not None:
            if self._lane.closed:  # it gets it when it asks again, over HTTP
                self._lane = None
                self._early[RUNTIME] = _render_next(invocation, deadline_ms)
            else:
                self._lane.deliver(invocation, deadline_ms)
            return
        request = self._pending[RUNTIME]
        if lanes.HEADER not in request.headers or not request.alone or request.gone:
            self._hand(RUNTIME, _render_next(invocation, deadline_ms))
            return
        del self._pending[RUNTIME]
        lane = self._lane = lanes.Lane(self._lifecycle)
        lane.serves(invocation)
        request.hand_over(_render_next(invocation, deadline_ms, "Lambent-Lane: 1\r\n"), lane)

    def deliver_shutdown(self, participant: str, reason: str, deadline_ms: int) -> None:
        """Hand an external extension its SHUTDOWN event."""
        self._hand(participant, _render_event(
            {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms}))

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
        self._extensions.clear()


class _Registration(msgspec.Struct):
    events: list[str] = []
    configurationKeys: list[str] = []


_REGISTER_MESSAGES = {
    "Extension.RegistrationClosed": "Extension registration closed already",
    "Extension.InvalidExtensionName": f"Extension name may not be {RUNTIME}",
    "Extension.InvalidExtensionState": "Extension with this name already registered",
    "Extension.TooManyExtensions": f"Extension limit ({limits.MAX_EXTENSIONS}) reached",
    "Extension.InvalidEventType": "SHUTDOWN event is not supported for internal extensions",
}


def _render_next(invocation: Invocation, deadline_ms: int, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {invocation.content_type}\r\n"
        f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
        f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
        f"Lambda-Runtime-Invoked-Function-Arn: {invocation.invoked_arn}\r\n"
    )
    if invocation.trace_id:
        head += f"Lambda-Runtime-Trace-Id: {invocation.trace_id}\r\n"
    if invocation.client_context:
        head += f"Lambda-Runtime-Client-Context: {invocation.client_context}\r\n"
    return f"{head}{more}Content-Length: {len(invocation.payload)}\r\n\r\n".encode() + invocation.payload


def _render_event(event: dict[str, object]) -> bytes:
    body = msgspec.json.encode(event)
    head = (f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Extension-Event-Identifier: {uuid.uuid4()}\r\nContent-Length: {len(body)}\r\n\r\n")  # fmt: skip
    return head.encode() + body


def _posted_error(request: Request) -> Outcome:
    error_type = function_error_type(request.headers.get("lambda-runtime-function-error-type", ""))
    if request.oversize:
        too_large = outcomes.response_too_large(limits.RESPONSE_PAYLOAD_BYTES)
        return Outcome(OutcomeKind.FUNCTION_ERROR, too_large.payload, error_type=error_type)
    return Outcome(OutcomeKind.FUNCTION_ERROR, request.body, "application/json", error_type)


def _refuse(request: Request, status: int, error_type: str, message: str) -> None:
    if not error_type:
        request.respond(status, message.encode(), content_type="text/plain")
        return
    request.respond(status, msgspec.json.encode({"errorMessage": message, "errorType": error_type}))


def _refuse_too_large(request: Request, limit_bytes: int) -> None:
    _refuse(request, 413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({limit_bytes} bytes).")


def _printable(text: str) -> str:
    """What a guest sent, fit for a log line and for JSON."""
    return "".join(char for char in text[:256] if char.isprintable())


def _content_type(request: Request, default: str = "application/json") -> str:
    """What the runtime calls its response. It goes to the caller and stays in the story, so it must be short."""
    return lanes.content_type(request.headers.get("content-type") or default)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
