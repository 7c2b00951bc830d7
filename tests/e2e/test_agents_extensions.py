"""External extensions that others wrote, built from crates.io.

AWS's Lambda Web Adapter is an extension that runs the Runtime API on behalf of a web server, which knows nothing of
Lambda. AWS's Rust library for extensions takes telemetry apart into its own types, and refuses what does not fit.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from . import agents
from .harness import PYTHON, Answer, Call, Function, Server
from .test_layers import layer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(agents.BUILD_TIMEOUT_S)]

#: Both listen on port 8080, which environments would share otherwise.
FLAGS = ("--network", "isolated")

ADAPTER = "0.9.1"
RUST_TELEMETRY = Path(__file__).parent / "rust-telemetry"

#: A web server as anybody would write it; Lambda's name does not occur.
WEB = """
import json, os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Web(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/exit":
            os._exit(3)
        if self.path == "/stream":
            self.stream()
            return
        said = {"path": self.path, "method": self.command, "body": body.decode(), "pid": os.getpid(),
                "host": self.headers["Host"], "name": self.headers["X-Name"]}
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.end(json.dumps(said).encode())

    do_POST = do_GET

    def end(self, content):
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in ("one ", "two ", "three"):
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(part), part.encode()))
            self.wfile.flush()
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, form, *values):
        print("served", self.path, flush=True)

