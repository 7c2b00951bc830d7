"""Random walks: whatever happens to an environment, in whatever order, its promises hold."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import invocation, response

from lambent.core.effects import (
    CreateSandbox,
    Destroy,
    Effect,
    Freeze,
    Launch,
    OpenStream,
    Reply,
    SetDeadline,
    Terminate,
    Thaw,
)
from lambent.core.environment import Environment
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
)
from lambent.core.model import ExitStatus, Invocation
from lambent.core.states import Phase

EXTENSIONS = ("a", "b")
FAILURES = ("exit", "timeout", "Runtime.ImportModuleError", "Runtime.InvalidEntrypoint", "Runtime.OutOfMemory")


class World:
    """The guest, the host and the callers of one environment, as far as the machine can see them."""

    def __init__(self, external: tuple[str, ...], ahead: bool = False) -> None:
        self.machine = Environment(3.0)
        self.external = external
        self.at = 0.0
        self.asked = 0
        self.replies: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.running: set[str] = set()
        self.terminating = self.creating = self.frozen = False
        self.destroyed = 0
        self.epoch = 0
        self.feed(Started(self.at, None if ahead else self.ask()))

    def ask(self) -> Invocation:
        self.asked += 1
        return invocation(f"r{self.asked}", tail=self.asked % 3 == 0, streams=self.asked % 2 == 1)

    def feed(self, event: Event) -> None:
        effects = self.machine.handle(event)
        assert list(self.machine.invariants()) == [], str(self.machine.journal)
        for effect in effects:
            self.perform(effect)
        assert self.frozen == self.machine.frozen

    def perform(self, effect: Effect) -> None:
        match effect:
            case CreateSandbox():
                self.creating = True
            case Launch(participant=name):
                assert not self.frozen
                assert name not in self.running, "launched twice"
                self.running.add(name)
            case OpenStream(invocation=opened):
                assert opened.streams
                assert not self.replies[opened.request_id], "a stream opened after the reply"
                self.opened[opened.request_id] += 1
            case Reply(invocation=answered):
                self.replies[answered.request_id] += 1
            case Freeze():
                assert not self.frozen
                self.frozen = True
            case Thaw():
                assert self.frozen
                self.frozen = False
            case SetDeadline(epoch=epoch):
                assert epoch > self.epoch
                self.epoch = epoch
            case Terminate():
                assert not self.terminating
                self.terminating = True
            case Destroy():
                self.destroyed += 1
                self.running.clear()
                self.creating = self.terminating = self.frozen = False
            case _:
                pass

    def happenings(self) -> list[Event]:
        """What the world could bring next. The machine refuses what a guest must not do; those are left out."""
        at, machine = self.at, self.machine
        events: list[Event] = [DeadlinePassed(at, self.epoch), DeadlinePassed(at, self.epoch - 1),
                               RetireRequested(at, "walk"), RetireRequested(at, "walk", force=True),
                               SandboxFailed(at, "walk"), ClockAdvanced(at, 3600.0),
                               *(CrashProvoked(at, name) for name in sorted(self.running)),
                               *(InitFailureProvoked(at, failure) for failure in FAILURES)]  # fmt: skip
        if self.creating:
            events.append(SandboxCreated(at, self.external))
        for name in sorted(self.running):
            events.append(ProcessExited(at, ExitStatus(code=1), name))
        if not self.frozen:
            if RUNTIME in self.running:
                current = machine.assigned.request_id if machine.assigned is not None else "none"
                events += [NextRequested(at), ResponsePosted(at, current, response()),
                           ErrorPosted(at, current, response()), InitErrorPosted(at, response()),
                           ResponseStarted(at, current, ""), ResponseEnded(at, current, response()),
                           ResponseRefused(at, current, response()), EntrypointMissing(at, ("x",))]  # fmt: skip
            for name in EXTENSIONS:
                events += [ExtensionRegistered(at, name, True, False), ExtensionRegistered(at, name, False, True),
                           NextRequested(at, name), ExtensionInitErrorPosted(at, name, "Extension.Sad"),
                           ExtensionExitErrorPosted(at, name, "Extension.Sad")]  # fmt: skip
        if self.terminating:
            events.append(ProcessesEnded(at))
        if machine.phase in (Phase.INIT, Phase.IDLE, Phase.RESET):
            events.append(InvocationAssigned(at, invocation(f"r{self.asked + 1}", streams=self.asked % 2 == 0)))
        return [event for event in events if machine.refusal(event) is None]

    def step(self, choice: int) -> None:
        self.at += 0.5
        events = self.happenings()
        event = events[choice % len(events)]
        match event:
            case InvocationAssigned():
                self.asked += 1
            case SandboxCreated():
                self.creating = False
            case ProcessExited(participant=name):
                self.running.discard(name)
            case EntrypointMissing() | InitFailureProvoked():
                self.running.discard(RUNTIME)
            case ProcessesEnded():
                self.terminating = False
                for name in sorted(self.running):  # each exit is seen before the sandbox says that all ended
                    self.running.discard(name)
                    self.feed(ProcessExited(self.at, ExitStatus(signal=9), name))
            case _:
                pass
        self.feed(event)


@settings(max_examples=1500, deadline=None)
@given(external=st.sampled_from([(), ("a",), ("a", "b")]), ahead=st.booleans(),
       choices=st.lists(st.integers(0, 10_000), max_size=80))  # fmt: skip
def test_random_walk_keeps_every_promise(external: tuple[str, ...], ahead: bool, choices: list[int]) -> None:
    world = World(external, ahead)
    for choice in choices:
        if world.machine.phase is Phase.GONE:
            break
        world.step(choice)
    assert all(count == 1 for count in world.replies.values())
    assert all(count == 1 for count in world.opened.values())
    if world.machine.phase is Phase.GONE:
        assert world.destroyed == 1
        assert sum(world.replies.values()) == world.asked


@settings(max_examples=300, deadline=None)
@given(ahead=st.booleans(), choices=st.lists(st.integers(0, 10_000), max_size=60))
def test_every_walk_can_be_ended_and_answers_everybody(ahead: bool, choices: list[int]) -> None:
    world = World(("a",), ahead)
    for choice in choices:
        if world.machine.phase is Phase.GONE:
            break
        world.step(choice)
    if world.machine.phase is not Phase.GONE:
        world.feed(RetireRequested(world.at, "end", force=True))
    for _ in range(20):
        if world.machine.phase is Phase.GONE:
            break
        if world.creating:
            world.creating = False
            world.feed(SandboxCreated(world.at, ("a",)))
        elif world.terminating:
            world.terminating = False
            world.feed(ProcessesEnded(world.at))
        else:
            world.feed(DeadlinePassed(world.at, world.epoch))
    assert world.machine.phase is Phase.GONE
    assert sum(world.replies.values()) == world.asked
