"""The cold call: a new environment for each sample, its sandbox built and torn down, against the emulator's first call.

Ours: every environment is retired first, and the call is timed from the request to the answer. Theirs: a new process
for each sample; its own start is not timed, only its first call, in which it starts the runtime. Code and interpreter
are in the page cache on both sides.
"""

from __future__ import annotations

from bench.measure import Line, median, ratio
from bench.peer import Emulator
from bench.server import Server
from bench.wire import Wire, WrongAnswer
from lambent.runtimes.prepared import PreparedRuntime

WANTED = 1.0
ROUNDS = 25


def measure(server: Server, runtime: PreparedRuntime) -> list[Line]:
    """Milliseconds of both sides."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        server.retire_all()
        ours.append(_first_call(server))
        with Emulator(runtime) as emulator:
            theirs.append(_first_call(emulator))
    compared = ratio(ours, theirs)
    return [Line("cold call", "ms", median(ours), f"ratio at most {WANTED:g}", compared.middle <= WANTED,
                 median(theirs), compared.middle, compared.spread,
                 f"fastest {min(ours):.1f} and {min(theirs):.1f}")]  # fmt: skip


def _first_call(side: Server | Emulator) -> float:
    wire = Wire(side.target)
    try:
        [sample] = wire.samples(1)
        if isinstance(side, Server) and b"X-Lambent-Start: cold" not in wire.last:
            raise WrongAnswer("a call that should be cold was warm")
    finally:
        wire.close()
    return sample / 1000
