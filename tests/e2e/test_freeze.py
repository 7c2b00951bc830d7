"""Freeze is real: nothing of an environment makes progress between invocations, and everything goes on (point 11)."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .harness import Call, Function, Server

#: How long nothing may happen.
GAP_S = 0.5
RUN_S = 0.3

THREAD = """
import threading, time
COUNT = 0

def busy():
    global COUNT
    while True:
        COUNT += 1

threading.Thread(target=busy, daemon=True).start()

def handler(event, context):
    begin = COUNT
    time.sleep(event.get("run", 0))
    return {"begin": begin, "end": COUNT}
"""

CHILD = """
import mmap, os, time
SHARED = mmap.mmap(-1, 8)

def count():
    return int.from_bytes(SHARED[:], "little")

if os.fork() == 0:
    number = 0
    while True:
        number += 1
        SHARED[:] = number.to_bytes(8, "little")

def handler(event, context):
    begin = count()
    time.sleep(event.get("run", 0))
    return {"begin": begin, "end": count()}
"""

TIMER = """
let count = 0;
setInterval(() => { count += 1 }, 1);
exports.handler = async (event) => {
  const begin = count;
  if (event.run) await new Promise((resolve) => setTimeout(resolve, event.run * 1000));
  return { begin, end: count };
};
"""

CONNECTION = """
import os, socket
PEER = socket.create_connection(("127.0.0.1", int(os.environ["PORT"])))

def handler(event, context):
    PEER.sendall(event["word"].encode() + b"\\n")
    return PEER.makefile().readline().strip()
"""

FUNCTIONS = (
    Function("thread", THREAD),
    Function("child", CHILD),
    Function("timer", TIMER, runtime="nodejs20.x"),
)


def progress(server: Server, name: str) -> tuple[int, int, int]:
    """What was counted in RUN_S of running, in GAP_S between two invocations, and in RUN_S of running again."""
    server.invoke(name)
    first = server.invoke(name, {"run": RUN_S})
    server.idle(first.environment)
    time.sleep(GAP_S)  # the time in which nothing may happen
    second = server.invoke(name, {"run": RUN_S})
    assert second.environment == first.environment and not second.cold
    ran, idled = first.payload, second.payload
    return ran["end"] - ran["begin"], idled["begin"] - ran["end"], idled["end"] - idled["begin"]


def check(server: Server, name: str) -> None:
    before, between, after = progress(server, name)
    assert before > 20, "it does not count"
    # From the answer to the freeze, and from the thaw to the handler, it runs: a few milliseconds.
    assert between < before / 3
    assert after > before / 4, "it does not go on"


def test_a_busy_thread_stands_still_and_goes_on(server: Server) -> None:
    check(server, "thread")


def test_a_child_process_stands_still_and_goes_on(server: Server) -> None:
    check(server, "child")


def test_a_node_timer_stands_still_and_goes_on(server: Server) -> None:
    check(server, "timer")


def test_the_kernel_counts_no_cpu_time_while_frozen(server: Server) -> None:
    call = server.invoke("thread")
    first = server.idle(call.environment)
    time.sleep(GAP_S)  # the time in which nothing may happen
    second = server.environment(call.environment)
    assert first["frozen"] and second["frozen"]
    assert first["cpu_us"] > 0
    assert second["cpu_us"] == first["cpu_us"]
    server.invoke("thread", {"run": 0.05})
    assert server.environment(call.environment)["cpu_us"] > first["cpu_us"]


def test_the_clock_of_the_function_jumps_over_the_frozen_time(server: Server) -> None:
    source = "import time\ndef handler(event, context): return [time.time(), time.monotonic()]"
    server.deploy(Function("clock", source))
    first: Call = server.invoke("clock")
    server.idle(first.environment)
    time.sleep(GAP_S)
    second = server.invoke("clock")
    wall, monotonic = (after - before for before, after in zip(first.payload, second.payload, strict=True))
    assert wall >= GAP_S and monotonic >= GAP_S


def test_a_connection_opened_in_init_works_after_a_freeze(server: Server) -> None:
    with echo() as (port, connections):
        function = Function("connected", CONNECTION, more={"Environment": {"Variables": {"PORT": str(port)}}})
        server.deploy(function)
        first = server.invoke("connected", {"word": "before"})
        server.idle(first.environment)
        time.sleep(GAP_S)
        second = server.invoke("connected", {"word": "after"})
        assert (first.payload, second.payload) == ("before", "after")
        assert second.environment == first.environment
        assert len(connections) == 1
        server.retire(first.environment)


@contextmanager
def echo() -> Iterator[tuple[int, list[object]]]:
    """A server that says every line back: its port, and who has come."""
    connections: list[object] = []

    class Conversation(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            connections.append(self.client_address)
            for line in self.rfile:
                self.wfile.write(line)

    class Echo(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Echo(("127.0.0.1", 0), Conversation) as listener:
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield listener.server_address[1], connections
        listener.shutdown()
