"""What a function of each runtime finds: its interpreter, the SDK, paths and variables (point 5)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .failing import HOST_PYTHON, need, official_client
from .harness import PYTHON, Call, Function, Server

#: A function of a runtime that the host lacks runs on the closest one here, and the server's log says so.
FLAGS = ("--nearest-runtime",)
PYTHONS = tuple(f"python3.{minor}" for minor in range(9, 15))
NODES = ("nodejs20.x", "nodejs22.x", "nodejs24.x")
GUEST_UID, GUEST_GID = 993, 990

LOOKS = """
import os, pwd, sys
INITIAL = dict(os.environ)

def handler(event, context):
    if "import" in event:
        module = __import__(event["import"])
        return [module.__version__, module.__file__]
    return {
        "version": "%d.%d" % sys.version_info[:2], "program": os.path.realpath("/proc/self/exe"),
        "executable": sys.executable, "prefix": sys.prefix, "path": sys.path, "cwd": os.getcwd(),
        "variables": INITIAL, "file": __file__, "runtime": sorted(os.listdir("/var/runtime")),
        "ids": [os.getuid(), os.getgid(), os.getgroups()], "user": pwd.getpwuid(os.getuid())[0],
        "stdin": os.readlink("/proc/self/fd/0"), "tmp": os.listdir("/tmp"),
    }
"""

LOOKS_NODE = """
const fs = require('node:fs');
exports.handler = async (event) => {
  if (event.import) return Object.keys(require(event.import)).includes(event.name);
  return { version: process.version, program: fs.realpathSync('/proc/self/exe'), cwd: process.cwd(),
           variables: process.env, file: __filename, uid: process.getuid() };
};
"""

MODULE_NODE = """
import { readFileSync } from 'node:fs';
import { LambdaClient } from '@aws-sdk/client-lambda';
const early = await Promise.resolve('awaited');
export const handler = async (event) => [early, typeof LambdaClient, import.meta.url, event];
"""

CALLBACK_NODE = """
exports.handler = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = event.waits;
  let done = false;
  setTimeout(() => { done = true; }, 100);
  const result = { get done() { return done; } };
  callback(null, result);
};
"""

#: A whole runtime in shell: one connection for each call.
SHELL = r"""#!/bin/bash
call() {  # request line, body; sets `body`, `id`
  exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
  printf '%s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
    "$1" "$AWS_LAMBDA_RUNTIME_API" "${#2}" "$2" >&3
  while IFS=': ' read -r -u 3 name value; do
    value=${value%$'\r'}
    case ${name,,} in
      content-length) length=$value ;;
      lambda-runtime-aws-request-id) id=$value ;;
      $'\r') break ;;
    esac
  done
  IFS= read -r -N "$length" -u 3 body
  exec 3>&-
}
count=0
echo "the shell is ready"
while true; do
  call 'GET /2018-06-01/runtime/invocation/next' ''
  count=$((count + 1))
  echo "event: $body"
  call "POST /2018-06-01/runtime/invocation/$id/response" "{\"count\": $count, \"event\": $body, \"pwd\": \"$PWD\"}"
done
"""

#: The protocol with nothing but the standard library; says what it was started with.
PLAIN = """#!/usr/bin/python3
import http.client, json, os
INITIAL = dict(os.environ)
api = http.client.HTTPConnection(INITIAL["AWS_LAMBDA_RUNTIME_API"])

def ask(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body)
    reply = api.getresponse()
    return reply, reply.read()

while True:
    reply, event = ask("GET", "invocation/next")
    result = {"variables": INITIAL, "headers": dict(reply.getheaders()), "ping": None,
              "lang": os.listdir("/var/lang")}
    api.request("GET", "/2018-06-01/ping")
    result["ping"] = api.getresponse().read().decode()
    reply, body = ask("POST", "invocation/%s/response" % reply.headers["Lambda-Runtime-Aws-Request-Id"],
                      json.dumps(result))
    assert (reply.status, body) == (202, b'{"status":"OK"}\\n'), (reply.status, body)
"""

TELLS_CLIENT = """
import sys

