"""What a body of the Telemetry API or the Logs API asks for, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lambent.core.subscription import Api, Subscription
from lambent.runtimeapi.telemetry import Invalid, parse


def asked(api: Api = "telemetry", **changed: Any) -> Subscription:
    body = {"types": ["platform"], "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080"}}
    return parse(json.dumps(body | changed).encode(), api)


def to(**destination: Any) -> dict[str, Any]:
    return {"destination": {"protocol": "HTTP"} | destination}


def test_what_is_left_out_has_awss_defaults() -> None:
    assert asked() == Subscription("telemetry", "2022-07-01", ("platform",), 10_000, 262_144, 1.0, "HTTP", 8080)
    assert asked("logs").schema == "2020-08-15"


def test_everything_can_be_named() -> None:
    found = asked("logs", schemaVersion="2021-03-18", types=["extension", "function", "extension", "platform"],
                  buffering={"maxItems": 1000, "maxBytes": 1_048_576, "timeoutMs": 25},
                  **to(URI="http://sandbox:1234/logs?x=1", method="PUT", encoding="JSON"))  # fmt: skip
    assert found == Subscription("logs", "2021-03-18", ("extension", "function", "platform"), 1000, 1_048_576, 0.025,
                                 "HTTP", 1234, "PUT", "/logs?x=1", "sandbox")
    tcp = asked(**to(protocol="TCP", port=7))
    assert (tcp.protocol, tcp.port) == ("TCP", 7)


@pytest.mark.parametrize("uri", [
    "http://127.0.0.1:8080", "http://localhost:8080", "http://169.254.169.254/latest", "https://sandbox:8080",
    "http://sandbox.localdomain.example:8080", "http://user@sandbox:8080", "http://sandbox:8080@example.org/",
    "http://sandbox:0", "http://sandbox:65536", "http://sandbox:9001", "http://sandbox:8080/a b",
    "http://sandbox:8080/\r\nHost: x", "http://sandbox:8080\n", "sandbox:8080", "http://sandbox", ""])  # fmt: skip
def test_destinations_other_than_the_environment_are_refused(uri: str) -> None:
    with pytest.raises(Invalid):
        asked(**to(URI=uri))


@pytest.mark.parametrize("changed", [
    {"types": []}, {"types": ["platform", "weather"]}, {"types": "platform"}, {"schemaVersion": "2020-01-01"},
    {"buffering": {"maxItems": 999}}, {"buffering": {"maxItems": 10_001}}, {"buffering": {"maxBytes": 262_143}},
    {"buffering": {"timeoutMs": 24}}, {"buffering": {"timeoutMs": 30_001}}, {"buffering": {"timeoutMs": True}},
    {"buffering": {"timeoutMs": "25"}}, {"buffering": []}, {"destination": {}}, {"destination": {"protocol": "UDP"}},
    to(protocol="TCP"), to(protocol="TCP", port=9001), to(protocol="TCP", port=-1), to(protocol="TCP", port="x"),
    to(URI="http://sandbox:8080", method="GET"), to(URI="http://sandbox:8080", encoding="XML")])  # fmt: skip
def test_values_outside_of_awss_ranges_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        asked(**changed)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        asked(types=[], **to(URI="http://sandbox.localdomain"))
    assert str(caught.value) == "URI port is not provided; types should not be empty"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"types": ["platform"]}',
                                  b"[" * 100_000])  # fmt: skip
def test_bodies_that_are_no_subscription_are_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse(body, "telemetry")
