"""Invoke: an HTTP request to an invocation, its outcome to an HTTP answer. Hand-written, since users wait for it.

Facts: fact sheet 6.1 to 6.4. The event's bytes go to the runtime as they came; they are only checked to be JSON.
"""

from __future__ import annotations

import base64
import binascii
import random
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from lambent import limits
from lambent.callers import Callers
from lambent.clock import Clock
from lambent.core import routing
from lambent.core.model import FunctionVersion, Invocation, Outcome, OutcomeKind
from lambent.dispatcher import Dispatcher
from lambent.errors import ApiError, invalid_parameter
from lambent.frontend import payloads, tracing
from lambent.http1 import Request
from lambent.names import LATEST, name_problems, qualifier_problems, validation_error
from lambent.store.functions import FunctionTable, Route
from lambent.worker.base import Served

PREFIX = "/2015-03-31/functions/"
SUFFIX = "/invocations"
_KINDS = ("Event", "RequestResponse", "DryRun")

#: Parameters of a query that are looked at. Invoke knows one; signed requests bring half a dozen.
MAX_PARAMETERS = 100

#: Headers that only functions of a kind take that there is not here (fact sheet 15.2, 15.3). To ignore them would be to
#: share an environment between tenants, or to run an execution twice.
_NOT_OF_ANY_FUNCTION = {"x-amz-tenant-id": "tenant isolation", "x-amz-durable-execution-name": "durable configuration"}

#: AWS's words for a throttled call, by reason (fact sheet 6.4).
THROTTLED = "Rate Exceeded."


class Invoke:
    """The operation Invoke, and what function URLs share with it."""

    def __init__(self, functions: FunctionTable, dispatcher: Dispatcher, clock: Clock, callers: Callers) -> None:
        self._functions = functions
        self._callers = callers
        self._dispatcher = dispatcher
        self._clock = clock
        self._date = (0, "")  #: the second and its name

    def handle(self, request: Request) -> None:
        """Answer one Invoke request, at once or when the outcome is known."""
        request_id = new_request_id()
        try:
            self._invoke(request, request_id)
        except ApiError as error:
            self.refuse(request, error, request_id)

    def _invoke(self, request: Request, request_id: str) -> None:
        kind, invocation = self.read(request, request_id, request.path[len(PREFIX) : -len(SUFFIX)], _KINDS)
        if kind == "DryRun":
            request.respond(204, headers=(("x-amzn-RequestId", request_id), ("Date", self.date())))
            return
        if kind == "Event":
            raise ApiError("InvalidParameterValueException",
                           "Asynchronous invocation (InvocationType Event) is not supported yet: "
                           "use RequestResponse or DryRun.")
        version = invocation.function.version
        self._dispatcher.invoke(invocation, lambda outcome, served: self._answer(
            request, invocation, version, outcome, served))

    def read(self, request: Request, request_id: str, name: str, kinds: tuple[str, ...]) -> tuple[str, Invocation]:
        """The kind and the invocation that a request asks for, or ApiError. `name` is the path's, as it came."""
        headers = request.headers
        if request.oversize or len(request.body) > limits.REQUEST_PAYLOAD_BYTES:
            size = request.oversize or len(request.body)
            raise ApiError("RequestEntityTooLargeException",
                           f"{size} byte payload is too large for the RequestResponse invocation type "
                           f"(limit {limits.REQUEST_PAYLOAD_BYTES} bytes)")
        kind = headers.get("x-amz-invocation-type") or "RequestResponse"
        log_type = headers.get("x-amz-log-type") or "None"
        qualifier = _qualifier(request.query) if request.query else None
        wrong = _wrong_choices((kind, "invocationType", kinds), (log_type, "logType", ("None", "Tail")))
        if wrong:  # then whatever else is wrong is told with it
            raise validation_error([*name_problems(unquote(name)), *wrong, *qualifier_problems(qualifier or LATEST)])
        caller = self._callers.of(headers, request.query)
        route = self._functions.route(name, qualifier, caller)
        for header, what in _NOT_OF_ANY_FUNCTION.items():
            if header in headers:
                raise invalid_parameter(f"The function has no {what}. Remove the header {header} from your request.")
        context = _client_context(headers.get("x-amz-client-context", ""))
        payload = request.body or b"{}"
        payloads.check(payload)
        return kind, Invocation(request_id, chosen(route), payload, route.invoked_arn,
                                self.trace_id(headers), context,
                                reply_after_report=log_type == "Tail")

    def trace_id(self, headers: Mapping[str, str]) -> str:
        """The caller's trace header, or an unsampled one of ours when there is none that can be handed on."""
        given = headers.get("x-amzn-trace-id")
        return tracing.completed(given, self._clock.wall()) if given else tracing.made(self._clock.wall())

    def date(self) -> str:
        """The value of a Date header now."""
        second = int(self._clock.wall())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]

    def refuse(self, request: Request, error: ApiError, request_id: str) -> None:
        """Answer with an API error in AWS's shape."""
        headers = (("x-amzn-RequestId", request_id), ("Date", self.date()), ("x-amzn-ErrorType", error.code),
                   *error.headers.items())  # fmt: skip
        request.respond(error.status, msgspec.json.encode(error.body()), headers)

    def _answer(self, request: Request, invocation: Invocation, version: str, outcome: Outcome,
                served: Served | None) -> None:
        if outcome.kind is OutcomeKind.REFUSED or outcome.kind is OutcomeKind.PLATFORM_ERROR:
            self.refuse(request, outcome_error(outcome), invocation.request_id)
            return
        payload = outcome.payload
        head = (
            f"HTTP/1.1 200 OK\r\nDate: {self.date()}\r\nContent-Type: {_clean(outcome.content_type)}\r\n"
            f"Content-Length: {len(payload)}\r\nx-amzn-RequestId: {invocation.request_id}\r\n"
            f"X-Amz-Executed-Version: {version}\r\nx-amzn-Remapped-Content-Length: 0\r\n"
            f"X-Amzn-Trace-Id: {invocation.trace_id}\r\n"
        )
        if outcome.kind is OutcomeKind.FUNCTION_ERROR:
            head += "X-Amz-Function-Error: Unhandled\r\n"
        if served is not None:
            start = "cold" if served.cold else "warm"
            head += f"X-Lambent-Environment: {served.environment_id}\r\nX-Lambent-Start: {start}\r\n"
            if invocation.reply_after_report:
                head += f"X-Amz-Log-Result: {base64.b64encode(served.log_tail).decode()}\r\n"
        if not request.keep_alive:
            head += "Connection: close\r\n"
        request.respond_raw(f"{head}\r\n".encode("latin-1", "replace") + payload)