def handler(event, context):
    if event == "raise":
        raise ValueError("boom")
    return [event, context.aws_request_id, "lambent_client" in sys.modules, sys.executable]
"""

FUNCTIONS = (
    *(Function(name.replace(".", "-"), LOOKS, runtime=name, memory=1769) for name in PYTHONS),
    *(Function(name.replace(".", "-"), LOOKS_NODE, runtime=name, memory=1769) for name in NODES),
    Function("module", runtime="nodejs20.x", memory=1769, handler="src/app.handler",
             files={"src/app.mjs": MODULE_NODE}),
    Function("callback", CALLBACK_NODE, runtime="nodejs20.x"),
    Function("shell", SHELL, runtime="provided.al2023"),
    Function("plain", PLAIN, runtime="provided.al2023"),
    Function("folder", handler="src/deep.app.handler", files={"src/deep/app.py": LOOKS}),
)  # fmt: skip

#: The variables of fact sheet 9.8 with what they hold.
COMMON = {
    "AWS_LAMBDA_FUNCTION_VERSION": r"\$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": r"\d+",
    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
    "AWS_LAMBDA_LOG_STREAM_NAME": r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}",
    "AWS_LAMBDA_RUNTIME_API": r"127\.\d+\.\d+\.\d+:9001",
    "AWS_LAMBDA_METADATA_API": r"127\.\d+\.\d+\.\d+:9001",
    "AWS_LAMBDA_METADATA_TOKEN": r"[\w-]{43}",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "ASIA[A-Z0-9]{16}",
    "AWS_SECRET_ACCESS_KEY": r"\S{40}",
    "AWS_SESSION_TOKEN": r"\S+",
    "AWS_XRAY_DAEMON_ADDRESS": r"169\.254\.100\.1:2000",
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    "_AWS_XRAY_DAEMON_ADDRESS": r"169\.254\.100\.1",
    "_AWS_XRAY_DAEMON_PORT": "2000",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "TZ": ":UTC",
    "LANG": r"en_US\.UTF-8",
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
}


def check_variables(seen: dict[str, str], name: str, handler: str, more: dict[str, str]) -> None:
    """Exactly these, with these values."""
    wanted = COMMON | {"AWS_LAMBDA_FUNCTION_NAME": name, "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
                       "_HANDLER": re.escape(handler)} | more  # fmt: skip
    assert seen.keys() == wanted.keys()
    assert {key: seen[key] for key, pattern in wanted.items() if not re.fullmatch(pattern, seen[key])} == {}


def settle(server: Server, runtime: str, line: str) -> None:
    """The interpreter is of the runtime's version, or the server's log says which one serves."""
    if runtime != line:
        assert f"{runtime.replace('.', '-')}: {runtime} is not on this host; {line} serves" in server.stderr()


@pytest.mark.parametrize("runtime", PYTHONS)
def test_python_runs_on_an_interpreter_of_the_host(server: Server, runtime: str) -> None:
    call = server.invoke(runtime.replace(".", "-"))
    seen = call.payload
    line = f"python{seen['version']}"
    settle(server, runtime, line)
    assert seen["program"].startswith("/var/lang/bin/python3")
    assert seen["executable"] == f"/var/lang/bin/{line}"
    assert seen["prefix"] == "/var/lang"
    assert (seen["cwd"], seen["file"]) == ("/var/task", "/var/task/app.py")
    assert {"boto3", "botocore", "awslambdaric", "bootstrap"} <= set(seen["runtime"])
    assert seen["ids"] == [GUEST_UID, GUEST_GID, []]
    assert seen["user"] == "sbx_user1051"
    assert seen["stdin"] == "/dev/null"
    assert seen["tmp"] == []
    path = seen["path"]
    assert path[:3] == ["/var/task", f"/opt/python/lib/{line}/site-packages", "/opt/python"]
    assert path[-1] == "/var/runtime" or "/var/runtime" in path[3:]
    assert all(entry.startswith(("/var/task", "/opt/python", "/var/lang/lib", "/var/runtime")) for entry in path)
    assert f"INIT_START Runtime Version: python:{seen['version']}.v" in server.stream(call)


@pytest.mark.parametrize("runtime", PYTHONS)
def test_python_has_the_variables_of_aws(server: Server, runtime: str) -> None:
    seen = server.invoke(runtime.replace(".", "-")).payload
    # An older Python sets it by itself where the locale of LANG is not installed.
    has_ctype = int(seen["version"].split(".")[1]) >= 12 or "LC_CTYPE" in seen["variables"]
    check_variables(seen["variables"], runtime.replace(".", "-"), "app.handler", {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}", "PYTHONPATH": "/var/runtime", "PWD": "/var/task", "SHLVL": "0",
        **({"LC_CTYPE": r"C\.UTF-8"} if has_ctype else {})})  # fmt: skip


@pytest.mark.parametrize("runtime", PYTHONS)
def test_the_usual_handlers_import_boto3(server: Server, runtime: str) -> None:
    version, place = server.invoke(runtime.replace(".", "-"), {"import": "boto3"}).payload
    assert re.fullmatch(r"1\.\d+\.\d+", version)
    assert place == "/var/runtime/boto3/__init__.py"


def test_a_function_calls_this_server_with_boto3(server: Server) -> None:
    source = ("import boto3\ndef handler(event, context):\n    client = boto3.client('lambda', endpoint_url=event)\n"
              "    return [row['FunctionName'] for row in client.list_functions()['Functions']]")  # fmt: skip
    server.deploy(Function("asks", source, memory=1769))
    assert "asks" in server.invoke("asks", server.url).payload


def test_a_handler_may_live_in_folders(server: Server) -> None:
    assert server.invoke("folder").payload["file"] == "/var/task/src/deep/app.py"


@pytest.mark.parametrize("runtime", NODES)
def test_node_runs_on_an_interpreter_of_the_host(server: Server, runtime: str) -> None:
    name = runtime.replace(".", "-")
    call = server.invoke(name)
    seen = call.payload
    major = seen["version"].lstrip("v").split(".")[0]
    settle(server, runtime, f"nodejs{major}.x")
    assert seen["program"] == "/var/lang/bin/node"
    assert (seen["cwd"], seen["file"], seen["uid"]) == ("/var/task", "/var/task/app.js", GUEST_UID)
    check_variables({key: value for key, value in seen["variables"].items() if key != "_X_AMZN_TRACE_ID"}, name,
                    "app.handler", {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}", "PWD": "/var/task", "SHLVL": "0",
        "NODE_PATH": f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:"
                     "/var/runtime:/var/task"})  # fmt: skip
    assert server.invoke(name, {"import": "@aws-sdk/client-s3", "name": "S3Client"}).payload is True


def test_node_loads_modules_with_imports_and_top_level_await(server: Server) -> None:
    assert server.invoke("module", {"a": 1}).payload == [
        "awaited", "function", "file:///var/task/src/app.mjs", {"a": 1}]  # fmt: skip


def test_a_node_callback_waits_for_the_event_loop_if_it_is_to(server: Server) -> None:
    assert server.invoke("callback", {"waits": True}).payload == {"done": True}
    assert server.invoke("callback", {"waits": False}).payload == {"done": False}


def test_a_runtime_in_shell(server: Server) -> None:
    first, second = server.invoke("shell", {"n": 1}), server.invoke("shell", [2])
    assert first.payload == {"count": 1, "event": {"n": 1}, "pwd": "/var/task"}
    assert second.payload == {"count": 2, "event": [2], "pwd": "/var/task"}
    assert first.environment == second.environment
    assert "the shell is ready\n" in first.log
    assert 'event: {"n": 1}\n' in first.log
    assert "INIT_START Runtime Version: provided:al2023.v" in server.stream(first)


def test_a_custom_runtime_gets_the_plain_protocol(server: Server) -> None:
    need("/usr/bin/python3")
    call: Call = server.invoke("plain", {"n": 1})
    seen: dict[str, Any] = call.payload
    check_variables({key: value for key, value in seen["variables"].items() if key != "LC_CTYPE"}, "plain",
                    "app.handler", {})  # fmt: skip
    headers = {name.lower(): value for name, value in seen["headers"].items()}
    assert headers["lambda-runtime-aws-request-id"] == call.request_id
    assert int(headers["lambda-runtime-deadline-ms"]) > 1_700_000_000_000
    assert headers["lambda-runtime-invoked-function-arn"] == "arn:aws:lambda:us-east-1:000000000000:function:plain"
    assert headers["lambda-runtime-trace-id"] == call.headers["x-amzn-trace-id"]
    assert headers["content-type"] == "application/json"
    assert not {"lambda-runtime-client-context", "lambda-runtime-cognito-identity"} & headers.keys()
    assert seen["ping"] == "pong"
    assert seen["lang"] == []


def test_the_official_client_over_plain_http(server: Server) -> None:
    """In a package of its own, on the host's interpreter, with its own way to talk."""
    client = official_client(server)
    assert any(name.startswith("runtime_client.") for name in client)
    starts = f"#!/bin/sh\nexec {HOST_PYTHON} -m awslambdaric app.handler\n"
    files = client | {"app.py": TELLS_CLIENT, "bootstrap": starts}
    server.deploy(Function("official", runtime="provided.al2023", memory=1769, files=files))
    for event in ("one", "two", "\u2603" * 1000):
        call = server.invoke("official", event)
        assert call.error is None, call
        assert call.payload[:3] == [event, call.request_id, False]
        assert call.payload[3].startswith(HOST_PYTHON)
    failed = server.invoke("official", "raise")
    assert (failed.payload["errorType"], failed.payload["errorMessage"]) == ("ValueError", "boom")
    assert server.invoke("official", "after").environment == call.environment


