"""A real server as a subprocess, real boto3 clients, and the few things that every end-to-end test needs.

Nothing of the server's inside is imported: what a test sees is what a user of boto3, HTTP, `ps` and `mount` sees.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

#: The managed runtime that every machine that can run these tests has: the one of the tests' own interpreter.
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
ROLE = "arn:aws:iam::000000000000:role/e2e"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
#: A runtime that no test has used before is installed by pip or npm.
ACTIVE_TIMEOUT_S = 300.0

_session = boto3.Session("e2e", "e2e", region_name="us-east-1")


@dataclass(frozen=True)
class Function:
    """What to deploy. `files` are added to the package; `more` goes to CreateFunction as it is."""

    name: str
    source: str = ""
    handler: str = "app.handler"
    runtime: str = PYTHON
    timeout: int = 10
    memory: int = 256
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def package(self) -> bytes:
        """The zip: `source` under the name that the runtime looks for, executable bits for what is a program."""
        files = dict(self.files)
        if self.source:
            files.setdefault(_main_file(self.runtime), self.source)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
                script = isinstance(content, str) and content.startswith("#!")
                entry.external_attr = (0o755 if script or name == "bootstrap" else 0o644) << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    def request(self) -> dict[str, Any]:
        """The parameters of CreateFunction."""
        return {"FunctionName": self.name, "Role": ROLE, "Runtime": self.runtime, "Handler": self.handler,
                "Timeout": self.timeout, "MemorySize": self.memory, "Code": {"ZipFile": self.package()},
                **self.more}  # fmt: skip


def _main_file(runtime: str) -> str:
    if runtime.startswith("provided"):
        return "bootstrap"
    return "app.py" if runtime.startswith("python") else "app.js"


@dataclass(frozen=True)
class Call:
    """The answer to one Invoke."""

    status: int
    raw: bytes
    error: str | None
    log: str
    headers: Mapping[str, str]

    @property
    def payload(self) -> Any:
        return json.loads(self.raw)

    @property
    def request_id(self) -> str:
        return self.headers["x-amzn-requestid"]

    @property
    def environment(self) -> str:
        return self.headers["x-lambent-environment"]

    @property
    def cold(self) -> bool:
        return self.headers["x-lambent-start"] == "cold"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """One `lambent up`. Made by `running`; `flags` are those of the command line."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.stderr_path = data_dir.with_name(data_dir.name + ".stderr")
        argv = ["up", "--port", "0", "--data-dir", str(data_dir), *flags]
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lambent.cli.main", *argv], stdout=subprocess.PIPE, stderr=stderr,
                env=clean_environment())  # fmt: skip
        self.ready_line = self._first_line()
        self.url = self.ready_line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])
        self._clients: dict[str, Any] = {}

    def _first_line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        line = self.process.stdout.readline().decode() if readable else ""
        if "http://" not in line:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            pytest.fail(f"the server did not start: {line!r} {self.stderr()}")
        return line.strip()

    def stderr(self) -> str:
        return self.stderr_path.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the server, if it still runs, and return its exit code."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    # AWS's side

    def aws(self, service: str) -> Any:
        """A plain boto3 client that tries once and has a connection for each of many threads."""
        if service not in self._clients:
            config = Config(retries={"total_max_attempts": 1}, max_pool_connections=64, read_timeout=120)
            self._clients[service] = _session.client(service, endpoint_url=self.url, config=config)
        return self._clients[service]

    @property
    def functions(self) -> Any:
        return self.aws("lambda")

    @property
    def logs(self) -> Any:
        return self.aws("logs")

    def create(self, function: Function) -> dict[str, Any]:
        """CreateFunction; the reply as it came."""
        reply: dict[str, Any] = self.functions.create_function(**function.request())
        return reply

    def open_url(self, name: str, **more: Any) -> str:
        """Make a URL that anybody may call, as AWS's console does it; its host. `more` is CreateFunctionUrlConfig's."""
        reply = self.functions.create_function_url_config(FunctionName=name, AuthType="NONE", **more)
        self.let_anybody_in(name, **{key: value for key, value in more.items() if key == "Qualifier"})
        return str(reply["FunctionUrl"]).removeprefix("http://").removesuffix("/")

    def let_anybody_in(self, name: str, **qualifier: str) -> None:
        """The two statements of a policy that a URL with AuthType NONE needs."""
        for action, condition in (("InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
                                  ("InvokeFunction", {"InvokedViaFunctionUrl": True})):  # fmt: skip
            self.functions.add_permission(FunctionName=name, StatementId=action, Action=f"lambda:{action}",
                                          Principal="*", **condition, **qualifier)  # fmt: skip

    def wait_active(self, name: str, waiter: str = "function_active_v2") -> None:
        attempts = int(ACTIVE_TIMEOUT_S / 0.05)
        self.functions.get_waiter(waiter).wait(
            FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": attempts})

    def deploy(self, *functions: Function) -> None:
        """Create all of them at once and wait until they are Active."""

        def one(function: Function) -> None:
            self.create(function)
            try:
                self.wait_active(function.name)
            except WaiterError as error:
                configuration = error.last_response["Configuration"]
                pytest.fail(f"{function.name} is {configuration['State']}: {configuration.get('StateReason')}")

        self.functions  # noqa: B018  made here, since making a client is not safe in threads
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, functions))

    def invoke(self, name: str, event: Any = None, *, raw: bytes | None = None, **more: Any) -> Call:
        """Invoke with LogType=Tail unless `more` says otherwise."""
        payload = raw if raw is not None else json.dumps({} if event is None else event).encode()
        reply = self.functions.invoke(FunctionName=name, Payload=payload, **{"LogType": "Tail", **more})
        return Call(
            reply["StatusCode"], reply["Payload"].read(), reply.get("FunctionError"),
            base64.b64decode(reply.get("LogResult", "")).decode(), reply["ResponseMetadata"]["HTTPHeaders"],
        )  # fmt: skip

    def background(self, name: str, event: Any = None) -> Future[Call]:
        """The same in a thread of its own."""
        self.functions  # noqa: B018  made here, since making a client is not safe in threads
        future: Future[Call] = Future()

        def run() -> None:
            try:
                future.set_result(self.invoke(name, event))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run).start()
        return future

    def stream(self, call: Call) -> str:
        """Everything in the log stream of the environment that served a call, from its start."""
        story = self.story(call.environment)
        found = self.logs.get_log_events(
            logGroupName=story["log_group"], logStreamName=story["log_stream"], startFromHead=True)
        return "".join(event["message"] for event in found["events"])

    # Our own side

    def http(self, method: str, path: str, *, host: str | None = None, body: bytes | None = None,
             headers: Sequence[tuple[str, str]] = ()) -> Answer:
        """One request to 127.0.0.1 with a Host header of one's choice, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host if host is not None else f"127.0.0.1:{self.port}")
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            return Answer(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()

    def pipeline(self, *requests: tuple[str, str, dict[str, Any] | None]) -> list[Answer]:
        """Method, path and JSON body of requests that are sent at once, on one connection; the answers in order.

        So the second is handled before anything that the first one began in the background can have ended.
        """
        message = b""
        for method, path, body in requests:
            content = json.dumps(body).encode() if body is not None else b""
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
            message += head.encode() + content
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(message)
            with connection.makefile("rb") as file:
                answers = []
                for method, _, _ in requests:
                    reply = http.client.HTTPResponse(_Kept(file), method=method)  # type: ignore[arg-type]
                    reply.begin()
                    answers.append(Answer(reply.status, reply.getheaders(), reply.read()))
                return answers

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()

    @property
    def instance(self) -> str:
        return str(self.http("GET", "/_lambent/health").json()["instance"])

    def environments(self, name: str | None = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.http("GET", "/_lambent/environments").json()["environments"]
        return [row for row in rows if name is None or row["function_name"] == name]

    def environment(self, environment_id: str) -> dict[str, Any]:
        return next(row for row in self.environments() if row["id"] == environment_id)

    def story(self, environment_id: str) -> dict[str, Any]:
        answer = self.http("GET", f"/_lambent/environments/{environment_id}/story")
        assert answer.status == 200, answer
        told: dict[str, Any] = answer.json()
        return told

    def retire(self, environment_id: str) -> None:
        """Ask for it and wait until the environment is gone."""
        bearer = (("Authorization", f"Bearer {self.token}"),)
        answer = self.http("POST", f"/_lambent/environments/{environment_id}/retire", headers=bearer)
        assert answer.status == 202, answer
        until(lambda: all(row["id"] != environment_id for row in self.environments()))

    def idle(self, environment_id: str) -> dict[str, Any]:
        """The environment's row, once it is frozen."""
        until(lambda: self.environment(environment_id)["frozen"])
        return self.environment(environment_id)


