"""Functions that fail on demand, one for each way in which a runtime can talk to the platform, and an extension.

All do what their event says (`do`), and may do something `after` the response. They fail at Init as the variable
INIT_FAILS says, as often as BAD_INITS says; every process notes itself in /tmp, so that a later one can tell.
"""

from __future__ import annotations

import base64
import functools
import io
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .harness import Function, Server

HOST_PYTHON = "/usr/bin/python3"
CLIENTS = tuple(f"python3.{minor}" for minor in range(9, 15))

#: What the three programs in Python have in common.
DEEDS = """
import http.client, json, os, signal, time, uuid

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
BOOT = uuid.uuid4().hex
with open("/tmp/boots", "a") as file:
    file.write(BOOT + "\\n")
with open("/tmp/boots") as file:
    BOOTS = file.read().split()
print("boot", BOOT, flush=True)

def end(how):
    if how in ("exit 0", "exit 1", "exit 3"):
        os._exit(int(how[-1]))
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hoard":
        hoard = []
        while True:
            hoard.append(bytearray(1 << 20))
    if how in ("crash", "sleep"):
        time.sleep(30)

def api(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(API)
    connection.request(method, "/2018-06-01/runtime/" + path, body, headers)
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    return [reply.status, answer.get("errorType")]

def work(event, request_id):
    do = event["do"]
    end(do)
    if do == "raise":
        raise ValueError("boom")
    if do == "large":
        return "x" * (6 * 1024 * 1024 + 99)
    if do == "call":
        return api(event["method"], event["path"].replace("ID", request_id), event.get("body"))
    if do == "tell":
        return {"boot": BOOT, "boots": BOOTS, "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]}
    return "ok"

FAILS = os.environ.get("INIT_FAILS") if len(BOOTS) <= int(os.environ.get("BAD_INITS", "0")) else None
end(FAILS)
# An extension that fails during Init is to be the first: the runtime does not ask for work before it is ended.
if (os.environ.get("EXTENSION_FAILS") in ("init error", "exit at init")
        and os.path.getsize("/tmp/extensions") <= int(os.environ["BAD_EXTENSIONS"])):
    end("sleep")
"""
APP = """
import deeds
if deeds.FAILS == "error":
    import absent_from_here

def handler(event, context):
    return deeds.work(event, context.aws_request_id)
"""
#: The same for AWS's client, which asks for work by a call of its own.
CLIENT_APP = """
import awslambdaric.lambda_runtime_client as client

AFTER = []
ask = client.LambdaRuntimeClient.wait_next_invocation

def wait_next_invocation(self):
    if AFTER:
        deeds.end(AFTER.pop())
    return ask(self)

client.LambdaRuntimeClient.wait_next_invocation = wait_next_invocation
""" + APP.replace("    return deeds", "    AFTER[:] = filter(None, [event.get('after')])\n    return deeds")
CUSTOM = f"""#!{HOST_PYTHON}
import http.client, json, socket, sys
import deeds

connection = http.client.HTTPConnection(deeds.API)

def call(method, path, body=None, headers={{}}):
    connection.request(method, "/2018-06-01/runtime/" + path, body, headers)
    reply = connection.getresponse()
    return reply.status, reply.headers, reply.read()

def break_off(path):
    host, port = deeds.API.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as peer:
        head = "POST /2018-06-01/runtime/%s HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1000\\r\\n\\r\\n" % path
        peer.sendall(head.encode() + b'"half of')
        peer.shutdown(socket.SHUT_WR)
        assert b"TruncatedHTTPRequest" in peer.makefile("rb").read()

if deeds.FAILS == "error":
    kind = "Runtime.ImportModuleError"
    call("POST", "init/error", json.dumps({{"errorType": kind, "errorMessage": "no such thing"}}),
         {{"Lambda-Runtime-Function-Error-Type": kind}})
    sys.exit(1)
while True:
    status, headers, payload = call("GET", "invocation/next")
    event = json.loads(payload)
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    path = "invocation/%s/" % request_id
    if event["do"] == "break off":
        break_off(path + "response")
        continue
    mode = {{"Lambda-Runtime-Function-Response-Mode": "sideways"}} if event["do"] == "odd mode" else {{}}
    try:
        result = deeds.work(event, request_id)
    except Exception as error:
        call("POST", path + "error", json.dumps({{"errorType": type(error).__name__, "errorMessage": str(error)}}))
    else:
        call("POST", path + "response", json.dumps(result), mode)
    deeds.end(event.get("after"))
"""
#: The handler `after` streams, so that its response can be out while it still runs.
NODE = """
const crypto = require('node:crypto'), fs = require('node:fs'), http = require('node:http');
const BOOT = crypto.randomUUID();
fs.appendFileSync('/tmp/boots', BOOT + '\\n');
const BOOTS = fs.readFileSync('/tmp/boots', 'utf8').trim().split('\\n');
fs.writeSync(1, `boot ${BOOT}\\n`);

const end = (how) => {
  if (/^exit \\d$/.test(how)) process.exit(Number(how.slice(-1)));
  if (how === 'crash') process.kill(process.pid, 'SIGSEGV');
  if (how === 'hoard') for (const hoard = []; ; ) hoard.push(Buffer.alloc(1 << 20, 1));
  if (how === 'crash' || how === 'sleep') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30000);
};
const api = (method, path, body) => new Promise((resolve, reject) => {
  const url = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/${path}`;
  http.request(url, { method }, (reply) => {
    let text = '';
    reply.on('data', (part) => { text += part; });
    reply.on('end', () => resolve([reply.statusCode, JSON.parse(text).errorType]));
  }).on('error', reject).end(body);
});
const work = async (event, id) => {
  end(event.do);
  if (event.do === 'raise') throw Object.assign(new Error('boom'), { name: 'ValueError' });
  if (event.do === 'large') return 'x'.repeat(6 * 1024 * 1024 + 99);
  if (event.do === 'call') return api(event.method, event.path.replace('ID', id), event.body);
  if (event.do === 'tell') return { boot: BOOT, boots: BOOTS, stream: process.env.AWS_LAMBDA_LOG_STREAM_NAME };
  return 'ok';
};
if (BOOTS.length <= Number(process.env.BAD_INITS ?? 0)) {
  if (process.env.INIT_FAILS === 'error') require('absent-from-here');
  end(process.env.INIT_FAILS);
}
if (['init error', 'exit at init'].includes(process.env.EXTENSION_FAILS)
    && fs.statSync('/tmp/extensions').size <= Number(process.env.BAD_EXTENSIONS)) end('sleep');
exports.handler = (event, context) => work(event, context.awsRequestId);
exports.after = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.end(JSON.stringify(await work(event, context.awsRequestId)));
  await require('node:stream/promises').finished(stream);
  end(event.after);
});
"""
#: Fails as EXTENSION_FAILS says, as often as BAD_EXTENSIONS says.
EXTENSION = f"""#!{HOST_PYTHON}
import json, os, time, urllib.request

HOST = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension/"
with open("/tmp/extensions", "a") as file:
    file.write(".")
BAD = os.path.getsize("/tmp/extensions") <= int(os.environ["BAD_EXTENSIONS"])
FAILS = os.environ["EXTENSION_FAILS"] if BAD else ""

def call(path, headers, body=None):
    with urllib.request.urlopen(urllib.request.Request(HOST + path, body, headers)) as reply:
        return reply.headers, json.load(reply)

headers, _ = call("register", {{"Lambda-Extension-Name": "a"}}, b'{{"events":["INVOKE","SHUTDOWN"]}}')
me = {{"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}}
error = {{**me, "Lambda-Extension-Function-Error-Type": "Extension.NoLicence"}}
if FAILS == "init error":
    call("init/error", error, b"{{}}")
    os._exit(1)
if FAILS == "exit at init":
    os._exit(3)
while True:
    event = call("event/next", me)[1]
    if event["eventType"] == "SHUTDOWN":
        break
    if FAILS == "exit":
        os._exit(0)
    if FAILS == "exit error":
        call("exit/error", error, b"{{}}")
        os._exit(1)
    if FAILS == "sleep":
        time.sleep(3.3)
"""


