"""Throughput: sixteen connections, each in a closed loop, against the one that the emulator can take.

The emulator runs one invocation at a time, so one connection keeps it busy. The client is a process of its own on the
same machine, and takes its part of the cores on every side.
"""

from __future__ import annotations

from bench.measure import Line, median, ratio
from bench.ministack import MiniStack
from bench.peer import Emulator
from bench.server import Server
from bench.wire import storm

WANTED = 5000.0
CONNECTIONS = 16
ROUNDS = 5
SECONDS = 2.0


def measure(server: Server, emulator: Emulator | None, ministack: MiniStack | None) -> list[Line]:
    """Invocations per second of all sides."""
    storm(server.target, CONNECTIONS, 1.0)  # starts the environments
    ours, theirs, others, environments = [], [], [], 0
    if ministack is not None:
        storm(ministack.target, CONNECTIONS, 3.0)
    for _ in range(ROUNDS):
        done = storm(server.target, CONNECTIONS, SECONDS)
        ours.append(done.per_second)
        environments = max(environments, done.environments)
        if emulator is not None:
            theirs.append(storm(emulator.target, 1, SECONDS).per_second)
        if ministack is not None:
            others.append(storm(ministack.target, CONNECTIONS, SECONDS).per_second)
    compared = ratio(ours, theirs) if theirs else None
    value = median(ours)
    return [Line(f"warm throughput, {CONNECTIONS} connections (emulator: 1)", "calls/s", value,
                 f"{WANTED:,.0f} per s", value >= WANTED, median(theirs) if theirs else None,
                 compared.middle if compared else None, compared.spread if compared else None,
                 f"{environments} environments served", (min(ours), max(ours)), len(ours),
                 median(others) if others else None)]  # fmt: skip
