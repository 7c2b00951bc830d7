"""Scripts for the environment machine: events in, and the names of the effects that must come out."""

from __future__ import annotations

from lambent.core.effects import Effect, Reply, ReportEnd
from lambent.core.environment import Environment
from lambent.core.events import Event
from lambent.core.model import FunctionVersion, Invocation, Outcome, OutcomeKind


def function(timeout_s: int = 3, generation: str = "g1", name: str = "f", account: str = "000000000000",
             region: str = "us-east-1") -> FunctionVersion:
    return FunctionVersion(account, region, name, "$LATEST", generation, "python3.12", "app.handler",
                           "0" * 64, timeout_s=timeout_s)


def invocation(request_id: str = "r1", *, tail: bool = False, streams: bool = False, generation: str = "g1",
               name: str = "f", account: str = "000000000000", region: str = "us-east-1") -> Invocation:
    made = function(generation=generation, name=name, account=account, region=region)
    return Invocation(request_id, made, b"{}", made.function_arn, reply_after_report=tail, streams=streams)


def response(payload: bytes = b'"ok"') -> Outcome:
    return Outcome(OutcomeKind.RESPONSE, payload)


class Playbook:
    """One environment, driven by hand."""

    def __init__(self, timeout_s: float = 3.0) -> None:
        self.machine = Environment(timeout_s)
        self.effects: list[Effect] = []
        self.last: list[Effect] = []

    def feed(self, *events: Event) -> list[str]:
        """The names of the effects of the last event. Every invariant holds after each."""
        for event in events:
            self.last = self.machine.handle(event)
            self.effects += self.last
            assert list(self.machine.invariants()) == []
        return self.names()

    def names(self) -> list[str]:
        return [type(effect).__name__ for effect in self.last]

    def replies(self) -> list[Reply]:
        return [effect for effect in self.effects if isinstance(effect, Reply)]

    def report(self) -> ReportEnd:
        """The last REPORT."""
        return [effect for effect in self.effects if isinstance(effect, ReportEnd)][-1]