#: Gives away the official client that the managed runtime has.
GIVES_CLIENT = """
import base64, io, os, zipfile

def handler(event, context):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in os.listdir("/var/runtime"):
            if name.startswith(("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py")):
                for folder, _, files in os.walk("/var/runtime/" + name):
                    for file in files:
                        path = os.path.join(folder, file)
                        archive.write(path, os.path.relpath(path, "/var/runtime"))
                if os.path.isfile("/var/runtime/" + name):
                    archive.write("/var/runtime/" + name, name)
    return base64.b64encode(buffer.getvalue()).decode()
"""


def official_client(server: Server) -> dict[str, bytes]:
    """The files of AWS's Python client, for the host's own Python; skips where there is none for it."""
    need(HOST_PYTHON)
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    asked = subprocess.run([HOST_PYTHON, "-c", version], capture_output=True)
    runtime = f"python{asked.stdout.decode().strip()}"
    if runtime not in CLIENTS:
        pytest.skip(f"needs a runtime client for {runtime}")
    server.deploy(Function("gives-client", GIVES_CLIENT, runtime=runtime, timeout=30, memory=1769))
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(server.invoke("gives-client").payload))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def need(program: str) -> str:
    if not Path(program).exists():
        pytest.skip(f"needs {program}")
    return program


class Programs:
    """The functions of each way. One is made for a server, since AWS's client comes out of a runtime that it built."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @functools.cached_property
    def _client(self) -> dict[str, bytes]:
        return official_client(self._server)

    def prepare(self) -> None:
        """What is made once, before threads ask for it."""
        assert self._client

    def function(self, way: str, name: str, *, after: bool, bootstrap: bool = True, **more: Any) -> Function:
        """One function. `more` are fields of Function; `after`: it is to do something once its response is out."""
        files: dict[str, str | bytes] = {"deeds.py": DEEDS}
        if way == "lane":
            return Function(name, APP, files=files, **more)
        if way == "node":
            handler = "app.after" if after else "app.handler"
            return Function(name, NODE, handler, "nodejs20.x", **more)
        if way == "custom":
            if bootstrap:
                files["bootstrap"] = CUSTOM
            return Function(name, files=files, runtime="provided.al2023", **more)
        starts = f"#!/bin/sh\nexec {HOST_PYTHON} -m awslambdaric app.handler\n"
        files.update({"app.py": CLIENT_APP, "bootstrap": starts}, **self._client)
        return Function(name, files=files, runtime="provided.al2023", **more)
