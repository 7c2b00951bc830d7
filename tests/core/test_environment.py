"""The life of one environment, as scripts: each test is a situation of the fact sheet's section 1."""

from __future__ import annotations

import copy

import pytest
from playbook import Playbook, invocation, response

from lambent.core.effects import (
    Deliver,
    DeliverShutdown,
    KillProcess,
    ReportExtension,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRuntimeDone,
    SetDeadline,
    SignalRuntime,
)
from lambent.core.environment import Environment
from lambent.core.events import (
    RUNTIME,
    DeadlinePassed,
    EntrypointMissing,
    ErrorPosted,
    Event,
    ExtensionExitErrorPosted,
    ExtensionInitErrorPosted,
    ExtensionRegistered,
    InitErrorPosted,
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
from lambent.core.journal import IllegalEvent
from lambent.core.model import ExitStatus, Outcome, OutcomeKind
from lambent.core.states import EXTENSION_TABLE, RUNTIME_TABLE, Phase, State, Stopping


def cold(tail: bool = False, streams: bool = False) -> Playbook:
    """An environment whose runtime works on its first invocation, r1, since t=1."""
    book = Playbook()
    book.feed(Started(0.0, invocation(tail=tail, streams=streams)), SandboxCreated(0.1), NextRequested(1.0))
    return book


def idle() -> Playbook:
    """An environment that has served r1 and is frozen."""
    book = cold()
    book.feed(ResponsePosted(1.5, "r1", response()), NextRequested(1.6))
    return book


def deadline(book: Playbook) -> SetDeadline:
    return [effect for effect in book.effects if isinstance(effect, SetDeadline)][-1]


def test_cold_start_goes_from_init_straight_to_the_invocation_without_a_freeze() -> None:
    book = Playbook()
    assert book.feed(Started(0.0, invocation())) == ["CreateSandbox"]
    assert book.feed(SandboxCreated(0.1)) == ["ReportInitStart", "Launch", "SetDeadline"]
    assert book.feed(NextRequested(1.0)) == [
        "ReportInitRuntimeDone", "LimitCpu", "ReportInit", "SetDeadline", "Deliver", "ReportStart"]  # fmt: skip
    assert deadline(book).deadline == 4.0
    assert book.feed(ResponsePosted(1.5, "r1", response())) == ["Reply"]
    assert book.feed(NextRequested(1.6)) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Freeze", "Announce"]  # fmt: skip
    assert book.machine.phase is Phase.IDLE
    bill = book.report().bill
    assert (bill.duration_ms, bill.init_ms, bill.billed_ms) == (600.0, 900.0, 1500)


def test_warm_start_delivers_before_it_thaws_and_is_billed_without_init() -> None:
    book = idle()
    assert book.feed(InvocationAssigned(5.0, invocation("r2"))) == ["SetDeadline", "Deliver", "Thaw", "ReportStart"]
    book.feed(ResponsePosted(5.001, "r2", response()), NextRequested(5.0012))
    bill = book.report().bill
    assert (bill.duration_ms, bill.init_ms, bill.billed_ms) == (1.2, None, 2)


def test_caller_who_wants_the_log_is_answered_after_the_report() -> None:
    book = cold(tail=True)
    assert book.feed(ResponsePosted(1.5, "r1", response())) == []
    assert book.feed(NextRequested(1.6)) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Reply", "Freeze", "Announce"]  # fmt: skip


def test_runtime_that_asks_while_it_works_is_handed_the_same_invocation_by_the_same_deadline() -> None:
    book = cold()
    assert book.feed(NextRequested(1.2)) == ["Deliver"]
    again = book.last[0]
    assert isinstance(again, Deliver)
    assert (again.invocation.request_id, again.deadline, again.participant) == ("r1", 4.0, RUNTIME)
    assert book.feed(ResponsePosted(1.5, "r1", response())) == ["Reply"]
    assert "Freeze" in book.feed(NextRequested(1.6))


def test_handler_error_is_a_result_and_resets_nothing() -> None:
    book = cold()
    error = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"ValueError"}')
    assert book.feed(ErrorPosted(1.5, "r1", error)) == ["Reply"]
    assert book.feed(NextRequested(1.6)) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Freeze", "Announce"]  # fmt: skip
    assert book.machine.runtime is State.READY


def test_timeout_resets_then_answers_and_is_billed_exactly_the_timeout() -> None:
    book = cold()
    passed = DeadlinePassed(4.003, deadline(book).epoch)
    assert book.feed(passed) == ["ReportRuntimeDone", "ReportEnd", "Terminate"]
    done = book.last[0]
    assert isinstance(done, ReportRuntimeDone) and (done.status, done.duration_ms) == ("timeout", 3003.0)
    assert book.machine.phase is Phase.RESET
    assert book.report().bill.duration_ms == 3000.0
    assert book.report().status == "timeout"
    assert book.feed(ProcessExited(4.004, ExitStatus(signal=9))) == []
    assert book.feed(ProcessesEnded(4.01)) == ["Freeze", "Announce", "Reply"]
    assert book.replies()[0].outcome.payload == (
        b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r1 Error: Task timed out after 3.00 seconds"}'
    )


