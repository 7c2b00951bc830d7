"""How many frozen environments this host holds with all of them still answering, and what a call costs among them.

Each environment is another function's: called once, frozen after, and called once more when all are there; the same
environment must answer. Growing stops at the number that was asked for, or when the host or the server gives no more;
then it is said what gave out. The functions without an environment are only stored.
"""

from __future__ import annotations

import resource
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import Function, Options
from bench.cold import call_ms, header
from bench.control_plane import fill
from bench.measure import Line, around, median, ratio
from bench.memory import MB
from bench.processes import available_bytes, cpu_us, descriptors, parent, pss_bytes, resident_bytes, threads
from bench.server import NoServer, Server
from bench.warm import WARM_UP
from bench.wire import Wire, WrongAnswer

WANTED = 2000
WANTED_DESCRIPTORS = 6
WANTED_COST = 1.2
#: Calls under way at once while environments are made.
AT_ONCE = 4
#: Left to this host, so that what gives out is never the machine itself.
RESERVE_BYTES = 1 << 30
#: How many environments are weighed, and how many samples the ends of a run are.
WEIGHED = ENDS = 50
IDLE_S = 3.0
ROUNDS, CALLS = 30, 200


@dataclass(slots=True)
class Crowd:
    """The environments that were made, by function, and what each took."""

    names: deque[str]
    held: dict[str, str] = field(default_factory=dict)
    made_ms: list[float] = field(default_factory=list)
    gave_out: str = ""  #: what kept it from growing on; empty: nothing did
    lock: threading.Lock = field(default_factory=threading.Lock)

    def grow(self, server: Server) -> None:
        """In several threads at once."""
        while not self.gave_out:
            with self.lock:
                if not self.names:
                    return
                name = self.names.popleft()
            try:
                if available_bytes() < RESERVE_BYTES:
                    raise WrongAnswer(f"memory of this host: less than {RESERVE_BYTES >> 20} MiB are left")
                taken_ms, answer = call_ms(server.target_of(Function(name)))
            except (WrongAnswer, OSError) as error:
                self.gave_out = self.gave_out or f"{str(error)[-300:]}"
                return
            with self.lock:
                self.held[name] = header(answer, b"X-Lambent-Environment")
                self.made_ms.append(taken_ms)

    def keep(self, living: set[str]) -> None:
        """Forget environments that were ended to make room for others."""
        made = len(self.held)
        self.held = {name: environment for name, environment in self.held.items() if environment in living}
        if len(self.held) < made:
            self.gave_out = self.gave_out or (f"memory of all environments together (--memory-mib): {made} were made, "
                                              f"of which {made - len(self.held)} idle ones made room")  # fmt: skip


def measure(options: Options, parts: set[str]) -> list[Line]:
    """The lines of `density` and of `crowd`, over the same environments."""
    flags = ["--tmp", options.tmp, "--keep-alive-s", "86400", "--max-age-s", "864000"]
    if options.memory_mib:
        flags += ["--memory-mib", str(options.memory_mib)]
    lines: list[Line] = []
    with ExitStack() as stack:
        full = stack.enter_context(Server(*flags))
        fill(full, max(options.functions if "crowd" in parts else 0, options.environments))
        _wait_active(full)
        call_ms(full.target)
        before = available_bytes(), descriptors(full.process.pid)
        crowd = Crowd(deque(f"stored-{number:05}" for number in range(options.environments)))
        begun = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(crowd.grow, [full] * AT_ONCE))
        took_s = time.monotonic() - begun
        if crowd.gave_out:
            crowd.gave_out = _limit(full) or crowd.gave_out
        crowd.keep({row["id"] for row in full.client.environments()})
        if "density" in parts:
            lines += _density(options, full, crowd, before, took_s)
        if "crowd" in parts:
            empty = stack.enter_context(Server(*flags))
            lines += _crowd(options, full, empty, len(crowd.held))
    if "density" in parts:
        lines[0] = replace(lines[0], more=f"{lines[0].more}; all ended in {full.stop_s:.1f} s")
    return lines


