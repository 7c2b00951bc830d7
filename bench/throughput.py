"""Throughput: eight connections against the one that the emulator can take, each in a closed loop.

The emulator runs one invocation at a time, so one connection keeps it busy. The client is a process of its own on the
same machine, and takes its part of the cores on both sides.
"""

from __future__ import annotations

from bench.measure import Line, median, ratio
from bench.peer import Emulator
from bench.server import Server
from bench.wire import storm

WANTED = 2.5
CONNECTIONS = 8
ROUNDS = 5
SECONDS = 2.0


def measure(server: Server, emulator: Emulator) -> list[Line]:
    """Invocations per second of both sides."""
    storm(server.target, CONNECTIONS, 1.0)  # starts the environments
    ours, theirs, environments = [], [], 0
    for _ in range(ROUNDS):
        done = storm(server.target, CONNECTIONS, SECONDS)
        ours.append(done.per_second)
        environments = max(environments, done.environments)
        theirs.append(storm(emulator.target, 1, SECONDS).per_second)
    compared = ratio(ours, theirs)
    return [Line(f"throughput, {CONNECTIONS} connections against 1", "calls/s", median(ours),
                 f"ratio at least {WANTED:g}", compared.middle >= WANTED, median(theirs), compared.middle,
                 compared.spread, f"{environments} environments served")]  # fmt: skip
