"""What can be provoked over the management API, under `/_lambent/chaos`. The decisions are those of the machines.

    GET                   what is armed, what was provoked lately, and how far platform time is ahead
    DELETE                nothing is armed any more; `?function=NAME`: for this function
    POST recycle          {"environment": ID} or {"function": NAME}
    POST crash            {"environment": ID, "participant": "runtime"}
    POST advance          {"seconds": 18000}
    POST init-failures    {"function": NAME, "failure": "exit", "times": 2}
    POST throttles        {"function": NAME or null, "reason": REASON, "times": N or null}

Recycling and advancing are answered when the idle environments that they retire are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from lambent.clock import Clock, rfc3339
from lambent.core import chaos
from lambent.core.events import RUNTIME
from lambent.dispatcher import Dispatcher
from lambent.errors import ApiError, conflict, invalid_parameter, not_found
from lambent.http1 import Request
from lambent.names import parse_function
from lambent.store.functions import FunctionTable

#: No request of this API has a reason to be longer.
BODY_BYTES = 65_536
RECYCLED = "recycled (provoked)"
_Shape = TypeVar("_Shape")
_Times = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class _Recycle(msgspec.Struct, forbid_unknown_fields=True):
    environment: str | None = None
    function: str | None = None


class _Crash(msgspec.Struct, forbid_unknown_fields=True):
    environment: str
    participant: str = RUNTIME


class _Advance(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float


class _InitFailures(msgspec.Struct, forbid_unknown_fields=True):
    """Two, because AWS runs an Init that failed once more inside the invocation, and the caller sees that one."""

    function: str
    failure: str = chaos.EXIT
    times: _Times = 2


class _Throttles(msgspec.Struct, forbid_unknown_fields=True):
    function: str | None = None
    reason: str = chaos.THROTTLE_REASONS[0]
    times: _Times | None = None


class ChaosApi:
    """`account` and `region` are those of functions that are named without them."""

    def __init__(self, dispatcher: Dispatcher, functions: FunctionTable, clock: Clock, account: str,
                 region: str) -> None:
        self._dispatcher = dispatcher
        self._functions = functions
        self._clock = clock
        self._account = account
        self._region = region

    def function_arn(self, name: str) -> str:
        """The unqualified ARN of a function that exists. Raises ApiError."""
        parts = name.split(":")
        whole = name.startswith("arn:") and len(parts) > 6
        account, region = (parts[4], parts[3]) if whole else (self._account, self._region)
        named = parse_function(name, account=account, region=region)
        if named.qualifier is not None:
            raise invalid_parameter("A whole function is provoked: name it without a version or alias.")
        if self._functions.get(*named.key) is None:
            raise not_found(f"Function not found: {named.arn}")
        return named.arn

    def state(self) -> dict[str, Any]:
        """What is armed, what was provoked lately, and platform time."""
        armed = self._dispatcher.chaos
        return {
            "time": rfc3339(self._clock.wall()),
            "offset_s": self._clock.offset_s,
            "armed": [{"what": row.what, **_named(row.function_arn), "how": row.how, "left": row.left}
                      for row in armed.armed],
            "provoked": [self._row(row) for row in armed.provoked],
        }  # fmt: skip

    def throttled(self, function_arn: str) -> list[dict[str, Any]]:
        """The invocations of a function that were throttled because somebody asked for it: they met no environment."""
        return [self._row(row) for row in self._dispatcher.chaos.provoked
                if row.what == "throttle" and row.function_arn == function_arn]  # fmt: skip

    def _row(self, row: chaos.Provoked) -> dict[str, Any]:
        subject = "request_id" if row.what == "throttle" else "environment"
        return {"at": rfc3339(self._clock.wall_at(row.at)), "what": row.what, **_named(row.function_arn),
                "how": row.how, subject: row.subject}  # fmt: skip

    def clear(self, request: Request) -> None:
        """Disarm. Platform time stays where it is: it never goes back."""
        name = parse_qs(request.query).get("function")
        arn = self.function_arn(name[0]) if name else chaos.EVERY_FUNCTION
        before = len(self._dispatcher.chaos.armed)
        self._dispatcher.chaos.handle(chaos.Cleared(self._clock.monotonic(), arn))
        _answer(request, 200, {"cleared": before - len(self._dispatcher.chaos.armed)})

    def provoke(self, request: Request, what: str) -> None:
        """One of the POSTs. Raises ApiError."""
        if request.oversize or len(request.body) > BODY_BYTES:
            raise ApiError("RequestEntityTooLargeException", f"The body has more than {BODY_BYTES} bytes.")
        _POSTS[what](self, request)

    def _recycle(self, request: Request) -> None:
        asked = _body(request, _Recycle)
        if (asked.environment is None) == (asked.function is None):
            raise invalid_parameter("Name either an environment or a function.")
        if asked.environment is not None:
            numbers = {self._number(asked.environment)}
        else:
            arn = self.function_arn(asked.function or "")
            numbers = {number for number, row in self._rows().items() if row["function_arn"] == arn}
        members = self._dispatcher.scheduler.members
        rows = self._rows()
        told = [_retired(rows[number], RECYCLED, busy=number in members and members[number].busy)
                for number in sorted(numbers & rows.keys())]  # fmt: skip
        for number in numbers:
            self._dispatcher.retire(number, RECYCLED)
        self._answer_when_gone(request, {number for number in numbers if number in members
                                         and not members[number].busy}, {"retired": told})  # fmt: skip

    def _crash(self, request: Request) -> None:
        asked = _body(request, _Crash)
        number = self._number(asked.environment)
        row = self._rows()[number]
        if not self._dispatcher.worker.crash(number, asked.participant):
            who = "runtime" if asked.participant == RUNTIME else f"external extension {asked.participant!r}"
            raise conflict(f"Environment {row['id']} is in the phase {row['phase']} and has no {who} that runs.")
        _answer(request, 202, {"environment": row["id"], "participant": asked.participant, "phase": row["phase"]})

    def _advance(self, request: Request) -> None:
        asked = _body(request, _Advance)
        rows = self._rows()
        try:
            retired = self._dispatcher.advance(asked.seconds)
        except ValueError as error:
            raise invalid_parameter(f"{error}.") from None
        told = [_retired(rows[effect.number], effect.reason) for effect in retired if effect.number in rows]
        self._answer_when_gone(request, {effect.number for effect in retired}, {"retired": told})

    def _init_failures(self, request: Request) -> None:
        asked = _body(request, _InitFailures)
        if not chaos.is_init_failure(asked.failure):
            raise invalid_parameter(f"{asked.failure!r} is no way to fail: it is exit, timeout or an error type such "
                                    "as Runtime.ImportModuleError.")  # fmt: skip
        self._arm(request, chaos.InitFailureArmed(self._clock.monotonic(), self.function_arn(asked.function),
                                                  asked.failure, asked.times))  # fmt: skip

    def _throttles(self, request: Request) -> None:
        asked = _body(request, _Throttles)
        if asked.reason not in chaos.THROTTLE_REASONS:
            raise invalid_parameter(f"{asked.reason!r} is none of AWS's reasons: {', '.join(chaos.THROTTLE_REASONS)}.")
        arn = chaos.EVERY_FUNCTION if asked.function is None else self.function_arn(asked.function)
        self._arm(request, chaos.ThrottleArmed(self._clock.monotonic(), arn, asked.reason, asked.times))

    def _arm(self, request: Request, event: chaos.Event) -> None:
        self._dispatcher.chaos.handle(event)
        _answer(request, 200, self.state())

    def _number(self, environment_id: str) -> int:
        number = self._dispatcher.worker.find(environment_id)
        if number is None or number not in self._rows():
            raise not_found(f"No environment {environment_id} is alive.")
        return number

    def _rows(self) -> dict[int, dict[str, Any]]:
        worker = self._dispatcher.worker
        found = ((worker.find(row["id"]), row) for row in worker.environments())
        return {number: row for number, row in found if number is not None}

    def _answer_when_gone(self, request: Request, numbers: Iterable[int], answer: dict[str, Any]) -> None:
        def tell() -> None:
            now = {"time": rfc3339(self._clock.wall()), "offset_s": self._clock.offset_s}
            _answer(request, 200, now | answer)

        self._dispatcher.when_gone(set(numbers), tell)


_POSTS: dict[str, Callable[[ChaosApi, Request], None]] = {
    "recycle": ChaosApi._recycle,
    "crash": ChaosApi._crash,
    "advance": ChaosApi._advance,
    "init-failures": ChaosApi._init_failures,
    "throttles": ChaosApi._throttles,
}
POSTS = frozenset(_POSTS)


def _named(function_arn: str) -> dict[str, Any]:
    """A function by its name and its ARN; None for all of them."""
    return {"function": function_arn.rpartition(":")[2] or None, "function_arn": function_arn or None}


def _retired(row: dict[str, Any], reason: str, *, busy: bool = False) -> dict[str, Any]:
    """`busy`: a running invocation is finished first, and the answer does not wait for it."""
    return {"id": row["id"], "function_name": row["function_name"], "version": row["version"], "reason": reason,
            "busy": busy}  # fmt: skip


def _answer(request: Request, status: int, content: dict[str, Any]) -> None:
    request.respond(status, msgspec.json.encode(content))


def _body(request: Request, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(request.body or b"{}", type=shape)
    except msgspec.DecodeError as error:  # and ValidationError, which is one
        raise invalid_parameter(f"{error}.") from None
