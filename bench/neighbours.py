"""`python -m bench neighbours`: how long a warm neighbour's calls take while another function does its worst.

For each hostile act quiet and hostile spells take turns, and the ratio is that of a pair: both saw the same machine.
`busy` and `busy_twice` are what any function may do, loops on its own share of the CPU: what a hostile act costs beyond
that is ours.
That the platform stands is shown by `tests/e2e/test_hostile.py`; this is about time, so it is a command and no test.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import Function
from bench.measure import median, quantile
from bench.server import NoServer, Server
from bench.wire import Wire, WrongAnswer
from lambent.sandbox import promptness

#: What a neighbour may notice at most: its p50 and its p99 against quiet spells.
WANTED = 2.0
ROUNDS = 5
QUIET_S = 1.0
HOSTILE_S = 2.0
#: A hostile act has begun, and its own cold start is over.
LEAD_S = 0.7

HOSTILE = """
import http.client, json, os, socket, threading, time

OWN = os.environ["AWS_LAMBDA_RUNTIME_API"]
IN_INIT = 0
NOBODYS = b"00000000-0000-0000-0000-000000000000"
RESPONSE = b"POST /2018-06-01/runtime/invocation/" + NOBODYS + b"/response HTTP/1.1\\r\\nHost: x\\r\\n"
PING = b"GET /2018-06-01/ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
KEPT = []

def handler(event, context):
    end = time.monotonic() + event["seconds"]
    if event["do"] == "where":
        return OWN
    while time.monotonic() < end:
        try:
            globals()[event["do"]](end, event)
        except OSError:
            pass

def connect(address=OWN):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 2)

def busy(end, event):
    while time.monotonic() < end:
        pass

def busy_twice(end, event):
    child = os.fork()
    busy(end, event)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

def lines(end, event):
    while time.monotonic() < end:
        os.write(1, b"a short line\\n" * 500)

def endless_line(end, event):
    while time.monotonic() < end:
        os.write(2, b"x" * 65536)

def endless_body(end, event):
    "More than may be posted, again and again."
    with connect() as peer:
        peer.sendall(RESPONSE + b"Transfer-Encoding: chunked\\r\\n\\r\\n")
        chunk = b"%x\\r\\n" % 65536 + b"x" * 65536 + b"\\r\\n"
        while time.monotonic() < end:
            peer.sendall(chunk)

def tiny_chunks(end, event):
    with connect() as peer:
        peer.sendall(RESPONSE + b"Transfer-Encoding: chunked\\r\\n\\r\\n")
        while time.monotonic() < end:
            peer.sendall(b"1\\r\\nx\\r\\n" * 5000)

def loris(end, event):
    "Requests that come byte by byte, on as many connections as there may be."
    peers = [connect() for _ in range(19)]
    for at in range(10**9):
        for peer in peers:
            peer.send((RESPONSE + b"Content-Length: 1000000\\r\\n\\r\\n" + b"x" * 1000)[at:at + 1])
        if time.monotonic() > end:
            break
    for peer in peers:
        peer.close()

def pipelined(end, event):
    "Requests without a look at the answers."
    with connect() as peer:
        while time.monotonic() < end:
            peer.sendall(PING * 500)

def others_identifiers(end, event):
    "Answers to invocations that are not its own."
    with connect() as peer:
        while time.monotonic() < end:
            peer.sendall((RESPONSE + b"Content-Length: 2\\r\\n\\r\\n{}") * 50)
            for _ in range(50):
                peer.recv(65536)

def others_address(end, event):
    "The neighbour's Runtime API, from this environment's user."
    while time.monotonic() < end:
        with connect(event["other"]) as peer:
            peer.sendall(PING)
            peer.recv(100)

def connections(end, event):
    "Connections to its own Runtime API that are given up at once."
    while time.monotonic() < end:
        connect().close()

def fork_bomb(end, event):
    def bear():
        while time.monotonic() < end:
            try:
                os.fork()
            except OSError:
                time.sleep(0.001)
    if os.fork() == 0:
        bear()
        os._exit(0)
    time.sleep(max(0, end - time.monotonic()))

def files(end, event):
    "Files in /tmp until none can be made, and again."
    for number in range(10**9):
        if time.monotonic() > end:
            break
        try:
            with open(f"/tmp/{number}", "wb") as file:
                file.write(b"x" * 10000)
        except OSError:
            for name in os.listdir("/tmp")[:2000]:
                os.unlink("/tmp/" + name)

def memory(end, event):
    "Pages that are taken and given back."
    while time.monotonic() < end:
        KEPT.append(b"x" * (1 << 20))
        if len(KEPT) > 1000:
            KEPT.clear()

