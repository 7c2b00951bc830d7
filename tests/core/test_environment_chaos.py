"""What is provoked in an environment goes as it goes when it comes by itself, and the story says what it was."""

from __future__ import annotations

import json

import pytest
from playbook import Playbook, invocation, response

from lambent.core.effects import Reply, ReportInit, ReportRuntimeDone
from lambent.core.events import (
    ClockAdvanced,
    CrashProvoked,
    DeadlinePassed,
    ExtensionRegistered,
    InitErrorPosted,
    InitFailureProvoked,
    InvocationAssigned,
    NextRequested,
    ProcessesEnded,
    ProcessExited,
    ResponsePosted,
    SandboxCreated,
    Started,
)
from lambent.core.journal import IllegalEvent
from lambent.core.model import ExitStatus, Outcome, OutcomeKind
from lambent.core.states import Phase, State


def initialising(*extensions: str) -> Playbook:
    """An environment for r1 whose runtime is about to be launched, since t=0.1."""
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, extensions))
    for name in extensions:
        book.feed(ExtensionRegistered(0.1, name, True, True), NextRequested(0.1, name))
    return book


def idle(*extensions: str) -> Playbook:
    """An environment that has served r1 and is frozen."""
    book = initialising(*extensions)
    book.feed(NextRequested(1.0), ResponsePosted(1.5, "r1", response()))
    book.feed(*(NextRequested(1.6, name) for name in extensions), NextRequested(1.6))
    assert book.machine.phase is Phase.IDLE
    return book


def reports(book: Playbook) -> list[tuple[str, str, str]]:
    return [(report.phase, report.status, report.error_type) for report in book.effects
            if isinstance(report, ReportInit)]  # fmt: skip


def told(book: Playbook) -> dict[str, str]:
    """The payload of the only reply."""
    (reply,) = book.replies()
    assert reply.outcome.kind is OutcomeKind.FUNCTION_ERROR
    answer: dict[str, str] = json.loads(reply.outcome.payload)
    return answer


@pytest.mark.parametrize(("failure", "natural"), [
    ("exit", [ProcessExited(0.2, ExitStatus(code=1))]),
    ("Runtime.OutOfMemory", [ProcessExited(0.2, ExitStatus(signal=9, oom=True))]),
    ("Runtime.ImportModuleError", [
        InitErrorPosted(0.2, Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="Runtime.ImportModuleError")),
        ProcessExited(0.2, ExitStatus(code=1))]),
])  # fmt: skip
def test_init_made_to_fail_has_the_effects_of_one_that_fails_by_itself(
    failure: str, natural: list[InitErrorPosted | ProcessExited]
) -> None:
    provoked, by_itself = initialising(), initialising()
    assert provoked.feed(InitFailureProvoked(0.2, failure)) == by_itself.feed(*natural)
    assert reports(provoked) == reports(by_itself)


def test_init_that_fails_once_recovers_inside_the_invocation() -> None:
    book = initialising()
    book.feed(InitFailureProvoked(0.2, "Runtime.ImportModuleError"), ProcessesEnded(0.3))
    book.feed(NextRequested(0.5), ResponsePosted(0.6, "r1", response()))
    assert reports(book) == [("init", "error", "Runtime.ImportModuleError"), ("invoke", "success", "")]
    assert book.replies()[0].outcome.kind is OutcomeKind.RESPONSE


def test_init_that_fails_twice_is_the_callers_answer_and_says_that_it_was_provoked() -> None:
    book = initialising()
    for at in (0.2, 0.4):
        book.feed(InitFailureProvoked(at, "Runtime.ImportModuleError"), ProcessesEnded(at + 0.1))
    assert told(book)["errorType"] == "Runtime.ImportModuleError"
    assert "lambent chaos" in told(book)["errorMessage"]
    assert reports(book) == [(phase, "error", "Runtime.ImportModuleError") for phase in ("init", "invoke")]
    assert (book.report().status, book.report().error_type) == ("error", "Runtime.ImportModuleError")
    assert book.machine.phase is Phase.IDLE


def test_init_that_runs_out_of_time_is_told_with_its_whole_time_without_waiting_for_it() -> None:
    book = initialising()
    book.feed(InitFailureProvoked(0.2, "timeout"), ProcessesEnded(0.3))
    (init,) = [effect for effect in book.effects if isinstance(effect, ReportInit)]
    assert (init.phase, init.status, init.duration_ms) == ("init", "timeout", 10_000.0)
    book.feed(InitFailureProvoked(0.4, "timeout"))
    (done,) = [effect for effect in book.effects if isinstance(effect, ReportRuntimeDone)]
    assert (done.status, done.duration_ms) == ("timeout", 0.0)  # the runtime was handed nothing
    assert (book.report().status, book.report().bill.duration_ms) == ("timeout", 3000.0)
    book.feed(ProcessesEnded(0.5))
    assert told(book)["errorMessage"].endswith("Task timed out after 3.00 seconds")


