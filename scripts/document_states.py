"""Write docs/states.md: what each failure means, as the machine of an environment decides it.

Every row is a script of events fed to `core.environment`; its cells are read off the effects. With --check it says
whether the page is current (exit code 1 if not). A test also checks that the test named in each row exists.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambent.core import effects as do
from lambent.core import outcomes
from lambent.core.effects import Effect
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
    ResponsePosted,
    SandboxCreated,
    Started,
)
from lambent.core.model import ExitStatus, FunctionVersion, Invocation, Outcome, OutcomeKind
from lambent.core.states import Phase, State
from lambent.limits import RESPONSE_PAYLOAD_BYTES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"

_HEAD = """# What each failure means

Every row is a script played to the machine of one environment (`src/lambent/core/environment.py`); the cells are what
the machine asked for. `a` is an external extension that registered for INVOKE and SHUTDOWN. The log shows the records
of the invocation that fails, in the Text format; the events are those of the Telemetry API. In every row the sandbox,
/tmp and the log stream survive.

<!-- Written by scripts/document_states.py; a test fails when it is out of date. -->

| situation | the caller is told | log | telemetry | memory | the next invocation | shown by |
| --- | --- | --- | --- | --- | --- | --- |
"""
_FUNCTION = FunctionVersion("000000000000", "us-east-1", "f", "$LATEST", "g", "python3.12", "app.handler", "0" * 64)
_RAISED = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"ValueError","errorMessage":"boom"}')
_NAMED = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"Runtime.ImportModuleError","errorMessage":"..."}',
                 error_type="Runtime.ImportModuleError")
_OK = Outcome(OutcomeKind.RESPONSE, b'"ok"')
_BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")


def _invocation(request_id: str) -> Invocation:
    return Invocation(request_id, _FUNCTION, b"{}", _FUNCTION.function_arn)


class Play:
    """One environment and everything that its machine has asked for; `mark` begins what a row shows."""

    def __init__(self, extensions: tuple[str, ...] = ()) -> None:
        self.machine = Environment(3.0)
        self.at = 0.0
        self.effects: list[Effect] = []
        self._feed(Started(0.0, _invocation("r1")), SandboxCreated(0.0, extensions))

    def feed(self, *events: Event) -> None:
        """The events, and the end of the processes whenever the machine waits for it."""
        for event in events:
            self._feed(event)
            self._settle()

    def _feed(self, *events: Event) -> None:
        for event in events:
            event.at = self.at = self.at + 0.1
            refusal = self.machine.refusal(event)
            assert refusal is None, f"{event!r}: {refusal}"
            self.effects += self.machine.handle(event)

    def _settle(self) -> None:
        while self.machine.phase in (Phase.RESET, Phase.SHUTDOWN):
            if isinstance(self.effects[-1], do.Terminate):
                self._feed(ProcessesEnded(0))
            elif self.machine.runtime is not State.ABSENT:
                self._feed(ProcessExited(0, ExitStatus(signal=15)))
            else:
                self._feed(ProcessExited(0, ExitStatus(code=0), "a"))

    def late(self) -> DeadlinePassed:
        """The time is up, whichever it is that runs."""
        return DeadlinePassed(0, [effect for effect in self.effects if isinstance(effect, do.SetDeadline)][-1].epoch)

    def invoke(self) -> None:
        """Up to the moment when the runtime works on r1."""
        for name in self.machine.external:
            self.feed(ExtensionRegistered(0, name, True, True), NextRequested(0, name))
        self.feed(NextRequested(0))


@dataclass(frozen=True)
class Row:
    situation: str
    events: Sequence[Event | str]  #: `late` stands for the deadline that is running
    shown_by: str
    extensions: tuple[str, ...] = ()
    during_init: bool = False


_E2E = "tests/e2e/test_errors.py::test_the_caller_is_told_what_went_wrong"
_EXT = "tests/e2e/test_extensions.py::test_"
_CORE = "tests/core/test_environment.py::test_"
_LIFE = "tests/e2e/test_lifecycle.py::test_"
_AGENT = ("a",)
_REGISTER = ExtensionRegistered(0, "a", True, True)
_TOO_LARGE = outcomes.response_too_large(RESPONSE_PAYLOAD_BYTES)


def _exit(code: int | None = None, signal: int | None = None, oom: bool = False, who: str = RUNTIME) -> ProcessExited:
    return ProcessExited(0, ExitStatus(code, signal, oom), who)


ROWS = (
    Row("the handler raises", (ErrorPosted(0, "r1", _RAISED), NextRequested(0)), _E2E),
    Row("the response is too large", (ErrorPosted(0, "r1", _TOO_LARGE), NextRequested(0)), _E2E),
    Row("exit 0 while it works", (_exit(0),), _E2E),
    Row("exit 1 while it works", (_exit(1),), _E2E),
    Row("segmentation fault while it works", (_exit(signal=11),), _E2E),
    Row("out of memory while it works", (_exit(signal=9, oom=True),), _E2E),
    Row("the timeout passes while it works", ("late",), _LIFE + "a_timeout_keeps_tmp_and_log_stream_and_loses_memory"),
    Row("exit after the response, before Next", (ResponsePosted(0, "r1", _OK), _exit(0)),
        _CORE + "runtime_that_ends_after_its_answer_has_answered_and_is_reset"),
    Row("the timeout passes after the response, the runtime does not ask for more",
        (ResponsePosted(0, "r1", _OK), "late"), _CORE + "timeout_after_the_answer_resets_and_answers_nobody_twice"),
    Row("exit between invocations", (ResponsePosted(0, "r1", _OK), NextRequested(0), _exit(signal=9)),
        _CORE + "process_killed_between_invocations_means_a_reset_and_a_new_init"),
    Row("the runtime posts an init error", (InitErrorPosted(0, _NAMED), _exit(1)),
        _LIFE + "a_failing_init_runs_twice_for_the_first_caller", during_init=True),
    Row("exit during Init", (_exit(1),), _E2E, during_init=True),
    Row("Init takes more than ten seconds, and again more than the timeout", ("late",),
        _LIFE + "an_init_over_ten_seconds_is_repeated_inside_the_invocation", during_init=True),
    Row("there is no bootstrap", (EntrypointMissing(0, _BOOTSTRAPS),),
        _CORE + "missing_bootstrap_is_said_for_both_inits_and_answered", during_init=True),
    Row("the extension cannot be executed", (_exit(127, who="a"),),
        _EXT + "extension_that_cannot_be_executed_is_a_launch_error", _AGENT, during_init=True),
    Row("the extension posts an init error", (_REGISTER, ExtensionInitErrorPosted(0, "a", "Extension.NoLicence")),
        _EXT + "extension_that_fails_is_the_callers_answer", _AGENT, during_init=True),
    Row("the extension exits during Init", (_REGISTER, _exit(3, who="a")),
        "tests/e2e/test_layers.py::test_extension_that_ends_fails_init", _AGENT, during_init=True),
    Row("the extension exits while the function works", (_exit(0, who="a"),),
        _EXT + "extension_that_fails_is_the_callers_answer", _AGENT),
    Row("the extension posts an exit error", (ExtensionExitErrorPosted(0, "a", "Extension.NoLicence"),),
        _EXT + "extension_that_fails_is_the_callers_answer", _AGENT),
    Row("the extension is not done when the timeout passes", (ResponsePosted(0, "r1", _OK), NextRequested(0), "late"),
        _EXT + "slow_extension_runs_into_the_timeout_after_the_answer_and_is_told_when_it_asks", _AGENT),
)

#: Calls that are refused and change nothing: situation, the state they come in, the call, the answer, the test.
REFUSALS = (
    ("Next while an invocation is being worked on", NextRequested(0), "403", "refused_and_leave_no_trace"),
    ("a response for another request", ResponsePosted(0, "r9", _OK), "400", "to_another_request_is_refused_by_its_id"),
    ("an init error after Next", InitErrorPosted(0, _NAMED), "403", "refused_and_leave_no_trace"),
)
_REFUSAL_TESTS = {"refused_and_leave_no_trace": "runtime_calls_outside_the_table_are_refused_and_leave_no_trace",
                  "to_another_request_is_refused_by_its_id": "answer_to_another_request_is_refused_by_its_id"}


def play(row: Row) -> Play:
    """The row's script. Raises AssertionError when the machine does not allow it."""
    one = Play(row.extensions)
    if not row.during_init:
        one.invoke()
    for _ in range(2 if row.during_init else 1):  # a failed Init is run again inside the invocation
        for event in row.events:
            # A copy, since the machine empties payloads that nobody needs any more.
            one.feed(one.late() if isinstance(event, str) else copy.deepcopy(event))
    return one