def subscriptions():
    "An internal extension that subscribes again and again, in turns to the same and to others: in Init only."
    def call(method, path, headers, body):
        connection.request(method, path, json.dumps(body), headers)
        reply = connection.getresponse()
        reply.read()
        return reply.headers
    connection = http.client.HTTPConnection(OWN, timeout=5)
    own = call("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": "greedy"},
               {"events": []})["Lambda-Extension-Identifier"]
    end = time.monotonic() + IN_INIT
    number = 0
    while time.monotonic() < end:
        number += 1
        types = ["platform", "function", "extension"][number % 4 // 2:]
        call("PUT", "/2022-07-01/telemetry", {"Lambda-Extension-Identifier": own},
             {"schemaVersion": "2022-12-13", "types": types, "destination":
              {"protocol": "HTTP", "URI": "http://sandbox.localdomain:%d" % (10000 + number % 50000)}})
    threading.Thread(target=wait, args=(own,), daemon=True).start()

def wait(own):
    host, port = OWN.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", "/2020-01-01/extension/event/next", None, {"Lambda-Extension-Identifier": own})
    connection.getresponse()

if IN_INIT:
    subscriptions()
"""

ACTS = {
    "busy": "a loop, for comparison", "busy_twice": "two loops, for comparison",
    "lines": "floods of log lines", "endless_line": "a log line without an end",
    "endless_body": "response bodies without an end", "tiny_chunks": "the same in chunks of a byte",
    "loris": "slow requests on the Runtime API", "pipelined": "requests whose answers nobody reads",
    "others_identifiers": "answers to others' invocations", "others_address": "calls from another environment's user",
    "connections": "connections that are given up", "subscriptions": "thousands of telemetry subscriptions",
    "fork_bomb": "a fork bomb", "files": "a file bomb", "memory": "memory taken and given back",
}  # fmt: skip


class Result:
    """The samples of one act, in microseconds, one list for each spell."""

    def __init__(self) -> None:
        self.quiet: list[list[float]] = []
        self.hostile: list[list[float]] = []

    def ratio(self, share: float) -> float:
        return median([quantile(bad, share) / quantile(good, share)
                       for bad, good in zip(self.hostile, self.quiet, strict=True)])  # fmt: skip

    def row(self, act: str) -> str:
        good, bad = ([sample for spell in side for sample in spell] for side in (self.quiet, self.hostile))
        figures = [quantile(side, share) for share in (0.5, 0.99) for side in (good, bad)]
        verdict = "yes" if self.met else "NO"
        return (f"| {ACTS[act]:<40} | {figures[0]:6.0f} | {figures[1]:6.0f} | {self.ratio(0.5):5.2f} "
                f"| {figures[2]:6.0f} | {figures[3]:6.0f} | {self.ratio(0.99):5.2f} | {verdict:<3} |")

    @property
    def met(self) -> bool:
        return self.ratio(0.5) <= WANTED and self.ratio(0.99) <= WANTED


def deploy(server: Server) -> str:
    """The hostile functions; returns where the Runtime API of the neighbour is."""
    in_init = HOSTILE.replace("IN_INIT = 0", f"IN_INIT = {HOSTILE_S + LEAD_S}")
    for name, source in (("hostile", HOSTILE), ("initial", in_init)):
        server.deploy(Function(name, (("app.py", source.encode()),)))
    return str(json.loads(_invoke(server, "hostile", {"do": "where", "seconds": 0})))


def _invoke(server: Server, name: str, event: dict[str, object]) -> bytes:
    connection = http.client.HTTPConnection(server.client.host, server.client.port, timeout=60)
    try:
        connection.request("POST", f"/2015-03-31/functions/{name}/invocations", json.dumps(event))
        return connection.getresponse().read()
    finally:
        connection.close()


@contextmanager
def hostile(server: Server, act: str, other: str) -> Iterator[None]:
    """The act goes on for as long as the block should last, and is over after it."""
    name = "initial" if act == "subscriptions" else "hostile"
    event: dict[str, object] = {"do": "busy" if name == "initial" else act, "other": other,
                                "seconds": 0 if name == "initial" else HOSTILE_S + LEAD_S}  # fmt: skip
    if name == "initial":
        for row in server.client.environments():
            if row["function_name"] == name:
                server.client.retire(row["id"])
    thread = threading.Thread(target=_invoke, args=(server, name, event))
    thread.start()
    time.sleep(LEAD_S)
    try:
        yield
    finally:
        thread.join()


def spell(wire: Wire, seconds: float) -> list[float]:
    end, taken = time.monotonic() + seconds, []
    while time.monotonic() < end:
        taken += wire.samples(10)
    return taken


def measure(server: Server, acts: list[str], rounds: int) -> dict[str, Result]:
    other = deploy(server)
    wire = Wire(server.target)
    results = {act: Result() for act in acts}
    try:
        wire.samples(400)
        for act, result in results.items():
            for _ in range(rounds):
                result.quiet.append(spell(wire, QUIET_S))
                with hostile(server, act, other):
                    result.hostile.append(spell(wire, HOSTILE_S - LEAD_S))
            print(result.row(act), flush=True)
    finally:
        wire.close()
    return results


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench neighbours", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("acts", nargs="*", help=f"which: {', '.join(ACTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--check", action="store_true", help="exit code 1 when a wanted figure is missed")
    options = parser.parse_args(arguments)
    unknown = [act for act in options.acts if act not in ACTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of {', '.join(ACTS)}")
    promptness.ask()  # the caller is not what is measured, and elsewhere on other processors
    print("| what a neighbour suffers while there are   | p50 us | then   | ratio | p99 us | then   | ratio "
          f"| {WANTED:g}x |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    try:
        with Server() as server:
            results = measure(server, options.acts or list(ACTS), options.rounds)
    except (NoServer, WrongAnswer) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 1 if options.check and not all(result.met for result in results.values()) else 0
