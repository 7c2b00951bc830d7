"""What the soak deploys: functions of every kind of runtime that misbehave on request, and an extension."""

from __future__ import annotations

import io
import sys
import zipfile

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
NODE = "nodejs20.x"
ROLE = "arn:aws:iam::000000000000:role/soak"

#: `edition` tells what was deployed last.
_PYTHON = """
import ctypes, os, subprocess, threading, time

EDITION = {edition}
KEPT = []

def handler(event, context):
    match event["do"]:
        case "say":
            return [EDITION, event["text"]]
        case "raise":
            raise ValueError(event["text"])
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "late":
            time.sleep(30)
        case "hoard":
            while True:
                KEPT.append(b"x" * (1 << 20))
        case "flood":
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                os.write(1, b"flood\\n" * 1000)
        case "line":
            os.write(2, b"x" * (1 << 20))
        case "large":
            return "x" * (7 << 20)
        case "tmp":
            with open("/tmp/kept", "wb") as file:
                file.write(os.urandom(1 << 20) * 20)
        case "children":
            for _ in range(5):
                subprocess.Popen(["/bin/sleep", "100"])
        case "soon":
            threading.Timer(0.002, os._exit, [4]).start()
    return [EDITION, event["do"]]
"""

_NODE = """
const EDITION = {edition};
exports.handler = async (event) => {{
  switch (event.do) {{
    case "raise": throw new Error(event.text);
    case "exit": process.exit(3);
    case "late": await new Promise((done) => setTimeout(done, 30000));
    case "flood": for (let i = 0; i < 20000; i++) console.log("flood", i); break;
    case "large": return "x".repeat(7 << 20);
    case "say": return [EDITION, event.text];
  }}
  return [EDITION, event.do];
}};
exports.stream = awslambda.streamifyResponse(async (event, stream) => {{
  const body = event.isBase64Encoded ? Buffer.from(event.body, "base64").toString() : event.body;
  const wanted = body ? JSON.parse(body) : event;
  for (let i = 0; i < wanted.chunks; i++) {{
    stream.write("x".repeat(wanted.size));
    if (wanted.die === i) process.exit(5);
  }}
  stream.end();
}});
"""

_OWN = """#!/usr/bin/python3
import json, os, sys, urllib.request

BASE = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    with urllib.request.urlopen(BASE + "next") as reply:
        request, event = reply.headers["Lambda-Runtime-Aws-Request-Id"], json.load(reply)
    what, path, body = event["do"], "/response", [{edition}, event.get("text", event["do"])]
    if what == "exit":
        sys.exit(3)
    if what == "raise":
        path, body = "/error", {{"errorType": "ValueError", "errorMessage": event["text"]}}
    if what == "wrong":
        request = "00000000-0000-0000-0000-000000000000"
    try:
        urllib.request.urlopen(urllib.request.Request(BASE + request + path, json.dumps(body).encode())).close()
    except urllib.error.HTTPError:
        sys.exit(4)
"""

#: Subscribes to telemetry, is told of invocations and does nothing; every twentieth time it ends by itself.
_EXTENSION = """#!/usr/bin/python3
import http.server, json, os, sys, threading, urllib.request

HOST = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]

def call(path, headers, body=None, method="GET"):
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(HOST + path, data, headers, method=method))

class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

with call("/2020-01-01/extension/register", {"Lambda-Extension-Name": "idler"}, {"events": ["INVOKE", "SHUTDOWN"]},
          "POST") as reply:
    own = {"Lambda-Extension-Identifier": reply.headers["Lambda-Extension-Identifier"]}
server = http.server.ThreadingHTTPServer(("sandbox.localdomain", 8080), Sink)
threading.Thread(target=server.serve_forever, daemon=True).start()
call("/2022-07-01/telemetry", own, {"schemaVersion": "2022-12-13", "types": ["platform", "function"],
     "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"}}, "PUT").close()
for number in range(20):
    with call("/2020-01-01/extension/event/next", own) as reply:
        if json.load(reply)["eventType"] == "SHUTDOWN":
            sys.exit(0)
sys.exit(7)
"""


def package(kind: str, edition: int) -> bytes:
    """The zip of a function of this kind: python, node or own."""
    name, source = {"python": ("app.py", _PYTHON), "node": ("app.js", _NODE), "own": ("bootstrap", _OWN)}[kind]
    return _zip(name, source.format(edition=edition))


def extension() -> bytes:
    """The zip of a layer with the extension."""
    return _zip("extensions/idler", _EXTENSION)


def _zip(name: str, content: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, content)
    return buffer.getvalue()