def _told(effects: list[Effect]) -> str:
    replies = [effect for effect in effects if isinstance(effect, do.Reply)]
    assert len(replies) == 1
    outcome = replies[0].outcome
    payload = f"`{outcome.payload.decode()}`".replace("|", "\\|")
    return f"Unhandled: {payload}" if outcome.kind is OutcomeKind.FUNCTION_ERROR else f"the response, {payload}"


def _ending(status: str, error_type: str) -> str:
    if status == "success":
        return ""
    return f" Status: {status}" + (f" Error Type: {error_type}" if error_type and status != "timeout" else "")


def _log(effects: list[Effect]) -> str:
    lines = []
    for effect in effects:
        match effect:
            case do.ReportInit(phase=phase, status=status, error_type=error_type) if status != "success":
                lines.append(f"INIT_REPORT Phase: {phase}{_ending(status, error_type)}")
            case do.ReportExtension(name=name, state=state, error_type=error_type):
                cause = f" Error Type: {error_type}" if error_type else ""
                lines.append(f"EXTENSION Name: {name} State: {state}{cause}")
            case do.ReportEntrypoint():
                lines.append("Error: Couldn't find valid bootstrap(s)")
            case do.ReportStart():
                lines.append("START")
            case do.ReportEnd(status=status, error_type=error_type):
                shown = "success" if status == "error" and not error_type else status
                lines.append("END")
                lines.append(f"REPORT{_ending(shown, error_type)}")
            case _:
                pass
    return "<br>".join(f"`{line}`" for line in lines)