def _density(options: Options, server: Server, crowd: Crowd, before: tuple[int, int], took_s: float) -> list[Line]:
    count = max(1, len(crowd.held))
    server.until(lambda: all(row["frozen"] for row in server.client.environments()), "an environment is not frozen")
    taken = (before[0] - available_bytes()) / count / MB
    open_files = (descriptors(server.process.pid) - before[1]) / count
    last_rows = server.client.environments()[-WEIGHED:]
    weighed = [sum(map(pss_bytes, {parent(row["pids"][0]), *row["pids"]})) / MB for row in last_rows]
    used_us = cpu_us(server.process.pid)
    time.sleep(IDLE_S)
    idle_share = (cpu_us(server.process.pid) - used_us) / IDLE_S / 1e6
    again, same = _call_again(server, crowd)
    first, last = median(crowd.made_ms[:ENDS]), median(crowd.made_ms[-ENDS:])
    said = [f"{len(crowd.made_ms):,} made in {took_s:.0f} s, {AT_ONCE} at once",
            f"a new one took {first:.1f} ms at first, {last:.1f} at last",
            f"all but {len(crowd.held) - same} answered again in the same environment", f"/tmp on {options.tmp}",
            f"what gave out: {crowd.gave_out or 'nothing'}"]  # fmt: skip
    asked = options.environments >= WANTED
    return [
        Line("frozen environments at once, all still answering", "", same, f"{WANTED:,}" if asked else "",
             same >= WANTED and same == len(crowd.held) if asked else None, more="; ".join(said)),
        Line("memory that the host has less, for each", "MB", taken, "", None,
             more=f"proportional memory of the last {len(weighed)}: {sum(weighed) / len(weighed):.1f} MB; "
                  f"the server itself {resident_bytes(server.process.pid) / MB:.0f} MB"),
        Line("descriptors of the server, for each", "", open_files, f"at most {WANTED_DESCRIPTORS}",
             open_files <= WANTED_DESCRIPTORS + 0.05),
        Line("the server's CPU while all are idle", "% of a core", idle_share * 100, "", None),
        Line("first call after the freeze, one connection each", "ms", median(again), "", None, around=around(again),
             samples=len(again)),
    ]  # fmt: skip


def _call_again(server: Server, crowd: Crowd) -> tuple[list[float], int]:
    """Milliseconds of each, and how many answered from the environment that they had."""
    taken, same = [], 0
    for name, environment in crowd.held.items():
        taken_ms, answer = call_ms(server.target_of(Function(name)))
        taken.append(taken_ms)
        same += header(answer, b"X-Lambent-Environment") == environment
    return taken, same


def _crowd(options: Options, full: Server, empty: Server, held: int) -> list[Line]:
    crowded: list[list[float]] = []
    alone: list[list[float]] = []
    sides = [(Wire(full.target), crowded), (Wire(empty.target), alone)]
    try:
        for wire, _ in sides:
            wire.samples(WARM_UP)
        for number in range(ROUNDS):
            for wire, rounds in sides if number % 2 else sides[::-1]:
                rounds.append(wire.samples(CALLS))
    finally:
        for wire, _ in sides:
            wire.close()
    compared = ratio([median(one) for one in crowded], [median(one) for one in alone])
    asked = held >= WANTED and options.functions >= 10_000
    p50s = [median([one for each in rounds for one in each]) for _, rounds in sides]
    return [Line(f"warm call among {held:,} environments, {options.functions:,} functions, against none", "times",
                 compared.middle, f"{WANTED_COST:g} times" if asked else "",
                 compared.middle <= WANTED_COST if asked else None, around=compared.spread, samples=ROUNDS * CALLS,
                 more=f"p50 {p50s[0]:.0f} and {p50s[1]:.0f} us; {ROUNDS} rounds in turn")]  # fmt: skip


def _wait_active(server: Server) -> None:
    waiting = [one["FunctionName"] for one in server.client.functions() if one.get("State") != "Active"]
    for name in waiting:
        server.until(lambda name=name: server.client.configuration(name)["State"] == "Active", f"{name} is not Active")  # type: ignore[misc]


def _limit(server: Server) -> str:
    """Which of the host's limits is used up, if any; the server may be gone."""
    pairs = [("processes and threads of this host (kernel.pid_max)", threads(), _number("/proc/sys/kernel/pid_max")),
             ("processes and threads of this host (kernel.threads-max)", threads(),
              _number("/proc/sys/kernel/threads-max"))]  # fmt: skip
    try:
        _, files = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        pairs.append(("descriptors of the server (ulimit -n)", descriptors(server.process.pid), files))
    except OSError:
        return "the server ended"
    for name, used, limit in pairs:
        if used > 0.98 * limit:
            return f"{name}: {used:,} of {limit:,}"
    return ""


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise NoServer(f"{path} cannot be read") from error
