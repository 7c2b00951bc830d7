"""What is told of an environment's Inits and invocations, with its figures: the half of `environment` that counts.

The machine says what has happened and when; here it becomes records, each of them once. What a record looks like is
`telemetry.records`' business. Facts: fact sheet 4.2 and 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from lambent.core.effects import (
    Effect,
    ReportEnd,
    ReportExtension,
    ReportInit,
    ReportInitRuntimeDone,
    ReportInitStart,
    ReportRuntimeDone,
    ReportStart,
)
from lambent.core.model import InitPhase, InitType, Invocation, Status, bill, milliseconds
from lambent.core.states import Extension


class Ledger:
    """The Init that ran last, and the invocation that did."""

    __slots__ = ("_init_phase", "_init_runtime_done", "_init_type", "_invocation", "_produced_bytes", "_responded_at",
                 "_runtime_began_at", "_runtime_done_at", "_start_told", "_transfer_ms", "_unbilled_init_s", "began_at",
                 "effects", "init_began_at", "result")  # fmt: skip

    def __init__(self, init_type: InitType) -> None:
        self.effects: list[Effect] = []  #: of the event that is being applied; the machine gives a new one for each
        self.init_began_at = 0.0
        self.began_at = 0.0  #: the invocation
        self.result: tuple[Status, str] = ("success", "")  #: of the invocation so far, with its error type
        self._init_type: InitType = init_type
        self._init_phase: InitPhase = "init"
        self._init_runtime_done = True  #: told for the Init that runs, or not to be: its runtime was not launched
        self._unbilled_init_s: float | None = None  #: shown with the first invocation after it
        self._invocation: Invocation | None = None
        self._start_told = False
        self._runtime_began_at: float | None = None  #: None until the runtime was handed the invocation
        self._responded_at: float | None = None
        self._runtime_done_at: float | None = None
        self._transfer_ms = 0.0  #: of a streamed response; a buffered one is there at once
        self._produced_bytes = 0

    # Init

    def init_begins(self, at: float, phase: InitPhase) -> None:
        self._init_phase = phase
        self._init_runtime_done = True
        self.init_began_at = at
        self.effects.append(ReportInitStart(phase))

    def runtime_launched(self, launched: bool = True) -> None:
        """Of a runtime that was not, AWS tells nothing (rapid/handlers.go of its published emulator)."""
        self._init_runtime_done = not launched

    def init_runtime_done(self, status: Status = "success", error_type: str = "") -> None:
        if not self._init_runtime_done:
            self._init_runtime_done = True
            self.effects.append(ReportInitRuntimeDone(self._init_phase, status, error_type))

    def init_ends(self, at: float, status: Status = "success", error_type: str = "") -> None:
        """One that is repeated within an invocation is part of that one's duration; a good one is billed apart."""
        took_s = at - self.init_began_at
        if status == "success" and self._init_phase == "init":
            self._unbilled_init_s = took_s
        self.effects.append(ReportInit(self._init_phase, milliseconds(took_s), status, error_type))

    def extensions(self, extensions: Mapping[str, Extension]) -> None:
        """At the end of each Init, after the runtime's part (`logAgentsInitStatus` of AWS's published emulator)."""
        for name, one in extensions.items():
            self.effects.append(ReportExtension(name, one.words, one.events, one.error_type))

    # An invocation

    def begins(self, at: float, invocation: Invocation) -> None:
        self._invocation = invocation
        self.began_at = at
        self.result = ("success", "")
        self._start_told = False
        self._runtime_began_at = self._responded_at = self._runtime_done_at = None
        self._produced_bytes = 0
        self._transfer_ms = 0.0

    def starts(self) -> None:
        if not self._start_told:
            assert self._invocation is not None
            self._start_told = True
            self.effects.append(ReportStart(self._invocation))

    def runtime_begins(self, at: float) -> None:
        self._runtime_began_at = at

    def response_begins(self, at: float) -> None:
        self._responded_at = at

    def response_ends(self, at: float, produced_bytes: int) -> None:
        self._produced_bytes = produced_bytes
        if self._responded_at is None:
            self._responded_at = at
        else:
            self._transfer_ms = milliseconds(at - self._responded_at)

    def runtime_done(self, at: float) -> None:
        """It is through. What it took counts from when it was handed the invocation, after an Init that was repeated
        (rapid/handlers.go of AWS's published emulator)."""
        if self._runtime_done_at is not None:
            return
        assert self._invocation is not None
        self._runtime_done_at = at
        begun = at if self._runtime_began_at is None else self._runtime_began_at
        response_ms = None if self._responded_at is None else milliseconds(self._responded_at - begun)
        self.effects.append(ReportRuntimeDone(self._invocation, *self.result, milliseconds(at - begun),
                                              response_ms, self._transfer_ms, self._produced_bytes))

    def ends(self, duration_s: float, extensions: Mapping[str, Extension]) -> None:
        assert self._invocation is not None
        figures = bill(duration_s, self._unbilled_init_s, self._init_type)
        overhead_ms = None
        if extensions and self._runtime_done_at is not None:
            spent_s = self.began_at + duration_s - self._runtime_done_at
            overhead_ms = max(0.0, milliseconds(spent_s))
        self.effects.append(ReportEnd(self._invocation, figures, *self.result, overhead_ms))
        self._unbilled_init_s = None
        self._invocation = None
