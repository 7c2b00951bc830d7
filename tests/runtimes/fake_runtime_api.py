"""A Runtime API of a few lines, and a guest process that talks to it: the counterpart of the managed bootstraps.

It answers in order and keeps everything that was posted. It checks no states: that is `runtimeapi`'s.
"""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lambent import settings
from lambent.core.model import FunctionVersion
from lambent.http1 import Request, Successor, render
from lambent.http1_connection import Connection
from lambent.runtimes import PreparedRuntime, Runtimes, RuntimeUnavailable
from lambent.sandbox.base import Places

PATIENCE_S = 20.0  #: only a broken bootstrap needs as long
BODY_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Post:
    """What a runtime posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """`response`, `error` or `init/error`."""
        return "init/error" if self.path.endswith("init/error") else self.path.rsplit("/", 1)[-1]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeRuntimeApi:
    """One environment's Runtime API. `post_status` is what every POST is answered with.

    `lane`: a runtime that offers to speak frames (see `runtimeapi/lane.py`) is taken at its word.
    """

    lane = False
    post_status: int = 202
    address: str = ""
    posts: asyncio.Queue[Post] = field(default_factory=asyncio.Queue)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    _invocations: deque[tuple[bytes, tuple[tuple[str, str], ...]]] = field(default_factory=deque)
    _waiting: Request | FakeLane | None = None
    _connections: list[Connection] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._connect(loop), "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % self._server.sockets[0].getsockname()[1]  # noqa: UP031

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.abort()

    def put(self, payload: bytes, headers: Mapping[str, str] | None = None) -> str:
        """Queue an invocation; its request id."""
        request_id = str(uuid.uuid4())
        given = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": "32503680000000",  # the year 3000
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:f:live",
            **(headers or {}),
        }
        self._invocations.append((payload, tuple(given.items())))
        self._hand_out()
        return request_id

    def _connect(self, loop: asyncio.AbstractEventLoop) -> Connection:
        connection = Connection(self._request, loop, BODY_LIMIT)
        self._connections.append(connection)
        return connection

    def _request(self, request: Request) -> None:
        if request.method == "GET" and request.path == "/2018-06-01/runtime/invocation/next":
            self._waiting = request
            self.asked.set()
            self._hand_out()
        else:
            self.posts.put_nowait(Post(request.path, request.headers, request.body))
            request.respond(self.post_status, b'{"status":"OK"}\n')

    def _hand_out(self) -> None:
        if self._waiting is not None and self._invocations:
            self.asked.clear()
            payload, headers = self._invocations.popleft()
            request, self._waiting = self._waiting, None
            if isinstance(request, FakeLane):
                request.deliver(payload, dict(headers))
            elif self.lane and "lambent-lane" in request.headers:
                assert request.alone
                taken = (*headers, ("Lambent-Lane", "1"))
                request.hand_over(render(200, payload, taken, "application/json"), FakeLane(self, headers[0][1]))
            else:
                request.respond(200, payload, headers)

    def posted_in_lane(self, lane: FakeLane, post: Post) -> None:
        self.posts.put_nowait(post)
        self._waiting = lane
        self.asked.set()
        self._hand_out()


class FakeLane(Successor):
    """Frames as posts, and invocations as frames."""

    def __init__(self, api: FakeRuntimeApi, request_id: str) -> None:
        super().__init__()
        self._api = api
        self._request_id = request_id
        self._buffer = b""

    def deliver(self, payload: bytes, headers: dict[str, str]) -> None:
        self._request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        lines = [headers.get(f"Lambda-Runtime-{name}", "") for name in (
            "Aws-Request-Id", "Deadline-Ms", "Invoked-Function-Arn", "Trace-Id", "Client-Context")]
        head = "\n".join([*lines, "application/json"]).encode()
        self.write(struct.pack("<II", len(head), len(payload)) + head + payload)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < 12:
            return
        text_size, body_size = int.from_bytes(self._buffer[1:4], "little"), int.from_bytes(self._buffer[4:12], "little")
        end = 12 + text_size + body_size
        if len(self._buffer) < end:
            return
        kind, text = self._buffer[:1], self._buffer[12:12 + text_size].decode()
        body, rest = self._buffer[12 + text_size:end], self._buffer[end:]
        assert not rest, "a runtime sends one frame and waits"
        self._buffer = b""
        path = f"/2018-06-01/runtime/invocation/{self._request_id}/" + {b"r": "response", b"e": "error"}[kind]
        headers = {"content-type": text or "application/json"}
        if kind == b"e":
            headers = {"content-type": "application/json", "lambda-runtime-function-xray-error-cause": text}
        self._api.posted_in_lane(self, Post(path, headers, body))


@dataclass
class Guest:
    """A runtime process of one function."""

    api: FakeRuntimeApi
    process: asyncio.subprocess.Process
    _output: asyncio.Task[bytes]

    async def invoke(self, payload: Any = None, headers: Mapping[str, str] | None = None) -> Post:
        """Run one invocation and wait for what the runtime posts."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        request_id = self.api.put(body, headers)
        post = await self.posted()
        assert request_id in post.path, post
        return post

    async def posted(self) -> Post:
        return await asyncio.wait_for(self.api.posts.get(), PATIENCE_S)

    async def ready(self) -> None:
        """Until the runtime asks for an invocation."""
        await asyncio.wait_for(self.api.asked.wait(), PATIENCE_S)

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)

    async def log(self) -> list[str]:
        """Everything it wrote, as lines, carriage returns as they were; ends the process."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        text = (await self._output).decode()
        return text.removesuffix("\n").split("\n") if text else []


FUNCTION = FunctionVersion(
    account="000000000000", region="us-east-1", name="f", version="$LATEST", generation="1", runtime="",
    handler="app.handler", code_sha256="0" * 64, memory_mib=256)  # fmt: skip


@asynccontextmanager
async def guest(runtime: PreparedRuntime, task: Path, handler: str = "app.handler", *,
                environment: Mapping[str, str] | None = None, opt: Path | None = None,
                post_status: int = 202) -> AsyncIterator[Guest]:
    """A runtime process on the bare host, with the variables that the worker would give it."""
    api = FakeRuntimeApi(post_status)
    await api.start()
    function = replace(FUNCTION, runtime=runtime.identifier, handler=handler, environment=dict(environment or {}))
    places = Places(task=str(task), opt=str(opt or "/opt"), runtime=str(runtime.runtime_dir), lang=runtime.host_lang)
    variables = {
        **function.environment, **runtime.environment(places, function), "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/21/[$LATEST]00", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    argv = runtime.command(places, function, task=task, opt=opt)
    process = await asyncio.create_subprocess_exec(
        *argv, env=variables, cwd=task, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT)  # fmt: skip
    assert process.stdout is not None
    output = asyncio.create_task(process.stdout.read())
    try:
        yield Guest(api, process, output)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await output
        api.stop()


def prepared(*identifiers: str) -> PreparedRuntime:
    """The first that this host can run; skips the test when there is none."""
    reasons = []
    for identifier in identifiers:
        try:
            return asyncio.run(Runtimes(settings.load({}).cache_dir).prepare(identifier))
        except RuntimeUnavailable as reason:
            reasons.append(str(reason))
    pytest.skip(f"needs a runtime: {reasons[0]}")
