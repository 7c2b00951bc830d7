"""`make bench`: measures everything, prints one table, keeps it in `bench/results/`.

`make bench ARGS="warm cold"` measures some parts. `--check` ends with exit code 1 when a wanted figure is missed,
`--no-save` keeps nothing, `--save` a run of some parts too; smaller numbers of samples and environments are for a quick
look. Everything takes about twenty minutes, and wants a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench import (
    CHECKOUT,
    Options,
    burst,
    cold,
    control_plane,
    core,
    density,
    freeze,
    memory,
    neighbours,
    soak,
    throughput,
    warm,
)
from bench.measure import Line
from bench.ministack import MiniStack
from bench.peer import Emulator, NoPeer, runtime
from bench.peers import Peers, find_all
from bench.report import Machine, notes, save, table, versions
from bench.server import NoServer, Server
from bench.wire import WrongAnswer
from lambent.runtimes.catalog import RuntimeUnavailable

#: By name: what is measured, in the order of the table.
PARTS = {
    "core": "the pure machines alone",
    "cold": "cold start of Python, nothing parked, beside the peers' first calls",
    "blank": "cold start of Python from a parked blank, beside the peers' first calls",
    "node": "cold start of Node.js, nothing parked and from a blank",
    "burst": "environments created per second, from zero, one function",
    "warm": "the warm call, beside the peers'",
    "throughput": "warm calls per second over many connections, beside the peers'",
    "memory": "proportional memory of an idle environment",
    "density": "how many frozen environments this host holds, all still answering",
    "crowd": "a warm call among all those, against an empty platform",
    "freeze": "freeze and thaw alone",
    "control": "the management side with many functions stored",
}

#: What has options of its own and is not part of the table.
COMMANDS = {"soak": soak.main, "neighbours": neighbours.main}


def measure(parts: set[str], options: Options, peers: Peers) -> tuple[list[Line], list[str]]:
    """The wanted parts in order, and a sentence for each that could not be measured."""
    lines: list[Line] = []
    failed: list[str] = []

    def add(name: str, work: Callable[[], list[Line]]) -> None:
        if name in parts:
            begun = time.monotonic()
            print(f"{name} ...", end="", flush=True, file=sys.stderr)
            try:
                lines.extend(work())
            except (NoServer, NoPeer, WrongAnswer, OSError) as error:
                failed.append(f"{name} could not be measured: {error}")
            print(f" {time.monotonic() - begun:.0f} s", file=sys.stderr)

    add("core", core.measure)
    add("cold", lambda: cold.python(options, peers))
    add("blank", lambda: cold.blank(options, peers))
    add("node", lambda: cold.node(options, peers))
    add("burst", lambda: burst.measure(options, peers))
    add("warm", lambda: _warm_sides(warm.measure, peers))
    add("throughput", lambda: _warm_sides(throughput.measure, peers))
    add("memory", lambda: memory.measure(options))
    together = {"density", "crowd"} & parts
    add("density" if "density" in parts else "crowd", lambda: density.measure(options, together))
    add("freeze", freeze.measure)
    add("control", control_plane.alone)
    return lines, failed


def _warm_sides(work: Callable[[Server, Emulator | None, MiniStack | None], list[Line]], peers: Peers) -> list[Line]:
    with ExitStack() as stack:
        server = stack.enter_context(Server())
        emulator = stack.enter_context(Emulator(peers.emulator)) if peers.emulator is not None else None
        ministack = stack.enter_context(MiniStack(peers.ministack)) if peers.ministack is not None else None
        return work(server, emulator, ministack)


def _arguments() -> tuple[argparse.Namespace, Options]:
    parser = argparse.ArgumentParser(
        prog="make bench", description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="parts:\n" + "\n".join(f"  {name:11}{what}" for name, what in PARTS.items()))  # fmt: skip
    parser.add_argument("parts", nargs="*", help="what to measure (default: everything)")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a wanted figure is missed")
    parser.add_argument("--no-save", action="store_true", help="write no files")
    parser.add_argument("--save", action="store_true", help="keep a run of some parts too")
    usual = Options()
    for name, what in (("samples", "of each cold start"), ("burst", "calls at once in the burst"),
                       ("environments", "held at once in density and crowd"), ("functions", "stored in crowd"),
                       ("memory-mib", "of all environments in density; 0: as the server decides")):  # fmt: skip
        default = getattr(usual, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default:,})")
    parser.add_argument("--tmp", choices=("tmpfs", "ext4"), default=usual.tmp, help="what /tmp is of in density")
    given = parser.parse_args()
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    if min(given.samples, given.burst, given.environments, given.functions) < 1:
        parser.error("samples, burst, environments and functions begin at 1")
    return given, Options(given.samples, given.burst, given.environments, given.functions, given.tmp, given.memory_mib)


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        return COMMANDS[sys.argv[1]](sys.argv[2:])
    given, options = _arguments()
    parts = set(given.parts or PARTS)
    machine = Machine.here()
    try:
        peers = find_all()
    except RuntimeUnavailable as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    lines, failed = measure(parts, options, peers)
    about = versions(runtime(), peers.said)
    said = "\n".join(f"- {name}: {how}" for name, how in peers.said.items())
    print(f"{machine.text()}\n\n{table(lines)}\n\n{notes(lines)}\n\n{said}")
    if machine.load > machine.cores / 2:
        print("\nThe machine was busy before this began: take the ratios with care.")
    if given.save or (parts == set(PARTS) and not given.no_save and not failed):
        name = "" if parts == set(PARTS) else "-".join(part for part in PARTS if part in parts)
        print(f"\nkept in {save(machine, about, lines, name).relative_to(CHECKOUT)}")
    for sentence in failed:
        print(f"bench: {sentence}", file=sys.stderr)
    if failed:
        return 2
    missed = [line for line in lines if line.met is False]
    return 1 if given.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
