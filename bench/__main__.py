"""`make bench`: measures everything, prints one table, keeps it in `bench/results/`.

`make bench ARGS="warm cold"` measures a part. `--check` ends with exit code 1 when a wanted figure is missed,
`--no-save` keeps nothing. Takes about two minutes, and wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from bench import CHECKOUT, cold, control_plane, core, freeze, peer, throughput, warm
from bench.measure import Line
from bench.report import Machine, notes, save, table, versions
from bench.server import NoServer, Server
from bench.wire import WrongAnswer
from lambent.runtimes.catalog import RuntimeUnavailable
from lambent.runtimes.prepared import PreparedRuntime

PARTS = ("core", "warm", "throughput", "cold", "freeze", "control")


def measure(parts: list[str], runtime: PreparedRuntime) -> list[Line]:
    """The wanted parts in order. Raises NoServer, NoPeer or WrongAnswer."""
    lines: list[Line] = []

    def add(name: str, work: Callable[[], list[Line]]) -> None:
        if name in parts:
            begun = time.monotonic()
            print(f"{name} ...", end="", flush=True, file=sys.stderr)
            lines.extend(work())
            print(f" {time.monotonic() - begun:.0f} s", file=sys.stderr)

    add("core", core.measure)
    if {"warm", "throughput", "cold"} & set(parts):
        with Server() as server:
            with peer.Emulator(runtime) as emulator:
                add("warm", lambda: warm.measure(server, emulator))
                add("throughput", lambda: throughput.measure(server, emulator))
            add("cold", lambda: cold.measure(server, runtime))
    add("freeze", freeze.measure)
    if "control" in parts:
        with Server() as server:
            add("control", lambda: control_plane.measure(server))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"what to measure: {', '.join(PARTS)} (default: everything)")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a wanted figure is missed")
    parser.add_argument("--no-save", action="store_true", help="write no files")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    machine = Machine.here()
    try:
        runtime = peer.runtime()
        peer.binary()
        lines = measure(parts, runtime)
    except (NoServer, peer.NoPeer, WrongAnswer, RuntimeUnavailable) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(f"{machine.text()}\n\n{table(lines)}\n\n{notes(lines)}")
    if machine.load > machine.cores / 2:
        print("\nThe machine was busy before this began: take the ratios with care.")
    if not options.no_save and set(parts) == set(PARTS):
        print(f"\nkept in {save(machine, versions(runtime), lines).relative_to(CHECKOUT)}")
    missed = [line for line in lines if line.met is False]
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
