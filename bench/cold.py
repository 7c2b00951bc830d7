"""Cold starts: a new environment for each sample, nothing parked or from a parked blank, beside the peers' first calls.

Ours: every environment is retired first, and the call is timed from the request to the answer, on a connection that
stands. The emulator: a new one for each sample; its own start is not timed, only its first call, in which it starts the
runtime. MiniStack: the first call of a function that was not called before. All sides take turns; code and interpreters
are in the page cache everywhere. That each sample had an environment and a process that none before had is read from
the server and from the process table, and a sample of which that is not true ends the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bench import TRIVIAL, Function, Options
from bench.measure import Line, around, median, ratio, rounds
from bench.ministack import MiniStack
from bench.peer import Emulator
from bench.peers import Peers
from bench.processes import Identity, children, identity
from bench.server import Server
from bench.wire import Target, Wire, WrongAnswer

WANTED_MS = 20.0
WANTED_BLANK_MS = 6.0
WANTED_TIMES = 8.0
WANTED_NODE_MS = 60.0
#: What a sample leaves behind (a sandbox that is torn down) is over by then.
SETTLE_S = 0.05
#: Samples that make a round of the ratio.
ROUND = 10
NODE_CODE = b"exports.handler = async () => ({ok: true});\n"


@dataclass(slots=True)
class Fresh:
    """Refuses whoever was there in an earlier sample."""

    _environments: set[str] = field(default_factory=set)
    _processes: set[Identity] = field(default_factory=set)

    def environment(self, name: str) -> None:
        if name in self._environments:
            raise WrongAnswer(f"environment {name} served a second sample")
        self._environments.add(name)

    def processes(self, found: Iterable[Identity]) -> None:
        found = set(found)
        if not found or found & self._processes:
            raise WrongAnswer("a sample was not served by a new process")
        self._processes |= found

    def one_of(self, found: Iterable[Identity]) -> None:
        """At least one is new: others may be on their way out."""
        self.processes(set(found) - self._processes)


@dataclass(slots=True)
class Sides:
    """Milliseconds of every sample, of whoever takes part."""

    lambent: list[float] = field(default_factory=list)
    emulator: list[float] = field(default_factory=list)
    ministack: list[float] = field(default_factory=list)


def python(options: Options, peers: Peers) -> list[Line]:
    """Nothing parked."""
    with Server() as server:
        sides = _all_sides(lambda fresh: _nothing_parked(server, fresh), options, peers, TRIVIAL)
    return [_line("cold start, Python, nothing parked", sides, WANTED_MS)]


def blank(options: Options, peers: Peers) -> list[Line]:
    """From a parked blank, and how many times faster than the emulator's first call that is."""
    with Server(blanks=1) as server:
        sides = _all_sides(lambda fresh: _from_blank(server, fresh), options, peers, TRIVIAL)
    line = _line("cold start, Python, from a parked blank", sides, WANTED_BLANK_MS)
    if not sides.emulator:
        return [line]
    compared = ratio(rounds(sides.emulator, ROUND), rounds(sides.lambent, ROUND))
    return [line, Line("emulator's first call, against a cold start from a blank", "times", compared.middle,
                       f"{WANTED_TIMES:g} times", compared.middle >= WANTED_TIMES, around=compared.spread,
                       more=f"rounds of {ROUND}, lowest to highest")]  # fmt: skip


def node(options: Options, peers: Peers) -> list[Line]:
    """Node.js both ways. The emulator takes no part: its Node.js client has to be compiled first."""
    if not peers.node_runtime:
        return []
    function = Function("trivial", (("index.js", NODE_CODE),), peers.node_runtime, "index.handler", b'{"ok":true}')
    named = f"cold start, Node.js ({peers.node_runtime})"
    with Server(function=function) as server:
        sides = _all_sides(lambda fresh: _nothing_parked(server, fresh), options,
                           replace(peers, emulator=None), function)  # fmt: skip
    lines = [_line(f"{named}, nothing parked", sides, WANTED_NODE_MS)]
    with Server(blanks=1, function=function) as server:
        if not server.parks_blanks():
            return [replace(lines[0], more=f"{lines[0].more}; there are no blanks of Node.js")]
        sides = _all_sides(lambda fresh: _from_blank(server, fresh), options, Peers(), function)
    return [*lines, _line(f"{named}, from a parked blank", sides, WANTED_NODE_MS)]


