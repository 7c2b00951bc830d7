"""Function URLs, live: a request to a URL's host becomes an invocation. The mapping itself is pure and in `urls`."""

from __future__ import annotations

import re

from lambent import limits
from lambent.callers import Caller
from lambent.clock import Clock
from lambent.core.model import Invocation, Outcome, OutcomeKind
from lambent.dispatcher import Dispatcher
from lambent.errors import ApiError
from lambent.frontend import urls
from lambent.frontend.invoke import Invoke, chosen, new_request_id
from lambent.http1 import Request
from lambent.store.functions import FunctionTable
from lambent.store.urls import UrlTable
from lambent.worker.base import Served

_HOST = re.compile(r"([a-z0-9]+)\.lambda-url\.[a-z0-9-]+\.localhost")


class FunctionUrls:
    """Serves `http://<url-id>.lambda-url.<region>.localhost:<port>/...`."""

    def __init__(self, table: UrlTable, functions: FunctionTable, invoking: Invoke, dispatcher: Dispatcher,
                 clock: Clock, port: int) -> None:
        self._table = table
        self._functions = functions
        self._invoking = invoking
        self._dispatcher = dispatcher
        self._clock = clock
        self._port = port

    def serves(self, host: str) -> bool:
        """Whether this host name has the form of a function URL, existing or not."""
        return ".lambda-url." in host and _HOST.fullmatch(host) is not None

    def handle(self, request: Request, host: str) -> None:
        request_id = new_request_id()
        match = _HOST.fullmatch(host)
        url = self._table.by_id(match.group(1)) if match is not None else None
        if url is None:
            _respond(request, urls.error_response("unknown_url"), request_id, "")
            return
        if url.configuration.get("AuthType") != "NONE":
            # Signatures are not checked yet, and a door that cannot be guarded stays shut.
            _respond(request, urls.error_response("forbidden"), request_id, "")
            return
        if request.oversize or len(request.body) > limits.REQUEST_PAYLOAD_BYTES:
            _respond(request, urls.error_response("too_large"), request_id, "")
            return
        try:
            route = self._functions.route(url.function_arn, None, Caller(url.account, url.region))
        except ApiError as error:
            kind: urls.ErrorKind = "pending" if error.status == 409 else "forbidden"
            _respond(request, urls.error_response(kind), request_id, "")
            return
        trace_id = request.headers.get("x-amzn-trace-id") or self._invoking.new_trace_id()
        event = urls.event_from_request(
            method=request.method, path=request.path or "/", query=request.query, headers=request.headers,
            body=request.body, source_ip=request.peer[0], url_id=url.url_id, request_id=request_id, trace_id=trace_id,
            wall_s=self._clock.wall(), port=self._port)  # fmt: skip
        invocation = Invocation(request_id, chosen(route), event, route.invoked_arn, trace_id)

        def answer(outcome: Outcome, served: Served | None) -> None:
            _respond(request, _response(outcome), request_id, trace_id, served)

        self._dispatcher.invoke(invocation, answer)


def _response(outcome: Outcome) -> urls.Response:
    match outcome.kind:
        case OutcomeKind.RESPONSE:
            return urls.response_from_result(outcome.payload)
        case OutcomeKind.FUNCTION_ERROR:
            return urls.error_response("function_error")
        case OutcomeKind.REFUSED:
            return urls.error_response("throttled")
        case OutcomeKind.PLATFORM_ERROR:
            return urls.error_response("internal")


def _respond(request: Request, response: urls.Response, request_id: str, trace_id: str,
             served: Served | None = None) -> None:
    status, headers, body = response
    headers = (*headers, ("x-amzn-RequestId", request_id))
    if trace_id:
        headers = (*headers, ("X-Amzn-Trace-Id", trace_id))
    if served is not None:
        headers = (*headers, ("X-Lambent-Environment", served.environment_id),
                   ("X-Lambent-Start", "cold" if served.cold else "warm"))  # fmt: skip
    request.respond(status, body, headers, content_type=None)
