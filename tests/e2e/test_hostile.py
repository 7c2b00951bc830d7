"""Functions that do their worst, while a neighbour must go on being served (hardening of points 10, 12 and 13)."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .harness import Call, Function, Server, until

#: How long a warm call of a trivial function may take while a neighbour misbehaves, on a busy machine.
PATIENCE_S = 1.0
#: What a guest may make the server keep of its bodies and lines.
GROWTH_MIB = 64

HOSTILE = """
import os, socket, sys, threading, time

def handler(event, context):
    return globals()[event.pop("do")](**event)

def fine():
    return "fine"

def flood(seconds):
    "Short lines as fast as it can."
    line = b"flood\\n" * 1000
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.write(1, line)
    print("the last line")

def endless(seconds):
    "One line that does not end."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.write(2, b"x" * 65536)

def bomb():
    "Processes that make processes, until there can be no more."
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)

def api():
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].rsplit(":", 1)
    return socket.create_connection((host, int(port)))

RESPONSE = b"POST /2018-06-01/runtime/invocation/x/response HTTP/1.1\\r\\nHost: x\\r\\n"
PING = b"GET /2018-06-01/ping HTTP/1.1\\r\\nHost: x\\r\\n"
KEPT = []

def loris(connections):
    "Many requests that are never finished."
    try:
        for _ in range(connections):
            KEPT.append(api())
            KEPT[-1].sendall(RESPONSE + b"Content-Length: 1000\\r\\n\\r\\n{")
    except OSError:
        pass
    return len(KEPT)

def headers(size):
    "A head that does not end."
    with api() as peer:
        try:
            peer.sendall(b"GET /2018-06-01/ping HTTP/1.1\\r\\n")
            sent = 0
            while sent < size:
                peer.sendall(b"X-%d: " % sent + b"a" * 8000 + b"\\r\\n")
                sent += 8000
            peer.sendall(b"\\r\\n")
            return peer.recv(100).decode()[:12]
        except ConnectionError as error:
            return type(error).__name__