def test_invocation_after_a_reset_runs_a_suppressed_init_inside_its_own_time() -> None:
    book = cold()
    book.feed(ProcessExited(1.2, ExitStatus(code=1)), ProcessesEnded(1.3))
    assert book.feed(InvocationAssigned(2.0, invocation("r2"))) == [
        "SetDeadline", "Thaw", "ReportInitStart", "LimitCpu", "Launch"]  # fmt: skip
    assert book.feed(NextRequested(2.5)) == [
        "ReportInitRuntimeDone", "LimitCpu", "ReportInit", "Deliver", "ReportStart"]  # fmt: skip
    book.feed(ResponsePosted(2.6, "r2", response()), NextRequested(2.6))
    assert book.report().bill.duration_ms == 600.0
    assert book.report().bill.init_ms is None


@pytest.mark.parametrize(
    ("exit", "error_type", "words"),
    [
        (ExitStatus(code=0), "Runtime.ExitError", "Runtime exited without providing a reason"),
        (ExitStatus(code=1), "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        (ExitStatus(signal=11), "Runtime.ExitError", "Runtime exited with error: signal: segmentation fault"),
        (ExitStatus(signal=9, oom=True), "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"),
    ],
)
def test_runtime_that_ends_during_an_invocation(exit: ExitStatus, error_type: str, words: str) -> None:
    book = cold()
    book.feed(ProcessExited(1.2, exit), ProcessesEnded(1.3))
    expected = f'{{"errorType":"{error_type}","errorMessage":"RequestId: r1 Error: {words}"}}'
    assert book.replies()[0].outcome.payload.decode() == expected
    assert (book.report().status, book.report().error_type) == ("error", error_type)


def test_runtime_that_ends_after_its_answer_has_answered_and_is_reset() -> None:
    book = cold()
    book.feed(ResponsePosted(1.5, "r1", response()))
    assert book.feed(ProcessExited(1.6, ExitStatus(code=0))) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Terminate"]  # fmt: skip
    assert book.feed(ProcessesEnded(1.7)) == ["Freeze", "Announce"]
    assert [reply.outcome.payload for reply in book.replies()] == [b'"ok"']


def test_timeout_after_the_answer_resets_and_answers_nobody_twice() -> None:
    book = cold()
    book.feed(ResponsePosted(1.5, "r1", response()))
    assert book.feed(DeadlinePassed(4.0, deadline(book).epoch)) == ["ReportRuntimeDone", "ReportEnd", "Terminate"]
    assert book.feed(ProcessesEnded(4.1)) == ["Freeze", "Announce"]
    assert len(book.replies()) == 1
    assert (book.report().status, book.report().bill.duration_ms) == ("timeout", 3000.0)


def test_failed_init_is_run_again_inside_the_invocation_whose_outcome_the_caller_sees() -> None:
    book = Playbook()
    error = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"Runtime.ImportModuleError"}',
                    error_type="Runtime.ImportModuleError")
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1))
    assert book.feed(InitErrorPosted(0.3, error)) == []
    assert book.feed(ProcessExited(0.4, ExitStatus(code=1))) == [
        "ReportInitRuntimeDone", "ReportInit", "ClearDeadline", "Terminate"]  # fmt: skip
    first = book.last[1]
    assert isinstance(first, ReportInit)
    assert (first.phase, first.status, first.error_type) == ("init", "error", "Runtime.ImportModuleError")
    assert book.feed(ProcessesEnded(0.5)) == ["SetDeadline", "ReportInitStart", "Launch"]
    book.feed(InitErrorPosted(0.8, error))
    effects = book.feed(ProcessExited(0.9, ExitStatus(code=1)))
    assert effects == ["ReportInitRuntimeDone", "ReportInit", "ReportStart", "ReportRuntimeDone", "ClearDeadline",
                       "ReportEnd", "Terminate"]  # fmt: skip
    second = book.last[1]
    assert isinstance(second, ReportInit)
    assert second.phase == "invoke"
    book.feed(ProcessesEnded(1.0))
    assert book.replies()[0].outcome is error


def test_init_over_ten_seconds_is_repeated_under_the_functions_timeout() -> None:
    book = Playbook(timeout_s=15)
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1))
    assert deadline(book).deadline == 10.1
    assert book.feed(DeadlinePassed(10.1, deadline(book).epoch)) == [
        "ReportInitRuntimeDone", "ReportInit", "Terminate"]  # fmt: skip
    assert book.feed(ProcessesEnded(10.2)) == ["SetDeadline", "ReportInitStart", "Launch"]
    assert deadline(book).deadline == 25.2
    book.feed(NextRequested(22.0), ResponsePosted(22.5, "r1", response()), NextRequested(22.5))
    assert book.report().bill.init_ms is None
    assert book.report().bill.duration_ms == 12300.0
    (done,) = [effect for effect in book.effects if isinstance(effect, ReportRuntimeDone)]
    assert (done.duration_ms, done.response_ms) == (500.0, 500.0)  # the runtime's part has no Init in it


def test_repeated_init_that_fails_leaves_the_runtime_no_time() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1), ProcessExited(0.2, ExitStatus(code=1)))
    book.feed(ProcessesEnded(0.3), ProcessExited(0.8, ExitStatus(code=1)))
    (done,) = [effect for effect in book.effects if isinstance(effect, ReportRuntimeDone)]
    assert (done.status, done.duration_ms, book.report().bill.duration_ms) == ("error", 0.0, 500.0)


