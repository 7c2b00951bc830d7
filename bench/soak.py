"""`python -m bench soak --minutes 10`: everything at once, random kills in between, and then nothing may be left.

Callers (`soak_acts`) do what users do, each with functions of its own, drawn from a seed that is printed; the order of
each caller's acts repeats with the seed, what meets what does not. Meanwhile runtimes, extensions, process 1 of
sandboxes and the launcher are killed, and environments retired. In the end the server must be as it was: no process,
mount, control group, loop device or descriptor more, its memory flat, and no traceback. Exit code 1 says what is not;
Ctrl-C ends everything, says what was seen up to then, and exits with 130.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO

from bench.measure import median
from bench.server import NoServer, Server
from bench.soak_acts import Caller
from bench.soak_watch import Holdings, Watch
from lambent.client import Client
from lambent.errors import ApiError

CALLERS = 4
#: Of memory that grows all the time: what the last quarter has more than the third one, at most.
GROWTH_KIB_PER_MINUTE = 1024
SAMPLE_S = 2.0
#: A shorter run says nothing about memory: what is kept of ended environments takes minutes to fill.
WARM_S = 400.0
CALM_S = 30.0
#: Between two kills, at least and at most.
PAUSE_S = (0.2, 1.5)
#: Parked sandboxes: one each for Python, Node.js and custom runtimes, so that as many are there in the end; and their
#: processes, the waiting runtimes of two of them among these.
BLANKS = 3
PARKED_PROCESSES = 5
#: Images for /tmp that are kept ready.
POOLED_LOOPS = 4
#: For what the callers were about when they were interrupted, once no server answers them any more.
END_S = 10.0
INTERRUPTED = 130  #: as shells have it


class Soak:
    """One run. `wrong` collects what should not have been, one line each."""

    def __init__(self, server: Server, seed: int, stderr: IO[str]) -> None:
        self._server = server
        self._seed = seed
        self._stderr = stderr
        endpoint, port = server.client.endpoint, server.client.port
        about = server.client.health()
        self._watch = Watch(server.process.pid, about["instance"], server.data_dir)
        self._callers = [Caller(endpoint, port, number, seed) for number in range(CALLERS)]
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []
        self._interrupted = False
        self._kills: Counter[str] = Counter()
        self._samples: list[tuple[float, Holdings]] = []
        self.wrong: list[str] = []

    def run(self, minutes: float) -> None:
        try:
            self._run(minutes)
        except KeyboardInterrupt:
            self._interrupted = True
            raise
        finally:
            self._end.set()

    def _run(self, minutes: float) -> None:
        self._start([caller.deploy for caller in self._callers])
        self._join()
        for caller in self._callers:  # so that all that is made at first use is there
            for _ in range(5):
                caller.act()
        before = self._calm()
        print(f"before: {before.text()}", flush=True)
        self._spend(minutes * 60)
        after = self._calm()
        print(f"after:  {after.text()}", flush=True)
        self.wrong += leaks(before, after)
        self._judge_memory()
        self._tell()

    def _spend(self, seconds: float) -> None:
        begun = time.monotonic()
        self._start([*(partial(self._call, caller) for caller in self._callers), self._kill])
        minute = 0
        while (passed := time.monotonic() - begun) < seconds and not self._end.wait(min(SAMPLE_S, seconds - passed)):
            now = self._watch.holdings()
            self._samples.append((time.monotonic() - begun, now))
            if passed // 60 > minute:
                minute += 1
                acts = sum(caller.acts.total() for caller in self._callers)
                print(f"minute {minute:2}: {acts} acts, {self._kills.total()} kills, {now.text()}", flush=True)
        self._end.set()
        self._join()

    def _start(self, works: list[Callable[[], None]]) -> None:
        """Each in a thread, which is a daemon: nothing that one waits for may keep us from ending."""
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def _join(self, wait_s: float | None = None) -> None:
        deadline = time.monotonic() + (wait_s or 0)
        for thread in filter(threading.Thread.is_alive, self._threads):  # the interruption may come before the start
            thread.join(None if wait_s is None else max(0.0, deadline - time.monotonic()))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _call(self, caller: Caller) -> None:
        while not self._end.is_set():
            self._guarded(caller.act)

    def _fail(self, error: Exception) -> None:
        if self._interrupted:  # the server ends, as it was told
            return
        line = f"{type(error).__name__}: {error}"
        if len(self.wrong) < 20:
            self.wrong.append(line)
            print(f"WRONG {line}", flush=True)
            if type(error).__name__ != "Unexpected":
                traceback.print_exc()

    def _kill(self) -> None:
        """By the seed: whom, and when."""
        dice = random.Random(f"{self._seed}-kills")
        with Client(self._server.client.endpoint, token=self._server.token) as asking:
            while not self._end.wait(dice.uniform(*PAUSE_S)):
                whom = dice.choices(["guest", "process 1", "launcher", "retire"], [10, 4, 1, 4])[0]
                which = dice.random()
                try:
                    self._kills[whom] += self._strike(asking, whom, which)
                except Exception as error:
                    self._fail(error)

    def _strike(self, asking: Client, whom: str, which: float) -> bool:
        if whom == "retire":
            rows = asking.environments()
            if rows:
                with suppress(ApiError):  # gone meanwhile
                    asking.retire(rows[int(which * len(rows))]["id"])
            return bool(rows)
        pids = {"guest": self._watch.guests, "process 1": self._watch.firsts, "launcher": self._watch.launchers}[whom]()
        if pids:
            with suppress(ProcessLookupError):
                os.kill(pids[int(which * len(pids))], signal.SIGKILL)
        return bool(pids)

    # Afterwards

    def _calm(self) -> Holdings:
        """What the server holds once every environment is gone, its blanks wait and its pool is full.

        Loop devices alone do not say so: those of ended sandboxes, which the kernel has yet to take away, look like
        images that are still to be made. And what is made has a descriptor more for a moment: two looks must agree.
        """
        deadline = time.monotonic() + CALM_S
        for caller in self._callers:
            caller.hang_up()
        self._server.retire_all()
        earlier = self._watch.holdings()
        while True:
            time.sleep(0.1)
            now = self._watch.holdings()
            full = now.processes == 1 + PARKED_PROCESSES and now.loops == BLANKS + POOLED_LOOPS
            settled = full and self._watch.images() == POOLED_LOOPS and now.descriptors == earlier.descriptors
            if settled:
                return now
            if time.monotonic() > deadline:
                print(f"not settled after {CALM_S:g} s", flush=True)
                return now
            earlier = now

    def _judge_memory(self) -> None:
        quarter = len(self._samples) // 4
        if quarter < 5:
            return
        third, last = self._samples[2 * quarter : 3 * quarter], self._samples[3 * quarter :]
        growth = median([now.rss_kib for _, now in last]) - median([now.rss_kib for _, now in third])
        minutes = (median([at for at, _ in last]) - median([at for at, _ in third])) / 60
        print(f"memory: {growth / minutes / 1024:+.2f} MiB a minute in the second half", flush=True)
        warm = self._samples[-1][0] >= WARM_S
        if warm and growth / minutes > GROWTH_KIB_PER_MINUTE:
            self.wrong.append(f"memory grows by {growth / minutes / 1024:.1f} MiB a minute")

    def _tell(self) -> None:
        acts: Counter[str] = sum((caller.acts for caller in self._callers), Counter())
        struck: Counter[str] = sum((caller.struck for caller in self._callers), Counter())
        print(f"acts:   {_listed(acts)}\nkills:  {_listed(self._kills)}\nstruck: {_listed(struck)}", flush=True)
        # A process 1 or the launcher may take along what several callers wait for.
        if struck.total() > 2 * self._kills.total() + 10:
            self.wrong.append(f"{struck.total()} answers were struck by {self._kills.total()} kills")

    def interrupted(self) -> None:
        """After the server's end, which fails whatever the callers still wait for."""
        self._join(END_S)
        print("interrupted", flush=True)
        self._judge_memory()
        self._tell()

    def stopped(self) -> None:
        """After the server's end."""
        if self._server.process.returncode != 0:
            self.wrong.append(f"the server ended with {self._server.process.returncode}")
        for path in self._watch.parents():
            self.wrong.append(f"left behind: {path}")
        self._stderr.seek(0)
        said = self._stderr.read()
        for sign in ("Traceback", "is given up"):
            if sign in said:
                self.wrong.append(f"the server's standard error has {said.count(sign)} times {sign!r}:")
                self.wrong.append(said[max(0, said.index(sign) - 500) :][:3000])


def leaks(before: Holdings, after: Holdings) -> list[str]:
    """What there is more of afterwards, one line for each kind."""
    more = {name: getattr(after, name) - getattr(before, name) for name in ("processes", "groups", "mounts", "loops")}
    found = [f"{count} {name} are left" for name, count in more.items() if count > 0]
    left = after.descriptors - before.descriptors
    return [*found, f"descriptors are left: {dict(left)}"] if left else found


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryFile("w+") as stderr:
        soak: Soak | None = None
        interrupted = False
        try:
            with Server(stderr=stderr, blanks=BLANKS) as server:
                soak = Soak(server, options.seed, stderr)
                soak.run(options.minutes)
        except NoServer as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            interrupted = True
        if soak is None:
            return INTERRUPTED
        if interrupted:
            soak.interrupted()
        soak.stopped()
    for line in soak.wrong:
        print(f"WRONG {line}")
    if interrupted:
        return INTERRUPTED
    return 1 if soak.wrong else 0
