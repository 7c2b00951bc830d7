"""The live body of `core.scheduler`: invocations in, outcomes out; between them the machine's effects on a worker.

A caller hands in an invocation and a callback; there is no task and no future on the way. Answers of the platform
itself (throttled, no memory, a fault of ours) come through the same callback, so that each invocation has an answer.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from lambent.clock import Clock
from lambent.core import chaos, outcomes
from lambent.core import scheduling as machine
from lambent.core.chaos import Chaos
from lambent.core.fleet import FleetKey
from lambent.core.model import FunctionVersion, Invocation, Outcome
from lambent.core.scheduler import Scheduler
from lambent.names import LATEST
from lambent.worker.base import Served, Sink, Source, Worker

#: Called once, from the event loop, perhaps before `invoke` returns. It must take the payload at once. If it raises, it
#: is called again, with an outcome that is easier to tell.
OnOutcome = Callable[[Outcome, Served | None], None]
#: Called when a streamed response begins, at most once and before OnOutcome: content type (empty when the runtime named
#: none), where it is served, the guest's end. Returns what takes the bytes.
OnStream = Callable[[str, Served, Source], Sink]
#: Function ARN, version, number of an environment, and whether it is made now or gone.
EnvironmentWatcher = Callable[[str, str, int, bool], None]
#: How often memory is measured while environments exist. The kernel tells of refusals only by a counter.
MEASURE_S = 1.0
#: How long the server's end waits for environments that are told to end at once: longer than any shutdown or
#: destruction may take, but not as long as the installation of a runtime that one of them waits for. The next start
#: clears up.
STOP_S = 15.0
_OUR_FAULT = "an internal error; the server's log has it"


class Dispatcher:
    """Owner of a worker's environments (`worker.base.Owner`)."""

    def __init__(self, scheduler: Scheduler, clock: Clock) -> None:
        self.scheduler = scheduler
        self.chaos = Chaos()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._worker: Worker | None = None
        self._waiting: dict[Invocation, OnOutcome] = {}
        self._streams: dict[Invocation, OnStream] = {}  #: of those whose caller takes a stream
        self._inbox: deque[machine.Event] = deque()
        self._stepping = False
        #: those of whom somebody wants to know when they are gone, and whom to tell
        self._leaving: list[tuple[set[int], Callable[[], None]]] = []
        #: whom to tell when an environment, by number, is idle or gone
        self._resting: dict[int, list[Callable[[], None]]] = {}
        #: what is retired while `advance` runs
        self._retired: list[machine.Retire] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._measuring: asyncio.TimerHandle | None = None
        self._environment_watchers: list[EnvironmentWatcher] = []
        self._quiet = asyncio.Event()
        self._quiet.set()

    def use(self, worker: Worker) -> None:
        """The worker to run environments on; given once, since each needs the other."""
        self._worker = worker
        self._clock.watch(self._clock_advanced)

    @property
    def worker(self) -> Worker:
        assert self._worker is not None
        return self._worker

    @property
    def in_flight(self) -> int:
        """Invocations that have no outcome yet."""
        return len(self._waiting)

    def invoke(self, invocation: Invocation, on_outcome: OnOutcome) -> None:
        """Run a function once."""
        self._waiting[invocation] = on_outcome
        self._quiet.clear()
        if self.chaos.throttles and self._throttled(invocation):
            return
        if self.scheduler.is_tight():
            self._measure_now()  # nobody is refused, and nothing retired, for what was true a second ago
        self._feed(machine.InvocationArrived(self._clock.platform(), invocation))

    def _throttled(self, invocation: Invocation) -> bool:
        arn = invocation.function.function_arn
        throttle = self.chaos.handle(chaos.InvocationArrived(self._clock.monotonic(), arn, invocation.request_id))
        if not isinstance(throttle, chaos.Throttle):
            return False
        self.replied(invocation, outcomes.refused(throttle.reason), None)
        return True

    def invoke_streaming(self, invocation: Invocation, on_stream: OnStream, on_outcome: OnOutcome) -> None:
        """Run a function once for a caller who takes the response as it is made. It may still come in one piece."""
        invocation.streams = True
        self._streams[invocation] = on_stream
        self.invoke(invocation, on_outcome)

    def function_changed(self, function_arn: str, version: str, serving: FunctionVersion | None) -> None:
        """A version's code or configuration is another one from now on, or the version was deleted."""
        generation = serving.generation if serving is not None else None
        self._feed(machine.FunctionChanged(self._clock.platform(), function_arn, version, generation))
        if version == LATEST and serving is None:
            self.reserve(function_arn, None)  # the whole function is gone

    def reserve(self, function_arn: str, concurrency: int | None) -> None:
        """Reserve concurrency for a function; None gives it back."""
        self._feed(machine.ReservationChanged(self._clock.platform(), function_arn, concurrency))

    def provision(self, function: FunctionVersion, wanted: int) -> None:
        """Keep this many environments of a version initialised; 0 for none."""
        self._feed(machine.ProvisionChanged(self._clock.platform(), function, wanted))

    def provision_status(self, function: FunctionVersion) -> tuple[int, int, int, str]:
        """Environments wanted, allocated and available, and why an Init failed (empty when none did)."""
        return self.scheduler.provision(function.fleet)

    def watch_environments(self, callback: EnvironmentWatcher) -> None:
        """Call this when an environment is made, and when it is gone."""
        self._environment_watchers.append(callback)

    @property
    def account_limit(self) -> int:
        """Concurrent executions of each account, in each region."""
        return self.scheduler.pools.limit

    def retire(self, number: int, reason: str) -> None:
        """Let an environment end, once it is idle."""
        self._feed(machine.RetireAsked(self._clock.platform(), number, reason))

    def advance(self, seconds: float) -> list[machine.Retire]:
        """Move platform time on, for everybody who watches the clock; who is retired for it. Raises ValueError."""
        retired: list[machine.Retire] = []
        self._retired = retired
        try:
            self._clock.advance(seconds)
        finally:
            self._retired = None
        return retired

    def when_gone(self, numbers: set[int], tell: Callable[[], None]) -> None:
        """Call once, when none of these environments lives any more: perhaps at once."""
        left = numbers & self.scheduler.members.keys()
        if left:
            self._leaving.append((left, tell))
        else:
            tell()

    def memory_grew(self) -> None:
        """All environments together have come near to what they may use: who is idle makes room for who is not."""
        self._measure_now()

    def when_at_rest(self, number: int, tell: Callable[[], None]) -> None:
        """Call once, when this environment is idle or gone: perhaps at once."""
        if self.worker.at_rest(number):
            tell()
        else:
            self._resting.setdefault(number, []).append(tell)

    async def stop(self, drain_s: float) -> None:
        """Refuse new invocations, give what runs `drain_s`, then end every environment."""
        self._feed(machine.StopRequested(self._clock.platform()))
        try:
            async with asyncio.timeout(drain_s):
                await self._quiet.wait()
                await self.worker.stop()  # an extension may go on after the answer
        except TimeoutError:
            for number in list(self.scheduler.members):
                self.worker.retire(number, "stopping", force=True)
            await self._end()
        for timer in (self._timer, self._measuring):
            if timer is not None:
                timer.cancel()

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self.worker.stop()
        except TimeoutError:
            left = len(self.scheduler.members)
            print(f"lambent: not ended in {STOP_S:g} s, and left behind: {left} of the environments",
                  file=sys.stderr, flush=True)  # fmt: skip

    # worker.base.Owner

    def streaming(self, invocation: Invocation, content_type: str, served: Served, source: Source) -> Sink:
        return self._streams[invocation](content_type, served, source)

    def replied(self, invocation: Invocation, outcome: Outcome, served: Served | None) -> None:
        on_outcome = self._waiting.pop(invocation, None)
        if on_outcome is None:
            return
        if invocation.streams:
            self._streams.pop(invocation, None)
        if not self._waiting:
            self._quiet.set()
        try:
            on_outcome(outcome, served)
        except Exception:
            traceback.print_exc()
            on_outcome(outcomes.platform_failed(_OUR_FAULT), served)
        invocation.payload = b""  # the journal keeps the invocation, and must not keep megabytes

    def settling(self, number: int) -> None:
        self._feed(machine.EnvironmentSettling(self._clock.platform(), number))

    def idle(self, number: int) -> None:
        self._feed(machine.EnvironmentIdle(self._clock.platform(), number))
        if self._resting:
            self._tell_of_rest(number)

    def init_failed(self, number: int) -> None:
        self._feed(machine.InitFailed(self._clock.platform(), number))

    def init_failure(self, function: FunctionVersion, environment_id: str) -> str | None:
        if not self.chaos.init_failures:
            return None
        at, arn = self._clock.monotonic(), function.function_arn
        fails = self.chaos.handle(chaos.InitBegan(at, arn, environment_id))
        return fails.failure if isinstance(fails, chaos.FailInit) else None

    def gone(self, number: int) -> None:
        member = self.scheduler.members.get(number)
        if member is not None:
            self._tell(member.fleet.key, number, made=False)
        self._feed(machine.EnvironmentGone(self._clock.platform(), number))
        if self._leaving:
            self._tell_of_gone(number)
        if self._resting:
            self._tell_of_rest(number)

    def _tell_of_rest(self, number: int) -> None:
        if self.worker.at_rest(number):  # it may have been assigned at once
            for tell in self._resting.pop(number, ()):
                tell()

    def _tell_of_gone(self, number: int) -> None:
        for entry in list(self._leaving):
            left, tell = entry
            left.discard(number)
            if not left:
                self._leaving.remove(entry)
                tell()

    def _tell(self, fleet: FleetKey, number: int, *, made: bool) -> None:
        arn, version, _ = fleet
        for watcher in self._environment_watchers:
            watcher(arn, version, number, made)

    # Events in, effects out

    def _feed(self, event: machine.Event) -> None:
        self._inbox.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inbox:
                self._step(self._inbox.popleft())
        finally:
            self._stepping = False

    def _step(self, event: machine.Event) -> None:
        try:
            effects = self.scheduler.handle(event)
        except Exception:
            traceback.print_exc()
            if isinstance(event, machine.InvocationArrived):
                self.replied(event.invocation, outcomes.platform_failed(_OUR_FAULT), None)
            return
        for effect in effects:
            try:
                _PERFORM[type(effect)](self, effect)
            except Exception:
                traceback.print_exc()
                self._undo(effect)

    def _undo(self, effect: machine.Effect) -> None:
        """The worker has failed to do it: there is no such environment, and whoever waits for it is answered."""
        if isinstance(effect, (machine.Assign, machine.Start)):
            self.replied(effect.invocation, outcomes.platform_failed(_OUR_FAULT), None)
        if isinstance(effect, (machine.Assign, machine.Start, machine.Provision, machine.StartAhead)):
            self.gone(effect.number)

    def _assign(self, effect: machine.Assign) -> None:
        self.worker.assign(effect.number, effect.invocation)

    def _start(self, effect: machine.Start) -> None:
        self._tell(effect.invocation.function.fleet, effect.number, made=True)
        self.worker.start(effect.number, effect.invocation)
        self._keep_measuring()

    def _provision(self, effect: machine.Provision) -> None:
        self._tell(effect.function.fleet, effect.number, made=True)
        self.worker.provision(effect.number, effect.function)
        self._keep_measuring()

    def _start_ahead(self, effect: machine.StartAhead) -> None:
        self._tell(effect.function.fleet, effect.number, made=True)
        self.worker.start_ahead(effect.number, effect.function)
        self._keep_measuring()

    def _keep_measuring(self) -> None:
        if self._measuring is None:
            self._measuring = self._loop.call_later(MEASURE_S, self._measure)

    def _refuse(self, effect: machine.Refuse) -> None:
        if effect.reason == "MemoryExhausted":
            outcome = outcomes.platform_failed("no memory is left for another execution environment on this host")
        elif effect.reason == "ServiceStopping":
            outcome = outcomes.platform_failed("the server is stopping")
        else:
            outcome = outcomes.refused(effect.reason)
        self.replied(effect.invocation, outcome, None)

    def _retire(self, effect: machine.Retire) -> None:
        if self._retired is not None:
            self._retired.append(effect)
        self.worker.retire(effect.number, effect.reason)

    def _set_timer(self, effect: machine.SetTimer) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, effect.at - self._clock.platform())
        self._timer = self._loop.call_later(delay, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        self._feed(machine.TimePassed(self._clock.platform()))

    def _clock_advanced(self, seconds: float) -> None:
        self._feed(machine.ClockAdvanced(self._clock.platform(), seconds))

    def _measure(self) -> None:
        self._measuring = None
        if not self.scheduler.members:
            return
        self._measuring = self._loop.call_later(MEASURE_S, self._measure)
        self._measure_now()

    def _measure_now(self) -> None:
        measured = self.worker.memory()
        if measured is not None:
            used_bytes, refused = measured
            self._feed(machine.MemoryMeasured(self._clock.platform(), used_bytes, refused))
            self.worker.expect_shortage(self.scheduler.is_short())


_PERFORM: dict[type, Callable[[Dispatcher, Any], None]] = {
    machine.Assign: Dispatcher._assign,
    machine.Start: Dispatcher._start,
    machine.Provision: Dispatcher._provision,
    machine.StartAhead: Dispatcher._start_ahead,
    machine.Refuse: Dispatcher._refuse,
    machine.Retire: Dispatcher._retire,
    machine.SetTimer: Dispatcher._set_timer,
}
assert set(_PERFORM) == set(machine.Effect.__args__)  # every effect has its performer
