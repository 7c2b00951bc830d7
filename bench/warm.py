"""The warm call: one kept connection, one call after the other, our freeze and thaw included, against the emulator.

The two take turns in short rounds, each first in every other one, so that whatever else the machine does strikes both.
MiniStack is called afterwards, for the table. That our side really froze after every call is read back from the
environment's story.
"""

from __future__ import annotations

from bench.measure import Line, around, median, quantile, ratio
from bench.ministack import MiniStack
from bench.peer import Emulator
from bench.processes import cpu_us
from bench.server import Server
from bench.wire import Wire, WrongAnswer

WANTED_US = 300.0
WANTED = 1 / 3
ROUNDS = 40
CALLS = 200
WARM_UP = 400
#: MiniStack takes tens of milliseconds for a call.
MINISTACK_CALLS = 200


def measure(server: Server, emulator: Emulator | None, ministack: MiniStack | None) -> list[Line]:
    """p50 and p99 of all sides in microseconds."""
    ours = Wire(server.target)
    theirs = Wire(emulator.target) if emulator is not None else None
    try:
        ours.samples(WARM_UP)
        if theirs is not None:
            theirs.samples(WARM_UP)
        before_us = cpu_us(server.process.pid)
        lambent: list[list[float]] = []
        peer: list[list[float]] = []
        for number in range(ROUNDS):
            sides = [(ours, lambent), *([(theirs, peer)] if theirs is not None else [])]
            for wire, rounds in sides if number % 2 else reversed(sides):
                rounds.append(wire.samples(CALLS))
        used_us = (cpu_us(server.process.pid) - before_us) / (ROUNDS * CALLS)
    finally:
        ours.close()
        if theirs is not None:
            theirs.close()
    check_frozen(server)
    more = f"fastest {min(map(min, lambent)):.0f}" + (f", the emulator's {min(map(min, peer)):.0f}" if peer else "")
    if used_us:
        more += f"; the server's CPU {used_us:.0f} us a call"
    other = _ministack(ministack) if ministack is not None else None
    return [*_lines("warm call, p50", lambent, peer, 0.5, more, other),
            *_lines("warm call, p99", lambent, peer, 0.99, "", other)]  # fmt: skip


def _ministack(ministack: MiniStack) -> list[float]:
    wire = Wire(ministack.target)
    try:
        wire.samples(5)
        return wire.samples(MINISTACK_CALLS)
    finally:
        wire.close()


def _lines(what: str, lambent: list[list[float]], peer: list[list[float]], share: float, more: str,
           other: list[float] | None) -> list[Line]:
    wanted = share == 0.5
    samples = [sample for one in lambent for sample in one]
    pairs = ([quantile(one, share) for one in side] for side in (lambent, peer))
    compared = ratio(*pairs) if peer else None
    value = quantile(samples, share)
    first = Line(what, "us", value, f"{WANTED_US:g} us" if wanted else "", value <= WANTED_US if wanted else None,
                 quantile([sample for one in peer for sample in one], share) if peer else None,
                 compared.middle if compared else None, compared.spread if compared else None, more,
                 around(samples) if wanted else None, len(samples),
                 quantile(other, share) if other else None)  # fmt: skip
    if not wanted or compared is None:
        return [first]
    return [first, Line("warm call, against the emulator", "times", compared.middle, "1/3", compared.middle <= WANTED,
                        spread=compared.spread, ratio=compared.middle, more=f"{len(peer)} rounds in turn")]  # fmt: skip


def check_frozen(server: Server) -> None:
    """Every invocation that the story still tells of was thawed for and frozen after. Raises WrongAnswer."""
    for row in server.client.environments():
        steps = server.client.story(row["id"])["steps"]
        begun = [step for step in steps if step["event"].startswith("InvocationAssigned")]
        ended = [step for step in steps if step["phase"] == "invoke" and step["next"] == "idle"]
        thawed = all(any(effect.startswith("Thaw") for effect in step["effects"]) for step in begun)
        frozen = all(any(effect.startswith("Freeze") for effect in step["effects"]) for step in ended)
        if not (row["frozen"] and thawed and frozen and ended):
            raise WrongAnswer(f"environment {row['id']} was not frozen between its invocations")


def p50_us(server: Server, calls: int) -> float:
    """The warm call of this server alone, in microseconds."""
    wire = Wire(server.target)
    try:
        wire.samples(WARM_UP)
        return median(wire.samples(calls))
    finally:
        wire.close()
