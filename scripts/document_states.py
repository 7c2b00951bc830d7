"""Write docs/states.md: what each failure means, as the machine of an environment decides it.

Every row is a script of events fed to `core.environment`; its cells are read off the effects. With --check it says
whether the page is current (exit code 1 if not). `tests/e2e/test_failures.py` provokes every row on a real server, over
every way in which a runtime can talk to it, and compares what it sees with the same effects.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    ResponseRefused,
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
of the invocation that fails, in the Text format; the events are those of the Telemetry API. The function's timeout is a
second. In every row the sandbox, /tmp and the log stream survive.

Every row is a test, `tests/e2e/test_failures.py::test_failure`, over every way in which a runtime can talk to the
platform: *lane* (managed Python), *client* (AWS's Python client over HTTP, in a package for `provided.al2023`), *node*
(managed Node.js) and *custom* (a `bootstrap` that makes the calls itself). Where a row is not possible in a way, a note
says why.

<!-- Written by scripts/document_states.py; a test fails when it is out of date. -->

| situation | the caller is told | log | telemetry | memory | the next invocation | shown over |
| --- | --- | --- | --- | --- | --- | --- |
"""
WAYS = ("lane", "client", "node", "custom")
_TOGETHER = "its client sends a result and the question for the next invocation in one message"
_WHOLE = "its client sends a response whole or not at all"
_ENDS = "AWS's Python client ends when a response of its is refused: the next row"
_GOES_ON = "the runtime goes on after a response that was refused: the row before"
_MODES = "its client names no other mode"
_BRINGS = "the runtime brings its own program"
_STARTS = "the program of the package is what starts the client"
_FUNCTION = FunctionVersion("000000000000", "us-east-1", "f", "$LATEST", "g", "python3.12", "app.handler", "0" * 64)
_RAISED = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"ValueError","errorMessage":"boom"}')
_NAMED = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"Runtime.ImportModuleError","errorMessage":"..."}',
                 error_type="Runtime.ImportModuleError")
_OK = Outcome(OutcomeKind.RESPONSE, b'"ok"')
TIMEOUT_S = 1.0
_BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")


def _invocation(request_id: str) -> Invocation:
    return Invocation(request_id, _FUNCTION, b"{}", _FUNCTION.function_arn)


class Play:
    """One environment and everything that its machine has asked for; `mark` begins what a row shows."""

    def __init__(self, extensions: tuple[str, ...] = ()) -> None:
        self.machine = Environment(TIMEOUT_S)
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
    extensions: tuple[str, ...] = ()
    during_init: bool = False
    #: way: why the situation cannot come about in it
    not_over: Mapping[str, str] = field(default_factory=dict)

    @property
    def ways(self) -> list[str]:
        return [way for way in WAYS if way not in self.not_over]


_AGENT = ("a",)
_REGISTER = ExtensionRegistered(0, "a", True, True)
_READY = (_REGISTER, NextRequested(0, "a"))
_TOO_LARGE = outcomes.response_too_large(RESPONSE_PAYLOAD_BYTES)


def _exit(code: int | None = None, signal: int | None = None, oom: bool = False, who: str = RUNTIME) -> ProcessExited:
    return ProcessExited(0, ExitStatus(code, signal, oom), who)