def test_the_runtime_of_these_tests_is_there(server: Server) -> None:
    """So that at least one of the above ran on its own version."""
    assert f"python{server.invoke(PYTHON.replace('.', '-')).payload['version']}" == PYTHON


START = """
import awslambdaric.bootstrap, collections.abc, inspect, json, logging, re, sys, traceback

def handler(event, context):
    try:
        json.loads("{")
    except ValueError as error:
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)][1:]
    finders = [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path]
    loader = logging.__spec__.loader
    return {"loader": type(loader).__name__, "image": hasattr(loader, "_image"), "minor": sys.version_info[1],
            "file": logging.__file__, "cached": logging.__cached__,
            "name": logging.__spec__.name, "package": logging.__path__, "frames": frames, "finders": finders,
            "source": inspect.getsource(logging.getLogger).split("\\n")[0], "client": awslambdaric.bootstrap.__file__,
            "reloaded": __import__("importlib").reload(re).__name__, "alias": collections.abc.__name__,
            "stack": [[frame.filename, frame.name] for frame in traceback.extract_stack()[1:-1]]}
"""


@pytest.mark.parametrize("runtime", PYTHONS)
def test_modules_of_the_start_image_look_like_those_of_files(server: Server, runtime: str) -> None:
    name = "start-" + runtime.replace(".", "-")
    server.deploy(Function(name, START, runtime=runtime))
    seen = server.invoke(name).payload
    minor = seen.pop("minor")
    library = f"/var/lang/lib/python3.{minor}"
    assert (seen.pop("loader"), seen.pop("image")) == ("SourceFileLoader", True)
    assert seen == {
        "file": f"{library}/logging/__init__.py",
        "cached": f"{library}/logging/__pycache__/__init__.cpython-3{minor}.pyc",
        "name": "logging", "package": [f"{library}/logging"], "source": "def getLogger(name=None):",
        "frames": [f"{library}/json/__init__.py", *[f"{library}/json/decoder.py"] * 2],
        "finders": ["BuiltinImporter", "FrozenImporter", "Image", "PathFinder"],
        "client": "/var/runtime/awslambdaric/bootstrap.py", "reloaded": "re", "alias": "collections.abc",
        "stack": [["/var/runtime/bootstrap.py", "main"], ["/var/runtime/awslambdaric/__main__.py", "main"],
                  ["/var/runtime/awslambdaric/bootstrap.py", "run"],
                  ["/var/runtime/awslambdaric/bootstrap.py", "handle_event_request"]],
    }  # fmt: skip