def test_what_is_told_is_to_the_microsecond_and_billed_by_it() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.0), NextRequested(0.145399))
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(4.068968))
    bill = book.report().bill
    assert (bill.duration_ms, bill.init_ms, bill.billed_ms) == (3923.569, 145.399, 4069)  # a recorded event
    book.feed(InvocationAssigned(5.0, invocation("r2")), ResponsePosted(5.001, "r2", response()))
    book.feed(NextRequested(5.001001))
    assert (book.report().bill.duration_ms, book.report().bill.billed_ms) == (1.001, 2)


def test_missing_bootstrap_is_said_once_for_the_invocation_and_answered() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1))
    missing = EntrypointMissing(0.2, ("/var/task/bootstrap", "/opt/bootstrap"))
    assert "ReportEntrypoint" not in book.feed(missing)
    book.feed(ProcessesEnded(0.3))
    assert book.feed(missing) == ["ReportInit", "ReportStart", "ReportEntrypoint", "ReportRuntimeDone",
                                  "ClearDeadline", "ReportEnd", "Terminate"]  # fmt: skip
    book.feed(ProcessesEnded(0.4))
    answer = book.replies()[0].outcome.payload
    assert b"Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]" in answer


def test_news_of_a_missing_bootstrap_after_init_is_over_is_refused() -> None:
    book = cold()
    assert book.machine.refusal(EntrypointMissing(1.2, ("/var/task/bootstrap",))) == "InvalidStateTransition"


def test_init_error_that_answers_nobody_leaves_no_bytes_in_the_story() -> None:
    book = Playbook()
    first, second = (Outcome(OutcomeKind.FUNCTION_ERROR, b"x" * 1000) for _ in range(2))
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1), InitErrorPosted(0.2, first))
    book.feed(ProcessExited(0.3, ExitStatus(code=1)), ProcessesEnded(0.4))
    assert first.payload == b""
    book.feed(InitErrorPosted(0.5, second), ProcessExited(0.6, ExitStatus(code=1)))
    book.feed(InvocationAssigned(0.7, invocation("r2")), ProcessesEnded(0.8))  # the next Init begins in this step
    assert book.replies()[0].outcome is second
    assert second.payload == b"x" * 1000


def test_late_deadline_of_an_earlier_invocation_is_ignored() -> None:
    book = cold()
    late = DeadlinePassed(4.0, deadline(book).epoch)
    book.feed(ResponsePosted(1.5, "r1", response()), NextRequested(1.6))
    assert book.feed(late) == []
    assert book.machine.phase is Phase.IDLE


def test_retiring_an_idle_environment_without_extensions_kills_at_once() -> None:
    book = idle()
    assert book.feed(RetireRequested(9.0, "idle")) == ["Thaw", "Terminate"]
    assert book.feed(ProcessesEnded(9.1)) == ["Destroy"]
    assert book.machine.phase is Phase.GONE


def test_retiring_a_busy_environment_lets_the_invocation_finish() -> None:
    book = cold()
    assert book.feed(RetireRequested(1.2, "updated")) == []
    book.feed(ResponsePosted(1.5, "r1", response()))
    assert book.feed(NextRequested(1.6))[-1] == "Terminate"
    assert book.feed(ProcessesEnded(1.7)) == ["Destroy"]
    assert len(book.replies()) == 1


def test_forced_retirement_answers_whoever_waits() -> None:
    book = cold()
    assert book.feed(RetireRequested(1.2, "stopping", force=True)) == ["Reply", "ClearDeadline", "Terminate"]
    assert book.replies()[0].outcome.kind is OutcomeKind.PLATFORM_ERROR


@pytest.mark.parametrize("moment", ["creating", "init", "invoke", "idle"])
def test_sandbox_that_fails_answers_and_is_destroyed_once(moment: str) -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()))
    if moment != "creating":
        book.feed(SandboxCreated(0.1))
    if moment in ("invoke", "idle"):
        book.feed(NextRequested(1.0))
    if moment == "idle":
        book.feed(ResponsePosted(1.1, "r1", response()), NextRequested(1.1))
    assert book.feed(SandboxFailed(2.0, "no memory"))[-1] == "Destroy"
    assert len(book.replies()) == 1
    with pytest.raises(IllegalEvent):
        book.feed(SandboxFailed(2.1, "again"))


def test_process_killed_between_invocations_means_a_reset_and_a_new_init() -> None:
    book = idle()
    assert book.feed(ProcessExited(7.0, ExitStatus(signal=9))) == ["Thaw", "Terminate"]
    assert book.feed(InvocationAssigned(7.01, invocation("r2"))) == []
    assert book.feed(ProcessesEnded(7.02)) == ["SetDeadline", "ReportInitStart", "LimitCpu", "Launch"]


# Extensions


