"""A burst from zero: so many calls of one function at once that each needs an environment of its own.

Every call blocks in the function until all have met: it connects to us and waits for a byte. So the environments exist
at the same time, and none can serve twice. The rate counts from the first byte of the first request to the last answer.
The function connects by the module below `socket`: importing that would be most of what a trivial function does.
"""

from __future__ import annotations

import json
import selectors
import socket
import time

from bench import Function, Options
from bench.cold import SETTLE_S, header
from bench.measure import Line, median
from bench.ministack import AT_ONCE, MiniStack
from bench.peers import Peers
from bench.server import Server
from bench.wire import TIMEOUT_S, Target, WrongAnswer, complete

WANTED = 100.0
ROUNDS = 7
#: The default of the server, for the second line.
BLANKS = 8
CODE = b"""
import _socket

def handler(event, context):
    place = _socket.socket()
    place.connect(("127.0.0.1", event["port"]))
    place.recv(1)
    place.close()
    return {"ok": True}
"""
MEETING = Function("meeting", (("app.py", CODE),))


def measure(options: Options, peers: Peers) -> list[Line]:
    """Environments per second, nothing parked and with what the server parks by itself."""
    with Server(function=MEETING, blanks=0) as server:
        bare, all_met = _rounds(server, options.burst, None)
    with Server(function=MEETING, blanks=BLANKS) as server:
        parked, _ = _rounds(server, options.burst, BLANKS)
    other = None
    if peers.ministack is not None:
        count = min(options.burst, AT_ONCE)
        with MiniStack(peers.ministack, [MEETING]) as ministack:
            other = count / together(ministack.target, count, named=False).seconds
    named = f"environments created, one function, burst of {options.burst}"
    value = median(bare)
    return [
        Line(f"{named}, nothing parked", "per s", value, f"{WANTED:g} per s", value >= WANTED,
             around=(min(bare), max(bare)), samples=len(bare), ministack=other,
             more=f"all {options.burst} were in after {median(all_met) * 1000:,.0f} ms"
                  + (f"; MiniStack once, {count} calls" if other else "")),
        Line(f"{named}, up to {BLANKS} parked", "per s", median(parked), "", None,
             around=(min(parked), max(parked)), samples=len(parked)),
    ]  # fmt: skip


def _rounds(server: Server, count: int, blanks: int | None) -> tuple[list[float], list[float]]:
    rates, met = [], []
    together(server.target, count)  # also tells the server how many it may be good to park
    for _ in range(ROUNDS):
        server.retire_all()
        if blanks:
            server.wait_blanks(blanks)
        time.sleep(SETTLE_S)
        done = together(server.target, count)
        rates.append(count / done.seconds)
        met.append(done.met_s)
    return rates, met


class Together:
    """What so many calls at once did."""

    def __init__(self, seconds: float, met_s: float, environments: set[str]) -> None:
        self.seconds = seconds  #: until the last answer
        self.met_s = met_s  #: until all were in their functions
        self.environments = environments


def together(target: Target, count: int, named: bool = True) -> Together:
    """Call so often at once. Raises WrongAnswer, also when fewer environments than calls served (`named`)."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as place:
        place.setblocking(False)
        message = target.message(json.dumps({"port": place.getsockname()[1]}).encode())
        callers = [target.connect() for _ in range(count)]
        inside: list[socket.socket] = []
        try:
            begun = time.perf_counter()
            for caller in callers:
                caller.sendall(message)
            _meet(place, callers, inside)
            met_s = time.perf_counter() - begun
            for guest in inside:
                guest.sendall(b".")
            answers = [complete(caller, target.expected) for caller in callers]
            seconds = time.perf_counter() - begun
        finally:
            for one in (*callers, *inside):
                one.close()
    environments = {header(answer, b"X-Lambent-Environment") for answer in answers} if named else set()
    if named and len(environments) != count:
        raise WrongAnswer(f"{count} calls at once were served by {len(environments)} environments")
    return Together(seconds, met_s, environments)


def _meet(place: socket.socket, callers: list[socket.socket], inside: list[socket.socket]) -> None:
    """Until all are in. A caller that is answered before has failed."""
    with selectors.DefaultSelector() as selector:
        selector.register(place, selectors.EVENT_READ)
        for caller in callers:
            selector.register(caller, selectors.EVENT_READ)
        while len(inside) < len(callers):
            ready = selector.select(TIMEOUT_S)
            if not ready:
                raise WrongAnswer(f"{len(inside)} of {len(callers)} calls are in their function after {TIMEOUT_S:g} s")
            for key, _ in ready:
                if key.fileobj is not place:
                    assert isinstance(key.fileobj, socket.socket)
                    raise WrongAnswer(key.fileobj.recv(2000).decode("latin-1"))
                inside.append(place.accept()[0])