def _telemetry(effects: list[Effect]) -> str:
    told = []
    for effect in effects:
        match effect:
            case do.ReportInitStart(phase=phase):
                told.append(f"initStart {phase}")
            case do.ReportInitRuntimeDone(status=status):
                told.append(f"initRuntimeDone {status}")
            case do.ReportInit(status=status):
                told.append(f"initReport {status}")
            case do.ReportExtension():
                told.append("extension")
            case do.ReportStart():
                told.append("start")
            case do.ReportRuntimeDone(status=status):
                told.append(f"runtimeDone {status}")
            case do.ReportEnd(status=status):
                told.append(f"report {status}")
            case _:
                pass
    return ", ".join(told)


def _next(one: Play) -> str:
    before = len(one.effects)
    one.feed(InvocationAssigned(0, _invocation("r2")))
    again = any(isinstance(effect, do.Launch) for effect in one.effects[before:])
    return "runs Init again, in its own time" if again else "goes straight to the runtime"


def _row(row: Row) -> str:
    one = play(row)
    effects = list(one.effects)
    memory = "kept" if one.machine.runtime is State.READY else "lost"
    cells = (row.situation, _told(effects), _log(effects), _telemetry(effects), memory, _next(one),
             f"`{row.shown_by.rpartition('::')[2]}`")  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def _refusal(situation: str, call: Event, status: str, test: str) -> str:
    one = Play()
    one.invoke()
    error_type = one.machine.refusal(call)
    assert error_type is not None
    return f"| {situation} | {status} `{error_type}` | `test_{_REFUSAL_TESTS[test]}` |\n"


def tests() -> list[str]:
    """`file::name` of every test that the page names."""
    return [row.shown_by for row in ROWS] + [_CORE + _REFUSAL_TESTS[refusal[3]] for refusal in REFUSALS]


def page() -> str:
    refused = "".join(_refusal(*refusal) for refusal in REFUSALS)
    return (_HEAD + "".join(map(_row, ROWS)) + "\nCalls of the Runtime API that come at the wrong moment are refused, "
            "and nothing changes:\n\n| call | the runtime is told | shown by |\n| --- | --- | --- |\n" + refused)


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text("utf-8") == page():
            return 0
        print(f"{PAGE.name} is out of date; run {Path(__file__).name}", file=sys.stderr)
        return 1
    if arguments:
        print("document_states.py: the only option is --check", file=sys.stderr)
        return 2
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
