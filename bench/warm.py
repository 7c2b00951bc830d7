"""The warm call: one kept connection, one call after the other, our freeze and thaw included, against the emulator.

Both sides take turns in short rounds, each first in every other one, so that whatever else the machine does strikes
both. That our side really froze after every call is read back from the environment's story.
"""

from __future__ import annotations

from pathlib import Path

from bench.measure import Line, median, quantile, ratio
from bench.peer import Emulator
from bench.server import Server
from bench.wire import Wire, WrongAnswer

WANTED = 0.5
ROUNDS = 40
CALLS = 200
WARM_UP = 400


def measure(server: Server, emulator: Emulator) -> list[Line]:
    """p50 and p99 of both sides in microseconds."""
    ours, theirs = Wire(server.target), Wire(emulator.target)
    try:
        ours.samples(WARM_UP)
        theirs.samples(WARM_UP)
        before_us = cpu_us(server.process.pid)
        lambent: list[list[float]] = []
        peer: list[list[float]] = []
        for number in range(ROUNDS):
            sides = [(ours, lambent), (theirs, peer)]
            for wire, rounds in sides if number % 2 else reversed(sides):
                rounds.append(wire.samples(CALLS))
        used_us = (cpu_us(server.process.pid) - before_us) / (ROUNDS * CALLS)
    finally:
        ours.close()
        theirs.close()
    check_frozen(server)
    fastest = f"fastest {min(map(min, lambent)):.0f} and {min(map(min, peer)):.0f}"
    if used_us:
        fastest += f"; the server's CPU {used_us:.0f} us a call"
    return [_line("warm call, p50", lambent, peer, 0.5, WANTED, fastest),
            _line("warm call, p99", lambent, peer, 0.99, None)]  # fmt: skip


def cpu_us(pid: int) -> float:
    """What the main thread of a process has run for so far, to the microsecond; 0 where the kernel does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1000
    except (OSError, ValueError):
        return 0.0


def _line(what: str, lambent: list[list[float]], peer: list[list[float]], share: float, wanted: float | None,
          more: str = "") -> Line:
    compared = ratio([quantile(one, share) for one in lambent], [quantile(one, share) for one in peer])
    together = [[sample for one in rounds for sample in one] for rounds in (lambent, peer)]
    return Line(what, "us", quantile(together[0], share), "" if wanted is None else f"ratio at most {wanted:g}",
                None if wanted is None else compared.middle <= wanted, quantile(together[1], share),
                compared.middle, compared.spread, more)  # fmt: skip


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
