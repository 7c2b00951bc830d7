"""Freeze and thaw, timed inside the server around the sandbox's own methods, as a part of real warm calls.

`python -m bench.freeze` is a server whose sandboxes keep these times; it prints them when it has stopped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import warm
from bench.measure import Line, median, quantile
from bench.server import Server
from lambent import settings
from lambent.platform import serve
from lambent.sandbox.namespace.sandbox import NamespaceSandbox

WANTED_US = 100.0
CALLS = 3000


def measure() -> list[Line]:
    """Microseconds of a freeze and a thaw together."""
    with Server(program=("-m", "bench.freeze")) as server:
        call_us = warm.p50_us(server, CALLS)
        warm.check_frozen(server)
    taken = json.loads(server.said.splitlines()[-1])
    freezes, thaws = taken["freeze"][-CALLS:], taken["thaw"][-CALLS:]
    both = [one + other for one, other in zip(freezes, thaws, strict=True)]
    middle = median(both)
    more = (f"freeze {median(freezes):.1f}, thaw {median(thaws):.1f}, p99 of both {quantile(both, 0.99):.0f}; "
            f"{middle / call_us:.0%} of the call's {call_us:.0f} us")  # fmt: skip
    return [Line("freeze and thaw of a warm call, p50", "us", middle, f"under {WANTED_US:g} us", middle < WANTED_US,
                 more=more)]  # fmt: skip


def _timed(method: Callable[[Any], None], taken: list[float]) -> Callable[[Any], None]:
    def timed(sandbox: Any) -> None:
        begun = time.perf_counter_ns()
        method(sandbox)
        taken.append((time.perf_counter_ns() - begun) / 1000)

    return timed


def _serve(arguments: list[str]) -> int:
    taken: dict[str, list[float]] = {"freeze": [], "thaw": []}
    for name, times in taken.items():
        setattr(NamespaceSandbox, name, _timed(getattr(NamespaceSandbox, name), times))
    flags = {flag.removeprefix("--").replace("-", "_"): value
             for flag, value in zip(arguments[::2], arguments[1::2], strict=True)}  # fmt: skip
    code = serve(settings.load(flags))
    print(json.dumps(taken))
    return code


if __name__ == "__main__":
    sys.exit(_serve(sys.argv[1:]))
