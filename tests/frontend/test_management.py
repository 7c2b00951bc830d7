"""The management API: what is shown, what may be asked, and by whom."""

from __future__ import annotations

import json

import pytest

from .front_door import TOKEN, FrontDoor

RETIRE = "/_lambent/environments/env-1/retire"


@pytest.fixture
async def door() -> FrontDoor:
    return FrontDoor()


async def test_health_and_environments_are_shown_to_whoever_asks(door: FrontDoor) -> None:
    assert json.loads(door.ask("GET", "/_lambent/health")[2]) == {"status": "ok", "version": "0"}
    assert json.loads(door.ask("GET", "/_lambent/environments/")[2]) == {"environments": door.dispatcher.rows}


@pytest.mark.parametrize(("query", "weighed"), [("?pss=true", True), ("?pss=1", True), ("?pss=", False), ("", False)])
async def test_proportional_memory_is_measured_for_who_asks(door: FrontDoor, query: str, weighed: bool) -> None:
    [row] = json.loads(door.ask("GET", "/_lambent/environments" + query)[2])["environments"]
    assert row == {"id": "env-1", "phase": "idle"} | ({"pss_bytes": 9} if weighed else {})


async def test_story_is_told_also_of_an_environment_that_has_ended(door: FrontDoor) -> None:
    for environment_id in ("env-1", "env-0"):
        status, _, body = door.ask("GET", f"/_lambent/environments/{environment_id}/story")
        assert (status, json.loads(body)["id"]) == (200, environment_id)
    assert door.ask("GET", "/_lambent/environments/env-9/story")[0] == 404


async def test_retirement_with_the_token_is_accepted(door: FrontDoor) -> None:
    assert door.ask("POST", RETIRE, Authorization=f"Bearer {TOKEN}")[0] == 202
    assert door.dispatcher.retired == [(1, "asked")]
    assert door.ask("POST", "/_lambent/environments/env-9/retire", Authorization=f"Bearer {TOKEN}")[0] == 404


@pytest.mark.parametrize("authorization", [
    None, "", "Bearer", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}", f"bearer {TOKEN}", f"Bearer {TOKEN}x",
    f"Bearer {TOKEN}, Bearer {TOKEN}", "Bearer \xff",
])  # fmt: skip
async def test_retirement_without_the_token_is_401_and_does_nothing(door: FrontDoor, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization is not None else {}
    status, answered, _ = door.ask("POST", RETIRE, b"", **headers)
    assert (status, answered["www-authenticate"]) == (401, "Bearer")
    assert door.dispatcher.retired == []


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("POST", "/_lambent/environments", "GET"), ("POST", "/_lambent/environments?pss=1", "GET"),
    ("DELETE", "/_lambent/health", "GET"),
    ("PUT", "/_lambent/environments/env-1/story", "GET"), ("GET", RETIRE, "POST"),
])  # fmt: skip
async def test_other_methods_are_405_and_say_which_is_allowed(door: FrontDoor, method: str, path: str,
                                                              allowed: str) -> None:
    status, headers, _ = door.ask(method, path, Authorization=f"Bearer {TOKEN}")
    assert (status, headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/_lambent/", "/_lambent/nothing", "/_lambent/environments/env-1", "/_lambent/x/y/z"])
async def test_unknown_paths_are_404(door: FrontDoor, path: str) -> None:
    assert door.ask("GET", path)[0] == 404


@pytest.mark.parametrize("path", ["/_lambent/health", "/_lambent/environments", RETIRE, "/_lambent/nothing"])
async def test_environments_are_refused_even_with_the_token(door: FrontDoor, path: str) -> None:
    door.guests.add("127.0.0.9")
    client = door.client("127.0.0.9")
    client.send("POST" if path == RETIRE else "GET", path, Authorization=f"Bearer {TOKEN}")
    assert client.answer()[0] == 403
    assert door.dispatcher.retired == []


async def test_head_shows_the_length_alone(door: FrontDoor) -> None:
    client = door.client()
    client.send("HEAD", "/_lambent/health")
    head, _, body = client.transport.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"Content-Length: " in head and body == b""
