"""Response streaming, from the guest's chunks to boto3 and back (issue 4, point 6).

The runtime is a custom one that says over the Runtime API exactly what the event tells it to. A place on the host,
`gate`, lets it wait in the middle, so that a test sees what has arrived while the handler runs.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness import Function, Server, refusal

FLAGS = ("--stream-bandwidth", "unlimited")

#: Steps of an event: ["send", text], ["bulk", bytes], ["gate", port], ["sleep", seconds], ["error", type, message],
#: ["exit", code], ["hang-up"], ["print", text]; `type` and `mode` are headers of the response.
SOURCE = """#!/usr/bin/python3
import base64, json, os, socket, sys, time

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].rsplit(":", 1)
BASE = "/2018-06-01/runtime/invocation/"

def read_answer(file):
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().strip()):
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return status, headers, file.read(int(headers.get("content-length", 0)))

def connect():
    connection = socket.create_connection((HOST, int(PORT)))
    return connection, connection.makefile("rb")

connection, file = connect()
statuses = []
while True:
    connection.sendall(f"GET {BASE}next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    _, headers, body = read_answer(file)
    event = json.loads(body)
    event = json.loads(event["body"]) if "body" in event else event
    target = BASE + headers["lambda-runtime-aws-request-id"]
    if "buffered" in event:
        payload = json.dumps(event["buffered"]).encode()
        head = f"POST {target}/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(payload)}\\r\\n\\r\\n"
        connection.sendall(head.encode() + payload)
        read_answer(file)
        continue
    kind = f"Content-Type: {event['type']}\\r\\n" if "type" in event else ""
    connection.sendall(f"POST {target}/response HTTP/1.1\\r\\nHost: x\\r\\n{kind}Transfer-Encoding: chunked\\r\\n"
                       f"Lambda-Runtime-Function-Response-Mode: {event.get('mode', 'streaming')}\\r\\nTrailer: "
                       "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\\r\\n\\r\\n".encode())
    trailers, broken = b"", False
    for step, *values in event.get("steps", ()):
        if step == "send":
            data = values[0].encode()
            connection.sendall(b"%x\\r\\n%b\\r\\n" % (len(data), data))
        elif step == "bulk":
            left = values[0]
            try:
                while left:
                    size = min(left, 65536)
                    connection.sendall(b"%x\\r\\n%b\\r\\n" % (size, b"x" * size))
                    left -= size
                    print("sent", values[0] - left, flush=True)
            except ConnectionError:
                print("refused", flush=True)
        elif step == "gate":
            with socket.create_connection(("127.0.0.1", values[0])) as gate:
                gate.recv(1)
        elif step == "sleep":
            time.sleep(values[0])
        elif step == "print":
            print(values[0], flush=True)
        elif step == "exit":
            os._exit(values[0])
        elif step == "hang-up":
            connection.close()
            file.close()
            connection, file = connect()
            broken = True
        elif step == "error":
            error = base64.b64encode(json.dumps({"errorType": values[0], "errorMessage": values[1]}).encode()).decode()
            trailers = (f"Lambda-Runtime-Function-Error-Type: {values[0]}\\r\\n"
                        f"Lambda-Runtime-Function-Error-Body: {error}\\r\\n").encode()
    if not broken:
        connection.sendall(b"0\\r\\n" + trailers + b"\\r\\n")
        print("answered", read_answer(file)[0], flush=True)
"""

#: Does what `mode` of the event (or of the query of a URL) says.
NODE = """
const net = require("node:net");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
let kept = null;

const wait = (port) => new Promise((done) => net.connect(port, "127.0.0.1").on("close", done).resume());

exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  switch (event.mode ?? event.queryStringParameters.mode) {
    case "halves":
      stream.write("one");
      if (event.port) await wait(event.port);
      stream.write("two " + (context.getRemainingTimeInMillis() > 0));
      stream.end();
      return;
    case "pipeline":
      return pipeline(Readable.from(["a", "b", Buffer.alloc(3_000_000)]), stream);
    case "pipe without waiting":
      Readable.from(["a", "b"]).pipe(stream);
      return;
    case "never ended":
      stream.write("one");
      return;
    case "empty":
      stream.end();
      return;
    case "http":
      const head = { statusCode: 418, headers: { "X-One": "1" }, cookies: ["a=1"] };
      stream = awslambda.HttpResponseStream.from(stream, head);
      stream.write("<p>");
      stream.end();
      return;
    case "type":
      stream.setContentType("text/css");
      stream.end("one");
      return;
    case "type too late":
      stream.write("one");
      await new Promise((done) => setImmediate(done));
      stream.setContentType("text/css");
      return;
    case "early error":
      throw new RangeError("early");
    case "late error":
      stream.write("half");
      await new Promise((done) => setImmediate(done));
      kept = stream;
      throw new RangeError("late");
    case "write to the last stream":
      kept.write("from the past");
      stream.end("now");
      return;
    case "uncaught":
      stream.write("half");
      setTimeout(() => { throw new RangeError("thrown"); }, 10);
      return new Promise(() => {});
    case "never settled":
      return new Promise(() => {});
  }
});
exports.plain = awslambda.streamifyResponse((event, stream) => { stream.end("x"); });
"""

FUNCTIONS = (
    Function("node", NODE, runtime="nodejs20.x", timeout=20),
    Function("plain", NODE, runtime="nodejs20.x", handler="app.plain"),
    Function("stream", SOURCE, runtime="provided.al2023", handler="x", timeout=30),
    Function("short", SOURCE, runtime="provided.al2023", handler="x", timeout=1),
)


class Streamed:
    """What InvokeWithResponseStream gave: its parts, joined, and how it ended."""

    def __init__(self, reply: dict[str, Any]) -> None:
        self.headers = reply["ResponseMetadata"]["HTTPHeaders"]
        self.status = reply["StatusCode"]
        self.version = reply.get("ExecutedVersion")
        self.data = b""
        self.end: dict[str, Any] | None = None
        self._events = iter(reply["EventStream"])
        if self.status != 200:
            reply["EventStream"].close()

    def part(self) -> bytes:
        """The next part, as soon as it is there."""
        data: bytes = next(self._events)["PayloadChunk"]["Payload"]
        self.data += data
        return data

    def rest(self) -> Streamed:
        for event in self._events:
            if "PayloadChunk" in event:
                self.data += event["PayloadChunk"]["Payload"]
            else:
                self.end = event["InvokeComplete"]
        return self

    @property
    def details(self) -> Any:
        assert self.end is not None
        return json.loads(self.end["ErrorDetails"])


def stream(server: Server, steps: list[Any], name: str = "stream", *, event: dict[str, Any] | None = None,
           **more: Any) -> Streamed:
    payload = json.dumps({"steps": steps, **(event or {})})
    return Streamed(server.functions.invoke_with_response_stream(FunctionName=name, Payload=payload, **more))


@contextlib.contextmanager
def gate() -> Iterator[tuple[int, threading.Event]]:
    """A port where the handler waits until the event is set."""
    go = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def keep() -> None:
            with contextlib.suppress(OSError):
                caller, _ = listening.accept()
                with caller:
                    go.wait(30)

        thread = threading.Thread(target=keep)
        thread.start()
        try:
            yield listening.getsockname()[1], go
        finally:
            go.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listening.getsockname(), timeout=1).close()
            thread.join()


# InvokeWithResponseStream


def test_first_bytes_arrive_while_the_handler_still_runs(server: Server) -> None:
    with gate() as (port, go):
        answer = stream(server, [["send", "one"], ["gate", port], ["send", "two"]])
        assert answer.part() == b"one"
        assert not server.environment(answer.headers["x-lambent-environment"])["frozen"]
        go.set()
        assert answer.rest().data == b"onetwo"
    assert answer.end == {}
    assert (answer.status, answer.version) == (200, "$LATEST")


def test_log_of_a_stream_comes_with_its_end(server: Server) -> None:
    answer = stream(server, [["print", "hello log"], ["send", "one"]], LogType="Tail").rest()
    assert answer.end is not None
    log = base64.b64decode(answer.end["LogResult"]).decode()
    assert "hello log" in log
    assert "answered 202" in log
    assert "REPORT RequestId" in log


def test_response_in_one_piece_is_one_part(server: Server) -> None:
    answer = stream(server, [], event={"buffered": {"a": 1}}).rest()
    assert answer.data == b'{"a": 1}'
    assert answer.end == {}


def test_dry_run_and_wrong_input_are_answered_as_by_invoke(server: Server) -> None:
    assert stream(server, [], InvocationType="DryRun").status == 204
    call = server.functions.invoke_with_response_stream
    assert refusal(lambda: call(FunctionName="nobody"))[:2] == (404, "ResourceNotFoundException")
    assert refusal(lambda: call(FunctionName="stream", Payload=b"{"))[1] == "InvalidRequestContentException"


def test_error_in_the_trailers_follows_what_was_sent(server: Server) -> None:
    answer = stream(server, [["send", "half"], ["error", "Function.Broken", "no more"]]).rest()
    assert answer.data == b"half"
    assert answer.end is not None
    assert answer.end["ErrorCode"] == "Unhandled"
    assert answer.details == {"errorType": "Function.Broken", "errorMessage": "no more"}
    server.idle(answer.headers["x-lambent-environment"])
    again = stream(server, [["send", "fine"]]).rest()
    assert (again.data, again.end) == (b"fine", {})
    assert again.headers["x-lambent-environment"] == answer.headers["x-lambent-environment"]


def test_timeout_in_the_middle_keeps_what_was_sent(server: Server) -> None:
    answer = stream(server, [["send", "half"], ["sleep", 20]], "short").rest()
    assert answer.data == b"half"
    assert answer.details["errorType"] == "Sandbox.Timedout"
    assert stream(server, [["send", "fine"]], "short").rest().data == b"fine"


def test_crash_in_the_middle_keeps_what_was_sent(server: Server) -> None:
    answer = stream(server, [["send", "half"], ["exit", 3]]).rest()
    assert answer.data == b"half"
    assert answer.details["errorType"] in ("Runtime.ExitError", "Runtime.TruncatedResponse")
    assert stream(server, [["send", "fine"]]).rest().data == b"fine"


def test_response_that_is_cut_off_is_an_error_and_the_runtime_goes_on(server: Server) -> None:
    answer = stream(server, [["send", "half"], ["hang-up"]]).rest()
    assert answer.data == b"half"
    assert answer.details["errorType"] == "Runtime.TruncatedResponse"
    server.idle(answer.headers["x-lambent-environment"])
    again = stream(server, [["send", "fine"]]).rest()
    assert again.headers["x-lambent-environment"] == answer.headers["x-lambent-environment"]


def test_large_stream_arrives_whole(server: Server) -> None:
    size = 20 * 1024 * 1024
    assert len(stream(server, [["bulk", size]]).rest().data) == size


# Invoke collects


def test_plain_invoke_collects_what_is_streamed(server: Server) -> None:
    call = server.invoke("stream", {"steps": [["send", "on"], ["send", "e"]], "type": "text/plain"})
    assert (call.raw, call.error) == (b"one", None)
    assert call.headers["content-type"] == "text/plain"


def test_plain_invoke_gets_the_error_of_the_trailers_instead_of_half_a_response(server: Server) -> None:
    call = server.invoke("stream", {"steps": [["send", "half"], ["error", "Function.Broken", "no more"]]})
    assert call.error == "Unhandled"
    assert call.payload == {"errorType": "Function.Broken", "errorMessage": "no more"}


def test_plain_invoke_collects_six_megabytes_and_no_more(server: Server) -> None:
    call = server.invoke("stream", {"steps": [["bulk", 7_000_000]]})
    assert call.payload["errorType"] == "Function.ResponseSizeTooLarge"


# Slow and vanishing callers, over a raw connection


def raw(server: Server, steps: list[Any]) -> socket.socket:
    """Ask for a stream, and read nothing."""
    body = json.dumps({"steps": steps}).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(b"POST /2021-11-15/functions/stream/response-streaming-invocations HTTP/1.1\r\nHost: localhost"
                       b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
    return connection


def memory_kib(server: Server) -> int:
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_slow_caller_holds_the_guest_back_and_no_memory(server: Server) -> None:
    stream(server, [["bulk", 2_000_000]]).rest()
    before = memory_kib(server)
    with gate() as (port, go), raw(server, [["send", "x"], ["gate", port], ["bulk", 80_000_000]]) as caller:
        environment = _first_header(caller, b"X-Lambent-Environment")
        go.set()
        sent = -1
        while (now := _sent(server, environment)) != sent or now <= 0:  # until the guest gets no further
            sent = now
            threading.Event().wait(0.3)
        assert sent < 60_000_000  # what the kernel keeps of it is up to 40 MB, by its settings
        assert memory_kib(server) - before < 10_000
        left = 80_000_000
        while left > 0:
            left -= len(caller.recv(1 << 20))
    server.idle(environment)


def _first_header(caller: socket.socket, name: bytes) -> str:
    head = b""
    while b"\r\n\r\n" not in head:
        head += caller.recv(1)
    return next(line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(name)).decode()


def _sent(server: Server, environment: str) -> int:
    """How much the guest has got rid of, by its log."""
    story = server.story(environment)
    found = server.logs.get_log_events(
        logGroupName=story["log_group"], logStreamName=story["log_stream"], startFromHead=False, limit=10)
    lines = [event["message"].split() for event in found["events"]]
    return max((int(words[1]) for words in lines if words[:1] == ["sent"]), default=0)


def test_caller_that_hangs_up_does_not_stop_the_handler(server: Server) -> None:
    with gate() as (port, go):
        with raw(server, [["send", "one"], ["gate", port], ["bulk", 10_000_000], ["print", "to the end"]]) as caller:
            environment = _first_header(caller, b"X-Lambent-Environment")
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        go.set()
        server.idle(environment)
    story = server.story(environment)
    log = server.logs.get_log_events(
        logGroupName=story["log_group"], logStreamName=story["log_stream"], startFromHead=False, limit=6)
    assert "to the end" in "".join(event["message"] for event in log["events"])


def test_bad_response_mode_is_refused_and_so_is_the_next_that_follows(server: Server) -> None:
    call = server.invoke("short", {"steps": [], "mode": "sideways"})
    assert call.error == "Unhandled"
    assert call.payload == {"errorType": "Runtime.InvalidResponseModeHeader",
                            "errorMessage": "Invalid function response mode"}  # fmt: skip
    assert "answered 400\n" in call.log
    assert "Status: error\tError Type: Runtime.ExitError\n" in call.log  # it does not expect a 403


@pytest.mark.parametrize("size", [0, 1])
def test_short_streams_end_well(server: Server, size: int) -> None:
    answer = stream(server, [["send", "x"]] if size else []).rest()
    assert (len(answer.data), answer.end) == (size, {})


# Function URLs

PRELUDE = "application/vnd.awslambda.http-integration-response"


@pytest.fixture(scope="module")
def host(server: Server) -> str:
    host = server.open_url("stream", InvokeMode="RESPONSE_STREAM")
    assert server.functions.get_function_url_config(FunctionName="stream")["InvokeMode"] == "RESPONSE_STREAM"
    return host


Ask = Callable[..., http.client.HTTPResponse]


@pytest.fixture
def ask(server: Server, host: str) -> Iterator[Ask]:
    """POST steps to the URL; an answer of which only the head was read."""
    with contextlib.ExitStack() as stack:

        def post(steps: list[Any], **more: Any) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            stack.callback(connection.close)
            connection.request("POST", "/", json.dumps({"steps": steps, **more}),
                               {"Host": host, "Content-Type": "application/json"})
            answer = connection.getresponse()
            stack.callback(answer.close)
            return answer

        yield post


def prelude(**members: Any) -> list[str]:
    return ["send", json.dumps(members) + "\0" * 8]


def test_url_streams_status_headers_and_body_while_the_handler_runs(server: Server, ask: Ask) -> None:
    head = prelude(statusCode=201, headers={"X-One": "1", "Content-Type": "text/plain"}, cookies=["a=1", "b=2"])
    with gate() as (port, go):
        answer = ask([head, ["send", "one"], ["gate", port], ["send", "two"]], type=PRELUDE)
        assert (answer.status, answer.getheader("X-One"), answer.getheader("Content-Type")) == (201, "1", "text/plain")
        assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert answer.getheader("Transfer-Encoding") == "chunked"
        assert answer.read(3) == b"one"
        assert not server.environment(answer.headers["X-Lambent-Environment"])["frozen"]
        go.set()
        assert answer.read() == b"two"


def test_prelude_in_pieces_is_put_together(ask: Ask) -> None:
    steps = [["send", '{"statusCode":'], ["send", "404}\0\0\0"], ["send", "\0\0\0\0\0none"]]
    answer = ask(steps, type=PRELUDE)
    assert (answer.status, answer.read()) == (404, b"none")


@pytest.mark.parametrize(("kind", "expected"), [(None, "application/octet-stream"), ("text/html", "text/html")])
def test_url_streams_plain_bytes_with_status_200(ask: Ask, kind: str | None, expected: str) -> None:
    answer = ask([["send", "one"]], **({"type": kind} if kind else {}))
    assert (answer.status, answer.getheader("Content-Type"), answer.read()) == (200, expected, b"one")


def test_result_in_one_piece_is_sent_as_it_is(ask: Ask) -> None:
    answer = ask([], buffered={"statusCode": 404})
    assert (answer.status, answer.read()) == (200, b'{"statusCode": 404}')


def test_status_and_headers_that_never_come_leave_an_empty_200(ask: Ask) -> None:
    answer = ask([], type=PRELUDE)
    assert (answer.status, answer.getheader("Content-Type"), answer.read()) == (200, "application/octet-stream", b"")


@pytest.mark.parametrize("steps", [
    [["send", "no JSON" + "\0" * 8]], [["send", '{"statusCode": 200}']], [["send", '{"statusCode": "x"}' + "\0" * 8]],
    [["send", '{"headers": {"a b": "c"}}' + "\0" * 8]], [["exit", 1]], [["error", "Function.Broken", "early"]],
])  # fmt: skip
def test_what_does_not_become_http_is_a_502(ask: Ask, steps: list[Any]) -> None:
    answer = ask(steps, type=PRELUDE)
    assert (answer.status, answer.read()) == (502, b"Internal Server Error")


@pytest.mark.parametrize("step", [["error", "Function.Broken", "late"], ["exit", 1], ["hang-up"]])
def test_failure_after_the_head_leaves_the_answer_without_an_end(ask: Ask, step: list[Any]) -> None:
    answer = ask([prelude(statusCode=200), ["send", "half"], step], type=PRELUDE)
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial == b"half"


# Node.js


def node(server: Server, mode: str, **more: Any) -> Streamed:
    return stream(server, [], "node", event={"mode": mode, **more})


def test_node_streams_while_the_handler_runs(server: Server) -> None:
    with gate() as (port, go):
        answer = node(server, "halves", port=port)
        assert answer.part() == b"one"
        go.set()
        assert answer.rest().data == b"onetwo true"
    assert answer.end == {}


@pytest.mark.parametrize(("mode", "expected"), [
    ("pipeline", b"ab" + bytes(3_000_000)), ("pipe without waiting", b"ab"), ("never ended", b"one"), ("empty", b""),
    ("type", b"one"), ("http", b'{"statusCode":418,"headers":{"X-One":"1"},"cookies":["a=1"]}' + bytes(8) + b"<p>"),
])  # fmt: skip
def test_every_way_in_which_node_ends_a_stream(server: Server, mode: str, expected: bytes) -> None:
    answer = node(server, mode).rest()
    assert (answer.data, answer.end) == (expected, {})
    server.idle(answer.headers["x-lambent-environment"])
    assert node(server, "halves").rest().headers["x-lambent-start"] == "warm"


@pytest.mark.parametrize(("mode", "sent", "kind", "message"), [
    ("early error", b"", "RangeError", "early"),
    ("late error", b"half", "RangeError", "late"),
    ("type too late", b"one", "Runtime.InvalidStreamingOperation", "Cannot set content-type, too late."),
    ("uncaught", b"half", "RangeError", "thrown"),
    ("never settled", b"", "Runtime.NodeJsExit", "The Lambda runtime client detected"),
])  # fmt: skip
def test_every_way_in_which_a_streaming_handler_fails(server: Server, mode: str, sent: bytes, kind: str,
                                                      message: str) -> None:
    answer = node(server, mode).rest()
    assert answer.data == sent
    assert answer.details["errorType"] == kind
    assert answer.details["errorMessage"].startswith(message)
    assert node(server, "halves").rest().data == b"onetwo true"


def test_write_to_the_stream_of_an_ended_invocation_reaches_nobody(server: Server) -> None:
    node(server, "late error").rest()
    assert node(server, "write to the last stream").rest().data == b"now"
    assert node(server, "halves").rest().data == b"onetwo true"


def test_streaming_handler_that_is_not_async_is_an_error(server: Server) -> None:
    answer = stream(server, [], "plain").rest()
    assert (answer.details["errorType"], answer.details["errorMessage"]) == (
        "string", "Streaming does not support non-async handlers.")  # fmt: skip


def test_plain_invoke_of_a_node_stream_is_collected(server: Server) -> None:
    call = server.invoke("node", {"mode": "type"})
    assert (call.raw, call.headers["content-type"]) == (b"one", "text/css")
    failed = server.invoke("node", {"mode": "late error"})
    assert (failed.error, failed.payload["errorMessage"]) == ("Unhandled", "late")


def test_node_sets_status_headers_and_cookies_of_a_url(server: Server) -> None:
    answer = server.http("GET", "/?mode=http", host=server.open_url("node", InvokeMode="RESPONSE_STREAM"))
    assert (answer.status, answer.header("X-One"), answer.header("Set-Cookie")) == (418, "1", "a=1")
    assert answer.body == b"<p>"