def _line(what: str, sides: Sides, wanted_ms: float) -> Line:
    value = median(sides.lambent)
    compared = ratio(rounds(sides.lambent, ROUND), rounds(sides.emulator, ROUND)) if sides.emulator else None
    fastest = [f"{name} {min(samples):.1f}" for name, samples in (
        ("ours", sides.lambent), ("the emulator's", sides.emulator), ("MiniStack's", sides.ministack)) if samples]
    return Line(what, "ms", value, f"{wanted_ms:g} ms", value <= wanted_ms,
                median(sides.emulator) if sides.emulator else None, compared.middle if compared else None,
                compared.spread if compared else None, f"fastest: {', '.join(fastest)}", around(sides.lambent),
                len(sides.lambent), median(sides.ministack) if sides.ministack else None)  # fmt: skip


def _all_sides(sample: Callable[[Fresh], float], options: Options, peers: Peers, function: Function) -> Sides:
    sides, fresh, theirs, others = Sides(), Fresh(), Fresh(), Fresh()
    with ExitStack() as stack:
        ministack, copies = None, []
        if peers.ministack is not None:
            copies = [replace(function, name=f"sample-{number}") for number in range(options.samples + 1)]
            ministack = stack.enter_context(MiniStack(peers.ministack, copies))
            _ministack_call(ministack, copies[-1], others)
        sample(fresh)  # the first one reads files that nobody has read before
        for number in range(options.samples):
            sides.lambent.append(sample(fresh))
            if peers.emulator is not None:
                with Emulator(peers.emulator) as emulator:
                    time.sleep(SETTLE_S)
                    sides.emulator.append(call_ms(emulator.target)[0])
                    theirs.processes(children(emulator.process.pid))
            if ministack is not None:
                sides.ministack.append(_ministack_call(ministack, copies[number], others))
    return sides


def _nothing_parked(server: Server, fresh: Fresh) -> float:
    server.retire_all()
    time.sleep(SETTLE_S)
    return _sample(server, fresh, from_blank=False)


def _from_blank(server: Server, fresh: Fresh) -> float:
    server.retire_all()
    server.wait_blanks(1)  # all that the server was allowed, so that it makes no other meanwhile
    time.sleep(SETTLE_S)
    return _sample(server, fresh, from_blank=True)


def _sample(server: Server, fresh: Fresh, from_blank: bool) -> float:
    taken_ms, answer = call_ms(server.target)
    if b"X-Lambent-Start: cold" not in answer:
        raise WrongAnswer("a call that should be cold was warm")
    row = server.row(header(answer, b"X-Lambent-Environment"))
    if row["from_blank"] is not from_blank:
        raise WrongAnswer(f"environment {row['id']} came {'from' if row['from_blank'] else 'not from'} a blank")
    fresh.environment(row["id"])
    fresh.processes(map(identity, row["pids"]))
    return taken_ms


def _ministack_call(ministack: MiniStack, function: Function, fresh: Fresh) -> float:
    time.sleep(SETTLE_S)
    taken_ms, _ = call_ms(ministack.target_of(function))
    fresh.one_of(children(ministack.process.pid))
    ministack.delete(function)
    return taken_ms


def call_ms(target: Target) -> tuple[float, bytes]:
    """One call over a new connection, timed without making that; and the answer."""
    wire = Wire(target)
    try:
        [sample] = wire.samples(1)
        return sample / 1000, wire.last
    finally:
        wire.close()


def header(answer: bytes, name: bytes) -> str:
    at = answer.index(name + b": ") + len(name) + 2
    return answer[at : answer.index(b"\r", at)].decode()
