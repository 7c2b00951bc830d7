"""The worker in this process: makes drivers, keeps them by number, and remembers the stories of those that ended."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from lambent.clock import Clock, rfc3339
from lambent.core.model import FunctionVersion, InitType, Invocation
from lambent.core.states import Phase
from lambent.errors import ApiError
from lambent.limits import MAX_EXTENSIONS
from lambent.runtimeapi.peer import PeerLookup
from lambent.runtimes.catalog import RuntimeUnavailable
from lambent.runtimes.preparation import Runtimes
from lambent.sandbox.base import SandboxBackend
from lambent.store.references import names_of
from lambent.telemetry.logstores import LogStores
from lambent.worker.awake import Awake
from lambent.worker.base import Owner, PreparationFailed
from lambent.worker.blanks import Blanks
from lambent.worker.census import Census, Facts
from lambent.worker.codes import Codes
from lambent.worker.driver import Driver
from lambent.worker.guests import Guests
from lambent.worker.packages import PackageStore
from lambent.worker.parts import Parts
from lambent.worker.spare import SpareTime
from lambent.worker.turns import Turns

#: Stories of ended environments that can still be asked for.
STORIES_KEPT = 200


class _Past(NamedTuple):
    """The story of an environment that has ended, as text: its objects would take several times the memory."""

    function_arn: str
    text: bytes

    def story(self) -> dict[str, Any]:
        return msgspec.json.decode(self.text, type=dict[str, Any])


class LocalWorker:
    """See `worker.base.Worker`."""

    def __init__(self, *, clock: Clock, backend: SandboxBackend, runtimes: Runtimes, packages: PackageStore,
                 logs: LogStores, owner: Owner, network: str, limit_bandwidth: bool = False,
                 most_blanks: int = 0, memory_budget_bytes: int | None = None) -> None:
        peers = PeerLookup() if os.uname().sysname == "Linux" else None
        self._run = os.urandom(3).hex()  # tells the environments of this start from those of earlier ones
        blanks = Blanks(backend=backend, clock=clock, run=self._run, most=most_blanks,
                        memory_budget_bytes=memory_budget_bytes)
        codes = Codes(packages, backend, self._run)
        spare = SpareTime()
        logs.before_reading = spare.use
        self._parts = Parts(clock, backend, runtimes, packages, logs, owner, network, peers, blanks, codes, self._ended,
                            spare, Turns(), Awake(), limit_bandwidth)
        self._clock = clock
        clock.watch(self._clock_advanced)
        #: one for each environment that is not GONE or whose destruction is under way
        self._drivers: dict[int, Driver] = {}
        self._numbers: dict[str, int] = {}
        self._past: OrderedDict[str, _Past] = OrderedDict()
        self._empty = asyncio.Event()
        self._empty.set()
        self._refused_before = 0
        self._looking, self._weighing = Census(self._facts), Census(self._facts, pss=True)
        self.guests = Guests(peers, lambda: (driver.sandbox for driver in self._drivers.values()
                                             if driver.sandbox is not None))  # fmt: skip
        self._expecting: asyncio.Task[None] | None = None

    def start(self, number: int, invocation: Invocation) -> None:
        self._driver(number, invocation.function, "on-demand").start(invocation)

    def provision(self, number: int, function: FunctionVersion) -> None:
        self._driver(number, function, "provisioned-concurrency").start(None)

    def start_ahead(self, number: int, function: FunctionVersion) -> None:
        self._driver(number, function, "on-demand").start(None)

    def _driver(self, number: int, function: FunctionVersion, init_type: InitType) -> Driver:
        environment_id = f"{self._run}-{number}"
        driver = Driver(number, environment_id, function, self._parts, init_type)
        self._drivers[number] = driver
        self._parts.packages.references.hold(names_of(function.code_sha256, function.layers))
        self._numbers[environment_id] = number
        self._empty.clear()
        return driver

    def assign(self, number: int, invocation: Invocation) -> None:
        self._drivers[number].assign(invocation)

    def retire(self, number: int, reason: str, *, force: bool = False) -> None:
        driver = self._drivers.get(number)
        if driver is not None:
            driver.retire(reason, force)

    def crash(self, number: int, participant: str) -> bool:
        driver = self._drivers.get(number)
        return driver is not None and driver.crash(participant)

    def at_rest(self, number: int) -> bool:
        driver = self._drivers.get(number)
        return driver is None or driver.machine.phase in (Phase.IDLE, Phase.GONE)

    def _clock_advanced(self, seconds: float) -> None:
        for driver in list(self._drivers.values()):
            driver.clock_advanced(seconds)

    def _ended(self, driver: Driver) -> None:
        if self._drivers.pop(driver.number, None) is None:
            return
        if not self._drivers:
            self._empty.set()
        function = driver.function
        self._parts.packages.references.release(names_of(function.code_sha256, function.layers))
        driver.chronicle.close()
        del self._numbers[driver.id]
        self._past[driver.id] = _Past(function.function_arn, msgspec.json.encode(self._render(driver)))
        while len(self._past) > STORIES_KEPT:
            self._past.popitem(last=False)

    # What people see

    def environments(self) -> list[dict[str, Any]]:
        return [self._known(driver) for driver in self._drivers.values() if driver.machine.phase is not Phase.GONE]

    def look(self, tell: Callable[[list[dict[str, Any]]], None], *, pss: bool = False) -> None:
        (self._weighing if pss else self._looking).ask(tell)

    def _facts(self) -> list[Facts]:
        return [Facts(self._row(driver), driver.sandbox.look() if driver.sandbox is not None else None)
                for driver in self._drivers.values() if driver.machine.phase is not Phase.GONE]  # fmt: skip

    def _known(self, driver: Driver) -> dict[str, Any]:
        return {
            "id": driver.id,
            "function_name": driver.function.name,
            "function_arn": driver.function.function_arn,
            "version": driver.function.version,
            "phase": driver.machine.phase.value,
        }

    def _row(self, driver: Driver) -> dict[str, Any]:
        sandbox = driver.sandbox
        return self._known(driver) | {
            "sandbox": self._parts.backend.name,
            "created_at": driver.created_wall,
            "last_used_at": driver.last_used_wall,
            "invocations": driver.invocations,
            "init_type": driver.machine.init_type,
            "made_ahead": driver.machine.made_ahead,
            "from_blank": sandbox is not None and sandbox.id != driver.id,
        }

    def blanks(self) -> int:
        """Parked blanks that wait for a function."""
        return self._parts.blanks.machine.parked()

    def find(self, environment_id: str) -> int | None:
        return self._numbers.get(self._whole(environment_id))

    def _whole(self, environment_id: str) -> str:
        """The number alone is one of this start."""
        return f"{self._run}-{environment_id}" if environment_id.isdecimal() else environment_id

    def story(self, environment_id: str) -> dict[str, Any] | None:
        environment_id = self._whole(environment_id)
        number = self._numbers.get(environment_id)
        if number is not None:
            return self._render(self._drivers[number])
        past = self._past.get(environment_id)
        return past.story() if past is not None else None

    def stories(self, function_arn: str) -> list[dict[str, Any]]:
        living = [self._render(driver) for driver in self._drivers.values()
                  if driver.function.function_arn == function_arn]  # fmt: skip
        past = [past.story() for past in self._past.values() if past.function_arn == function_arn]
        return sorted((*past, *living), key=lambda story: int(story["id"].rpartition("-")[2]))

    def _render(self, driver: Driver) -> dict[str, Any]:
        steps = []
        for step in driver.machine.journal.steps():
            wall_s = self._clock.wall_at(step["at"])
            offset_ms = round((wall_s - driver.created_wall) * 1000, 3)
            steps.append(step | {"at": rfc3339(wall_s), "offset_ms": offset_ms})
        return {
            "id": driver.id,
            "function_name": driver.function.name,
            "function_arn": driver.function.function_arn,
            "version": driver.function.version,
            "init_type": driver.machine.init_type,
            "made_ahead": driver.machine.made_ahead,
            "log_group": driver.function.log_group,
            "log_stream": driver.chronicle.log_stream,
            "phase": driver.machine.phase.value,
            "created_at": rfc3339(driver.created_wall),
            "steps": steps,
            "invocations": driver.chronicle.bills(),
        }

    def memory(self) -> tuple[int, bool] | None:
        used = self._parts.backend.memory_bytes()
        if used is None:
            return None
        refused = self._parts.backend.memory_events() or 0
        grown = refused > self._refused_before
        self._refused_before = refused
        self._parts.blanks.measured(used)
        return used, grown

    def expect_shortage(self, short: bool) -> None:
        if short and not self._parts.short_of_memory:
            for driver in self._drivers.values():
                driver.memory_is_short()
        self._parts.short_of_memory = short

    # Before and after

    async def prepare(self, function: FunctionVersion) -> FunctionVersion:
        try:
            await self._parts.packages.unpack(function.code_sha256)
            await self._parts.packages.opt(function.layers)
        except ApiError as error:
            raise PreparationFailed("InvalidZipFileException", error.message) from None
        except OSError as error:
            raise PreparationFailed("InternalError", f"The code cannot be unpacked: {error}") from None
        extensions = self._parts.extensions(function)
        if len(extensions) > MAX_EXTENSIONS:
            raise PreparationFailed("FunctionError.TooManyExtensions", f"The layers hold {len(extensions)} extensions; "
                                    f"at most {MAX_EXTENSIONS} are allowed.")  # fmt: skip
        try:
            runtime = await self._parts.runtimes.prepare(function.runtime)
        except RuntimeUnavailable as error:
            raise PreparationFailed(error.code, str(error)) from None
        if runtime.actual != runtime.identifier:
            self._parts.complain(f"{function.name}: {runtime.identifier} is not on this host; {runtime.actual} serves")
        if function.architecture == "arm64" and os.uname().machine == "x86_64":
            self._parts.complain(f"{function.name}: arm64 code runs on this x86_64 host; native parts will not load")
        self._parts.compiled(function, runtime)
        self._parts.blanks.expect(runtime, function, self._parts.network)
        return function

    def expect(self, functions: Iterable[FunctionVersion]) -> None:
        """These were Active when the server started: have blanks for them in a while, without holding up anybody."""
        if self._parts.blanks.can_park():
            self._expecting = asyncio.create_task(self._expect(list(functions)))

    async def _expect(self, functions: list[FunctionVersion]) -> None:
        by_runtime: dict[str, list[FunctionVersion]] = {}
        for function in functions:
            by_runtime.setdefault(function.runtime, []).append(function)
        # The most common one first; one at a time, since whoever calls already wants the processor.
        for identifier, those in sorted(by_runtime.items(), key=lambda item: -len(item[1])):
            try:
                runtime = await self._parts.runtimes.prepare(identifier)
                await self._parts.blanks.find(runtime, those, self._parts.network)
            except RuntimeUnavailable:
                continue  # the first call says so
            except Exception as error:
                self._parts.complain(f"no blanks for {identifier}: {error!r}")

    async def stop(self) -> None:
        if self._expecting is not None:
            self._expecting.cancel()
        await self._parts.codes.stop()
        await self._parts.blanks.stop()
        await self._empty.wait()
        if self._parts.peers is not None:
            self._parts.peers.close()
