"""A client for a running server: the Lambda operations, the logs and the `/_lambent/` calls that the CLI needs.

On the standard library's http.client, one kept connection, not thread-safe. It does not sign (the server takes any
credentials), does not retry and does not know botocore; programs use boto3. Its counterparts are `control`,
`frontend` and `telemetry`.
"""

from __future__ import annotations

import base64
import http.client
import json
import select
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from lambent.errors import ApiError
from lambent.limits import INIT_TIMEOUT_S, TIMEOUT_S_MAX
from lambent.names import is_alias

DEFAULT_ENDPOINT = "http://127.0.0.1:4566"
CONNECT_TIMEOUT_S = 5.0
#: An answer to anything but an invocation. Creating a function sends up to 70 MB.
ANSWER_TIMEOUT_S = 60.0
#: The longest function, with Init before it, and a margin.
INVOKE_TIMEOUT_S = TIMEOUT_S_MAX + 2 * INIT_TIMEOUT_S + 10

_FUNCTIONS = "/2015-03-31/functions"
_URLS = "/2021-10-31/functions"
_LOGS_TARGET = "Logs_20140328."
_FOR_ANYBODY: tuple[dict[str, Any], ...] = (
    {"StatementId": "FunctionURLAllowPublicAccess", "Action": "lambda:InvokeFunctionUrl",
     "FunctionUrlAuthType": "NONE"},
    {"StatementId": "FunctionURLAllowInvokeAction", "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
)  # fmt: skip


class BadEndpoint(ValueError):
    """The endpoint is no address of a server. One line."""


class Unreachable(Exception):
    """No server answered there: refused, not resolved, hung up or silent. One line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as it came. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as data. Raises Unreachable when it is none: then the peer is no Lambent."""
        try:
            return json.loads(self.body or b"null")
        except ValueError:
            raise Unreachable("the server there does not answer as Lambent does (the body is no JSON)") from None


@dataclass(frozen=True, slots=True)
class Invoked:
    """A finished invocation as the Invoke API answers it."""

    status: int
    request_id: str
    executed_version: str
    function_error: str  #: `Unhandled`, or empty when the function did well
    payload: bytes
    log_tail: str
    environment: str  #: the execution environment's id; empty from another server than ours
    start: str  #: cold, warm or empty


class Client:
    """One server. Every call raises Unreachable without one, and ApiError for an answer that is an error."""

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, *, token: str | None = None) -> None:
        parts = urlsplit(endpoint if "//" in endpoint else "//" + endpoint)
        try:
            port = parts.port
        except ValueError:
            raise BadEndpoint(f"{endpoint!r} has no valid port") from None
        if parts.scheme not in ("", "http") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise BadEndpoint(f"{endpoint!r} is not an endpoint such as {DEFAULT_ENDPOINT}")
        self.host = parts.hostname
        self.port = port or 80
        self.endpoint = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        self._token = token
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Lambda

    def functions(self) -> Iterator[dict[str, Any]]:
        """The configurations of all functions, page by page."""
        marker: str | None = None
        while True:
            page = self._call("GET", _FUNCTIONS, query={"Marker": marker} if marker else None)
            yield from page.get("Functions", ())
            marker = page.get("NextMarker")
            if not marker:
                return

    def configuration(self, name: str) -> dict[str, Any]:
        return self._object("GET", f"{_function(name)}/configuration")

    def versions(self, function: str, qualifier: str) -> list[str]:
        """The versions that a qualifier means: one, or those that an alias leads to. ApiError 404: no such alias."""
        if not is_alias(qualifier):
            return [qualifier]
        alias = self._object("GET", f"{_function(function)}/aliases/{quote(qualifier, safe='')}")
        routing = alias.get("RoutingConfig") or {}
        return [alias["FunctionVersion"], *(routing.get("AdditionalVersionWeights") or ())]

    def create_function(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """`request` has CreateFunction's members, Code.ZipFile as bytes."""
        body = dict(request)
        body["Code"] = {"ZipFile": base64.b64encode(body["Code"]["ZipFile"]).decode()}
        return self._object("POST", _FUNCTIONS, body)

    def update_code(self, name: str, package: bytes, architectures: list[str] | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {"ZipFile": base64.b64encode(package).decode()}
        if architectures:
            body["Architectures"] = architectures
        return self._object("PUT", f"{_function(name)}/code", body)

    def update_configuration(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        return self._object("PUT", f"{_function(name)}/configuration", dict(changes))

    def delete_function(self, name: str) -> None:
        self._call("DELETE", _function(name))

    def invoke(self, name: str, payload: bytes = b"") -> Invoked:
        """Run the function once and wait for it; the log's last 4 KB come with the answer."""
        answer = self.request(
            "POST", f"{_function(name)}/invocations", body=payload, timeout_s=INVOKE_TIMEOUT_S,
            headers={"X-Amz-Invocation-Type": "RequestResponse", "X-Amz-Log-Type": "Tail"},
        )  # fmt: skip
        _check(answer)
        headers = answer.headers
        return Invoked(
            status=answer.status,
            request_id=headers.get("x-amzn-requestid", ""),
            executed_version=headers.get("x-amz-executed-version", ""),
            function_error=headers.get("x-amz-function-error", ""),
            payload=answer.body,
            log_tail=_decoded(headers.get("x-amz-log-result", "")),
            environment=headers.get("x-lambent-environment", ""),
            start=headers.get("x-lambent-start", ""),
        )

    def url(self, name: str) -> str | None:
        """The function's URL, or None when it has none."""
        try:
            return str(self._object("GET", f"{_URLS}/{quote(name, safe='')}/url")["FunctionUrl"])
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def open_url(self, name: str) -> str:
        """The function's URL, made if it has none, which anyone may call.

        That takes auth type NONE and the two statements that AWS's console adds to the policy.
        """
        address = self.url(name)
        if address is None:
            made = self._object("POST", f"{_URLS}/{quote(name, safe='')}/url", {"AuthType": "NONE"})
            address = str(made["FunctionUrl"])
        present = self._statement_ids(name)
        for statement in _FOR_ANYBODY:
            if statement["StatementId"] not in present:
                self._object("POST", f"{_function(name)}/policy", {**statement, "Principal": "*"})
        return address

    def _statement_ids(self, name: str) -> set[str]:
        try:
            policy = json.loads(self._object("GET", f"{_function(name)}/policy")["Policy"])
        except ApiError as error:
            if error.status != 404:
                raise
            return set()
        return {str(statement["Sid"]) for statement in policy["Statement"]}

    # CloudWatch Logs

    def log_events(self, group: str, start_ms: int, *, stream: str | None = None, pattern: str | None = None,
                   pages: int = 1000) -> Iterator[dict[str, Any]]:  # fmt: skip
        """The group's log events from `start_ms` (milliseconds since the epoch) on, in order of time.

        Of one stream, or those that match a CloudWatch filter pattern, if they are given.
        """
        request: dict[str, Any] = {"logGroupName": group, "startTime": start_ms}
        if stream is not None:
            request["logStreamNames"] = [stream]
        if pattern is not None:
            request["filterPattern"] = pattern
        for _ in range(pages):
            page = self._logs("FilterLogEvents", request)
            yield from page.get("events", ())
            if not page.get("nextToken"):
                return
            request["nextToken"] = page["nextToken"]

    def _logs(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"X-Amz-Target": _LOGS_TARGET + operation, "Content-Type": "application/x-amz-json-1.1"}
        answer = self.request("POST", "/", body=json.dumps(request).encode(), headers=headers)
        _check(answer)
        return _as_object(answer.json())

    # /_lambent/

    def health(self) -> dict[str, Any]:
        return self._object("GET", "/_lambent/health")

    def environments(self, *, pss: bool = False) -> list[dict[str, Any]]:
        """With `pss_bytes` in each if asked for: proportional memory, which takes the server a moment."""
        found = _as_object(self._call("GET", "/_lambent/environments", query={"pss": "true"} if pss else None))
        return list(found.get("environments", ()))

    def story(self, environment: str, *, wait: str | None = None) -> dict[str, Any]:
        """The life of one environment: now, or when it is `idle` (or gone), or when it is `gone`."""
        path = f"/_lambent/environments/{quote(environment, safe='')}/story"
        return _as_object(self._call("GET", path, query={"wait": wait} if wait else None))

    def retire(self, environment: str) -> None:
        """Needs the token. Raises ApiError 401 or 403 without the right one."""
        self._call("POST", f"/_lambent/environments/{quote(environment, safe='')}/retire")

    def function_story(self, name: str) -> dict[str, Any]:
        """The stories of all environments of a function that are known, and the throttles that it was made to meet."""
        return self._object("GET", f"/_lambent/functions/{quote(name, safe='')}/story")

    def chaos(self) -> dict[str, Any]:
        """What is armed, what was provoked lately, and platform time."""
        return self._object("GET", "/_lambent/chaos")

    def provoke(self, what: str, **members: Any) -> dict[str, Any]:
        """`recycle`, `crash`, `advance`, `init-failures` or `throttles`, as `frontend.chaos` has them. Needs the token.

        Members that are None are left out.
        """
        body = {name: value for name, value in members.items() if value is not None}
        return self._object("POST", f"/_lambent/chaos/{what}", body)

    def clear_chaos(self, function: str | None = None) -> dict[str, Any]:
        """Disarm everything, or what is armed for one function. Needs the token."""
        return _as_object(self._call("DELETE", "/_lambent/chaos", query={"function": function} if function else None))

    # HTTP

    def request(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: bytes = b"",
                headers: Mapping[str, str] | None = None, host: str | None = None,
                timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
        """One exchange, whatever its status. `host` replaces the Host header (function URLs)."""
        sent = {"Host": host or self._authority(), "Content-Length": str(len(body)), "Accept": "*/*"}
        sent |= dict(headers or {})
        if self._token and path.startswith("/_lambent/"):
            sent["Authorization"] = f"Bearer {self._token}"
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            connection = self._connected()
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            connection.request(method, target, body=body or None, headers=sent)
            response = connection.getresponse()
            content = response.read()
        except TimeoutError:
            self.close()
            raise Unreachable(f"{self.endpoint} gave no answer within {timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self.endpoint} hung up ({_reason(error)})") from None
        except BaseException:
            self.close()
            raise
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, content)

    def _connected(self) -> http.client.HTTPConnection:
        """The kept connection if the server has not closed it meanwhile, or a new one.

        Looking first, instead of trying again afterwards, is what makes it safe for an Invoke.
        """
        if self._connection is not None and self._connection.sock is not None:
            readable, _, _ = select.select([self._connection.sock], [], [], 0)
            if not readable:
                return self._connection
        self.close()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except TimeoutError:
            raise Unreachable(f"no server at {self.endpoint} (no connection within {CONNECT_TIMEOUT_S:g} s)") from None
        except OSError as error:
            raise Unreachable(f"no server at {self.endpoint} ({_reason(error)}); start one with: lambent up") from None
        self._connection = connection
        return connection

    def _authority(self) -> str:
        return self.endpoint.removeprefix("http://")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None,
              query: Mapping[str, str] | None = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        answer = self.request(method, path, query=query, body=content, headers=headers)
        _check(answer)
        return answer.json()

    def _object(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _as_object(self._call(method, path, body))


def _function(name: str) -> str:
    return f"{_FUNCTIONS}/{quote(name, safe='')}"


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreachable("the server there does not answer as Lambent does (no JSON object)")
    return value


def _check(answer: Answer) -> None:
    """Raise ApiError for an answer that is an error, with the code and message that the server gave."""
    if answer.status < 300:
        return
    members: dict[str, Any] = {}
    with suppress(ValueError):
        decoded = json.loads(answer.body or b"{}")
        members = decoded if isinstance(decoded, dict) else {}
    code = answer.headers.get("x-amzn-errortype") or str(members.get("__type") or "")
    code = code.partition(":")[0].rpartition("#")[2] or f"HTTP {answer.status}"
    message = members.get("message") or members.get("Message") or http.client.responses.get(answer.status, "")
    extra = {"Reason": members["Reason"]} if "Reason" in members else None
    raise ApiError(code, str(message), status=answer.status, extra=extra)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except ValueError:
        return ""


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__).lower()