def test_missing_bootstrap_is_told_as_one() -> None:
    book = initialising()
    for at in (0.2, 0.4):
        book.feed(InitFailureProvoked(at, "Runtime.InvalidEntrypoint"), ProcessesEnded(at + 0.1))
    assert told(book)["errorMessage"].endswith("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")


def test_extensions_are_told_of_an_init_that_was_made_to_fail() -> None:
    book = initialising("a")
    assert "DeliverShutdown" in book.feed(InitFailureProvoked(0.2, "exit"))


def test_init_can_be_made_to_fail_only_before_the_runtime_has_spoken() -> None:
    book = initialising()
    book.feed(NextRequested(0.5))
    with pytest.raises(IllegalEvent):
        book.feed(InitFailureProvoked(0.6, "exit"))


def test_crash_during_an_invocation_is_a_kill_and_what_follows_comes_from_the_process() -> None:
    book = initialising()
    book.feed(NextRequested(1.0))
    assert book.feed(CrashProvoked(1.1)) == ["KillProcess"]
    assert book.machine.phase is Phase.INVOKE
    book.feed(ProcessExited(1.2, ExitStatus(signal=9)), ProcessesEnded(1.3))
    assert told(book) == {"errorType": "Runtime.ExitError",
                          "errorMessage": "RequestId: r1 Error: Runtime exited with error: signal: killed"}  # fmt: skip


def test_crash_while_frozen_resets_at_once_since_a_frozen_process_cannot_die() -> None:
    book = idle()
    assert book.feed(CrashProvoked(5.0)) == ["KillProcess", "Thaw", "Terminate"]
    assert book.feed(ProcessesEnded(5.1)) == ["Freeze", "Announce"]
    assert book.machine.runtime is State.ABSENT
    assert "Launch" in book.feed(InvocationAssigned(6.0, invocation("r2")))


def test_crash_while_frozen_gives_the_other_extensions_their_shutdown() -> None:
    book = idle("a", "b")
    assert book.feed(CrashProvoked(5.0, "a")) == ["KillProcess", "Thaw", "SetDeadline", "SignalRuntime"]
    book.feed(ProcessExited(5.0, ExitStatus(signal=9), "a"))
    assert book.feed(ProcessExited(5.1, ExitStatus(signal=15))) == ["SetDeadline", "DeliverShutdown"]
    assert book.feed(ProcessExited(5.2, ExitStatus(code=0), "b")) == ["ClearDeadline", "Terminate"]


def test_crash_of_an_extension_during_an_invocation_is_told_to_the_caller() -> None:
    book = initialising("a")
    book.feed(NextRequested(1.0), CrashProvoked(1.1, "a"), ProcessExited(1.2, ExitStatus(signal=9), "a"))
    assert book.report().error_type == "Extension.Crash"


def test_only_a_process_that_runs_can_be_made_to_crash() -> None:
    book = idle()
    book.feed(CrashProvoked(5.0))
    for event in (CrashProvoked(5.1), CrashProvoked(5.1, "a")):
        assert book.machine.refusal(event) == "InvalidStateTransition"
    book.feed(ProcessesEnded(5.2))
    assert book.machine.refusal(CrashProvoked(5.3)) == "InvalidStateTransition"  # nothing runs until the next Init

    book = initialising()
    book.feed(ExtensionRegistered(0.2, "internal", True, False))
    assert book.machine.refusal(CrashProvoked(0.3, "internal")) == "InvalidStateTransition"


def test_platform_time_that_passes_leaves_deadlines_of_guests_alone() -> None:
    book = initialising()
    book.feed(NextRequested(1.0))
    assert book.feed(ClockAdvanced(1.1, 18_000.0)) == []
    assert book.feed(DeadlinePassed(1.2, 1)) == []  # of Init, which is over
    book.feed(ResponsePosted(1.5, "r1", response()), NextRequested(1.6))
    assert not [effect for effect in book.effects if isinstance(effect, Reply) and effect.outcome.error_type]
    assert "ClockAdvanced(seconds=18000.0)" in [step["event"] for step in book.machine.journal.steps()]