def chosen(route: Route) -> FunctionVersion:
    """The version for one invocation: an alias with weights leads to several."""
    if not route.others:
        return route.function
    return routing.choose(route.function, route.others, random.random())


def new_request_id() -> str:
    """A random UUID (version 4), lower case. It guards nothing, so the kernel need not be asked for noise."""
    noise = f"{random.getrandbits(128):032x}"
    return f"{noise[:8]}-{noise[8:12]}-4{noise[13:16]}-{'89ab'[int(noise[16], 16) & 3]}{noise[17:20]}-{noise[20:]}"


def outcome_error(outcome: Outcome) -> ApiError:
    """The API's error for an invocation that did not reach the function, or that we lost."""
    if outcome.kind is OutcomeKind.REFUSED:
        return ApiError("TooManyRequestsException", THROTTLED, extra={"Reason": outcome.error_type},
                        headers={"Retry-After": "1"})
    return ApiError("ServiceException", f"An error occurred and the request cannot be processed: {outcome.error_type}.")


def _clean(content_type: str) -> str:
    """The runtime's content type, if it is one that can stand in a header."""
    return content_type if _is_plain(content_type) else "application/octet-stream"


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _qualifier(query: str) -> str | None:
    try:
        return dict(parse_qsl(query, max_num_fields=MAX_PARAMETERS)).get("Qualifier")
    except ValueError:
        raise invalid_parameter(f"The query string has more than {MAX_PARAMETERS} parameters.") from None


def _wrong_choices(*checked: tuple[str, str, tuple[str, ...]]) -> list[str]:
    """Each a value, its member and what it may be; the sentences for those that may not be."""
    return [f"Value '{value}' at '{member}' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(choices)}]" for value, member, choices in checked if value not in choices]  # fmt: skip


def _client_context(header: str) -> str:
    """The decoded client context as compact JSON text, fit for a header; empty when there is none."""
    if not header:
        return ""
    try:
        if len(header) > limits.CLIENT_CONTEXT_BYTES:
            raise ValueError("too long")
        decoded = msgspec.json.decode(base64.b64decode(header, validate=True), type=dict[str, Any])
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise ApiError("InvalidRequestContentException",
                       "Client context must be a valid Base64-encoded JSON object.") from None
    return msgspec.json.encode(decoded).decode()