def with_extension(*, invoke: bool = True, shutdown: bool = True) -> Playbook:
    book = Playbook()
    book.feed(Started(0.0, invocation()))
    assert book.feed(SandboxCreated(0.1, ("agent",))) == ["ReportInitStart", "Launch", "SetDeadline"]
    assert book.feed(ExtensionRegistered(0.2, "agent", invoke, shutdown)) == ["Launch"]
    assert book.feed(NextRequested(0.5)) == ["ReportInitRuntimeDone"]
    assert "Deliver" in book.feed(NextRequested(0.6, "agent"))
    return book


def test_invocation_ends_when_the_extension_is_back_too_but_the_caller_has_its_answer_before() -> None:
    book = with_extension()
    assert book.feed(ResponsePosted(1.0, "r1", response())) == ["Reply"]
    assert book.feed(NextRequested(1.1)) == ["ReportRuntimeDone"]
    assert book.feed(NextRequested(2.0, "agent"))[-2:] == ["Freeze", "Announce"]
    assert book.report().bill.duration_ms == 1400.0
    assert book.report().overhead_ms == 900.0


def test_slow_extension_runs_into_the_timeout_after_the_answer() -> None:
    book = with_extension()
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(1.1))
    assert "SignalRuntime" in book.feed(DeadlinePassed(3.6, deadline(book).epoch))
    assert book.report().status == "timeout"
    assert len(book.replies()) == 1


def test_shutdown_signals_the_runtime_then_tells_the_extension_then_kills() -> None:
    book = with_extension(invoke=False)
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(1.1))
    assert book.feed(RetireRequested(5.0, "idle")) == ["Thaw", "SetDeadline", "SignalRuntime"]
    assert deadline(book).deadline == pytest.approx(5.6)
    assert book.feed(ProcessExited(5.1, ExitStatus(signal=15))) == ["SetDeadline", "DeliverShutdown"]
    told = book.last[1]
    assert isinstance(told, DeliverShutdown)
    assert (told.reason, told.deadline) == ("spindown", 7.0)
    assert book.feed(ProcessExited(5.3, ExitStatus(code=0), "agent")) == ["ClearDeadline", "Terminate"]


def test_runtime_that_outlives_its_share_is_killed_before_the_extension_is_told() -> None:
    book = with_extension()
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(1.1), NextRequested(1.1, "agent"))
    book.feed(RetireRequested(5.0, "idle"))
    effects = book.feed(DeadlinePassed(5.6, deadline(book).epoch))
    assert effects == ["SetDeadline", "SignalRuntime", "DeliverShutdown"]
    assert isinstance(book.last[1], SignalRuntime) and book.last[1].kill
    assert book.feed(ProcessExited(5.61, ExitStatus(signal=9))) == []
    assert book.feed(DeadlinePassed(7.0, deadline(book).epoch)) == ["Terminate"]


def test_extension_that_did_not_ask_for_shutdown_is_killed_when_the_others_are_told() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("deaf", "agent")))
    for name in ("deaf", "agent"):
        book.feed(ExtensionRegistered(0.2, name, True, name == "agent"), NextRequested(0.3, name))
    book.feed(NextRequested(0.5), ResponsePosted(1.0, "r1", response()), NextRequested(1.1))
    for name in ("deaf", "agent"):
        book.feed(NextRequested(1.2, name))
    book.feed(RetireRequested(5.0, "idle"))
    assert book.feed(ProcessExited(5.1, ExitStatus(signal=15))) == ["SetDeadline", "KillProcess", "DeliverShutdown"]
    killed = book.last[1]
    assert isinstance(killed, KillProcess) and killed.participant == "deaf"
    assert book.feed(ProcessExited(5.2, ExitStatus(signal=9), "deaf")) == []
    assert book.feed(ProcessExited(5.3, ExitStatus(code=0), "agent")) == ["ClearDeadline", "Terminate"]


def test_busy_extension_gets_its_shutdown_event_when_it_asks_for_more() -> None:
    book = with_extension()
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(1.1))
    book.feed(DeadlinePassed(3.6, deadline(book).epoch))
    assert book.feed(ProcessExited(3.7, ExitStatus(signal=15))) == ["SetDeadline", "DeliverShutdown"]
    told = book.last[1]
    assert isinstance(told, DeliverShutdown)
    assert told.reason == "timeout"
    assert book.feed(NextRequested(3.8, "agent")) == []
    assert book.feed(ProcessExited(3.9, ExitStatus(code=0), "agent")) == ["ClearDeadline", "Terminate"]


def test_extension_that_ends_during_an_invocation_resets_the_environment() -> None:
    book = with_extension()
    assert book.feed(ProcessExited(1.0, ExitStatus(code=0), "agent"))[-1] == "Terminate"
    assert book.report().error_type == "Extension.Crash"
    book.feed(ProcessesEnded(1.1))
    assert book.replies()[0].outcome.payload == (
        b'{"errorType":"Extension.Crash","errorMessage":"RequestId: r1 Error: exit code 0"}')


def extension_reports(book: Playbook) -> list[tuple[str, str, tuple[str, ...], str]]:
    return [(effect.name, effect.state, effect.events, effect.error_type)
            for effect in book.effects if isinstance(effect, ReportExtension)]  # fmt: skip


def test_extension_is_reported_ready_once_in_each_init() -> None:
    book = with_extension()
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(1.1), NextRequested(1.2, "agent"))
    assert extension_reports(book) == [("agent", "Ready", ("INVOKE", "SHUTDOWN"), "")]