ROWS = (
    Row("the handler raises", (ErrorPosted(0, "r1", _RAISED), NextRequested(0))),
    Row("the response is too large", (ErrorPosted(0, "r1", _TOO_LARGE), NextRequested(0)),
        not_over={"lane": _ENDS, "client": _ENDS}),
    Row("the response is too large, and the runtime ends because of it", (ErrorPosted(0, "r1", _TOO_LARGE), _exit(1)),
        not_over={"node": _GOES_ON, "custom": _GOES_ON}),
    Row("the response breaks off", (ErrorPosted(0, "r1", outcomes.truncated_response()), NextRequested(0)),
        not_over={"lane": _WHOLE, "client": _WHOLE, "node": _WHOLE}),
    Row("the response has an unknown mode, and the runtime ends because its Next is refused",
        (ResponseRefused(0, "r1", outcomes.invalid_response_mode()), _exit(1)),
        not_over={"lane": _MODES, "client": _MODES, "node": _MODES}),
    Row("exit 0 while it works", (_exit(0),)),
    Row("exit 1 while it works", (_exit(1),)),
    Row("segmentation fault while it works", (_exit(signal=11),)),
    Row("out of memory while it works", (_exit(signal=9, oom=True),)),
    Row("the timeout passes while it works", ("late",)),
    Row("the function posts a response itself, and that of the runtime is refused",
        (ResponsePosted(0, "r1", _OK), NextRequested(0)), not_over={"lane": _ENDS, "client": _ENDS}),
    Row("the function posts a response itself, and the runtime ends because its own is refused",
        (ResponsePosted(0, "r1", _OK), _exit(1)), not_over={"node": _GOES_ON, "custom": _GOES_ON}),
    Row("exit after the response, before Next", (ResponsePosted(0, "r1", _OK), _exit(0)), not_over={"lane": _TOGETHER}),
    Row("the timeout passes after the response, the runtime does not ask for more",
        (ResponsePosted(0, "r1", _OK), "late"), not_over={"lane": _TOGETHER}),
    Row("exit between invocations", (ResponsePosted(0, "r1", _OK), NextRequested(0), _exit(signal=9))),
    Row("the runtime posts an init error", (InitErrorPosted(0, _NAMED), _exit(1)), during_init=True),
    Row("exit 0 during Init", (_exit(0),), during_init=True),
    Row("exit 1 during Init", (_exit(1),), during_init=True),
    Row("segmentation fault during Init", (_exit(signal=11),), during_init=True),
    Row("out of memory during Init", (_exit(signal=9, oom=True),), during_init=True),
    Row("Init takes more than ten seconds, and again more than the timeout", ("late",), during_init=True),
    Row("there is no bootstrap", (EntrypointMissing(0, _BOOTSTRAPS),), during_init=True,
        not_over={"lane": _BRINGS, "client": _STARTS, "node": _BRINGS}),
    Row("the extension cannot be executed", (_exit(127, who="a"),), _AGENT, during_init=True),
    Row("the extension posts an init error and exits",
        (_REGISTER, ExtensionInitErrorPosted(0, "a", "Extension.NoLicence"), _exit(1, who="a")),
        _AGENT, during_init=True),
    Row("the extension exits during Init", (_REGISTER, _exit(3, who="a")), _AGENT, during_init=True),
    Row("the extension exits while the function works", (_exit(0, who="a"),), _AGENT),
    Row("the extension posts an exit error and exits",
        (ExtensionExitErrorPosted(0, "a", "Extension.NoLicence"), _exit(1, who="a")), _AGENT),
    Row("the extension is not done when the timeout passes", (ResponsePosted(0, "r1", _OK), NextRequested(0), "late"),
        _AGENT),
    Row("the extension exits between invocations",
        (ResponsePosted(0, "r1", _OK), NextRequested(0), NextRequested(0, "a"), _exit(signal=9, who="a")), _AGENT),
)

#: Calls that are refused and change nothing: situation, the call, the HTTP status. Each is made over every way.
REFUSALS: tuple[tuple[str, Event, int], ...] = (
    ("a response for another request", ResponsePosted(0, "r9", _OK), 400),
    ("an error for another request", ErrorPosted(0, "r9", _RAISED), 400),
    ("an init error after Next", InitErrorPosted(0, _NAMED), 403),
)


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


def _reported(status: str, error_type: str) -> str:
    """What REPORT says: a handler's own error, which the runtime gives no type, is a success of the platform."""
    return "success" if status == "error" and not error_type else status


def log_lines(effects: list[Effect]) -> list[str]:
    """The platform's lines in the log, shortened to what tells one failure from another."""
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
                lines.append("END")
                lines.append(f"REPORT{_ending(_reported(status, error_type), error_type)}")
            case _:
                pass
    return lines


def telemetry(effects: list[Effect]) -> list[str]:
    """The platform events, with phase or status."""
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
            case do.ReportEnd(status=status, error_type=error_type):
                told.append(f"report {_reported(status, error_type)}")
            case _:
                pass
    return told


def _next(one: Play) -> str:
    before = len(one.effects)
    one.feed(InvocationAssigned(0, _invocation("r2")))
    again = any(isinstance(effect, do.Launch) for effect in one.effects[before:])
    return "runs Init again, in its own time" if again else "goes straight to the runtime"


def kept(one: Play) -> bool:
    """Whether the memory of the runtime survived."""
    return one.machine.runtime is State.READY


def _row(row: Row, notes: list[str]) -> str:
    one = play(row)
    effects = list(one.effects)
    log = "<br>".join(f"`{line}`" for line in log_lines(effects))
    cells = (row.situation, _told(effects), log, ", ".join(telemetry(effects)), "kept" if kept(one) else "lost",
             _next(one), _shown(row, notes))  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def _shown(row: Row, notes: list[str]) -> str:
    for reason in row.not_over.values():
        if reason not in notes:
            notes.append(reason)
    marks = [f"{', '.join(way for way in WAYS if row.not_over.get(way) == reason)}: note {notes.index(reason) + 1}"
             for reason in dict.fromkeys(row.not_over.values())]  # fmt: skip
    return ", ".join(row.ways) + (f" ({'; '.join(marks)})" if marks else "")


def error_type(call: Event) -> str:
    """How a call is refused that comes while an invocation is worked on."""
    one = Play()
    one.invoke()
    refusal = one.machine.refusal(call)
    assert refusal is not None
    return refusal


def page() -> str:
    notes: list[str] = []
    rows = "".join(_row(row, notes) for row in ROWS)
    noted = "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1))
    refused = "".join(f"| {name} | {status} `{error_type(call)}` |\n" for name, call, status in REFUSALS)
    return (_HEAD + rows + "\nNotes:\n\n" + noted + "\nCalls of the Runtime API that come at the wrong moment are "
            "refused, and nothing changes.\n`test_refusal` in the same file makes them over every way:\n\n"
            "| call | the runtime is told |\n| --- | --- |\n" + refused
            + "\nNext is not among them: a runtime that asks while it works on an invocation is handed it again.\n")


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