def body(size):
    "More than may be posted, without a word about how much."
    with api() as peer:
        peer.sendall(RESPONSE + b"Transfer-Encoding: chunked\\r\\n\\r\\n")
        chunk = b"%x\\r\\n" % 65536 + b"x" * 65536 + b"\\r\\n"
        for _ in range(size // 65536):
            peer.sendall(chunk)
        peer.sendall(b"0\\r\\n\\r\\n")
        return peer.recv(100).decode()[:12]

def garbage():
    heard = []
    for data in (b"\\0" * 100, b"\\xff" * 5000, b"GET\\r\\n\\r\\n", b"GET / HTTP/9.9\\r\\n\\r\\n",
                 os.urandom(10000) + b"\\r\\n\\r\\n", RESPONSE + b"Content-Length: -5\\r\\n\\r\\n",
                 RESPONSE + b"Content-Length: 5\\r\\nContent-Length: 6\\r\\n\\r\\nxxxxx",
                 b"CONNECT x:1 HTTP/1.1\\r\\n\\r\\n", b"GET /\\r\\nHost: x\\r\\n\\r\\n",
                 b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"):
        with api() as peer:
            peer.settimeout(2)
            try:
                peer.sendall(data)
                heard.append(peer.recv(1000)[:12].decode("latin-1"))
            except OSError as error:
                heard.append(type(error).__name__)
    return heard

def ask(requests):
    "Calls out of turn; the answers' statuses and error types."
    import http.client, json
    heard = []
    for method, path, content in requests:
        connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=3)
        connection.request(method, path, content)
        reply = connection.getresponse()
        text = reply.read().decode()
        heard.append([reply.status, json.loads(text)["errorType"] if text.startswith("{") else text])
        connection.close()
    return heard

def connect(count):
    "As many connections as it can open; how many of them are answered."
    try:
        for _ in range(count):
            KEPT.append(api())
    except OSError:
        pass
    answered = 0
    for peer in KEPT:
        try:
            peer.settimeout(2)
            peer.sendall(PING + b"\\r\\n")
            answered += bool(peer.recv(100))
        except OSError:
            pass
    return [len(KEPT), answered]

def files(seconds):
    "Files until no more can be made, then descriptors until no more can be opened."
    made = 0
    try:
        while True:
            with open("/tmp/%d" % made, "wb") as file:
                file.write(b"x")
            made += 1
    except OSError as error:
        full = error.errno
    try:
        while True:
            KEPT.append(open("/dev/null"))
    except OSError as error:
        most = error.errno
    del KEPT[:]
    for number in range(made):
        os.unlink("/tmp/%d" % number)
    return [made > 1000, full, most]

def tiny_chunks(seconds):
    "A body that comes by the byte."
    with api() as peer:
        try:
            peer.sendall(RESPONSE + b"Transfer-Encoding: chunked\\r\\n\\r\\n")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                peer.sendall(b"1\\r\\nx\\r\\n" * 5000)
        except OSError as error:
            return type(error).__name__
    return "sent"

def pipelined(count, path="ping", pad=""):
    "Requests without reading answers."
    with api() as peer:
        peer.settimeout(2)
        try:
            for _ in range(count):
                peer.sendall((PING.replace(b"ping", path.encode()) + b"\\r\\n") * 100)
        except OSError as error:
            return type(error).__name__
    return "sent"
"""

FUNCTIONS = (
    Function("neighbour", "def handler(event, context): return event", memory=1769),
    Function("hostile", HOSTILE, timeout=20, memory=1769),
    Function("bomber", HOSTILE, timeout=2, memory=512),
    Function("answers", "import os\ndef handler(event, context):\n    return {'statusCode': 200, 'body': 'x'}"),
    Function("large", "def handler(event, context): return 'x' * (5 << 20)", memory=1769),
)


@contextmanager
def misbehaving(server: Server, name: str, **event: object) -> Iterator[Future[Call]]:
    """A neighbour is called again and again while a function misbehaves; none of its calls may wait for long."""
    server.invoke("neighbour")
    future = server.background(name, event)
    yield future
    calls = 0
    while not future.done() or calls == 0:
        begun = time.monotonic()
        call = server.invoke("neighbour", calls, LogType="None")
        took = time.monotonic() - begun
        assert (call.error, call.payload) == (None, calls)
        assert took < PATIENCE_S, f"call {calls} took {took:.2f} s"
        calls += 1


def hostile(server: Server, **event: object) -> Any:
    """What a function says about its misdeed, after which it still answers and the server has not grown."""
    before = memory_mib(server)
    with misbehaving(server, "hostile", **event) as future:
        pass
    call = future.result()
    assert call.error is None, call
    after = server.invoke("hostile", {"do": "fine"})
    assert (after.payload, after.environment) == ("fine", call.environment)
    server.retire(call.environment)
    assert memory_mib(server) - before < GROWTH_MIB
    return call.payload


def memory_mib(server: Server) -> int:
    """What the server's process has resident."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def test_a_flood_of_lines_is_cut_and_counted(server: Server) -> None:
    with misbehaving(server, "hostile", do="flood", seconds=2) as future:
        pass
    call = future.result()
    assert call.error is None
    until(lambda: server.environment(call.environment)["frozen"])
    pages = server.logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/lambda/hostile", filterPattern="LOGS_DROPPED")  # fmt: skip
    found = [event["message"] for page in pages for event in page["events"]]
    assert found and "Reason: written faster than" in found[0]
    assert len(call.log) <= 4096 and call.log.endswith("\t\n")
    assert server.invoke("hostile", {"do": "fine"}).payload == "fine"


def test_a_line_without_an_end_is_cut(server: Server) -> None:
    with misbehaving(server, "hostile", do="endless", seconds=1) as future:
        pass
    assert future.result().error is None


def test_a_fork_bomb_stays_inside(server: Server) -> None:
    server.invoke("bomber", {"do": "fine"})
    with misbehaving(server, "bomber", do="bomb") as future:
        pass
    call = future.result()
    assert call.error == "Unhandled"
    assert call.payload["errorType"] in ("Sandbox.Timedout", "Runtime.OutOfMemory", "Runtime.ExitError")
    after = server.invoke("bomber", {"do": "fine"})
    assert after.payload == "fine"
    assert after.environment == call.environment
    assert len(server.idle(after.environment)["pids"]) == 1


def test_requests_that_are_never_finished_do_no_harm(server: Server) -> None:
    assert hostile(server, do="loris", connections=300) > 10


def test_connections_are_answered_up_to_a_bound(server: Server) -> None:
    opened, answered = hostile(server, do="connect", count=300)
    assert opened > 10
    assert 10 <= answered < 100


def test_a_head_without_end_is_refused(server: Server) -> None:
    assert hostile(server, do="headers", size=4 << 20) in ("HTTP/1.1 431", "ConnectionResetError", "BrokenPipeError")


def test_a_body_without_end_is_refused(server: Server) -> None:
    assert hostile(server, do="body", size=64 << 20) in ("HTTP/1.1 413", "HTTP/1.1 400")


def test_garbage_gets_a_bad_request_or_nothing(server: Server) -> None:
    heard = hostile(server, do="garbage")
    assert len(heard) == 10
    assert set(heard) <= {"HTTP/1.1 400", "HTTP/1.1 404", "", "ConnectionResetError"}, heard


@pytest.mark.parametrize("more", [{}, {"path": "runtime/invocation/next", "pad": "x" * (2 << 20)}])
def test_requests_whose_answers_nobody_reads_do_no_harm(server: Server, more: dict[str, str]) -> None:
    assert hostile(server, do="pipelined", count=3000, **more) in ("sent", "TimeoutError", "ConnectionResetError")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/2018-06-01/runtime/invocation/00000000-0000-0000-0000-000000000000/response", "{}", 400,
         "InvalidRequestID"),
        ("POST", "/2018-06-01/runtime/invocation/../response", "{}", 400, "InvalidRequestID"),
        ("POST", "/2018-06-01/runtime/init/error", "{}", 403, "InvalidStateTransition"),
        ("GET", "/2018-06-01/runtime/restore/next", None, 404, "404 page not found\n"),
        ("GET", "/_lambent/health", None, 404, "404 page not found\n"),
        ("GET", "/2015-03-31/functions", None, 404, "404 page not found\n"),
        ("POST", "/2020-01-01/extension/register", "{}", 403, "Extension.InvalidExtensionName"),
        ("GET", "/2020-01-01/extension/event/next", None, 403, "Extension.MissingExtensionIdentifier"),
    ],
)
def test_calls_out_of_turn_are_refused(
    server: Server, method: str, path: str, body: str | None, status: int, kind: str
) -> None:
    assert hostile(server, do="ask", requests=[[method, path, body]]) == [[status, kind]]


