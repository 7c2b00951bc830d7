"""Throughput: eight and sixteen connections, each in a closed loop, against the one that the emulator can take.

The emulator runs one invocation at a time, so one connection keeps it busy. The client is a process of its own on the
same machine, and takes its part of the cores on every side.
"""

from __future__ import annotations

from bench.measure import Line, median, ratio
from bench.ministack import MiniStack
from bench.peer import Emulator
from bench.server import Server
from bench.wire import storm

#: By connections: invocations per second, and times as many as the emulator.
WANTED = {8: (None, 2.5), 16: (5000.0, None)}
ROUNDS = 5
SECONDS = 2.0


def measure(server: Server, emulator: Emulator | None, ministack: MiniStack | None) -> list[Line]:
    """Invocations per second of all sides, for each number of connections."""
    return [_measure(connections, server, emulator, ministack) for connections in WANTED]


def _measure(connections: int, server: Server, emulator: Emulator | None, ministack: MiniStack | None) -> Line:
    storm(server.target, connections, 1.0)  # starts the environments
    ours, theirs, others, environments = [], [], [], 0
    if ministack is not None:
        storm(ministack.target, connections, 3.0)
    for _ in range(ROUNDS):
        done = storm(server.target, connections, SECONDS)
        ours.append(done.per_second)
        environments = max(environments, done.environments)
        if emulator is not None:
            theirs.append(storm(emulator.target, 1, SECONDS).per_second)
        if ministack is not None:
            others.append(storm(ministack.target, connections, SECONDS).per_second)
    compared = ratio(ours, theirs) if theirs else None
    value = median(ours)
    least, times = WANTED[connections]
    if least is not None:
        wanted, met = f"{least:,.0f} per s", value >= least
    else:
        wanted, met = f"{times:g} times the emulator", compared is not None and compared.middle >= (times or 0.0)
    return Line(f"warm throughput, {connections} connections (emulator: 1)", "calls/s", value, wanted, met,
                median(theirs) if theirs else None, compared.middle if compared else None,
                compared.spread if compared else None, f"{environments} environments served", (min(ours), max(ours)),
                len(ours), median(others) if others else None)  # fmt: skip
