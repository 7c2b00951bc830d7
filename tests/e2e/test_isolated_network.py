"""Environments without a network but their Runtime API (`--network isolated`, point 10)."""

from __future__ import annotations

import pytest

from .harness import Function, Server
from .test_extensions import PLAIN, WITNESS, end, telemetry, with_layer
from .test_isolation import LOOKS, do

FLAGS = ("--network", "isolated")
FUNCTIONS = (Function("looks", LOOKS), Function("other", LOOKS), Function("node", "exports.handler = async (e) => e",
             runtime="nodejs20.x"))  # fmt: skip


def test_functions_run(server: Server) -> None:
    assert do(server, "looks", "api") == "127.0.0.1:9001"
    assert server.invoke("node", {"a": 1}).payload == {"a": 1}


def test_there_is_nothing_but_loopback(server: Server) -> None:
    assert do(server, "looks", "look")["interfaces"] == ["lo"]
    assert do(server, "looks", "ask", address="127.0.0.1:9001") == "pong"


def test_neither_the_host_nor_the_platform_is_reached(server: Server) -> None:
    assert do(server, "looks", "ask", address=f"127.0.0.1:{server.port}") == "ConnectionRefusedError"
    for address in ("192.0.2.1:80", "169.254.169.254:80", "10.0.0.1:22"):
        assert do(server, "looks", "ask", address=address) == "OSError"


def test_each_environment_has_a_loopback_of_its_own(server: Server) -> None:
    first, second = server.invoke("looks", {"do": "api"}), server.invoke("other", {"do": "api"})
    assert first.payload == second.payload
    assert first.environment != second.environment
    # Names are resolved by nobody.
    assert do(server, "looks", "ask", address="localhost:9001") == "pong"
    assert do(server, "looks", "ask", address="example.com:80") == "gaierror"


@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_telemetry_is_delivered_from_inside(server: Server, protocol: str) -> None:
    name = f"told-{protocol.lower()}"
    with_layer(server, name, PLAIN, WITNESS, WITNESS_PROTOCOL=protocol)
    call = server.invoke(name)
    assert call.error is None, call.log
    kinds = [kind for kind, _ in telemetry(end(server, call), name)]
    assert kinds[0] == "platform.initStart" and kinds[-1] == "platform.report"
