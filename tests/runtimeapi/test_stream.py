"""A streamed response between guest and caller: its limit, its pace, its ends. Nothing here has a socket."""

from __future__ import annotations

import base64
from typing import Any, cast

import pytest

from lambent import limits
from lambent.core.events import Event, ResponseEnded
from lambent.core.model import OutcomeKind
from lambent.http1 import Request
from lambent.runtimeapi.stream import Bandwidth, ResponseStream, error_of_trailers

MIB = 1024 * 1024


class Guest:
    """The request of the guest, as far as a stream holds it back."""

    def __init__(self) -> None:
        self.paused = False
        self.told = 0

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def respond(self, status: int, body: bytes, **_: object) -> None:
        self.told = status


class Lifecycle:
    """An environment in the middle of a response."""

    def __init__(self) -> None:
        self.at = 0.0
        self.fed: list[Event] = []
        self.goes_on = True

    def now(self) -> float:
        return self.at

    def refusal(self, event: Event) -> str | None:
        return None if self.goes_on else "InvalidStateTransition"

    def feed(self, event: Event) -> None:
        self.fed.append(event)

    def responding(self) -> bool:
        return self.goes_on


class Scene:
    def __init__(self, *, bandwidth: bool = False) -> None:
        self.guest = Guest()
        self.lifecycle = Lifecycle()
        self.received = 0
        self.ended: list[Event] = []
        limiter = Bandwidth(0.0) if bandwidth else None
        self.stream = ResponseStream(self.lifecycle, cast(Request, self.guest), "r1", limiter,
                                     lambda _, event: self.ended.append(event))  # fmt: skip
        self.stream.sink = self._receive

    def _receive(self, data: bytes) -> None:
        self.received += len(data)


def outcome(event: Event) -> Any:
    assert isinstance(event, ResponseEnded)
    return event.outcome


def test_stream_over_the_limit_is_cut_there_and_the_rest_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_RESPONSE_BYTES", 10)
    scene = Scene()
    for _ in range(4):
        scene.stream.chunk(b"four")
    assert scene.received == 10
    assert [outcome(event).error_type for event in scene.lifecycle.fed] == ["Function.ResponseSizeTooLarge"]
    assert scene.stream.too_large


def test_rest_of_what_is_too_large_is_read_although_the_caller_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_RESPONSE_BYTES", 3)
    scene = Scene()
    scene.stream.pause()
    scene.stream.chunk(b"four")
    assert not scene.guest.paused


def test_stream_of_exactly_the_limit_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_RESPONSE_BYTES", 8)
    scene = Scene()
    scene.stream.chunk(b"four")
    scene.stream.chunk(b"four")
    scene.stream.end({})
    assert scene.received == 8
    assert scene.lifecycle.fed == []
    assert outcome(scene.ended[0]).kind is OutcomeKind.RESPONSE


def test_nothing_is_passed_on_once_the_time_is_up() -> None:
    scene = Scene()
    scene.stream.chunk(b"four")
    scene.lifecycle.goes_on = False
    scene.stream.chunk(b"four")
    scene.stream.lost()
    assert scene.received == 4
    assert scene.lifecycle.fed == []


def test_guest_that_hangs_up_leaves_a_truncated_response() -> None:
    scene = Scene()
    scene.stream.lost()
    assert outcome(scene.lifecycle.fed[0]).error_type == "Runtime.TruncatedResponse"


def test_slow_caller_holds_the_guest_back_until_the_end_of_the_stream() -> None:
    scene = Scene()
    scene.stream.pause()
    assert scene.guest.paused
    scene.stream.resume()
    assert not scene.guest.paused
    scene.stream.pause()
    scene.stream.end({})
    assert not scene.guest.paused  # what comes next on this connection is no part of the response


async def test_guest_waits_once_the_bandwidth_is_used_up_although_the_caller_is_fast() -> None:
    scene = Scene(bandwidth=True)
    scene.stream.chunk(bytes(6 * MIB))
    assert not scene.guest.paused
    scene.stream.chunk(bytes(MIB))
    assert scene.guest.paused
    scene.stream.pause()
    scene.stream.resume()
    assert scene.guest.paused
    scene.stream.lost()
    assert not scene.guest.paused


def test_bandwidth_is_six_mebibytes_at_once_then_two_a_second() -> None:
    bandwidth = Bandwidth(100.0)
    assert bandwidth.spend(6 * MIB, 100.0) == 0.0
    assert bandwidth.spend(MIB, 100.0) == 0.5
    assert bandwidth.spend(MIB, 100.5) == 0.5
    assert bandwidth.spend(6 * MIB, 200.0) == 0.0
    assert bandwidth.spend(2 * MIB, 200.0) == 1.0


def test_error_of_the_trailers_is_decoded_and_its_type_reduced() -> None:
    body = base64.b64encode(b'{"errorType":"E"}').decode()
    told = error_of_trailers({"lambda-runtime-function-error-type": "Function.Broken",
                              "lambda-runtime-function-error-body": body})  # fmt: skip
    assert (told.payload, told.error_type) == (b'{"errorType":"E"}', "Function.Broken")
    other = error_of_trailers({"lambda-runtime-function-error-type": "x y",
                               "lambda-runtime-function-error-body": "{no base64"})  # fmt: skip
    assert (other.payload, other.error_type) == (b"{no base64", "Runtime.Unknown")
