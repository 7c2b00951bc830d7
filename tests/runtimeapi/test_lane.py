"""The fast lane: how a connection comes to speak frames, and what a guest can do to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lambent import limits
from lambent.core.events import ErrorPosted, Event, NextRequested, ResponsePosted
from lambent.core.model import FunctionVersion, Invocation
from lambent.core.states import State
from lambent.core.subscription import Api, Subscription
from lambent.http1_connection import Connection
from lambent.runtimeapi.app import BODY_LIMIT, RuntimeApi
from lambent.runtimeapi.lane import MAX_CONTENT_TYPE, TEXT_BYTES, render

FUNCTION = FunctionVersion("000000000000", "us-east-1", "f", "$LATEST", "1", "python3.12", "app.handler", "0" * 64)
OFFER = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\nLambent-Lane: 1\r\n\r\n"
PLAIN = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"


def invocation(request_id: str, payload: bytes = b"{}") -> Invocation:
    return Invocation(request_id, FUNCTION, payload, "arn:f", "Root=1", '{"custom":{}}')


def posted(request_id: str) -> bytes:
    head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    return head.encode() + b"1"


def frame(kind: bytes, body: bytes, text: bytes = b"") -> bytes:
    return kind + len(text).to_bytes(3, "little") + len(body).to_bytes(8, "little") + text + body


class Wire(asyncio.Transport):
    """A transport without a wire, which knows whose bytes come."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol: Any = protocol
        self.writes: list[bytes] = []
        self.aborted = False
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def come(self, data: bytes) -> None:
        self.protocol.data_received(data)


class Lifecycle:
    """Keeps the events; refuses those whose type is in `refused`."""

    function = FUNCTION

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.asked_at_once: list[bool] = []  #: at each event
        self.refused: set[type] = set()
        self.lost: list[Connection] = []
        self.api = RuntimeApi(self)

    def connect(self) -> Wire:
        loop = asyncio.get_running_loop()
        return Wire(Connection(self.api.on_request, loop, BODY_LIMIT, self.lost.append, timeout_s=None))

    def in_lane(self) -> Wire:
        """A connection that was given the invocation `one` and speaks frames; nothing has happened yet."""
        wire = self.connect()
        wire.come(OFFER)
        self.api.deliver("runtime", invocation("one"), 5)
        self.events.clear()
        wire.writes.clear()
        return wire

    def now(self) -> float:
        return 1.0

    def refusal(self, event: Event) -> str | None:
        return "InvalidStateTransition" if type(event) in self.refused else None

    def feed(self, event: Event) -> None:
        self.events.append(event)
        self.asked_at_once.append(self.api.asks_at_once)

    def runtime_state(self) -> State:
        return State.READY

    def extension_state(self, name: str) -> State:
        return State.READY

    def is_external(self, name: str) -> bool:
        return False

    def responding(self) -> bool:
        return False

    def subscription_refusal(self, name: str, api: Api) -> str | None:
        return None

    def subscribe(self, name: str, subscription: Subscription) -> None:
        raise AssertionError("nobody subscribes here")


@pytest.fixture
async def lifecycle() -> Lifecycle:
    return Lifecycle()


async def test_a_runtime_that_offers_frames_gets_its_first_invocation_in_http_and_the_next_one_in_a_frame(
    lifecycle: Lifecycle,
) -> None:
    wire = lifecycle.connect()
    wire.come(OFFER)
    lifecycle.api.deliver("runtime", invocation("one"), 5)
    [answer] = wire.writes
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nLambent-Lane: 1\r\n" in answer
    assert answer.endswith(b"Content-Length: 2\r\n\r\n{}")
    wire.come(frame(b"r", b'"done"'))
    _, posted, asked = lifecycle.events
    assert isinstance(posted, ResponsePosted) and isinstance(asked, NextRequested)
    assert (posted.request_id, posted.outcome.payload) == ("one", b'"done"')
    assert posted.outcome.content_type == "application/json"
    lifecycle.api.deliver("runtime", invocation("two", b"[2]"), 7)
    head = b'two\n7\narn:f\nRoot=1\n{"custom":{}}\napplication/json'
    assert wire.writes[1:] == [len(head).to_bytes(4, "little") + (3).to_bytes(4, "little") + head + b"[2]"]


