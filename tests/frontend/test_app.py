"""The front door: who is let in, and where requests go."""

from __future__ import annotations

import json

import pytest

from lambent.frontend.app import Edge
from lambent.http1 import Request

from .front_door import ARN, URL_ID, FrontDoor

FUNCTION_PAGE = f"http://{URL_ID}.lambda-url.us-east-1.localhost:4566"


@pytest.fixture
async def door() -> FrontDoor:
    return FrontDoor()


@pytest.mark.parametrize("host", [
    "localhost", "LOCALHOST:4566", "localhost.", "127.0.0.1:4566", "[::1]:4566", "192.0.2.7", "lambda.test:1",
    "s3.us-east-1.localhost:4566", "",
])  # fmt: skip
async def test_hosts_that_nobody_can_rebind_are_served(door: FrontDoor, host: str) -> None:
    assert door.ask("GET", "/2015-03-31/functions", Host=host)[0] == 200


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:4566", "localhost.evil.example", "127.0.0.1.nip.io", "localhost,evil.example",
    "127.1", "0x7f000001", "notlocalhost", "evil.example@localhost",
])  # fmt: skip
async def test_other_hosts_are_403_and_reach_nothing(door: FrontDoor, host: str) -> None:
    status, headers, body = door.ask("POST", "/2015-03-31/functions/f/invocations", b"{}", Host=host)
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert json.loads(body) == {"message": "Unknown Host"}
    assert not door.invoked and not door.control


@pytest.mark.parametrize("origin", [
    "http://localhost:3000", "https://localhost", "http://127.0.0.1:8080", "http://[::1]", "http://app.localhost"])
async def test_pages_of_this_machine_may_ask(door: FrontDoor, origin: str) -> None:
    assert door.ask("GET", "/x", Origin=origin)[0] == 200


async def test_page_from_the_address_that_it_asks_may_ask(door: FrontDoor) -> None:
    assert door.ask("GET", "/x", Origin="http://192.0.2.7:4566", Host="192.0.2.7:4566")[0] == 200


@pytest.mark.parametrize("origin", [
    "http://evil.example", "null", "", "http://", "http://192.0.2.7", "http://localhost.evil.example", FUNCTION_PAGE,
    "chrome-extension://abcdef", "http://127.0.0.1.evil.example", "localhost",
])  # fmt: skip
@pytest.mark.parametrize("path", [
    "/2015-03-31/functions/f/invocations", "/_lambent/environments", "/2015-03-31/functions"])  # fmt: skip
async def test_other_pages_are_403_and_reach_nothing(door: FrontDoor, path: str, origin: str) -> None:
    status, _, body = door.ask("POST", path, b"{}", Origin=origin)
    assert (status, json.loads(body)) == (403, {"message": "Foreign Origin"})
    assert not door.invoked and not door.control


async def test_pages_of_everywhere_may_ask_a_function_url(door: FrontDoor) -> None:
    client = door.client()
    client.send("GET", "/", Host=f"{URL_ID}.lambda-url.us-east-1.localhost:4566", Origin="http://evil.example")
    door.conclude(payload=b'"hello"')
    assert client.answer()[::2] == (200, b"hello")


async def test_url_that_no_policy_opens_is_403_and_nothing_runs(door: FrontDoor) -> None:
    door.is_public = False
    status, headers, body = door.ask("GET", "/", Host=f"{URL_ID}.lambda-url.us-east-1.localhost")
    assert (status, headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert json.loads(body)["Message"].startswith("Forbidden. For troubleshooting Function URL authorization issues")
    assert not door.invoked


async def test_unknown_function_url_is_403_although_its_host_is_ours(door: FrontDoor) -> None:
    status, _, body = door.ask("GET", "/", Host="b" * 32 + ".lambda-url.us-east-1.localhost")
    assert (status, body) == (403, b'{"Message":null}')


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/2015-03-31/functions/f/invocations"), ("POST", "/2015-03-31/functions/f"),
    ("POST", "/2016-01-01/functions/f/invocations"), ("GET", "/"), ("OPTIONS", "*"),
    ("GET", "http://evil.example/2015-03-31/functions"),
])  # fmt: skip
async def test_everything_else_goes_to_the_control_plane(door: FrontDoor, method: str, path: str) -> None:
    assert door.ask(method, path)[2] == b"control"
    assert door.invoked == []


async def test_slash_at_the_end_of_a_path_is_none(door: FrontDoor) -> None:
    client = door.client()
    client.send("POST", "/2015-03-31/functions/f/invocations/", b"{}")
    assert [invocation.invoked_arn for invocation in door.invoked] == [ARN]
    door.conclude(payload=b"1")
    assert client.answer()[0] == 200
    assert door.ask("POST", "/2021-11-15/functions/nobody/response-streaming-invocations/")[0] == 404


async def test_fault_of_ours_is_a_service_exception_and_a_traceback(door: FrontDoor,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    def fail(request: Request) -> None:
        raise RuntimeError("broken on purpose")

    Edge.__setattr__(door.edge, "_control", fail)
    status, headers, _ = door.ask("GET", "/")
    assert (status, headers["x-amzn-errortype"]) == (500, "ServiceException")
    assert "broken on purpose" in capsys.readouterr().err
