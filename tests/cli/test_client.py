"""The HTTP client against a fake server: kept connections, errors, and peers that are no Lambent."""

from __future__ import annotations

import base64
import json
import socket

import pytest

from lambent.client import BadEndpoint, Client, Unreachable
from lambent.errors import ApiError

from .fake_server import TOKEN, FakeServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_one_connection_serves_many_calls(server: FakeServer) -> None:
    with Client(server.endpoint) as client:
        for _ in range(3):
            assert client.health()["status"] == "ok"
    assert server.connections == 1


def test_a_connection_that_the_server_closed_is_replaced_without_sending_twice(server: FakeServer) -> None:
    server.hang_up_after_answer = True
    server.add_function("hello")
    with Client(server.endpoint) as client:
        client.invoke("hello")
        assert client._connection is not None
        # The server's FIN has arrived once its end of the connection reads as closed.
        client._connection.sock.settimeout(5)
        assert client._connection.sock.recv(1, socket.MSG_PEEK) == b""
        client.invoke("hello")
    assert [method for method, _, _ in server.requests] == ["POST", "POST"]
    assert server.connections == 2


def test_functions_follows_the_marker(server: FakeServer) -> None:
    server.page_size = 2
    for name in "abcde":
        server.add_function(name)
    with Client(server.endpoint) as client:
        assert [function["FunctionName"] for function in client.functions()] == list("abcde")
    assert len(server.requests) == 3


def test_log_events_follows_the_token(server: FakeServer) -> None:
    server.page_size = 2
    server.add_log("/aws/lambda/hello", "a", "b", "c", "d", "e", start_ms=1000)
    with Client(server.endpoint) as client:
        assert [event["message"] for event in client.log_events("/aws/lambda/hello", 1001)] == ["b", "c", "d", "e"]


def test_invoke_tells_what_the_headers_say(server: FakeServer) -> None:
    server.add_function("hello")
    server.answer = (200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorMessage":"boom"}')
    with Client(server.endpoint) as client:
        invoked = client.invoke("hello", b"[1]")
    assert invoked.function_error == "Unhandled"
    assert invoked.payload == b'{"errorMessage":"boom"}'
    assert invoked.log_tail == server.log_tail
    assert (invoked.environment, invoked.start, invoked.executed_version) == ("3f9a0001", "cold", "$LATEST")
    assert server.requests[0] == ("POST", "/2015-03-31/functions/hello/invocations", b"[1]")


def test_names_are_percent_encoded_in_the_path(server: FakeServer) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:a/b:$LATEST"
    server.add_function(arn)
    with Client(server.endpoint) as client:
        assert client.configuration(arn)["FunctionName"] == arn
    assert "%2F" in server.requests[0][1] and "%24LATEST" in server.requests[0][1]


def test_create_function_sends_the_zip_as_base64(server: FakeServer) -> None:
    with Client(server.endpoint) as client:
        client.create_function({"FunctionName": "f", "Code": {"ZipFile": b"\x00zip"}})
    sent = json.loads(server.requests[0][2])
    assert base64.b64decode(sent["Code"]["ZipFile"]) == b"\x00zip"


@pytest.mark.parametrize(
    ("status", "headers", "body", "code", "message"),
    [
        (
            404,
            {"x-amzn-ErrorType": "ResourceNotFoundException"},
            b'{"Message":"no"}',
            "ResourceNotFoundException",
            "no",
        ),
        (
            400,
            {},
            b'{"__type":"com.amazon#InvalidParameterException","message":"bad"}',
            "InvalidParameterException",
            "bad",
        ),
        (400, {"x-amzn-ErrorType": "X:http://internal"}, b'{"message":"m"}', "X", "m"),
        (500, {}, b"<html>oops", "HTTP 500", "Internal Server Error"),
        (302, {}, b"", "HTTP 302", "Found"),
        (400, {}, b"[]", "HTTP 400", "Bad Request"),
    ],
)
def test_an_error_answer_is_an_api_error(
    server: FakeServer, status: int, headers: dict[str, str], body: bytes, code: str, message: str
) -> None:
    server.raw = lambda method, path: (status, headers, body)
    with Client(server.endpoint) as client, pytest.raises(ApiError) as raised:
        client.health()
    assert (raised.value.code, raised.value.message, raised.value.status) == (code, message, status)


def test_a_throttle_keeps_its_reason(server: FakeServer) -> None:
    body = b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
    server.raw = lambda method, path: (429, {"x-amzn-ErrorType": "TooManyRequestsException"}, body)
    with Client(server.endpoint) as client, pytest.raises(ApiError) as raised:
        client.invoke("hello")
    assert raised.value.extra == {"Reason": "ConcurrentInvocationLimitExceeded"}


@pytest.mark.parametrize("body", [b"hello", b"[]", b'"text"'])
def test_a_peer_that_is_no_lambent_is_told_apart(server: FakeServer, body: bytes) -> None:
    server.raw = lambda method, path: (200, {}, body)
    with Client(server.endpoint) as client, pytest.raises(Unreachable, match="does not answer as Lambent does"):
        client.health()


def test_nobody_listening() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(Unreachable, match="connection refused"):
        client.health()


def test_a_name_that_does_not_resolve() -> None:
    with Client("http://nowhere.invalid:1") as client, pytest.raises(Unreachable, match="no server at"):
        client.health()


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with client, pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
            client.request("GET", "/", timeout_s=0.05)
        assert client._connection is None


def test_a_server_that_hangs_up_in_the_middle(server: FakeServer) -> None:
    server.raw = lambda method, path: (200, {"Content-Length": "100"}, b"short")
    server.hang_up_after_answer = True
    with Client(server.endpoint) as client, pytest.raises(Unreachable, match="hung up"):
        client.health()


def test_the_token_goes_only_to_the_management_api(server: FakeServer) -> None:
    seen: list[str] = []
    server.add_environment("3f9a0001")
    with Client(server.endpoint, token=TOKEN) as client:
        client.retire("3f9a0001")
        original = client._connected

        def watching() -> object:
            connection = original()
            putheader = connection.putheader
            connection.putheader = lambda name, *values: (seen.append(name), putheader(name, *values))[1]  # type: ignore
            return connection

        client._connected = watching  # type: ignore[assignment, method-assign]
        list(client.functions())
    assert "Host" in seen and "Authorization" not in seen


def test_a_host_header_of_ones_own(server: FakeServer) -> None:
    with Client(server.endpoint) as client:
        client.request("GET", "/_lambent/health", host="abc.lambda-url.us-east-1.localhost:4566")
        client.health()
    assert server.authorities == ["abc.lambda-url.us-east-1.localhost:4566", f"127.0.0.1:{server.port}"]


@pytest.mark.parametrize("given", ["127.0.0.1:4566", "http://127.0.0.1:4566", "http://127.0.0.1:4566/"])
def test_forms_of_an_endpoint(given: str) -> None:
    assert Client(given).endpoint == "http://127.0.0.1:4566"


def test_an_ipv6_endpoint() -> None:
    client = Client("http://[::1]:4566")
    assert (client.host, client.endpoint) == ("::1", "http://[::1]:4566")


@pytest.mark.parametrize(
    "given", ["ftp://x", "https://x", "http://", "http://x:99999", "http://x:a", "http://x/path", ""]
)
def test_what_is_no_endpoint(given: str) -> None:
    with pytest.raises(BadEndpoint):
        Client(given)
