"""What an idle Python environment takes of memory: its processes, shared pages counted in parts.

So many environments exist at the same time, each of which has served one call of a function that does nothing else and
is frozen. Counted are the guests and process 1 of each sandbox. A page that all of them share counts with its part for
each, so the figure falls with their number. What the kernel keeps for a process, a namespace or a mount is not in it;
`density` tells what this host has less with thousands.
"""

from __future__ import annotations

from bench import Options
from bench.burst import MEETING, together
from bench.measure import Line, around, median
from bench.processes import parent, pss_bytes
from bench.server import Server

WANTED_MB = 4.0
MB = 1e6
ENVIRONMENTS = 50


def measure(options: Options) -> list[Line]:
    """Megabytes (10^6 bytes) of an environment, from nothing and from a blank."""
    count = min(ENVIRONMENTS, options.environments)
    with Server(function=MEETING) as server:
        together(server.target, 2)
        server.retire_all()
        together(server.target, count)
        each = weigh(server)
    mean = sum(each) / len(each)
    return [
        Line("memory of an idle Python environment, proportional", "MB", mean, f"{WANTED_MB:g} MB", mean <= WANTED_MB,
             more=f"mean of {len(each)} at once; p50 {median(each):.1f}", around=around(each), samples=len(each)),
    ]  # fmt: skip


def weigh(server: Server) -> list[float]:
    """Megabytes of each idle environment, once all are frozen."""
    server.until(lambda: all(row["frozen"] for row in server.client.environments()), "an environment is not frozen")
    found = []
    for row in server.client.environments():
        first = parent(row["pids"][0])
        found.append(sum(map(pss_bytes, {first, *row["pids"]})) / MB)
    return found
