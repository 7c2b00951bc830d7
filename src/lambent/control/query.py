"""The query protocol: a form in, XML out. The few calls of STS and IAM that tools make around a function come this way.

Operations register here by service and action, and work with the form's plain strings; `control/app.py` sends them
requests. Whatever else AWS has is refused with one error that names the service.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from lambent.control.context import Context
from lambent.errors import ApiError

Form = Mapping[str, str]
#: Members of the result; None for an operation that answers nothing.
Result = dict[str, Any] | None
QueryHandler = Callable[[Context, Form], Result | Coroutine[Any, Any, Result]]

#: Operations by (service, action).
QUERIES: dict[tuple[str, str], QueryHandler] = {}

#: Version of the API -> service, and the name space of its answers.
_SERVICES = {"2011-06-15": "sts", "2010-05-08": "iam"}
_SPACES = {"sts": "https://sts.amazonaws.com/doc/2011-06-15/", "iam": "https://iam.amazonaws.com/doc/2010-05-08/"}
#: No form of these services is larger: a policy has 128 KB at most.
FORM_BYTES = 256 * 1024

XML = "text/xml"


class QueryError(ApiError):
    """What a caller of STS or IAM did wrong."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status=status)


def query_operation(service: str, action: str) -> Callable[[QueryHandler], QueryHandler]:
    """Register a function as this operation."""

    def register(handler: QueryHandler) -> QueryHandler:
        assert (service, action) not in QUERIES, f"{action} is registered twice"
        QUERIES[service, action] = handler
        return handler

    return register


def read_form(body: bytes, query: str) -> Form:
    """The members of a request: its form, or its query string when it has none."""
    if len(body) > FORM_BYTES:
        raise QueryError("RequestEntityTooLarge", f"The request is larger than {FORM_BYTES} bytes.", 413)
    text = body.decode("utf-8", "replace") if body.strip() else query
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=1000))


def find_query(form: Form, service: str) -> tuple[str, str, QueryHandler]:
    """The service, the action and its handler; `service` is the one that the signature names, if any."""
    action = form.get("Action", "")
    service = _SERVICES.get(form.get("Version", ""), service)
    handler = QUERIES.get((service, action))
    if handler is None:
        raise not_here(service, action)
    return service, action, handler


def not_here(service: str, action: str = "") -> QueryError:
    """The one answer for what this server does not have."""
    what = f"{action} of the service {service or 'unknown'}" if action else f"The service {service or 'unknown'}"
    return QueryError("NotImplementedException", f"{what} is not served by Lambent, which serves Lambda and, as far "
                      "as its tools need them, CloudWatch Logs, STS and IAM; nothing was changed.", 501)  # fmt: skip


def need(form: Form, member: str) -> str:
    """A member that must be there and say something."""
    value = form.get(member, "")
    if not value:
        shown = member[0].lower() + member[1:]
        raise QueryError("ValidationError", f"1 validation error detected: Value null at '{shown}' failed to satisfy "
                         "constraint: Member must not be null")  # fmt: skip
    return value


def numbered(form: Form, start: str) -> list[str]:
    """The values of `start.member.1`, `start.member.2` and so on."""
    found: list[str] = []
    while (value := form.get(f"{start}.member.{len(found) + 1}")) is not None:
        found.append(value)
    return found


def pairs(form: Form, start: str) -> list[dict[str, str]]:
    """The tags of `start.member.1.Key`, `start.member.1.Value` and so on."""
    found: list[dict[str, str]] = []
    while (key := form.get(f"{start}.member.{len(found) + 1}.Key")) is not None:
        found.append({"Key": key, "Value": form.get(f"{start}.member.{len(found) + 1}.Value", "")})
    return found


def rendered(service: str, action: str, result: Result) -> bytes:
    """A success as XML."""
    body = f"<{action}Result>{_xml(result)}</{action}Result>" if result is not None else ""
    return (f'<{action}Response xmlns="{_SPACES[service]}">{body}<ResponseMetadata><RequestId>{uuid.uuid4()}'
            f"</RequestId></ResponseMetadata></{action}Response>").encode()  # fmt: skip


def rendered_error(error: ApiError, *, bare: bool = False) -> bytes:
    """An error as XML; `bare` is the form of S3."""
    inner = f"<Code>{escape(error.code)}</Code><Message>{_text(error.message)}</Message>"
    request_id = f"<RequestId>{uuid.uuid4()}</RequestId>"
    if bare:
        return f'<?xml version="1.0" encoding="UTF-8"?><Error>{inner}{request_id}</Error>'.encode()
    kind = "Sender" if error.status < 500 else "Receiver"
    return f"<ErrorResponse><Error><Type>{kind}</Type>{inner}</Error>{request_id}</ErrorResponse>".encode()


def _xml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{_xml(item)}</{name}>" for name, item in value.items())
    if isinstance(value, list):
        return "".join(f"<member>{_xml(item)}</member>" for item in value)
    return str(value).lower() if isinstance(value, bool) else _text(str(value))


def _text(text: str) -> str:
    """Text that can stand in XML 1.0, which has no place for control characters."""
    return escape("".join(char if char >= " " or char in "\t\n\r" else "?" for char in text))