def stop(number, frame):
    print("the web server says goodbye", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
print("the web server starts", flush=True)
ThreadingHTTPServer(("127.0.0.1", 8080), Web).serve_forever()
"""

TOLD = """
import os, time
def handler(event, context):
    print("line of the function")
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(1)
    if "raise" in event:
        raise ValueError()
"""


@pytest.fixture(scope="module")
def adapter(server: Server) -> str:
    """The layer that AWS publishes: the program in /opt/extensions, and the script that starts the web server."""
    cargo = agents.tool("cargo")
    key = f"lambda-adapter-{ADAPTER}"
    program = agents.built(key, [
        cargo, "install", "lambda_web_adapter", "--locked", "--version", ADAPTER, "--root", "{out}"],
        "bin/lambda-adapter")  # fmt: skip
    script = '#!/bin/bash\nexec -- "${LAMBDA_TASK_ROOT}/${_HANDLER}"\n'
    return layer(server, "adapter", {"extensions/lambda-adapter": program, "bootstrap": script})


def deploy_web(server: Server, adapter: str, name: str, mode: str = "BUFFERED", **variables: str) -> str:
    """A function with the web server; the host of its URL."""
    run = f"#!/bin/sh\nexec {PYTHON} web.py\n"
    server.deploy(Function(name, handler="run.sh", memory=512, files={"run.sh": run, "web.py": WEB}, more={
        "Layers": [adapter],
        "Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", **variables}}}))  # fmt: skip
    url = server.functions.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode=mode)
    for action, more in (("InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
                         ("InvokeFunction", {"InvokedViaFunctionUrl": True})):
        server.functions.add_permission(FunctionName=name, StatementId=action, Action=f"lambda:{action}",
                                        Principal="*", **more)  # fmt: skip
    host: str = url["FunctionUrl"].split("/")[2]
    return host


def test_a_web_server_behind_the_web_adapter(server: Server, adapter: str) -> None:
    host = deploy_web(server, adapter, "web")

    def get(path: str) -> Answer:
        return server.http("GET", path, host=host, headers=[("X-Name", "n")])

    first = get("/a/b?c=1&d=2")
    assert first.status == 201, first
    assert first.json() | {"pid": 0, "host": ""} == {
        "path": "/a/b?c=1&d=2", "method": "GET", "body": "", "pid": 0, "host": "", "name": "n"}  # fmt: skip
    assert sorted(value for name, value in first.headers if name.lower() == "set-cookie") == ["a=1", "b=2"]
    [row] = server.environments("web")
    server.idle(row["id"])
    posted = server.http("POST", "/p", host=host, body=b'{"x":1}', headers=[("Content-Type", "application/json")])
    assert posted.json()["body"] == '{"x":1}'
    assert posted.json()["pid"] == first.json()["pid"]  # thawed, not started again
    log = log_of(server, row["id"])
    assert "EXTENSION\tName: lambda-adapter\tState: Ready\tEvents: []\n" in log
    assert log.count("the web server starts\n") == 1 and log.count("REPORT RequestId") == 2


def test_a_web_server_gets_sigterm_because_the_adapter_is_an_extension(server: Server, adapter: str) -> None:
    host = deploy_web(server, adapter, "mannered")
    server.http("GET", "/", host=host)
    [row] = server.environments("mannered")
    server.retire(row["id"])
    assert "the web server says goodbye\n" in log_of(server, row["id"])


def test_a_web_server_that_streams_behind_the_web_adapter(server: Server, adapter: str) -> None:
    host = deploy_web(server, adapter, "streamed", "RESPONSE_STREAM", AWS_LWA_INVOKE_MODE="response_stream")
    answer = server.http("GET", "/stream", host=host)
    assert (answer.status, answer.body) == (200, b"one two three")
    assert server.http("GET", "/", host=host).status == 201


def test_a_web_server_that_ends_is_a_runtime_that_ended(server: Server, adapter: str) -> None:
    host = deploy_web(server, adapter, "mortal")
    answer = server.http("GET", "/exit", host=host)
    assert (answer.status, answer.body) == (502, b"Internal Server Error")
    [row] = server.environments("mortal")
    server.idle(row["id"])
    # On a busy host the adapter may see its connection end, and post an error, before the process has ended.
    assert re.search(r"\tStatus: error\tError Type: Runtime\.(ExitError|Unknown)\n", log_of(server, row["id"]))
    assert server.http("GET", "/", host=host).status == 201
    assert [again["id"] for again in server.environments("mortal")] == [row["id"]]


def test_awss_rust_library_takes_every_event(server: Server) -> None:
    """Of a cold, a warm, a failed, a timed out and a crashed invocation, and of an Init that is repeated.

    The library parses a batch as a whole: one event that it does not know loses the others, too.
    """
    cargo = agents.tool("cargo")
    key = f"rust-telemetry-{agents.digest(RUST_TELEMETRY)}"
    program = agents.built(key, [
        cargo, "install", "--locked", "--path", str(RUST_TELEMETRY), "--root", "{out}"],
        "bin/rust-telemetry")  # fmt: skip
    arn = layer(server, "rust", {"extensions/rust-telemetry": program})
    server.deploy(Function("told", TOLD, timeout=1, more={"Layers": [arn]}))
    calls = []
    for event in ({}, {}, {"raise": 1}, {"sleep": 9}, {"exit": 1}, {}):
        calls.append(server.invoke("told", event))
        server.idle(calls[-1].environment)
    assert len({call.environment for call in calls}) == 1
    server.retire(calls[0].environment)
    told = [json.loads(line) for line in re.findall(r"^rust told (.*)$", log_of(server, calls[0].environment), re.M)]

    def of(call: Call, kind: str) -> dict[str, Any]:
        [record] = [event["record"] for event in told if event["type"] == f"platform.{kind}"
                    and event["record"]["requestId"] == call.request_id]  # fmt: skip
        return {name: record[name] for name in ("status", "errorType") if name in record}

    assert [of(call, "start") for call in calls] == [{}] * 6
    ended = [of(call, "report") for call in calls]
    good, timed_out = {"status": "success"}, {"status": "timeout"}
    crashed = {"status": "error", "errorType": "Runtime.ExitError"}
    assert ended == [good, good, good, timed_out, crashed, good]
    done = [of(call, "runtimeDone") for call in calls]
    assert done == [good, good, {"status": "error", "errorType": "Runtime.Unknown"}, timed_out, crashed, good]
    assert [event["record"]["phase"] for event in told if event["type"] == "platform.initStart"] == [
        "init", "invoke", "invoke"]  # fmt: skip
    lines = [event["record"] for event in told if event["type"] == "function"]
    assert lines.count("line of the function\n") == 6


def log_of(server: Server, environment: str) -> str:
    """The whole log stream of an environment."""
    story: dict[str, Any] = server.story(environment)
    pages = server.logs.get_paginator("filter_log_events").paginate(
        logGroupName=story["log_group"], logStreamNames=[story["log_stream"]])
    return "".join(event["message"] for page in pages for event in page["events"])
