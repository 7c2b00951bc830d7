"""The edge with everything behind it but the execution environments: what a client sends in, what it gets out.

The connection is a real one on a transport that records; the dispatcher notes invocations, and the test answers them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from lambent.callers import Callers
from lambent.clock import Clock
from lambent.core.model import FunctionVersion, Invocation, Outcome, OutcomeKind
from lambent.frontend.app import Edge
from lambent.frontend.chaos import ChaosApi
from lambent.frontend.invoke import Invoke
from lambent.frontend.management import Management
from lambent.frontend.streaming import StreamingInvoke
from lambent.frontend.url_requests import FunctionUrls
from lambent.http1 import Request
from lambent.http1_connection import Connection
from lambent.limits import CREATE_REQUEST_BYTES
from lambent.store.functions import Alias, Function, FunctionTable, Version
from lambent.store.urls import FunctionUrl, UrlTable
from lambent.worker.base import Served

ACCOUNT, REGION, TOKEN = "000000000000", "us-east-1", "the-token"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
URL_ID = "a" * 32
OnOutcome = Callable[[Outcome, Served | None], None]
Answer = tuple[int, dict[str, str], bytes]


class Recorder(asyncio.Transport):
    """A transport without a wire, from `peer`."""

    def __init__(self, peer: tuple[str, int]) -> None:
        super().__init__({"peername": peer, "sockname": ("127.0.0.1", 4566)})
        self.written = b""
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.closing = True

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        """The test sends what it likes."""

    def resume_reading(self) -> None:
        """Likewise."""


class Client:
    """One connection to the edge."""

    def __init__(self, edge: Edge, peer: tuple[str, int]) -> None:
        self.transport = Recorder(peer)
        self._connection = Connection(edge.handle, asyncio.get_running_loop(), CREATE_REQUEST_BYTES)
        self._connection.connection_made(self.transport)

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """`headers` have underscores for dashes; Host is localhost unless it is given."""
        named = {name.replace("_", "-"): value for name, value in ({"Host": "localhost"} | headers).items()}
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in named.items()]
        self._connection.data_received("\r\n".join((*lines, "", "")).encode("latin-1") + body)

    def answer(self) -> Answer:
        """The whole of what came so far: status, headers with lower-case names, body."""
        head, _, body = self.transport.written.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        assert int(headers.get("content-length", "0")) == len(body)
        return int(lines[0].split()[1]), headers, body

    def hang_up(self) -> None:
        self._connection.connection_lost(None)


class FakeDispatcher:
    """Notes invocations and what else is asked for."""

    def __init__(self) -> None:
        self.invocations: list[tuple[Invocation, OnOutcome]] = []
        self.retired: list[tuple[int, str]] = []
        self.rows: list[dict[str, Any]] = [{"id": "env-1", "phase": "idle"}]

    @property
    def worker(self) -> FakeDispatcher:
        return self

    def invoke(self, invocation: Invocation, on_outcome: OnOutcome) -> None:
        self.invocations.append((invocation, on_outcome))

    def retire(self, number: int, reason: str) -> None:
        self.retired.append((number, reason))

    def environments(self) -> list[dict[str, Any]]:
        return self.rows

    def look(self, tell: Callable[[list[dict[str, Any]]], None], *, pss: bool = False) -> None:
        tell([row | ({"pss_bytes": 9} if pss else {}) for row in self.rows])

    def story(self, environment_id: str) -> dict[str, Any] | None:
        return {"id": environment_id, "steps": []} if environment_id in ("env-1", "env-0") else None

    def find(self, environment_id: str) -> int | None:
        return 1 if environment_id == "env-1" else None


class FrontDoor:
    """`guests` are the addresses of environments; `control` gets what the hot routes leave over."""

    def __init__(self) -> None:
        self.dispatcher = FakeDispatcher()
        self.guests: set[str] = set()
        self.control: list[Request] = []
        self.functions = FunctionTable(ACCOUNT, REGION)
        self.functions.save(_function()).apply()
        table = UrlTable()
        self.is_public = True  #: what the function's policy says of its URL
        table.when_anybody_calls(lambda _url: self.is_public)
        configuration = {"AuthType": "NONE", "InvokeMode": "BUFFERED"}
        table.save(FunctionUrl(ACCOUNT, REGION, "f", "", URL_ID, configuration)).apply()
        dispatcher = cast(Any, self.dispatcher)
        clock = Clock()
        invoking = Invoke(self.functions, dispatcher, clock, Callers(ACCOUNT, REGION))
        urls = FunctionUrls(table, self.functions, invoking, dispatcher, clock, 4566)
        provoking = ChaosApi(dispatcher, self.functions, clock, ACCOUNT, REGION)
        managing = Management(dispatcher, TOKEN, lambda: {"version": "0"}, self._ask_guest, provoking)
        self.edge = Edge(invoking, StreamingInvoke(invoking, dispatcher), urls, managing, self._control,
                         frozenset({"lambda.test"}))  # fmt: skip

    def _ask_guest(self, peer: tuple[str, int], _own: tuple[str, int], tell: Callable[[bool], None]) -> None:
        tell(peer[0] in self.guests)

    def _control(self, request: Request) -> None:
        self.control.append(request)
        request.respond(200, b"control")

    def client(self, peer: str = "127.0.0.1") -> Client:
        return Client(self.edge, (peer, 40_000))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request that is answered at once."""
        client = self.client()
        client.send(method, path, body, **headers)
        return client.answer()

    def invoke(self, name: str = "f", body: bytes = b"{}", query: str = "", **headers: str) -> Client:
        """An Invoke request. The last invocation is its own, unless it was refused."""
        client = self.client()
        client.send("POST", f"/2015-03-31/functions/{name}/invocations{query}", body, **headers)
        return client

    @property
    def invoked(self) -> list[Invocation]:
        return [invocation for invocation, _ in self.dispatcher.invocations]

    def conclude(self, kind: OutcomeKind = OutcomeKind.RESPONSE, payload: bytes = b'"ok"', error_type: str = "",
                 content_type: str = "application/json", served: Served | None = None) -> None:
        """The last invocation has this outcome."""
        self.dispatcher.invocations[-1][1](Outcome(kind, payload, content_type, error_type), served)


def _function() -> Function:
    versions = {number: _version(number) for number in ("$LATEST", "1", "2")}
    return Function(ACCOUNT, REGION, "f", versions, aliases={"live": Alias("live", "2", "revision")})


def _version(number: str) -> Version:
    serving = FunctionVersion(ACCOUNT, REGION, "f", number, f"g{number}", "python3.12", "app.handler", "0" * 64)
    state = "Pending" if number == "1" else "Active"
    return Version(number, "0" * 64, {"State": state}, f"g{number}", serving)