@pytest.mark.parametrize(
    ("posted", "state", "error_type"),
    [
        (ExtensionInitErrorPosted(0.3, "agent", "Extension.NoKey"), "InitError", "Extension.InitError"),
        (ExtensionExitErrorPosted(0.3, "agent", "Extension.NoKey"), "ExitError", "Extension.ExitError"),
        (None, "Registered", "Extension.Crash"),
    ],
)  # fmt: skip
def test_extension_that_fails_during_init_fails_it_twice_and_answers(
    posted: Event | None, state: str, error_type: str
) -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("agent",)))
    for _ in range(2):
        book.feed(ExtensionRegistered(0.2, "agent", True, False))
        if posted is not None:
            book.feed(posted)
            assert book.machine.initialising  # its exit is what fails Init
        book.feed(ProcessExited(0.3, ExitStatus(code=3), "agent"))
        if book.machine.ending is not None and book.machine.ending.stage is Stopping.RUNTIME:
            book.feed(ProcessExited(0.4, ExitStatus(signal=15)))
        book.feed(ProcessesEnded(0.5))
    assert [(report[0], report[1]) for report in extension_reports(book)] == [("agent", state)] * 2
    inits = [effect for effect in book.effects if isinstance(effect, ReportInit)]
    assert [(init.phase, init.status, init.error_type) for init in inits] == [
        ("init", "error", error_type), ("invoke", "error", error_type)]  # fmt: skip
    assert book.replies()[0].outcome.payload.decode() == (
        f'{{"errorType":"{error_type}","errorMessage":"RequestId: r1 Error: exit status 3"}}')


@pytest.mark.parametrize("good", [True, False])
def test_extensions_are_reported_at_the_end_of_init_after_the_runtime(good: bool) -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("a", "b")), ExtensionRegistered(0.2, "a", True, True))
    book.feed(ExtensionRegistered(0.2, "b", False, False), NextRequested(0.3, "a"))
    if good:
        book.feed(NextRequested(0.4), NextRequested(0.5, "b"))
    else:
        book.feed(ProcessExited(0.4, ExitStatus(code=1), "a"))
    told = [type(effect).__name__ for effect in book.effects
            if isinstance(effect, ReportInitStart | ReportInitRuntimeDone | ReportExtension | ReportInit)]  # fmt: skip
    assert told == ["ReportInitStart", "ReportInitRuntimeDone", "ReportExtension", "ReportExtension", "ReportInit"]
    assert extension_reports(book) == [
        ("a", "Ready", ("INVOKE", "SHUTDOWN"), ""), ("b", "Ready" if good else "Registered", (), "")]  # fmt: skip


def test_internal_extension_that_fails_ends_init_at_once_for_it_has_no_process() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1), ExtensionRegistered(0.2, "inside", True, False))
    effects = book.feed(ExtensionInitErrorPosted(0.3, "inside", "Extension.NoKey"))
    assert "ReportInit" in effects and "SignalRuntime" in effects


def test_extension_that_cannot_be_executed_is_a_launch_error() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("agent",)))
    assert book.feed(ProcessExited(0.2, ExitStatus(code=126), "agent"))[-1] == "Terminate"
    book.feed(ProcessesEnded(0.3), ProcessExited(0.4, ExitStatus(code=127), "agent"), ProcessesEnded(0.5))
    assert extension_reports(book) == [
        ("agent", "LaunchError", (), "PermissionDenied"), ("agent", "LaunchError", (), "UnknownError")]  # fmt: skip
    assert book.replies()[0].outcome.payload == (
        b'{"errorType":"Extension.LaunchError","errorMessage":"RequestId: r1 Error: fork/exec /opt/extensions/agent: '
        b'no such file or directory"}')  # fmt: skip


def test_exit_error_during_an_invocation_resets_and_answers_with_it() -> None:
    book = with_extension()
    assert book.feed(ExtensionExitErrorPosted(1.0, "agent", "Extension.Sad")) == []
    assert book.feed(ProcessExited(1.05, ExitStatus(code=0), "agent"))[-1] == "Terminate"
    assert (book.report().status, book.report().error_type) == ("error", "Extension.ExitError")
    book.feed(ProcessesEnded(1.2))
    assert b"Extension.ExitError" in book.replies()[0].outcome.payload


def test_of_several_who_fail_init_the_first_one_is_told_whoever_exits_first() -> None:
    named = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"ValueError"}', error_type="Runtime.Unknown")
    runtime, agent = InitErrorPosted(0.3, named), ExtensionInitErrorPosted(0.3, "agent", "Extension.NoKey")
    for posted, error_type, payload in (
        ((runtime, agent), "Runtime.Unknown", '{"errorType":"ValueError"}'),
        ((agent, runtime), "Extension.InitError",
         '{"errorType":"Extension.InitError","errorMessage":"RequestId: r1 Error: %s"}'),
    ):
        for who, exit, reason in ((RUNTIME, ExitStatus(code=1), "Runtime exited with error: exit status 1"),
                                  ("agent", ExitStatus(code=3), "exit status 3")):  # fmt: skip
            book = Playbook()
            book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("agent",)))
            book.feed(ProcessExited(0.2, ExitStatus(code=1), "agent"), ProcessesEnded(0.25))
            book.feed(ExtensionRegistered(0.3, "agent", True, False), *copy.deepcopy(posted))
            book.feed(ProcessExited(0.4, exit, who))
            if book.machine.runtime is not State.ABSENT:
                book.feed(ProcessExited(0.4, ExitStatus(signal=15)))
            book.feed(ProcessesEnded(0.5))
            assert (book.report().status, book.report().error_type) == ("error", error_type)
            assert book.replies()[0].outcome.payload.decode() == (payload % reason if "%s" in payload else payload)


