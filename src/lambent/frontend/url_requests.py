"""Function URLs, live: a request to a URL's host becomes an invocation. The mapping itself is pure and in `urls`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lambent import limits
from lambent.callers import Caller
from lambent.clock import Clock
from lambent.core.model import Invocation, Outcome, OutcomeKind
from lambent.dispatcher import Dispatcher
from lambent.errors import ApiError
from lambent.frontend import cors, urls
from lambent.frontend.invoke import Invoke, chosen, new_request_id
from lambent.frontend.streaming import served_headers
from lambent.frontend.url_streams import UrlStream
from lambent.http1 import Request
from lambent.store.functions import FunctionTable, Route
from lambent.store.urls import FunctionUrl, UrlTable
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
            self._respond(request, urls.error_response("unknown_url"), request_id)
            return
        rules = url.configuration.get("Cors")
        if rules is not None and cors.is_preflight(request.method, request.headers):
            # Browsers do not sign preflights, so they are answered whatever the AuthType says.
            self._respond(request, cors.preflight(rules, request.headers), request_id)
            return
        found = self._route(url, request)
        if isinstance(found, str):
            self._respond(request, _ruled(rules, request, urls.error_response(found)), request_id)
            return
        self._invoke(request, url, found, request_id)

    def _route(self, url: FunctionUrl, request: Request) -> Route | urls.ErrorKind:
        """What to invoke, or why not."""
        if url.configuration.get("AuthType") != "NONE":
            return "forbidden"  # signatures are not checked yet, and a door that cannot be guarded stays shut
        if not self._table.is_public(url):
            return "forbidden"
        if request.oversize or len(request.body) > limits.REQUEST_PAYLOAD_BYTES:
            return "too_large"
        try:
            return self._functions.route(url.function_arn, None, Caller(url.account, url.region))
        except ApiError as error:
            return "pending" if error.status in (409, 502) else "forbidden"  # 502: Inactive, and restored from now on

    def _invoke(self, request: Request, url: FunctionUrl, route: Route, request_id: str) -> None:
        trace_id = self._invoking.trace_id(request.headers)
        event = urls.event_from_request(
            method=request.method, path=request.path or "/", query=request.query, headers=request.headers,
            body=request.body, source_ip=request.peer[0], url_id=url.url_id, request_id=request_id, trace_id=trace_id,
            wall_s=self._clock.wall(), port=self._port)  # fmt: skip
        invocation = Invocation(request_id, chosen(route), event, route.invoked_arn, trace_id)

        def dress(response: urls.Response, served: Served | None) -> urls.Response:
            ruled = _ruled(url.configuration.get("Cors"), request, response)
            return self._identified(ruled, request_id, trace_id, served)

        def answer(outcome: Outcome, served: Served | None) -> None:
            status, headers, body = dress(_response(outcome), served)
            request.respond(status, body, headers, content_type=None)

        if url.configuration.get("InvokeMode") == "RESPONSE_STREAM":
            stream = UrlStream(request, dress)
            self._dispatcher.invoke_streaming(invocation, stream.open, stream.complete)
        else:
            self._dispatcher.invoke(invocation, answer)

    def _respond(self, request: Request, response: urls.Response, request_id: str) -> None:
        """Answer what reaches no function."""
        status, headers, body = self._identified(response, request_id)
        request.respond(status, body, headers, content_type=None)

    def _identified(self, response: urls.Response, request_id: str, trace_id: str = "",
                    served: Served | None = None) -> urls.Response:
        status, headers, body = response
        if not any(name.lower() == "date" for name, _ in headers):
            headers = (("Date", self._invoking.date()), *headers)
        headers = (*headers, ("x-amzn-RequestId", request_id))
        if trace_id:
            headers = (*headers, ("X-Amzn-Trace-Id", trace_id))
        return status, headers + served_headers(served), body


def _ruled(rules: Mapping[str, Any] | None, request: Request, response: urls.Response) -> urls.Response:
    return response if rules is None else cors.ruled(rules, request.headers.get("origin"), response)


def _response(outcome: Outcome) -> urls.Response:
    if outcome.kind is OutcomeKind.RESPONSE:
        return urls.response_from_result(outcome.payload)
    return urls.response_without_result(outcome)
