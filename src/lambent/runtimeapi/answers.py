"""What guests are answered: the bodies and messages of AWS's published emulator (fact sheet, sections 2 and 3)."""

from __future__ import annotations

import uuid
from typing import Final

import msgspec

from lambent import limits
from lambent.core.model import Invocation
from lambent.core.states import State
from lambent.http1 import Request

ACCEPTED: Final = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    b'{"status":"OK"}\n'
)
TEXT: Final = "text/plain; charset=utf-8"
NOT_ALLOWED: Final = "Error: State transition is not allowed"

#: Where a participant stands, in the words of the messages.
STATE_WORDS: Final = {
    State.ABSENT: "Terminated", State.STARTED: "Started", State.READY: "Ready", State.BUSY: "Running",
    State.RESPONDING: "InvocationResponse", State.REFUSED: "InvocationResponse",
    State.RESPONDED: "RuntimeResponseSentState", State.FAILED: "InitError", State.REGISTERED: "Registered",
    State.EXITING: "ExitError",
}  # fmt: skip


def refuse(request: Request, status: int, error_type: str, message: str) -> None:
    """An error as JSON."""
    request.respond(status, line({"errorMessage": message, "errorType": error_type}))


def line(body: dict[str, str]) -> bytes:
    """JSON as these APIs end it: with a line break, as Go's encoder does."""
    return msgspec.json.encode(body) + b"\n"


def refuse_route(request: Request, method: str | None) -> None:
    """There is no such path, or it is asked for by `method` only. The answers are those of AWS's router (go-chi)."""
    if method is None:
        request.respond(404, b"404 page not found\n", (("X-Content-Type-Options", "nosniff"),), content_type=TEXT)
    else:
        request.respond(405, headers=(("Allow", method),), content_type=None)


def refuse_too_large(request: Request, limit_bytes: int = limits.RESPONSE_PAYLOAD_BYTES) -> None:
    refuse(request, 413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({limit_bytes} bytes).")


def refuse_truncated(request: Request) -> None:
    """For a peer that has said that it sends no more, before its body was whole; one that is gone is told nothing."""
    request.keep_alive = False
    refuse(request, 400, "TruncatedHTTPRequest", "HTTP request detected as truncated")


def render_next(invocation: Invocation, deadline_ms: int, more: str = "") -> bytes:
    """An invocation for the runtime, in HTTP. `more` are header lines."""
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


def render_invoke(invocation: Invocation, deadline_ms: int) -> bytes:
    """The same invocation for an extension: without payload."""
    event: dict[str, object] = {"eventType": "INVOKE", "deadlineMs": deadline_ms, "requestId": invocation.request_id,
                                "invokedFunctionArn": invocation.invoked_arn}  # fmt: skip
    if invocation.trace_id:
        event["tracing"] = {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}
    return _render_event(event)


def render_shutdown(reason: str, deadline_ms: int) -> bytes:
    return _render_event({"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms})


def _render_event(event: dict[str, object]) -> bytes:
    body = msgspec.json.encode(event)
    head = (f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Extension-Event-Identifier: {uuid.uuid4()}\r\nContent-Length: {len(body)}\r\n\r\n")  # fmt: skip
    return head.encode() + body


def printable(text: str) -> str:
    """What a guest sent, fit for a log line and for JSON."""
    return "".join(char for char in text[:256] if char.isprintable())