def test_runtime_that_ends_after_an_extension_has_given_up_is_not_what_is_told() -> None:
    book = with_extension()
    book.feed(ExtensionExitErrorPosted(1.0, "agent", "Extension.Sad"), ProcessExited(1.1, ExitStatus(code=0)))
    assert book.report().error_type == "Extension.ExitError"
    book.feed(ProcessExited(1.2, ExitStatus(code=0), "agent"), ProcessesEnded(1.3))
    assert book.replies()[0].outcome.payload == (
        b'{"errorType":"Extension.ExitError","errorMessage":"RequestId: r1 Error: Runtime exited without providing a '
        b'reason"}')  # fmt: skip
    book.feed(InvocationAssigned(2.0, invocation("r2")), ExtensionRegistered(2.1, "agent", True, True))
    book.feed(ProcessExited(2.2, ExitStatus(code=0)))
    assert book.report().error_type == "Runtime.ExitError"  # that was another Init


@pytest.mark.parametrize("ended", [True, False])
def test_response_that_is_refused_for_good_is_the_outcome_and_the_runtime_has_no_way_on(ended: bool) -> None:
    book = cold()
    told = Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="Runtime.InvalidResponseModeHeader")
    assert book.feed(ResponseRefused(1.5, "r1", told)) == ["Reply"]
    calls: list[Event] = [NextRequested(1.6), ResponsePosted(1.6, "r1", response()), ErrorPosted(1.6, "r1", told)]
    assert [book.machine.refusal(call) for call in calls] == ["InvalidStateTransition"] * 3
    book.feed(ProcessExited(1.7, ExitStatus(code=1)) if ended else DeadlinePassed(4.0, deadline(book).epoch))
    book.feed(ProcessesEnded(4.1))
    assert [reply.outcome for reply in book.replies()] == [told]
    report = book.report()
    assert (report.status, report.error_type) == (("error", "Runtime.ExitError") if ended else ("timeout", ""))


def test_result_is_for_no_request_where_there_is_none() -> None:
    book = Playbook()
    book.feed(Started(0.0), SandboxCreated(0.1))
    assert book.machine.refusal(ResponsePosted(0.2, "r1", response())) == "InvalidRequestID"
    assert idle().machine.refusal(ResponsePosted(2.0, "r1", response())) == "InvalidRequestID"  # r1 is over


def test_extension_reports_an_init_error_before_its_first_next_only() -> None:
    book = with_extension()
    refusal = book.machine.refusal(ExtensionInitErrorPosted(1.0, "agent", "Extension.Sad"))
    assert refusal == "Extension.InvalidExtensionState"


@pytest.mark.parametrize("kind", [ExtensionInitErrorPosted, ExtensionExitErrorPosted])
def test_of_an_error_that_an_extension_posts_twice_the_first_one_counts(
    kind: type[ExtensionInitErrorPosted | ExtensionExitErrorPosted]
) -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("agent",)))
    book.feed(ExtensionRegistered(0.2, "agent", True, True))
    book.feed(kind(0.3, "agent", "Extension.First"))
    assert book.feed(kind(0.4, "agent", "Extension.Second")) == []
    calls: list[Event] = [ExtensionInitErrorPosted(0.4, "agent", ""), ExtensionExitErrorPosted(0.4, "agent", ""),
                          NextRequested(0.4, "agent")]  # fmt: skip
    refused = [call for call in calls if book.machine.refusal(call) == "Extension.InvalidExtensionState"]
    assert refused == [call for call in calls if type(call) is not kind]
    book.feed(ProcessExited(0.5, ExitStatus(code=1), "agent"))
    assert [report[3] for report in extension_reports(book)] == ["Extension.First"]


def test_extension_that_waits_may_not_ask_again() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("agent",)))
    book.feed(ExtensionRegistered(0.2, "agent", True, True))
    book.feed(NextRequested(0.3, "agent"))
    assert book.machine.refusal(NextRequested(0.4, "agent")) == "Extension.InvalidExtensionState"


def test_eleventh_extension_is_refused_whatever_its_kind() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("outside",)))
    for number in range(9):
        book.feed(ExtensionRegistered(0.2, f"inside{number}", False, False))
    assert book.machine.refusal(ExtensionRegistered(0.3, "inside9", False, False)) == "Extension.TooManyExtensions"
    book.feed(ExtensionRegistered(0.4, "outside", False, False))


def test_runtime_done_tells_what_the_invocation_took_and_gave() -> None:
    book = with_extension()
    book.feed(ResponsePosted(1.0, "r1", response()), NextRequested(1.1))
    done = book.last[0]
    assert isinstance(done, ReportRuntimeDone)
    assert (done.status, done.duration_ms, done.response_ms, done.produced_bytes) == ("success", 500.0, 400.0, 4)