def test_bodies_that_come_by_the_byte_do_no_harm(server: Server) -> None:
    assert hostile(server, do="tiny_chunks", seconds=1) in ("sent", "ConnectionResetError", "BrokenPipeError")


def test_files_and_descriptors_without_end_stay_inside(server: Server) -> None:
    assert hostile(server, do="files", seconds=1) == [True, errno.ENOSPC, errno.EMFILE]


def test_a_caller_that_hangs_up_does_not_stop_the_function(server: Server) -> None:
    server.deploy(Function("writes", "import time, os\ndef handler(event, context):\n"
                           "    if event: return os.path.exists('/tmp/done')\n"
                           "    time.sleep(0.3)\n    open('/tmp/done', 'w').close()"))  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port)) as caller:
        caller.sendall(b"POST /2015-03-31/functions/writes/invocations HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Length: 2\r\n\r\n{}")  # fmt: skip
        until(lambda: [row["phase"] for row in server.environments("writes")] == ["invoke"])
    until(lambda: [row["phase"] for row in server.environments("writes")] == ["idle"])
    assert server.invoke("writes", 1).payload is True


def test_callers_that_read_slowly_do_not_hold_up_others(server: Server) -> None:
    peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
    try:
        for peer in peers:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.sendall(b"POST /2015-03-31/functions/large/invocations HTTP/1.1\r\nHost: localhost\r\n"
                         b"Content-Length: 2\r\n\r\n{}")  # fmt: skip
        until(lambda: [row["phase"] for row in server.environments("large")].count("idle") == 4)
        begun = time.monotonic()
        assert server.invoke("neighbour", 1).payload == 1
        assert time.monotonic() - begun < PATIENCE_S
    finally:
        for peer in peers:
            peer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * (2 << 20) + b"\r\n\r\n",
        b"POST /2015-03-31/functions/neighbour/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /_lambent/environments HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n",
    ],
    ids=["zeros", "large head", "two lengths", "two hosts"],
)
def test_garbage_at_the_front_door_is_refused(server: Server, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        try:
            peer.sendall(data)
            heard = peer.recv(100)
        except ConnectionError:
            heard = b""
    assert heard == b"" or heard.startswith(b"HTTP/1.1 4"), heard
    assert server.invoke("neighbour", 1).payload == 1
