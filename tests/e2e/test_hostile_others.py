"""Functions that turn against other environments, or against what the platform keeps for all (point "Bad input")."""

from __future__ import annotations

import signal
from pathlib import Path

from .harness import Function, Server, running, until
from .test_hostile import GROWTH_MIB, HOSTILE, hostile, memory_mib, misbehaving

OTHERS = """
def others(address, seconds):
    "Calls to another environment's Runtime API; how many were answered."
    host, port = address.rsplit(":", 1)
    tried = answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tried += 1
        with socket.create_connection((host, int(port))) as peer:
            try:
                peer.sendall(PING + b"\\r\\n")
                answered += bool(peer.recv(100))
            except OSError:
                pass
    return [tried > 10, answered]
"""

KNOCKING = '''
def knock(seconds, processes, ahead):
    "Connects as fast as it can to those that come after it, and hangs up at once or stays a while."
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].rsplit(":", 1)
    first, second, third, fourth = map(int, host.split("."))
    own = ((second - 64) << 14) + (third << 7) + fourth - 1
    targets = ["127.%d.%d.%d" % (64 + (k >> 14), k >> 7 & 127, (k & 127) + 1) for k in range(own + 1, own + 1 + ahead)]
    end = time.monotonic() + seconds
    for number in range(processes):
        if not os.fork():
            kept = []
            while time.monotonic() < end:
                for target in targets:
                    peer = socket.socket()
                    peer.setblocking(False)
                    peer.connect_ex((target, int(port)))
                    kept.append(peer)
                del kept[: len(kept) - (500 if number % 2 else 0)]
            os._exit(0)
    for _ in range(processes):
        os.wait()
'''

#: During its Init it subscribes again and again, then says how often and what it heard.
SUBSCRIBER = """
import http.client, json, os, threading

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=5)

def call(method, path, headers, body):
    connection.request(method, path, json.dumps(body), headers)
    reply = connection.getresponse()
    reply.read()
    return reply

own = call("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": "greedy"}, {"events": []})
own = {"Lambda-Extension-Identifier": own.headers["Lambda-Extension-Identifier"]}
heard = {}
for number in range(3000):
    status = call("PUT", "/2022-07-01/telemetry", own, {
        "schemaVersion": "2022-12-13", "types": ["platform", "function"],
        "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:%d" % (10000 + number)}}).status
    heard[status] = heard.get(status, 0) + 1

def wait():
    waiting = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    waiting.request("GET", "/2020-01-01/extension/event/next", None, own)
    waiting.getresponse()

threading.Thread(target=wait, daemon=True).start()

def handler(event, context):
    return heard
"""

FUNCTIONS = (
    Function("neighbour", "def handler(event, context): return event", memory=1769),
    Function("hostile", HOSTILE + OTHERS + KNOCKING, timeout=20, memory=1769),
    Function("victim", "def handler(event, context): return event", memory=1769),
    Function("address", "import os\ndef handler(event, context): return os.environ['AWS_LAMBDA_RUNTIME_API']"),
    Function("waits", "import time\ndef handler(event, context):\n    time.sleep(4)\n    return 'mine'"),
    Function("subscriber", SUBSCRIBER, timeout=20, memory=1769),
)


def test_another_environments_api_answers_nobody_else(server: Server) -> None:
    address = server.invoke("address").payload
    assert hostile(server, do="others", address=address, seconds=1) == [True, 0]
    assert server.invoke("address").payload == address


def test_strangers_keep_no_runtime_from_its_own_api(server: Server) -> None:
    knocking = server.background("hostile", {"do": "knock", "seconds": 3, "processes": 4, "ahead": 20})
    starts = 0
    while not knocking.done() or not starts:
        call = server.invoke("victim", starts, LogType="None")
        assert (call.error, call.payload, call.cold) == (None, starts, True)
        server.retire(call.environment)
        starts += 1
    assert knocking.result().error is None
    assert server.invoke("hostile", {"do": "fine"}).payload == "fine"


def test_a_server_that_is_killed_while_strangers_knock_comes_back(tmp_path: Path) -> None:
    killed = Server(tmp_path / "data")
    try:
        killed.deploy(*FUNCTIONS[:2])
        knocking = killed.background("hostile", {"do": "knock", "seconds": 15, "processes": 4, "ahead": 20})
        until(lambda: [row["phase"] for row in killed.environments("hostile")] == ["invoke"])
        assert killed.invoke("neighbour", 1).payload == 1
    finally:
        killed.stop(signal.SIGKILL)
    assert knocking.exception(20) is not None
    with running(tmp_path / "data") as server:
        assert server.invoke("neighbour", 2).payload == 2
        assert server.invoke("hostile", {"do": "fine"}).payload == "fine"


def test_another_environments_invocation_cannot_be_answered(server: Server) -> None:
    waiting = server.background("waits")
    until(lambda: [row["phase"] for row in server.environments("waits")] == ["invoke"])
    story = server.story(server.environments("waits")[0]["id"])
    page = {"logGroupName": story["log_group"], "logStreamName": story["log_stream"]}

    def started() -> list[str]:
        events = server.logs.get_log_events(**page)["events"]
        return [event["message"].split()[2] for event in events if event["message"].startswith("START")]

    until(started)
    [request_id] = started()
    for what in ("response", "error"):
        path = f"/2018-06-01/runtime/invocation/{request_id}/{what}"
        assert hostile(server, do="ask", requests=[["POST", path, "{}"]]) == [[400, "InvalidRequestID"]]
    assert waiting.result().payload == "mine"


def test_thousands_of_subscriptions_are_one(server: Server) -> None:
    before = memory_mib(server)
    with misbehaving(server, "subscriber") as future:
        pass
    call = future.result()
    assert (call.error, call.payload) == (None, {"200": 3000})
    server.retire(call.environment)
    assert memory_mib(server) - before < GROWTH_MIB