@pytest.mark.parametrize("phase", ["init", "invoke"])
def test_both_inits_are_told_to_those_who_listen(phase: str) -> None:
    book = cold()
    if phase == "invoke":
        book.feed(ProcessExited(1.2, ExitStatus(code=1)), ProcessesEnded(1.3))
        book.feed(InvocationAssigned(2.0, invocation("r2")), NextRequested(2.5))
    told = [effect for effect in book.effects
            if isinstance(effect, ReportInitStart | ReportInitRuntimeDone | ReportInit) and effect.phase == phase]
    assert [type(effect).__name__ for effect in told] == ["ReportInitStart", "ReportInitRuntimeDone", "ReportInit"]


@pytest.mark.parametrize("late", [True, False])
def test_nothing_is_told_of_a_runtime_that_was_not_launched(late: bool) -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1, ("agent",)))
    book.feed(DeadlinePassed(10.1, deadline(book).epoch) if late else ProcessExited(0.2, ExitStatus(code=1), "agent"))
    told = [type(effect) for effect in book.effects]
    assert ReportInit in told and ReportInitRuntimeDone not in told


def test_internal_extension_may_register_until_the_runtime_asks_for_work() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1))
    assert book.machine.refusal(ExtensionRegistered(0.2, "in", True, True)) == "Extension.InvalidEventType"
    book.feed(ExtensionRegistered(0.2, "in", True, False), NextRequested(0.3))
    late = ExtensionRegistered(0.4, "late", True, False)
    assert book.machine.refusal(late) == "Extension.RegistrationClosed"
    assert "Deliver" in book.feed(NextRequested(0.5, "in"))


# Environments that nobody waits for


def test_extension_cannot_pass_for_the_runtime_by_its_name() -> None:
    book = Playbook()
    book.feed(Started(0.0, invocation()), SandboxCreated(0.1))
    assert book.machine.refusal(ExtensionRegistered(0.2, RUNTIME, True, False)) == "Extension.InvalidExtensionName"


def test_provisioned_environment_whose_init_fails_says_so_and_ends() -> None:
    book = Playbook()
    book.machine = Environment(3.0, "provisioned-concurrency")
    book.feed(Started(0.0), SandboxCreated(0.1))
    assert deadline(book).deadline == 130.1
    effects = book.feed(ProcessExited(0.5, ExitStatus(code=1)))
    assert effects == ["ReportInitRuntimeDone", "ReportInit", "ClearDeadline", "AnnounceInitFailed", "Terminate"]
    assert book.feed(ProcessesEnded(0.6)) == ["Destroy"]


def test_environment_made_ahead_is_frozen_after_init_which_its_first_invocation_shows_and_is_billed_for() -> None:
    book = Playbook()
    book.feed(Started(0.0), SandboxCreated(0.1))
    assert book.machine.made_ahead and deadline(book).deadline == 10.1
    assert book.feed(NextRequested(1.1))[-2:] == ["Freeze", "Announce"]
    book.feed(InvocationAssigned(60.0, invocation()), ResponsePosted(60.01, "r1", response()), NextRequested(60.01))
    bill = book.report().bill
    assert (bill.init_ms, bill.billed_ms) == (1000.0, 1010)


def test_invocation_that_comes_during_the_init_of_one_made_ahead_follows_it_without_a_freeze() -> None:
    book = Playbook()
    book.feed(Started(0.0), SandboxCreated(0.1), InvocationAssigned(0.5, invocation()))
    effects = book.feed(NextRequested(1.1))
    assert "Deliver" in effects and "Freeze" not in effects and "Announce" not in effects
    assert book.machine.made_ahead


def test_environment_made_ahead_whose_init_fails_says_so_and_runs_it_again_for_the_first_invocation() -> None:
    book = Playbook()
    book.feed(Started(0.0), SandboxCreated(0.1))
    effects = book.feed(ProcessExited(0.5, ExitStatus(code=1)))
    assert effects == ["ReportInitRuntimeDone", "ReportInit", "ClearDeadline", "AnnounceInitFailed", "Terminate"]
    assert book.feed(ProcessesEnded(0.6)) == ["Freeze", "Announce"]
    assert "Launch" in book.feed(InvocationAssigned(60.0, invocation()))
    book.feed(NextRequested(60.2), ResponsePosted(60.3, "r1", response()))
    assert [reply.invocation.request_id for reply in book.replies()] == ["r1"]


def test_init_of_a_provisioned_environment_is_shown_but_not_billed_with_its_first_invocation() -> None:
    book = Playbook()
    book.machine = Environment(3.0, "provisioned-concurrency")
    book.feed(Started(0.0), SandboxCreated(0.1))
    assert book.feed(NextRequested(1.1))[-2:] == ["Freeze", "Announce"]
    book.feed(InvocationAssigned(60.0, invocation()), ResponsePosted(60.01, "r1", response()), NextRequested(60.01))
    bill = book.report().bill
    assert (bill.init_ms, bill.billed_ms) == (1000.0, 10)


# Streamed responses


