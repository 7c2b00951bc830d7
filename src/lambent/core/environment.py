"""The machine of one execution environment: what it does next, for every event in every phase.

Lambda's lifecycle is not one automaton. The runtime and each extension move by their own API calls (the two tables in
`states`); the phase moves when a joint condition over them holds: Init is over when all wait in Next, an invocation
when the runtime has answered and all wait in Next again. `worker/driver.py` performs the effects and brings every
result back as an event. Rules of this file: `handle` either applies an event whole or raises IllegalEvent and
changes nothing; what a guest may get wrong is asked first with `refusal`; a deadline names its epoch and a late one is
ignored. Facts: fact sheet 1.2 to 1.7.

Its parts: `refusals` judges events, `fatal` keeps the first error that a participant does not survive, `ending` has the
steps of a reset and a shutdown, `ledger` counts what is told.
Longer than 400 lines because the rules are read as one text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lambent import limits
from lambent.core import chaos, outcomes, refusals
from lambent.core.effects import (
    Announce,
    AnnounceInitFailed,
    ClearDeadline,
    CreateSandbox,
    Deliver,
    Destroy,
    Effect,
    Freeze,
    KillProcess,
    Launch,
    LimitCpu,
    OpenStream,
    Reply,
    ReportEntrypoint,
    SetDeadline,
    Thaw,
)  # fmt: skip
from lambent.core.ending import Ending
from lambent.core.events import (
    RUNTIME,
    ClockAdvanced,
    CrashProvoked,
    DeadlinePassed,
    EntrypointMissing,
    ErrorPosted,
    Event,
    ExtensionExitErrorPosted,
    ExtensionInitErrorPosted,
    ExtensionRegistered,
    InitErrorPosted,
    InitFailureProvoked,
    InvocationAssigned,
    NextRequested,
    ProcessesEnded,
    ProcessExited,
    ResponseEnded,
    ResponsePosted,
    ResponseRefused,
    ResponseStarted,
    RetireRequested,
    SandboxCreated,
    SandboxFailed,
    Started,
)  # fmt: skip
from lambent.core.fatal import Fatal
from lambent.core.journal import IllegalEvent, Journal
from lambent.core.ledger import Ledger
from lambent.core.model import ExitStatus, InitType, Invocation, Outcome, OutcomeKind, Status
from lambent.core.states import (
    EXTENSION_TABLE,
    NOT_LAUNCHED,
    RUNTIME_TABLE,
    Extension,
    Phase,
    State,
)


class Environment:
    """One execution environment. `handle` is the only method that changes it."""

    def __init__(self, timeout_s: float, init_type: InitType = "on-demand") -> None:
        self.timeout_s = timeout_s
        self.init_type = init_type
        self.init_timeout_s = limits.init_timeout_s(init_type, timeout_s)
        self.journal = Journal()
        self.phase = Phase.INIT
        #: state of the runtime; READY in IDLE unless the next invocation must run Init again
        self.runtime = State.ABSENT
        self.extensions: dict[str, Extension] = {}
        #: extensions whose process has ended in this Init, whose end tells of them
        self._lost: dict[str, Extension] = {}
        #: names to launch before the runtime at every Init; fixed when the sandbox was created
        self.external: tuple[str, ...] = ()
        #: the invocation that waits for Init or is being served; set in INVOKE, possible in INIT and RESET
        self.assigned: Invocation | None = None
        #: its outcome, once known; the caller has it already unless `reply_after_report`
        self.outcome: Outcome | None = None
        self.replied = False
        #: the answer that follows a reset, with whom it is for; only in RESET and SHUTDOWN
        self._owed: tuple[Invocation, Outcome] | None = None
        self.frozen = False  #: true in IDLE and nowhere else
        self.initialising = False  #: from the launch until all wait in Next
        self.started = False
        self.made_ahead = False  #: on demand, and yet of no invocation that was there
        self.retiring: str | None = None
        self._epoch = 0
        self._armed = False  #: a deadline is set
        self._deadline = 0.0
        self._fatal = Fatal()  #: since Init began
        self.ending: Ending | None = None  #: in RESET and SHUTDOWN
        self._ledger = Ledger(init_type)
        self._cpu_limited = False
        self._effects: list[Effect] = []
        self._possible: Event | None = None  #: judged already, and nothing has happened since

    # The questions and the one command

    @property
    def responding(self) -> bool:
        """Whether what the guest streams is still passed on."""
        return self.runtime is State.RESPONDING and self.phase is Phase.INVOKE

    def refusal(self, event: Event) -> str | None:
        """Why this event is not possible now, as the Runtime API's error type; None when it is."""
        why = refusals.refusal(self, event)
        self._possible = event if why is None else None
        return why

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and say what to do. Raises IllegalEvent, with the story, and changes nothing."""
        if event is not self._possible and self.refusal(event) is not None:
            raise IllegalEvent(f"{event!r} in {self.phase.value}, runtime {self.runtime.value}\n{self.journal}")
        self._possible = None
        before = self.phase
        effects: list[Effect] = []
        self._effects = self._ledger.effects = effects
        _RULES[type(event)](self, event)
        self.journal.add(event, before, self.phase, tuple(effects))
        return effects

    # Init

    def _started(self, event: Started) -> None:
        self.started = True
        self.assigned = event.invocation
        self.made_ahead = event.invocation is None and self.init_type == "on-demand"
        self._effects.append(CreateSandbox())

    def _sandbox_created(self, event: SandboxCreated) -> None:
        self.external = event.extensions
        if self.retiring is not None and self.assigned is None:
            self._stop(event.at, "spindown", Phase.SHUTDOWN)
            return
        self._begin_init(event.at)
        self._set_deadline(event.at + self.init_timeout_s)

    def _begin_init(self, at: float) -> None:
        self.initialising = True
        self.runtime = State.ABSENT
        self.extensions = {name: Extension(State.STARTED, True) for name in self.external}
        self._lost = {}
        self._forget_fatal()
        self._ledger.init_begins(at, "invoke" if self.phase is Phase.INVOKE else "init")
        self._limit_cpu(False)
        for name in self.external:
            self._effects.append(Launch(name))
        self._launch_runtime_when_extensions_registered()

    def _forget_fatal(self) -> None:
        self._fatal.forget(self.outcome, self._owed[1] if self._owed is not None else None)

    def _limit_cpu(self, limited: bool) -> None:
        if self._cpu_limited is not limited:
            self._cpu_limited = limited
            self._effects.append(LimitCpu(limited))

    def _launch_runtime_when_extensions_registered(self) -> None:
        if self.runtime is State.ABSENT and all(e.state is not State.STARTED for e in self.extensions.values()):
            self.runtime = State.STARTED
            self._ledger.runtime_launched()
            self._effects.append(Launch(RUNTIME))

    def _extension_registered(self, event: ExtensionRegistered) -> None:
        extension = self.extensions.setdefault(event.participant, Extension(State.STARTED, False))
        extension.state = EXTENSION_TABLE[extension.state, ExtensionRegistered]
        extension.invoke = event.invoke
        extension.shutdown = event.shutdown
        self._launch_runtime_when_extensions_registered()

    def _next_requested(self, event: NextRequested) -> None:
        if event.participant == RUNTIME and self.runtime is State.BUSY:
            assert self.assigned is not None
            self._effects.append(Deliver(self.assigned, self._deadline))
            return
        if event.participant == RUNTIME:
            self.runtime = RUNTIME_TABLE[self.runtime, NextRequested]
            if self.ending is None:
                self._runtime_is_done(event.at)
        else:
            extension = self.extensions[event.participant]
            extension.state = EXTENSION_TABLE[extension.state, NextRequested]
        if self.ending is None:
            self._join(event.at)

    def _runtime_is_done(self, at: float) -> None:
        if self.initialising:
            self._ledger.init_runtime_done()
        elif self.phase is Phase.INVOKE:
            self._ledger.runtime_done(at)

    def _join(self, at: float) -> None:
        """The joint rules: does the phase move now that somebody waits in Next?"""
        if self.runtime is not State.READY:
            return
        if self.extensions and any(e.state is not State.READY for e in self.extensions.values()):
            return
        if self.initialising:
            self._end_init(at)
        elif self.phase is Phase.INVOKE:
            self._end_invoke(at)

    def _end_init(self, at: float) -> None:
        self.initialising = False
        self._limit_cpu(True)
        self._ledger.extensions(self.extensions)
        self._ledger.init_ends(at)
        if self.phase is Phase.INVOKE:  # the suppressed Init of a function that failed before
            self._run(at)
            return
        if self.assigned is not None:
            self._begin_invoke(at)
        else:
            self._clear_deadline()
            self._rest(at)

    def _init_error_posted(self, event: InitErrorPosted) -> None:
        # The runtime exits next, and that moves the phase.
        self.runtime = State.FAILED
        self._fatal.post(event.outcome)

    def _fail_init(self, at: float, status: Status, error_type: str, outcome: Callable[[str], Outcome],
                   entrypoint: str = "") -> None:
        """Init did not succeed: during Init it is run again inside the invocation, during Invoke it is the answer."""
        self.initialising = False
        self._ledger.init_runtime_done(status, error_type)
        self._ledger.extensions(self._lost | self.extensions)
        self._ledger.init_ends(at, status, error_type)
        if self.phase is Phase.INIT:
            self._forget_fatal()
            self._clear_deadline()
            if self.assigned is None:
                self._effects.append(AnnounceInitFailed())
            if self.init_type != "on-demand" and self.assigned is None:
                self.retiring = self.retiring or "init failed"
                self._stop(at, "failure", Phase.SHUTDOWN)
                return
            self._stop(at, "timeout" if status == "timeout" else "failure", Phase.RESET)
            return
        assert self.assigned is not None
        self._fail_invoke(at, outcome(self.assigned.request_id), status, error_type, entrypoint)

    def _entrypoint_missing(self, event: EntrypointMissing) -> None:
        self._ledger.runtime_launched(False)
        self._entrypoint_failed(event.at, f"Couldn't find valid bootstrap(s): [{' '.join(event.candidates)}]")

    def _entrypoint_failed(self, at: float, cause: str) -> None:
        self.runtime = State.ABSENT
        self._fail_init(at, "error", outcomes.INVALID_ENTRYPOINT,
                        lambda request_id: outcomes.invalid_entrypoint(request_id, cause), cause)

    # Invoke

    def _invocation_assigned(self, event: InvocationAssigned) -> None:
        self.assigned = event.invocation
        if self.phase is Phase.IDLE:
            self._begin_invoke(event.at)

    def _begin_invoke(self, at: float) -> None:
        assert self.assigned is not None
        self.phase = Phase.INVOKE
        self.outcome = None
        self.replied = False
        self._ledger.begins(at, self.assigned)
        self._set_deadline(at + self.timeout_s)
        if self.runtime is State.READY:
            self._run(at)
        else:
            self._thaw()
            self._begin_init(at)

    def _run(self, at: float) -> None:
        """START is written last: nothing of the guest is read before, and the guest need not wait for it."""
        invocation = self.assigned
        assert invocation is not None
        self.runtime = State.BUSY
        self._ledger.runtime_begins(at)
        self._effects.append(Deliver(invocation, self._deadline))
        for name, extension in self.extensions.items():
            if extension.invoke:
                extension.state = State.BUSY
                self._effects.append(Deliver(invocation, self._deadline, name))
        self._thaw()
        self._ledger.starts()

    def _response_posted(self, event: ResponsePosted) -> None:
        self.runtime = State.RESPONDED
        self._ledger.response_ends(event.at, len(event.outcome.payload))
        self._settle(event.outcome)

    def _response_started(self, event: ResponseStarted) -> None:
        self.runtime = State.RESPONDING
        self._ledger.response_begins(event.at)
        assert self.assigned is not None
        self._effects.append(OpenStream(self.assigned, event.content_type))

    def _response_ended(self, event: ResponseEnded) -> None:
        """A stream with an error in its trailers, or without an end, is a result too: the runtime goes on."""
        self.runtime = State.RESPONDED
        self._ledger.response_ends(event.at, event.produced_bytes)
        if event.outcome.kind is not OutcomeKind.RESPONSE:
            self._ledger.result = ("error", event.outcome.error_type)
        self._settle(event.outcome)

    def _error_posted(self, event: ErrorPosted | ResponseRefused) -> None:
        # An error is no response: it has no spans and no bytes in what telemetry is told.
        self.runtime = RUNTIME_TABLE[self.runtime, type(event)]
        self._ledger.result = ("error", event.outcome.error_type)
        self._settle(event.outcome)

    def _settle(self, outcome: Outcome) -> None:
        """The outcome is known: answer, unless the caller waits for REPORT too."""
        self.outcome = outcome
        assert self.assigned is not None
        if not self.assigned.reply_after_report:
            self._reply()

    def _reply(self) -> None:
        assert self.assigned is not None and self.outcome is not None
        if not self.replied:
            self.replied = True
            self._effects.append(Reply(self.assigned, self.outcome))

    def _pay(self) -> None:
        if self._owed is not None:
            invocation, outcome = self._owed
            self._owed = None
            self._effects.append(Reply(invocation, outcome))

    def _end_invoke(self, at: float) -> None:
        self._clear_deadline()
        self._ledger.ends(at - self._ledger.began_at, self.extensions)
        self._reply()
        self.assigned = None
        self._rest(at)

    def _fail_invoke(self, at: float, outcome: Outcome, status: Status, error_type: str, entrypoint: str = "") -> None:
        """The invocation cannot go on in these processes: reset, then answer.

        In this order, because a caller who tries again at once is to find the same environment, with its /tmp.
        `entrypoint`: what is wrong with the bootstrap; published logs of AWS tell it once, between START and END.
        """
        assert self.assigned is not None
        ledger = self._ledger
        ledger.result = (status, error_type)
        ledger.starts()
        if entrypoint:
            self._effects.append(ReportEntrypoint(self.assigned.request_id, entrypoint))
        ledger.runtime_done(at)
        # REPORT tells a timeout to take exactly that long, however late it is noticed.
        duration_s = self.timeout_s if status == "timeout" else at - ledger.began_at
        self._clear_deadline()
        if self.outcome is None:
            self.outcome = outcome
        ledger.ends(duration_s, self.extensions)
        if not self.replied:
            self._owed = (self.assigned, self.outcome)
        self.assigned = None
        self._stop(at, "timeout" if status == "timeout" else "failure", Phase.RESET)

    def _rest(self, at: float) -> None:
        """Nothing to do: freeze, or go, if that is wanted."""
        if self.retiring is not None:
            self._stop(at, "spindown", Phase.SHUTDOWN)
            return
        self.phase = Phase.IDLE
        self.frozen = True
        self._effects.append(Freeze())
        self._effects.append(Announce())

    def _thaw(self) -> None:
        if self.frozen:
            self.frozen = False
            self._effects.append(Thaw())

    # What goes wrong

    def _process_exited(self, event: ProcessExited) -> None:
        exit = event.exit
        if event.participant == RUNTIME and exit.unlaunched and self.ending is None and self.initialising:
            self._entrypoint_failed(event.at, exit.unlaunched)
            return
        if event.participant == RUNTIME:
            self.runtime = State.ABSENT
            error_type, reason = outcomes.runtime_exit(exit)
        else:
            error_type, reason = self._extension_lost(event.participant, exit)
        if self.ending is not None:
            self._continue_stop(self.ending)
        else:
            self._fail(event.at, error_type, reason)

    def _fail(self, at: float, error_type: str, reason: str) -> None:
        """A participant cannot go on. If one of them had said so before, that is what is told."""
        error_type, outcome = self._fatal.tell(error_type, reason)
        if self.initialising:
            self._fail_init(at, "error", error_type, outcome)
        elif self.phase is Phase.INVOKE:
            assert self.assigned is not None
            self._fail_invoke(at, outcome(self.assigned.request_id), "error", error_type)
        elif self.phase is Phase.IDLE:
            self._stop(at, "failure", Phase.RESET)

    def _extension_lost(self, name: str, exit: ExitStatus) -> tuple[str, str]:
        """Its process has ended: error type and reason."""
        extension = self.extensions.pop(name, None)
        if extension is not None and self.initialising:
            self._lost[name] = extension
        if extension is not None and extension.state is State.STARTED and exit.code in NOT_LAUNCHED:
            reason = outcomes.launch_problem(exit)
            extension.unlaunched = True
            extension.error_type = "PermissionDenied" if reason == "permission denied" else "UnknownError"
            return "Extension.LaunchError", f"fork/exec /opt/extensions/{name}: {reason}"
        return outcomes.extension_exit(exit)

    def _extension_failed(self, event: ExtensionInitErrorPosted | ExtensionExitErrorPosted) -> None:
        """An external extension exits next, and that moves the phase; an internal one cannot, so it fails at once."""
        extension = self.extensions[event.participant]
        before, extension.state = extension.state, EXTENSION_TABLE[extension.state, type(event)]
        if before is extension.state:
            return  # the first one counts
        extension.error_type = event.error_type
        if self.ending is not None:
            return
        error_type = "Extension.InitError" if isinstance(event, ExtensionInitErrorPosted) else "Extension.ExitError"
        self._fatal.post(error_type)
        if not extension.external:
            self._fail(event.at, error_type, event.error_type)

    def _deadline_passed(self, event: DeadlinePassed) -> None:
        if event.epoch != self._epoch or not self._armed:
            return
        self._armed = False
        at = event.at
        if self.ending is not None:
            self._continue_stop(self.ending, late=True)
        elif self.initialising:
            self._fail_init(at, "timeout", "", lambda request_id: outcomes.timed_out(request_id, self.timeout_s))
        elif self.phase is Phase.INVOKE:
            assert self.assigned is not None
            self._fail_invoke(at, outcomes.timed_out(self.assigned.request_id, self.timeout_s), "timeout", "")

    # What somebody asked to go wrong (`chaos`)

    def _clock_advanced(self, event: ClockAdvanced) -> None:
        pass

    def _init_failure_provoked(self, event: InitFailureProvoked) -> None:
        """What follows is what follows from such a runtime; a timeout is told as if its time had passed."""
        self.runtime = State.ABSENT
        if event.failure == chaos.TIMEOUT:
            self._ledger.init_began_at = event.at - self.init_timeout_s
            if self.phase is Phase.INVOKE:
                self._ledger.init_began_at = self._ledger.began_at = event.at - self.timeout_s
            self._deadline_passed(DeadlinePassed(event.at, self._epoch))
        elif event.failure == outcomes.INVALID_ENTRYPOINT:
            self._entrypoint_missing(EntrypointMissing(event.at, chaos.BOOTSTRAPS))
        else:
            exit, error = chaos.init_failure(event.failure)
            if error is not None:
                self._fatal.post(error)
            self._process_exited(ProcessExited(event.at, exit))

    def _crash_provoked(self, event: CrashProvoked) -> None:
        self._effects.append(KillProcess(event.participant))
        if self.phase is not Phase.IDLE:
            return
        # A frozen process does not die before it is thawed, so the reset begins without waiting for its end.
        if event.participant == RUNTIME:
            self.runtime = State.ABSENT
        else:
            del self.extensions[event.participant]
        self._stop(event.at, "failure", Phase.RESET)

    def _sandbox_failed(self, event: SandboxFailed) -> None:
        self._give_up(outcomes.platform_failed(event.reason))
        self._vanish(event.reason)

    def _give_up(self, outcome: Outcome) -> None:
        """Answer whoever waits, since nobody else will."""
        self._pay()
        if self.assigned is not None:
            if self.outcome is None or self.phase is not Phase.INVOKE:
                self.outcome = outcome
                self.replied = False
            self._reply()
            self.assigned = None

    # Reset and Shutdown: the same steps, to different ends

    def _retire_requested(self, event: RetireRequested) -> None:
        if self.phase in (Phase.SHUTDOWN, Phase.GONE):
            return
        if self.retiring is None:
            self.retiring = event.reason
        if event.force:  # whoever waits is not left without an answer
            self._give_up(outcomes.platform_failed(event.reason))
        if self.phase is Phase.RESET:
            return
        if self.assigned is None and (self.started and self._sandbox_exists()):
            self.initialising = False
            self._clear_deadline()
            self._stop(event.at, "spindown", Phase.SHUTDOWN)

    def _sandbox_exists(self) -> bool:
        return self.phase is not Phase.INIT or self.initialising

    def _stop(self, at: float, reason: str, phase: Phase) -> None:
        """Begin to end all processes."""
        self.phase = phase
        self.initialising = False
        self._thaw()
        self.ending = Ending(at, reason, self.extensions)
        self._stepped(self.ending, self.ending.begin(self.runtime, self.extensions))

    def _continue_stop(self, ending: Ending, late: bool = False) -> None:
        self._stepped(ending, ending.go_on(self.runtime, self.extensions, late))

    def _stepped(self, ending: Ending, effects: list[Effect]) -> None:
        if ending.deadline is None:
            self._clear_deadline()
        elif ending.deadline != self._deadline or not self._armed:
            self._set_deadline(ending.deadline)
        self._effects += effects

    def _processes_ended(self, event: ProcessesEnded) -> None:
        self.ending = None
        self.runtime = State.ABSENT
        self.extensions = {}
        if self.phase is Phase.SHUTDOWN:
            self._vanish(self.retiring or "retired")
        elif self.assigned is not None:
            self._begin_invoke(event.at)
        elif self.retiring is not None:
            self._vanish(self.retiring)
        else:
            self._rest(event.at)
        self._pay()

    def _vanish(self, reason: str) -> None:
        self.phase = Phase.GONE
        self.frozen = False
        self.initialising = False
        self.runtime = State.ABSENT
        self.extensions = {}
        self.ending = None
        self._clear_deadline()
        self._effects.append(Destroy(reason))

    # Deadlines and reports

    def _set_deadline(self, deadline: float) -> None:
        self._epoch += 1
        self._armed = True
        self._deadline = deadline
        self._effects.append(SetDeadline(deadline, self._epoch))

    def _clear_deadline(self) -> None:
        if self._armed:
            self._armed = False
            self._effects.append(ClearDeadline())

    # What must hold after every event

    def invariants(self) -> Iterator[str]:
        """Broken promises, as sentences; none when all is well."""
        if self.frozen != (self.phase is Phase.IDLE):
            yield f"frozen is {self.frozen} in phase {self.phase.value}"
        if self.phase is Phase.INVOKE and self.assigned is None:
            yield "invoking nothing"
        if self.phase in (Phase.IDLE, Phase.SHUTDOWN, Phase.GONE) and self.assigned is not None:
            yield f"an invocation is assigned in phase {self.phase.value}"
        working = self.runtime in (State.BUSY, State.RESPONDING, State.RESPONDED, State.REFUSED)
        if working and self.phase not in (Phase.INVOKE, Phase.RESET, Phase.SHUTDOWN):
            yield f"the runtime is {self.runtime.value} in phase {self.phase.value}"
        if self._owed is not None and self.phase not in (Phase.RESET, Phase.SHUTDOWN):
            yield f"an answer is owed in phase {self.phase.value}"
        if self.initialising and self.phase not in (Phase.INIT, Phase.INVOKE):
            yield f"initialising in phase {self.phase.value}"
        if (self.ending is not None) != (self.phase in (Phase.RESET, Phase.SHUTDOWN)):
            yield f"ending is {self.ending} in phase {self.phase.value}"


_RULES: dict[type, Callable[[Environment, Any], None]] = {
    Started: Environment._started,
    SandboxCreated: Environment._sandbox_created,
    SandboxFailed: Environment._sandbox_failed,
    ExtensionRegistered: Environment._extension_registered,
    NextRequested: Environment._next_requested,
    ResponsePosted: Environment._response_posted,
    ResponseStarted: Environment._response_started,
    ResponseEnded: Environment._response_ended,
    ErrorPosted: Environment._error_posted,
    ResponseRefused: Environment._error_posted,
    InitErrorPosted: Environment._init_error_posted,
    ExtensionInitErrorPosted: Environment._extension_failed,
    ExtensionExitErrorPosted: Environment._extension_failed,
    ProcessExited: Environment._process_exited,
    EntrypointMissing: Environment._entrypoint_missing,
    InvocationAssigned: Environment._invocation_assigned,
    DeadlinePassed: Environment._deadline_passed,
    RetireRequested: Environment._retire_requested,
    ProcessesEnded: Environment._processes_ended,
    ClockAdvanced: Environment._clock_advanced,
    InitFailureProvoked: Environment._init_failure_provoked,
    CrashProvoked: Environment._crash_provoked,
}