class _Kept:
    """A connection's buffer, which `http.client` takes for a socket of one answer and may not close after it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def makefile(self, _mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def running(data_dir: Path, *flags: str) -> Iterator[Server]:
    """A server for the length of a block. In the end it must stop cleanly and must not have raised anything."""
    server = Server(data_dir, *flags)
    try:
        yield server
    finally:
        code = server.stop()
    assert code == 0, server.stderr()
    assert "Traceback" not in server.stderr(), server.stderr()
    assert "is given up" not in server.stderr(), server.stderr()


def wire(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as they travel: bytes in base64."""
    return json.loads(json.dumps(parameters, default=lambda data: base64.b64encode(data).decode()))  # type: ignore[no-any-return]


def clean_environment() -> dict[str, str]:
    """This process's variables without settings of a server, apart from the cache that servers may share."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAMBENT_", "AWS_"))}
    cache = os.environ.get("LAMBENT_CACHE_DIR")
    return kept | ({"LAMBENT_CACHE_DIR": cache} if cache else {})


def until(holds: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Asked for over HTTP or in /proc, so there is nothing to be woken by."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def at_once(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Every call in a thread of its own; the results in order."""
    listed = list(calls)
    with ThreadPoolExecutor(len(listed)) as pool:
        return [future.result() for future in [pool.submit(call) for call in listed]]


def refusal(call: Callable[[], Any]) -> tuple[int, str, str, dict[str, Any]]:
    """What a call that must fail fails with: HTTP status, error code, message, the whole parsed reply."""
    with pytest.raises(ClientError) as caught:
        call()
    reply: dict[str, Any] = caught.value.response
    error = reply["Error"]
    return reply["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"], reply


@contextmanager
def meeting(size: int) -> Iterator[tuple[int, threading.Event, threading.Event]]:
    """A port where callers wait until `size` of them are there and `go` is set: port, all are there, go."""
    met, go = threading.Event(), threading.Event()
    barrier = threading.Barrier(size, met.set)

    class Place(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            barrier.wait(60)
            go.wait(60)
            self.request.sendall(b"!")

    class Meeting(socketserver.ThreadingTCPServer):
        request_queue_size = 128
        daemon_threads = True

    with Meeting(("127.0.0.1", 0), Place) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.server_address[1], met, go
        finally:
            go.set()
            server.shutdown()