async def test_only_a_result_in_a_frame_has_the_question_for_more_in_it(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    lifecycle.asked_at_once.clear()
    wire.come(frame(b"r", b"1"))
    assert [type(event) for event in lifecycle.events] == [ResponsePosted, NextRequested]
    assert lifecycle.asked_at_once == [True, False]
    lifecycle.api.deliver("runtime", invocation("two"), 7)
    lifecycle.connect().come(posted("two"))
    assert lifecycle.asked_at_once == [True, False, False]


async def test_a_runtime_that_offers_nothing_stays_with_http(lifecycle: Lifecycle) -> None:
    wire = lifecycle.connect()
    wire.come(PLAIN)
    lifecycle.api.deliver("runtime", invocation("one"), 5)
    assert b"Lambent-Lane" not in wire.writes[0] and isinstance(wire.protocol, Connection)


async def test_a_peer_that_has_sent_more_after_its_offer_stays_with_http(lifecycle: Lifecycle) -> None:
    wire = lifecycle.connect()
    wire.come(OFFER + PLAIN)
    lifecycle.api.deliver("runtime", invocation("one"), 5)
    assert b"Lambent-Lane" not in wire.writes[0] and isinstance(wire.protocol, Connection)


async def test_the_runtime_is_served_in_the_way_in_which_it_asked_last(lifecycle: Lifecycle) -> None:
    lane, plain = lifecycle.in_lane(), lifecycle.connect()
    plain.come(PLAIN)
    lifecycle.api.deliver("runtime", invocation("two"), 5)
    assert lane.writes == [] and plain.writes[0].startswith(b"HTTP/1.1 200 ")


async def test_frames_may_come_in_pieces_and_together(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    data = frame(b"r", b"first", b"text/plain") + frame(b"e", b'{"errorType":"E"}', b"cause")
    for at in range(0, len(data), 7):
        wire.come(data[at : at + 7])
    posted, _, failed, _ = lifecycle.events
    assert isinstance(posted, ResponsePosted) and isinstance(failed, ErrorPosted)
    assert (posted.outcome.payload, posted.outcome.content_type) == (b"first", "text/plain")
    assert (failed.outcome.payload, failed.outcome.error_type) == (b'{"errorType":"E"}', "")


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_result_over_the_limit_is_an_error_and_is_not_kept(lifecycle: Lifecycle, at_once: bool) -> None:
    wire = lifecycle.in_lane()
    data = frame(b"r", b"x" * (limits.RESPONSE_PAYLOAD_BYTES + 1)) + frame(b"r", b"after")
    step = len(data) if at_once else 1 << 20
    for at in range(0, len(data), step):
        wire.come(data[at : at + step])
        assert len(wire.protocol._buffer) <= step
    failed, _, posted, _ = lifecycle.events
    assert isinstance(failed, ErrorPosted) and failed.outcome.error_type == "Function.ResponseSizeTooLarge"
    assert isinstance(posted, ResponsePosted) and posted.outcome.payload == b"after"


@pytest.mark.parametrize("size", [0, limits.RESPONSE_PAYLOAD_BYTES])
async def test_a_result_up_to_the_limit_is_taken(lifecycle: Lifecycle, size: int) -> None:
    lifecycle.in_lane().come(frame(b"r", b"x" * size))
    posted = lifecycle.events[0]
    assert isinstance(posted, ResponsePosted) and len(posted.outcome.payload) == size


@pytest.mark.parametrize("data", [
    frame(b"?", b""), frame(b"G", b"ET /2018-06-01/"), PLAIN, frame(b"r", b"", b"t" * (TEXT_BYTES + 1)),
])  # fmt: skip
async def test_a_guest_that_breaks_the_format_is_cut_off(lifecycle: Lifecycle, data: bytes) -> None:
    wire = lifecycle.in_lane()
    wire.come(data)
    assert wire.aborted and lifecycle.events == []


async def test_a_runtime_that_may_not_ask_is_cut_off(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    lifecycle.refused = {NextRequested}
    wire.come(frame(b"r", b"late"))
    assert [type(event) for event in lifecycle.events] == [ResponsePosted] and wire.aborted


async def test_a_connection_that_speaks_frames_is_still_the_servers_to_count_and_to_end(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    wire.protocol.connection_lost(None)
    assert len(lifecycle.lost) == 1
    lifecycle.api.deliver("runtime", invocation("two"), 5)
    assert wire.writes == []


async def test_no_lane_outlives_its_processes(lifecycle: Lifecycle) -> None:
    wire, other = lifecycle.in_lane(), lifecycle.connect()
    lifecycle.api.forget()
    other.come(OFFER)
    lifecycle.api.deliver("runtime", invocation("two"), 5)
    assert wire.writes == [] and other.writes[0].startswith(b"HTTP/1.1 200 ")


def test_an_invocation_without_trace_and_context_has_empty_lines() -> None:
    plain = Invocation("one", FUNCTION, b"", "arn:f")
    assert render(plain, 1)[8:] == b"one\n1\narn:f\n\n\napplication/json"


async def test_what_is_delivered_to_a_lane_that_was_left_waits_for_the_next_question(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    wire.come(frame(b"r", b"1"))
    wire.protocol.connection_lost(None)
    lifecycle.api.deliver("runtime", invocation("two", b"[2]"), 7)
    again = lifecycle.connect()
    again.come(PLAIN)
    assert again.writes[0].endswith(b"\r\n\r\n[2]")


async def test_offer_of_a_runtime_that_has_hung_up_since_is_no_lane(lifecycle: Lifecycle) -> None:
    wire = lifecycle.connect()
    wire.come(OFFER)
    wire.protocol.connection_lost(None)
    lifecycle.api.deliver("runtime", invocation("one", b"[1]"), 7)
    again = lifecycle.connect()
    again.come(OFFER)
    assert again.writes[0].endswith(b"\r\n\r\n[1]")


async def test_result_that_nobody_waits_for_ends_the_lane_so_that_a_flood_of_them_costs_nothing(
    lifecycle: Lifecycle,
) -> None:
    wire = lifecycle.in_lane()
    lifecycle.refused = {ResponsePosted}
    wire.come(frame(b"r", b"1") * 3)
    assert wire.aborted and lifecycle.events == []


async def test_type_of_a_result_is_never_long(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    wire.come(frame(b"r", b"1", b"x" * (MAX_CONTENT_TYPE + 1)))
    posted = lifecycle.events[0]
    assert isinstance(posted, ResponsePosted) and posted.outcome.content_type == "application/octet-stream"


async def test_result_that_breaks_off_is_the_outcome_and_asks_for_nothing(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    wire.come(frame(b"r", b"x" * 100)[:50])
    wire.protocol.connection_lost(None)
    [event] = lifecycle.events
    assert isinstance(event, ErrorPosted) and event.request_id == "one"
    assert event.outcome.error_type == "Runtime.TruncatedResponse"


async def test_lane_that_ends_between_results_says_nothing(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    wire.protocol.connection_lost(None)
    assert lifecycle.events == []


async def test_result_that_the_runtime_knows_to_be_too_large_asks_for_nothing(lifecycle: Lifecycle) -> None:
    wire = lifecycle.in_lane()
    wire.come(frame(b"x", b""))
    [event] = lifecycle.events
    assert isinstance(event, ErrorPosted)
    assert event.outcome.error_type == "Function.ResponseSizeTooLarge"
    assert wire.aborted