def streaming(tail: bool = False) -> Playbook:
    """r1 is in the middle of its response."""
    book = cold(tail, streams=True)
    assert book.feed(ResponseStarted(1.5, "r1", "text/plain")) == ["OpenStream"]
    assert book.machine.responding
    return book


def test_streamed_response_opens_the_answer_and_its_end_is_the_reply() -> None:
    book = streaming()
    assert book.feed(ResponseEnded(2.5, "r1", response(b""))) == ["Reply"]
    assert not book.machine.responding
    assert book.feed(NextRequested(2.6)) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Freeze", "Announce"]  # fmt: skip
    assert book.report().bill.duration_ms == 1600.0
    assert book.report().status == "success"


def test_streamed_response_to_a_caller_who_wants_the_log_ends_after_the_report() -> None:
    book = streaming(tail=True)
    assert book.feed(ResponseEnded(2.5, "r1", response(b""))) == []
    assert book.feed(NextRequested(2.6)) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Reply", "Freeze", "Announce"]  # fmt: skip


def test_response_is_not_streamed_to_a_caller_who_waits_for_the_whole() -> None:
    book = cold()
    assert book.machine.refusal(ResponseStarted(1.5, "r1", "")) == "InvalidStateTransition"
    assert book.feed(ResponsePosted(1.5, "r1", response())) == ["Reply"]


def test_error_in_the_trailers_of_a_stream_is_a_result_and_resets_nothing() -> None:
    book = streaming()
    error = Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="Function.Broken")
    assert book.feed(ResponseEnded(2.5, "r1", error)) == ["Reply"]
    assert book.feed(NextRequested(2.6)) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Freeze", "Announce"]  # fmt: skip
    assert (book.report().status, book.report().error_type) == ("error", "Function.Broken")


def test_timeout_in_the_middle_of_a_stream_ends_it_after_the_reset() -> None:
    book = streaming()
    assert book.feed(DeadlinePassed(4.0, deadline(book).epoch)) == [
        "ReportRuntimeDone", "ReportEnd", "Terminate"]  # fmt: skip
    assert not book.machine.responding
    assert book.machine.refusal(ResponseEnded(4.1, "r1", response())) == "InvalidStateTransition"
    assert book.feed(ProcessesEnded(4.2)) == ["Freeze", "Announce", "Reply"]
    assert book.replies()[0].outcome.error_type == "Sandbox.Timedout"


def test_crash_in_the_middle_of_a_stream_ends_it_after_the_reset() -> None:
    book = streaming()
    assert book.feed(ProcessExited(2.0, ExitStatus(code=1))) == [
        "ReportRuntimeDone", "ClearDeadline", "ReportEnd", "Terminate"]  # fmt: skip
    book.feed(ProcessesEnded(2.1))
    assert book.replies()[0].outcome.error_type == "Runtime.ExitError"


def test_crash_after_a_stream_was_cut_off_tells_the_caller_what_came_first() -> None:
    book = streaming()
    cut = Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", error_type="Runtime.TruncatedResponse")
    book.feed(ResponseEnded(2.0, "r1", cut), ProcessExited(2.01, ExitStatus(code=1)), ProcessesEnded(2.1))
    assert [reply.outcome for reply in book.replies()] == [cut]


@pytest.mark.parametrize("call", [NextRequested(2.0), ResponsePosted(2.0, "r1", response()),
                                  ErrorPosted(2.0, "r1", response()), ResponseStarted(2.0, "r1", "")])  # fmt: skip
def test_nothing_but_its_end_may_follow_a_started_stream(call: Event) -> None:
    assert streaming().machine.refusal(call) == "InvalidStateTransition"


# The tables


@pytest.mark.parametrize("state", list(State))
def test_runtime_calls_outside_the_table_are_refused_and_leave_no_trace(state: State) -> None:
    calls: list[Event] = [NextRequested(9.0), ResponsePosted(9.0, "r1", response()), ErrorPosted(9.0, "r1", response()),
             InitErrorPosted(9.0, response()), ResponseStarted(9.0, "r1", ""),
             ResponseEnded(9.0, "r1", response())]  # fmt: skip
    for call in calls:
        book = cold(streams=True)
        book.machine.runtime = state
        legal = (state, type(call)) in RUNTIME_TABLE
        assert (book.machine.refusal(call) is None) == legal
        if not legal:
            before = repr(vars(book.machine))
            with pytest.raises(IllegalEvent):
                book.machine.handle(call)
            assert repr(vars(book.machine)) == before


def test_what_was_possible_is_judged_again_after_something_has_happened() -> None:
    book = cold()
    first, second = (ResponsePosted(at, "r1", response()) for at in (1.1, 1.2))
    assert book.machine.refusal(second) is None
    book.machine.handle(first)
    with pytest.raises(IllegalEvent):
        book.machine.handle(second)


def test_answer_to_another_request_is_refused_by_its_id() -> None:
    assert cold().machine.refusal(ResponsePosted(1.1, "r9", response())) == "InvalidRequestID"


def test_every_state_of_the_tables_can_be_reached() -> None:
    reached = set(RUNTIME_TABLE.values()) | set(EXTENSION_TABLE.values()) | {State.ABSENT, State.STARTED, State.BUSY}
    assert reached == set(State)
