"""The live body of `core.environment`: performs its effects on a sandbox and feeds back what happened.

It decides nothing. `feed` is synchronous: an event goes to the inbox, and unless a step is under way the inbox is
drained, so that one step ends before the next begins, whoever feeds. Long effects are tasks that end by feeding an
event. On the warm path there is no task and no future: three events, and one pass over their effects each.

Its parts: `processes` starts them, `chronicle` writes what is told, `door` lets them in, `alarm` has the deadline.
Longer than 400 lines because every effect has its performer here.

Whatever fails here, the host's fault or ours, becomes the event SandboxFailed after the step, and the other effects of
the step are still performed: one of them may be somebody's answer.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from lambent.clock import Clock
from lambent.core import effects as do
from lambent.core import outcomes
from lambent.core.environment import Environment
from lambent.core.events import (
    RUNTIME,
    ClockAdvanced,
    CrashProvoked,
    DeadlinePassed,
    EntrypointMissing,
    Event,
    InitFailureProvoked,
    InvocationAssigned,
    ProcessesEnded,
    ProcessExited,
    RetireRequested,
    SandboxCreated,
    SandboxFailed,
    Started,
)
from lambent.core.model import ExitStatus, FunctionVersion, InitType, Invocation
from lambent.core.states import Phase, State
from lambent.core.subscription import Api, Subscription
from lambent.runtimeapi.app import RuntimeApi
from lambent.runtimes.prepared import BootstrapMissing
from lambent.sandbox.base import ProcessSpec, Sandbox, SandboxError
from lambent.worker import reach
from lambent.worker.alarm import Alarm
from lambent.worker.awake import Answers
from lambent.worker.base import Served
from lambent.worker.chronicle import Chronicle
from lambent.worker.door import Door
from lambent.worker.parts import Parts
from lambent.worker.processes import Processes

_OUR_FAULT = "an internal error; the server's log has it"
#: How long killed processes may take to end (they may hang in the kernel, or free much memory), before the sandbox is
#: given up. AWS's published supervisor waits 2 s (fact sheet 1.7).
KILL_S = 5.0


class Driver:
    """One environment. `number` is the scheduler's, `id` what people see."""

    def __init__(self, number: int, environment_id: str, function: FunctionVersion, parts: Parts,
                 init_type: InitType = "on-demand") -> None:
        self.number = number
        self.id = environment_id
        self.function = function
        self.machine = Environment(function.timeout_s, init_type)
        self.sandbox: Sandbox | None = None
        self.created_wall = parts.clock.wall()
        self.last_used_wall = self.created_wall
        self.invocations = 0
        self._answers = Answers(parts.awake)
        self._was_ready = False  #: before the first invocation came
        self.chronicle = Chronicle(parts, function, init_type, self.created_wall)
        self._parts = parts
        self._clock: Clock = parts.clock
        self._loop = asyncio.get_running_loop()
        self._metadata_token = secrets.token_urlsafe(32)
        self._api = RuntimeApi(self, metadata_token=self._metadata_token, limit_bandwidth=parts.limit_bandwidth)
        self._door = Door(self._api, parts, lambda: self.machine.initialising)
        self._processes = Processes(self.chronicle, self._exited)
        self._inbox: deque[tuple[Event, bool]] = deque()
        self._stepping = False
        self._offered = False  #: to the kernel, as the first to end when memory is short
        self._alarm = Alarm(self._loop, self._clock, self._deadline_passed)
        self._tasks: set[asyncio.Task[None]] = set()

    # What the Runtime API asks (runtimeapi.app.Lifecycle)

    def now(self) -> float:
        return self._clock.monotonic()

    def refusal(self, event: Event) -> str | None:
        return self.machine.refusal(event)

    def runtime_state(self) -> State:
        return self.machine.runtime

    def extension_state(self, name: str) -> State:
        extension = self.machine.extensions.get(name)
        return State.ABSENT if extension is None else extension.state

    def is_external(self, name: str) -> bool:
        extension = self.machine.extensions.get(name)
        return extension is not None and extension.external

    def responding(self) -> bool:
        return self.machine.responding

    def subscription_refusal(self, name: str, api: Api) -> str | None:
        if not reach.can_reach(self._parts.network, self._parts.peers):
            return "NotSupported"
        if not self.machine.initialising:
            return "SubscriptionClosed"
        earlier = self.chronicle.telemetry.subscribed(name)
        return "Taken" if earlier is not None and earlier.api != api else None

    def subscribe(self, name: str, subscription: Subscription) -> None:
        self.chronicle.subscribed(name, subscription, lambda port: self._reach(name, port))

    async def _reach(self, name: str, port: int) -> socket.socket:
        """A connection to what an extension of this environment has listening. Raises OSError."""
        process = self._processes.running.get(name) or self._processes.running.get(RUNTIME)
        if process is None or self.sandbox is None:
            raise ConnectionRefusedError(f"{name} is gone")
        return await reach.connect(port, self.sandbox, process.pid, self._parts.network, self._parts.peers)

    # Events in, effects out

    @property
    def _gone(self) -> bool:
        return self.machine.phase is Phase.GONE

    def start(self, invocation: Invocation | None) -> None:
        self.feed(Started(self.now(), invocation))

    def assign(self, invocation: Invocation) -> None:
        self.feed(InvocationAssigned(self.now(), invocation))

    def retire(self, reason: str, force: bool = False) -> None:
        self.feed(RetireRequested(self.now(), reason, force))

    def clock_advanced(self, seconds: float) -> None:
        self.feed(ClockAdvanced(self.now(), seconds), late=True)

    def crash(self, participant: str) -> bool:
        """Kill one participant now; False, and nothing is done, when there is no such process."""
        event = CrashProvoked(self.now(), participant)
        if self.machine.refusal(event) is not None:
            return False
        self.feed(event, late=True)
        return True

    def feed(self, event: Event, late: bool = False) -> None:
        """Apply an event and perform what follows from it. A `late` one is dropped if it is not possible any more."""
        self._inbox.append((event, late))
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._inbox:
                self._step(*self._inbox.popleft())
        finally:
            self._stepping = False

    def _step(self, event: Event, late: bool) -> None:
        if late and self.machine.refusal(event) is not None:
            return
        if self._gone and isinstance(event, InvocationAssigned):
            self._lose(event.invocation, "the execution environment has just ended")
            return
        try:
            effects = self.machine.handle(event)
        except Exception as error:
            self._failed(error)
            if isinstance(event, InvocationAssigned):
                self._lose(event.invocation, _OUR_FAULT)
            return
        for effect in effects:
            try:
                _PERFORM[type(effect)](self, effect)
            except Exception as error:
                self._failed(error)

    def _lose(self, invocation: Invocation, cause: str) -> None:
        """Answer an invocation that the machine never had."""
        self._parts.owner.replied(invocation, outcomes.platform_failed(cause), self._served())
        invocation.payload = b""

    def _failed(self, error: Exception) -> None:
        """The environment is given up, once the step is over, and whoever waits is answered."""
        cause = str(error)
        if not isinstance(error, (SandboxError, OSError)):  # ours: loud, with the story
            cause = _OUR_FAULT
            traceback.print_exception(error)
            self._parts.complain(f"environment {self.id} is given up: {error!r}\n{self.machine.journal}")
        else:
            self._parts.complain(f"environment {self.id}: {cause}")
        self.feed(SandboxFailed(self.now(), cause), late=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._failed(error)

    # The sandbox and its processes

    def _create_sandbox(self, _: do.CreateSandbox) -> None:
        self._spawn(self._create())

    async def _create(self) -> None:
        parts = self._parts
        try:
            sandbox = await parts.create_sandbox(self.id, self.function, self._died)
        except Exception as error:
            self._failed(error)
            parts.ended(self)
            return
        self.sandbox = sandbox
        if self._gone:
            await self._take_away("gone before it was made")
            return
        self.feed(SandboxCreated(self.now(), parts.extensions(self.function)), late=True)
        if not self._gone:
            self._door.open(sandbox)

    def _died(self, reason: str) -> None:
        self._failed(SandboxError(reason))

    def _launch(self, effect: do.Launch) -> None:
        assert self.sandbox is not None
        self._parts.turns.began(self.sandbox)
        if self.machine.phase is Phase.INVOKE:
            self.chronicle.init_repeated()
        if effect.participant == RUNTIME:
            failure = self._parts.owner.init_failure(self.function, self.id)
            if failure is not None:
                self.feed(InitFailureProvoked(self.now(), failure), late=True)
                return
        self._spawn(self._run(effect.participant, self.sandbox))

    async def _run(self, participant: str, sandbox: Sandbox) -> None:
        def spec() -> ProcessSpec:
            return self._parts.process_spec(self.function, sandbox, self.chronicle.log_stream, participant,
                                            self.machine.init_type, self._metadata_token)

        try:
            await self._processes.run(participant, sandbox, spec)
        except BootstrapMissing as missing:
            self.feed(EntrypointMissing(self.now(), missing.candidates), late=True)

    def _exited(self, participant: str, exit: ExitStatus) -> None:
        exit = self._parts.told_why(self.function, participant, exit)
        self.feed(ProcessExited(self.now(), exit, participant))

    def _signal_runtime(self, effect: do.SignalRuntime) -> None:
        self._processes.signal(RUNTIME, signal.SIGKILL if effect.kill else signal.SIGTERM)

    def _kill_process(self, effect: do.KillProcess) -> None:
        self._processes.kill(effect.participant)

    def _terminate(self, _: do.Terminate) -> None:
        self._processes.next_generation()
        self._spawn(self._kill())

    async def _kill(self) -> None:
        assert self.sandbox is not None
        self.sandbox.limit_cpu(False)  # dying takes CPU too: a thousand processes would need seconds of a small share
        try:
            async with asyncio.timeout(KILL_S):
                await self.sandbox.kill()
        except TimeoutError:
            raise SandboxError(f"its processes have not ended in {KILL_S:g} s") from None
        self._api.forget()
        self.chronicle.telemetry.clear()
        self._door.send_away()
        self.feed(ProcessesEnded(self.now()), late=True)

    def _destroy(self, effect: do.Destroy) -> None:
        self._processes.end()
        self._alarm.end()
        if self.sandbox is not None:
            self._spawn(self._take_away(effect.reason))
        # else it is still being made, and `_create` takes it away
        self._parts.owner.gone(self.number)

    async def _take_away(self, reason: str) -> None:
        assert self.sandbox is not None
        try:
            self._parts.turns.gone(self.sandbox)
            self._door.close()
            self._api.forget()
            await self.sandbox.destroy(reason)
            self._processes.stop_listening()
        finally:
            self._parts.ended(self)

    # The warm path

    def _deliver(self, effect: do.Deliver) -> None:
        if effect.participant == RUNTIME:
            self.last_used_wall = self._clock.wall()
        deadline_ms = self._deadline_ms(effect.deadline)
        self._api.deliver(effect.participant, effect.invocation, deadline_ms)

    def _deadline_ms(self, deadline: float) -> int:
        """As guests are told: milliseconds since the epoch by their own clock."""
        return int((self._clock.host_wall() + deadline - self._clock.monotonic()) * 1000)

    def _deliver_shutdown(self, effect: do.DeliverShutdown) -> None:
        assert self.sandbox is not None
        self._parts.turns.began(self.sandbox)
        deadline_ms = self._deadline_ms(effect.deadline)
        self._api.deliver_shutdown(effect.participant, effect.reason, deadline_ms)
        self.chronicle.telemetry.flush()

    def _open_stream(self, effect: do.OpenStream) -> None:
        stream = self._api.stream
        assert stream is not None  # its head is what led here
        stream.sink = self._parts.owner.streaming(effect.invocation, effect.content_type, self._served(), stream)

    def _served(self) -> Served:
        # Provisioned ones were initialised before anybody asked: their first invocation waits for nothing.
        ready = self._was_ready or self.machine.init_type == "provisioned-concurrency"
        return Served(self.id, self.invocations <= 1 and not ready)

    def _reply(self, effect: do.Reply) -> None:
        self._answers.answered()
        invocation = effect.invocation
        served = self._served()
        if invocation.reply_after_report:
            served.log_tail = self.chronicle.tail()
        if self.machine.runtime is State.RESPONDED and not (self.machine.extensions or self._api.asks_at_once):
            self._parts.owner.settling(self.number)
        self._parts.owner.replied(invocation, effect.outcome, served)
        # Whoever wanted the bytes has them; the journals keep the objects.
        invocation.payload = b""
        effect.outcome.payload = b""

    def _freeze(self, _: do.Freeze) -> None:
        assert self.sandbox is not None
        if self.chronicle.telemetry.active:
            self.chronicle.telemetry.pause()
        self.sandbox.freeze()
        self._parts.turns.rests(self.sandbox)
        if self._parts.short_of_memory:
            self._offer(True)

    def _thaw(self, _: do.Thaw) -> None:
        assert self.sandbox is not None
        if self._offered:
            self._offer(False)
        self.sandbox.thaw()
        if self.chronicle.telemetry.active:
            self.chronicle.telemetry.resume()

    def memory_is_short(self) -> None:
        """Whoever is idle goes before those that work, should the kernel have to end somebody."""
        if self.machine.frozen and not self._offered:
            self._offer(True)

    def _offer(self, offered: bool) -> None:
        assert self.sandbox is not None
        self.sandbox.expendable(offered)
        self._offered = offered

    def _limit_cpu(self, effect: do.LimitCpu) -> None:
        assert self.sandbox is not None
        self.sandbox.limit_cpu(effect.limited)

    def _announce(self, _: do.Announce) -> None:
        if not self.invocations:
            self._was_ready = self.machine.runtime is State.READY  # not if its Init has failed
        self._parts.owner.idle(self.number)

    def _announce_init_failed(self, _: do.AnnounceInitFailed) -> None:
        self._parts.owner.init_failed(self.number)

    def _set_deadline(self, effect: do.SetDeadline) -> None:
        self._alarm.set(effect.deadline, effect.epoch)

    def _clear_deadline(self, _: do.ClearDeadline) -> None:
        self._alarm.clear()

    def _deadline_passed(self, at: float, epoch: int) -> None:
        self.feed(DeadlinePassed(at, epoch))

    # Records

    def _report_init_start(self, effect: do.ReportInitStart) -> None:
        self.chronicle.init_started(effect.phase)

    def _report_init(self, effect: do.ReportInit) -> None:
        self.chronicle.init_ended(effect)

    def _report_init_runtime_done(self, effect: do.ReportInitRuntimeDone) -> None:
        self.chronicle.init_runtime_done(effect)

    def _report_extension(self, effect: do.ReportExtension) -> None:
        self.chronicle.extension_came(effect)

    def _report_runtime_done(self, effect: do.ReportRuntimeDone) -> None:
        effect.produced_bytes += self._api.unfinished_bytes  # which went past the machine
        self.chronicle.runtime_done(effect)

    def _report_start(self, effect: do.ReportStart) -> None:
        assert self.sandbox is not None
        self._parts.turns.began(self.sandbox)  # not when delivering: a guest may ask for its event again and again
        self._parts.spare.use()  # the guest works now, and the server would only wait for it
        self._answers.asked(alone=self._parts.turns.only_one)
        self.invocations += 1  # here and not when delivering: one whose Init failed is never delivered
        self.chronicle.started(effect.invocation)

    def _report_end(self, effect: do.ReportEnd) -> None:
        assert self.sandbox is not None
        self.chronicle.ended(effect, self.sandbox.memory_peak, cold=self._served().cold)

    def _report_entrypoint(self, effect: do.ReportEntrypoint) -> None:
        self.chronicle.entrypoint_missing(effect)


_PERFORM: dict[type, Callable[[Driver, Any], None]] = {
    do.CreateSandbox: Driver._create_sandbox,
    do.Launch: Driver._launch,
    do.Deliver: Driver._deliver,
    do.DeliverShutdown: Driver._deliver_shutdown,
    do.OpenStream: Driver._open_stream,
    do.Reply: Driver._reply,
    do.SetDeadline: Driver._set_deadline,
    do.ClearDeadline: Driver._clear_deadline,
    do.Freeze: Driver._freeze,
    do.Thaw: Driver._thaw,
    do.LimitCpu: Driver._limit_cpu,
    do.SignalRuntime: Driver._signal_runtime,
    do.KillProcess: Driver._kill_process,
    do.Terminate: Driver._terminate,
    do.Destroy: Driver._destroy,
    do.Announce: Driver._announce,
    do.AnnounceInitFailed: Driver._announce_init_failed,
    do.ReportInitStart: Driver._report_init_start,
    do.ReportInit: Driver._report_init,
    do.ReportInitRuntimeDone: Driver._report_init_runtime_done,
    do.ReportExtension: Driver._report_extension,
    do.ReportRuntimeDone: Driver._report_runtime_done,
    do.ReportStart: Driver._report_start,
    do.ReportEnd: Driver._report_end,
    do.ReportEntrypoint: Driver._report_entrypoint,
}
assert set(_PERFORM) == set(do.Effect.__args__)  # every effect has its performer
