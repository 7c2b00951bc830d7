"""What the control plane says, in the three protocols that come to it: REST with JSON, JSON 1.1, and forms with XML.

Every answer has a request id and the date; an error has its code in a header too. An error that nobody expected becomes
a ServiceException and a line in the log. Facts: fact sheet 6.4, 19.1.
"""

from __future__ import annotations

import sys
import traceback
import uuid
from email.utils import formatdate

import msgspec

from lambent.callers import service_of
from lambent.clock import Clock
from lambent.control import query
from lambent.control.context import Answer
from lambent.errors import ApiError
from lambent.http1 import Request
from lambent.store.directory import disk_trouble

_JSON11 = "application/x-amz-json-1.1"

Headers = tuple[tuple[str, str], ...]


class Answers:
    """`*_target` are for CloudWatch Logs and others that are named by X-Amz-Target, `*_query` for STS and IAM."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def succeed(self, request: Request, status: int, answer: Answer) -> None:
        body = b"" if answer is None else msgspec.json.encode(answer)
        request.respond(status, body, self._head())

    def succeed_target(self, request: Request, answer: Answer) -> None:
        request.respond(200, msgspec.json.encode(answer or {}), self._head(), _JSON11)

    def succeed_query(self, request: Request, service: str, action: str, answer: Answer) -> None:
        request.respond(200, query.rendered(service, action, answer), self._head(), query.XML)

    def fail(self, request: Request, error: BaseException) -> None:
        known = _known(request, error)
        request.respond(known.status, msgspec.json.encode(known.body()), self._head(known))

    def fail_target(self, request: Request, error: BaseException) -> None:
        known = _known(request, error)
        body = {"__type": known.code, "message": known.message}
        request.respond(known.status, msgspec.json.encode(body), self._head(known), _JSON11)

    def fail_query(self, request: Request, error: BaseException) -> None:
        known = _known(request, error)
        bare = service_of(request.headers, request.query) == "s3"
        request.respond(known.status, query.rendered_error(known, bare=bare), self._head(known), query.XML)

    def _head(self, error: ApiError | None = None) -> Headers:
        common = (("x-amzn-RequestId", str(uuid.uuid4())), ("Date", formatdate(self._clock.wall(), usegmt=True)))
        return common if error is None else (*common, ("x-amzn-ErrorType", error.code), *error.headers.items())


def report(what: str, error: BaseException) -> None:
    """Our fault, with its history; in one line where it is the disk's."""
    trouble = disk_trouble(error)
    if trouble is not None:
        print(f"lambent: {what!a}: the disk refuses: {trouble}", file=sys.stderr, flush=True)
        return
    story = "".join(traceback.format_exception(error))
    print(f"lambent: {what!a} failed unexpectedly: {story}", file=sys.stderr, flush=True)


def _known(request: Request, error: BaseException) -> ApiError:
    if isinstance(error, ApiError):
        return error
    report(f"{request.method} {request.path[:200]}", error)
    trouble = disk_trouble(error)
    if trouble is not None:
        return ApiError("ServiceException", f"The server's disk refuses: {trouble}.")
    return ApiError("ServiceException", "An internal error occurred; the server's log has it.")
