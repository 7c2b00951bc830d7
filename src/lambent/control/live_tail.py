"""StartLiveTail: log events told to a caller as they come in, once a second, in an answer that is a stream.

Facts, of the API reference: `sessionStart` first, then a `sessionUpdate` every second, also an empty one; at most 500
events in one, more are left out and `sampled` says so; what a slow reader has not taken is kept up to 5,000 events and
the oldest go first; a session ends after three hours. 15 sessions at once is the quota of an account.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import deque
from typing import Any

from lambent import eventstream
from lambent.control.context import Context, Params
from lambent.control.operations.logs import invalid, lookup_errors, store_of
from lambent.errors import ApiError
from lambent.http1 import Request
from lambent.telemetry.logs import LogStore, NoSuchGroup
from lambent.telemetry.pattern import Match, compile_pattern

OPERATION = "StartLiveTail"
TICK_S = 1.0
UPDATE_EVENTS = 500
KEPT_EVENTS = 5000
KEPT_BYTES = 8 * 1024 * 1024  #: our own bound: events may have 256 KiB, and a message of the stream 16 MiB
SESSION_TICKS = 3 * 3600
SESSIONS = 15
CONTENT_TYPE = "application/vnd.amazon.eventstream"

_ARN = re.compile(r"arn:[^:]*:logs:([^:]*):([^:]*):log-group:([^:]+)")


class LiveTails:
    """The sessions of one server."""

    def __init__(self) -> None:
        self._sessions: set[_Session] = set()

    def start(self, request: Request, context: Context, params: Params) -> None:
        """Begin the answer. Raises ApiError before it is begun."""
        for session in [session for session in self._sessions if session.over]:
            session.end()
        store = store_of(context)
        if sum(session.store is store for session in self._sessions) >= SESSIONS:
            raise ApiError("LimitExceededException", f"There are {SESSIONS} Live Tail sessions already.", status=400)
        self._sessions.add(_Session(request, store, _asked(context, store, params), self._sessions.discard))

    def stop(self) -> None:
        """The server stops."""
        for session in list(self._sessions):
            session.end()


class _Asked:
    """What a session is told of. `groups` gives each group's name the identifier that the caller used."""

    def __init__(self, groups: dict[str, str], params: Params, match: Match | None) -> None:
        self.groups = groups
        self.params = params
        self.streams = frozenset(params.get("logStreamNames") or ())
        self.prefixes = tuple(params.get("logStreamNamePrefixes") or ())
        self.match = match

    def wants(self, group: str, stream: str, message: str) -> bool:
        return (
            group in self.groups
            and (not self.streams or stream in self.streams)
            and (not self.prefixes or stream.startswith(self.prefixes))
            and (self.match is None or self.match(message))
        )


def _asked(context: Context, store: LogStore, params: Params) -> _Asked:
    names, prefixes = params.get("logStreamNames"), params.get("logStreamNamePrefixes")
    identifiers = params["logGroupIdentifiers"]
    if names and prefixes:
        raise invalid("Cannot specify both logStreamNames and logStreamNamePrefixes.")
    if (names or prefixes) and len(identifiers) > 1:
        raise invalid("Log streams can be specified for a single log group only.")
    known = {group.name for group in store.groups()}
    groups = {}
    for identifier in identifiers:
        found = _ARN.fullmatch(identifier)
        if found is None:
            raise invalid(f"'{identifier}' is not the ARN of a log group.")
        with lookup_errors():
            if (found[1], found[2]) != (context.region, context.account) or found[3] not in known:
                raise NoSuchGroup(identifier)
        groups[found[3]] = identifier
    with lookup_errors():
        return _Asked(groups, params, compile_pattern(params.get("logEventFilterPattern")))


class _Session:
    """One answer, from its beginning to the caller's hang-up, three hours later, or the server's end."""

    def __init__(self, request: Request, store: LogStore, asked: _Asked, gone: Any) -> None:
        self.store = store
        self._request = request
        self._asked = asked
        self._gone = gone
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()  #: bytes and event
        self._waiting_bytes = 0
        self._taken = 0  #: events of this second
        self._sampled = False
        self._flows = True
        self._ticks = 0
        self._loop = asyncio.get_running_loop()
        session_id = str(uuid.uuid4())
        request.begin(200, (("x-amzn-RequestId", session_id),), CONTENT_TYPE)
        request.on_flow = self._flow
        request.write(eventstream.event("initial-response", {}))
        request.write(eventstream.event("sessionStart", {"requestId": session_id, "sessionId": session_id,
                                                         **asked.params}))  # fmt: skip
        self._untap = store.tap(self._tell)
        self._timer = self._loop.call_later(TICK_S, self._tick)

    @property
    def over(self) -> bool:
        return self._request.gone

    def _flow(self, flows: bool) -> None:
        self._flows = flows

    def _tell(self, group: str, stream: str, timestamp_ms: int, message: str) -> None:
        asked = self._asked
        if not asked.wants(group, stream, message):
            return
        if self._taken >= UPDATE_EVENTS:
            self._sampled = True
            return
        self._taken += 1
        event = {"logStreamName": stream, "logGroupIdentifier": asked.groups[group], "message": message,
                 "timestamp": timestamp_ms, "ingestionTime": timestamp_ms}  # fmt: skip
        self._waiting.append((len(message), event))
        self._waiting_bytes += len(message)
        while len(self._waiting) > KEPT_EVENTS or self._waiting_bytes > KEPT_BYTES:
            self._waiting_bytes -= self._waiting.popleft()[0]
            self._sampled = True

    def _tick(self) -> None:
        self._ticks += 1
        if self.over:
            self.end()
            return
        self._taken = 0
        if self._flows:
            self._send()
        if self._ticks >= SESSION_TICKS:
            self._request.write(eventstream.exception("SessionTimeoutException", {"message": "Session timed out."}))
            self.end()
            return
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _send(self) -> None:
        """What waits, in as many updates as it takes; one in any case."""
        while True:
            part = [self._waiting.popleft() for _ in range(min(UPDATE_EVENTS, len(self._waiting)))]
            self._waiting_bytes -= sum(size for size, _ in part)
            self._request.write(eventstream.event("sessionUpdate", {
                "sessionMetadata": {"sampled": self._sampled}, "sessionResults": [event for _, event in part]}))
            self._sampled = False
            if not self._waiting:
                return

    def end(self) -> None:
        self._timer.cancel()
        self._untap()
        self._request.finish()
        self._gone(self)
