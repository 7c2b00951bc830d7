"""A server that answers as Lambent's API does, from plain data: the counterpart of the CLI in its tests.

It runs nothing. What an invocation answers, which environments live and what the log holds is set by the test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "the-token"
REPORT = (
    "REPORT RequestId: 11111111-2222-3333-4444-555555555555\tDuration: 3.01 ms\tBilled Duration: 124 ms\t"
    "Memory Size: 128 MB\tMax Memory Used: 36 MB\tInit Duration: 120.10 ms\t\n"
)
WARM_REPORT = REPORT.replace("Billed Duration: 124", "Billed Duration: 4").replace("\tInit Duration: 120.10 ms", "")


class FakeServer:
    """State that tests set and look at. `requests` keeps method, path and body of everything that came."""

    def __init__(self) -> None:
        self.functions: dict[str, dict[str, Any]] = {}
        self.aliases: dict[tuple[str, str], dict[str, Any]] = {}  #: by function and name
        self.packages: dict[str, bytes] = {}
        self.urls: dict[str, str] = {}
        self.policies: dict[str, list[dict[str, Any]]] = {}  #: requests of AddPermission
        self.environments: list[dict[str, Any]] = []
        self.stories: dict[str, dict[str, Any]] = {}
        self.function_stories: dict[str, dict[str, Any]] = {}
        self.time = ""  #: platform time; a server of long ago does not say it
        self.chaos: dict[str, Any] = {"time": "2026-11-21T14:00:00.000Z", "offset_s": 18000.0, "armed": [],
                                      "provoked": []}  # fmt: skip
        self.provoked: tuple[int, dict[str, Any]] = (200, {})  #: status and answer of whatever is provoked
        self.logs: dict[str, list[dict[str, Any]]] = {}
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b'{"hello": "Ada"}')
        self.log_tail = "START RequestId: 1\nhello from the handler\n" + REPORT
        self.start = "cold"
        self.pending_polls = 0
        self.failure: str | None = None
        self.page_size = 50
        self.raw: Callable[[str, str], tuple[int, dict[str, str], bytes] | None] = lambda method, path: None
        self.requests: list[tuple[str, str, bytes]] = []
        self.authorities: list[str] = []
        self.connections = 0
        self.hang_up_after_answer = False
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.port = int(self._server.server_address[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add_function(self, name: str, **members: Any) -> None:
        self.functions[name] = {
            "FunctionName": name,
            "FunctionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
            "Runtime": "python3.12",
            "Handler": "app.handler",
            "MemorySize": 128,
            "Timeout": 3,
            "CodeSize": 300,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "LastModified": "2026-11-21T09:00:00.000+0000",
            "Version": "$LATEST",
            "CodeSha256": "",
            "Architectures": ["x86_64"],
            "EphemeralStorage": {"Size": 512},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
        } | members

    def add_environment(self, environment_id: str, **members: Any) -> None:
        self.environments.append(
            {
                "id": environment_id,
                "function_name": "hello",
                "version": "$LATEST",
                "phase": "idle",
                "frozen": True,
                "sandbox": "namespace",
                "pids": [4711],
                "created_at": "2026-11-21T09:00:00.000Z",
                "last_used_at": "2026-11-21T09:00:01.000Z",
                "invocations": 3,
                "init_type": "on-demand",
                "memory_bytes": 31_457_280,
                "pss_bytes": 9_437_184,
            }
            | members
        )

    def add_log(self, group: str, *messages: str, start_ms: int, stream: str = "2026/11/21/[1]ab") -> None:
        events = self.logs.setdefault(group, [])
        for message in messages:
            events.append(
                {
                    "timestamp": start_ms + len(events),
                    "message": message,
                    "logStreamName": stream,
                    "eventId": f"{group}-{len(events)}",
                    "ingestionTime": start_ms,
                }
            )


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"
    timeout = 5

    def setup(self) -> None:
        super().setup()
        self.fake.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_DELETE = do_GET

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.fake.requests.append((self.command, self.path, body))
        self.fake.authorities.append(self.headers["Host"])
        scripted = self.fake.raw(self.command, parts.path)
        status, headers, content = scripted if scripted else self._route(parts.path, parse_qs(parts.query), body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        if self.fake.hang_up_after_answer:
            self.close_connection = True  # without announcing it
        self.end_headers()
        if status != 204:
            self.wfile.write(content)

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, dict[str, str], bytes]:
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match self.command, parts:
            case "GET", ["_lambent", *rest]:
                return self._management(rest)
            case "POST" | "DELETE", ["_lambent", "chaos", *_]:
                return self._provoke()
            case "POST", ["_lambent", "environments", environment_id, "retire"]:
                return self._retire(environment_id)
            case "POST", [""]:
                return self._logs(json.loads(body))
            case method, ["2015-03-31", "functions", name, "policy"]:
                return self._policy(method, name, body)
            case _, ["2015-03-31", "functions", *rest]:
                return self._lambda(rest, query, body)
            case method, ["2021-10-31", "functions", name, "url"]:
                return self._url(method, name)
        return _error(404, "UnknownOperationException", "no such route")

    def _management(self, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        match rest:
            case ["health"]:
                return _json(200, {"status": "ok", "version": "0.1.0", "sandbox": "namespace", "instance": "00c0ffee",
                                   "time": self.fake.time})  # fmt: skip
            case ["chaos"]:
                return _json(200, self.fake.chaos)
            case ["functions", name, "story"] if name in self.fake.function_stories:
                return _json(200, self.fake.function_stories[name])
            case ["environments"]:
                return _json(200, {"environments": self.fake.environments})
            case ["environments", environment_id, "story"] if environment_id in self.fake.stories:
                return _json(200, self.fake.stories[environment_id])
        return _error(404, "ResourceNotFoundException", f"no such environment: {rest[1] if len(rest) > 1 else ''}")

    def _provoke(self) -> tuple[int, dict[str, str], bytes]:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "HTTP 401", "This needs a token.")
        status, answer = self.fake.provoked
        return _error(status, "InvalidParameterValueException", answer["message"]) if status >= 400 else _json(
            status, answer)

    def _retire(self, environment_id: str) -> tuple[int, dict[str, str], bytes]:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(403, "AccessDeniedException", "the token is wrong")
        if environment_id not in {known["id"] for known in self.fake.environments}:
            return _error(404, "ResourceNotFoundException", f"no such environment: {environment_id}")
        return _json(202, {})

    def _logs(self, request: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        group = request["logGroupName"]
        if group not in self.fake.logs:
            body = {"__type": "ResourceNotFoundException", "message": "The specified log group does not exist."}
            return 400, {}, json.dumps(body).encode()
        begin = int(request.get("nextToken", 0))
        streams, pattern = request.get("logStreamNames"), request.get("filterPattern", "")
        wanted = [event for event in self.fake.logs[group] if event["timestamp"] >= request["startTime"]
                  and (streams is None or event["logStreamName"] in streams) and pattern in event["message"]]
        page: dict[str, Any] = {"events": wanted[begin : begin + self.fake.page_size]}
        if begin + self.fake.page_size < len(wanted):
            page["nextToken"] = str(begin + self.fake.page_size)
        return _json(200, page)

    def _url(self, method: str, name: str) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            self.fake.urls[name] = f"http://abc123.lambda-url.us-east-1.localhost:{self.fake.port}/"
        if name not in self.fake.urls:
            return _error(404, "ResourceNotFoundException", "The resource you requested does not exist.")
        return _json(201 if method == "POST" else 200, {"FunctionUrl": self.fake.urls[name], "AuthType": "NONE"})

    def _policy(self, method: str, name: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        statements = self.fake.policies.setdefault(name, [])
        if method == "POST":
            statements.append(json.loads(body))
            return _json(201, {"Statement": "{}"})
        if not statements:
            return _error(404, "ResourceNotFoundException", "The resource you requested does not exist.")
        return _json(200, {"Policy": json.dumps({"Statement": [{"Sid": one["StatementId"]} for one in statements]})})

    def _lambda(self, rest: list[str], query: dict[str, list[str]], body: bytes) -> tuple[int, dict[str, str], bytes]:
        fake = self.fake
        if self.command == "GET" and not rest:
            names = sorted(fake.functions)
            begin = int(query.get("Marker", ["0"])[0])
            page: dict[str, Any] = {
                "Functions": [fake.functions[name] for name in names[begin : begin + fake.page_size]]
            }
            if begin + fake.page_size < len(names):
                page["NextMarker"] = str(begin + fake.page_size)
            return _json(200, page)
        if self.command == "POST" and not rest:
            request = json.loads(body)
            package = base64.b64decode(request.pop("Code")["ZipFile"])
            return _json(201, self._keep(request["FunctionName"], request, package))
        name = rest[0]
        if self.command == "GET" and rest[1:2] == ["aliases"] and (name, rest[2]) in fake.aliases:
            return _json(200, fake.aliases[name, rest[2]])
        if name not in fake.functions:
            arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
            return _error(404, "ResourceNotFoundException", f"Function not found: {arn}")
        match self.command, rest[1:]:
            case "POST", ["invocations"]:
                return self._invoke()
            case "GET", ["configuration"]:
                return _json(200, self._settle(name))
            case "PUT", ["configuration"]:
                return _json(200, self._keep(name, json.loads(body), None))
            case "PUT", ["code"]:
                return _json(200, self._keep(name, {}, base64.b64decode(json.loads(body)["ZipFile"])))
            case "DELETE", []:
                del fake.functions[name]
                return 204, {}, b""
        return _error(404, "UnknownOperationException", "no such route")

    def _keep(self, name: str, members: dict[str, Any], package: bytes | None) -> dict[str, Any]:
        created = name not in self.fake.functions
        if created:
            self.fake.add_function(name)
        function = self.fake.functions[name]
        function |= members
        if package is not None:
            self.fake.packages[name] = package
            function["CodeSha256"] = base64.b64encode(hashlib.sha256(package).digest()).decode()
        function |= {"State": "Pending"} if created else {"LastUpdateStatus": "InProgress"}
        return function

    def _settle(self, name: str) -> dict[str, Any]:
        function = self.fake.functions[name]
        settled = function["State"] != "Pending" and function["LastUpdateStatus"] != "InProgress"
        if not settled and self.fake.pending_polls:
            self.fake.pending_polls -= 1
        elif not settled and self.fake.failure:
            function |= {
                "State": "Failed",
                "StateReason": self.fake.failure,
                "LastUpdateStatus": "Failed",
                "LastUpdateStatusReason": self.fake.failure,
            }
        elif not settled:
            function |= {"State": "Active", "LastUpdateStatus": "Successful"}
        return function

    def _invoke(self) -> tuple[int, dict[str, str], bytes]:
        status, headers, payload = self.fake.answer
        headers = {
            "X-Amzn-RequestId": "11111111-2222-3333-4444-555555555555",
            "X-Amz-Executed-Version": "$LATEST",
            "X-Amz-Log-Result": base64.b64encode(self.fake.log_tail.encode()).decode(),
            "X-Lambent-Environment": "3f9a0001",
            "X-Lambent-Start": self.fake.start,
        } | headers
        return status, headers, payload


def _json(status: int, value: Any) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _error(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"x-amzn-ErrorType": code}, json.dumps({"Type": "User", "Message": message}).encode()
