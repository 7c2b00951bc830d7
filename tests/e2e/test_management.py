"""The management API: what environments look like from outside, and who may ask (point 14)."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from .harness import Function, Server, meeting, until
from .traces import start_time

RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
FIELDS = {"id", "function_name", "version", "phase", "frozen", "sandbox", "pids", "created_at", "last_used_at",
          "invocations", "init_type", "memory_bytes"}  # fmt: skip

MEETS = """
import socket

def handler(event, context):
    if "meet" in event:
        with socket.create_connection(("127.0.0.1", event["meet"])) as peer:
            assert peer.recv(1) == b"!"
"""

#: Asks the platform's own port from inside of an environment.
ASKS = """
import http.client

def handler(event, context):
    connection = http.client.HTTPConnection("127.0.0.1", event["port"], timeout=5)
    connection.request(event["method"], event["path"], headers=event.get("headers", {}))
    reply = connection.getresponse()
    return [reply.status, reply.read().decode()]
"""

FUNCTIONS = (Function("meets", MEETS), Function("asks", ASKS), Function("slow-start", "import time\ntime.sleep(0.5)\n"
             "def handler(event, context): pass"))  # fmt: skip


def test_an_idle_environment_is_frozen_and_says_so(server: Server) -> None:
    call = server.invoke("meets")
    row = server.idle(call.environment)
    assert row.keys() >= FIELDS
    assert (row["function_name"], row["version"]) == ("meets", "$LATEST")
    assert (row["phase"], row["frozen"], row["sandbox"]) == ("idle", True, "namespace")
    assert (row["init_type"], row["invocations"]) == ("on-demand", 1)
    assert row["memory_bytes"] > 1_000_000
    for name in ("created_at", "last_used_at"):
        assert re.fullmatch(RFC3339, row[name])
    assert row["pids"]
    for pid in row["pids"]:  # the host's
        assert start_time(pid)
        assert "python" in Path(f"/proc/{pid}/cmdline").read_text()


def test_proportional_memory_is_measured_for_who_asks(server: Server) -> None:
    environment = server.invoke("meets").environment
    server.idle(environment)

    def row(query: str) -> dict[str, Any]:
        rows = server.http("GET", f"/_lambent/environments{query}").json()["environments"]
        return next(row for row in rows if row["id"] == environment)

    assert "pss_bytes" not in row("")
    weighed = [row("?pss=true") for _ in range(3)]
    assert all(2_000_000 < one["pss_bytes"] < 40_000_000 for one in weighed)
    assert weighed[0]["frozen"] and row("")["frozen"]  # looking does not thaw


def test_phases_are_shown_as_they_are(server: Server) -> None:
    with meeting(1) as (port, met, go):
        caller = server.background("meets", {"meet": port})
        assert met.wait(10)
        [row] = [row for row in server.environments("meets") if row["phase"] == "invoke"]
        assert row["frozen"] is False
        go.set()
        call = caller.result()
    assert call.environment == row["id"]
    after = server.idle(call.environment)
    assert after["invocations"] == row["invocations"]
    assert after["last_used_at"] >= row["created_at"]

    starting = server.background("slow-start")
    until(lambda: [row["phase"] for row in server.environments("slow-start")] == ["init"])
    starting.result()


def test_a_story_tells_every_step(server: Server) -> None:
    call = server.invoke("meets")
    server.idle(call.environment)
    story = server.story(call.environment)
    assert story["id"] == call.environment
    assert story["log_group"] == "/aws/lambda/meets"
    assert call.request_id in [bill["request_id"] for bill in story["invocations"]]
    events = [step["event"].partition("(")[0] for step in story["steps"]]
    assert events[:3] == ["Started", "SandboxCreated", "NextRequested"]
    assert all(re.fullmatch(RFC3339, step["at"]) for step in story["steps"])
    server.retire(call.environment)
    ended = server.story(call.environment)  # it can still be told
    assert ended["phase"] == "gone"
    again = server.story(call.environment.rpartition("-")[2])  # by its number too
    # Until it is taken away it is told anew each time, and the host's clock may be corrected by microseconds meanwhile.
    assert again["id"] == ended["id"]
    assert [step["event"] for step in again["steps"]] == [step["event"] for step in ended["steps"]]
    assert call.environment not in [row["id"] for row in server.environments()]


def test_retiring_needs_the_token(server: Server) -> None:
    call = server.invoke("meets")
    path = f"/_lambent/environments/{call.environment}/retire"
    assert server.http("POST", path).status == 401
    for wrong in ("Bearer wrong", "Bearer ", "Bearer", server.token, "Basic " + server.token):
        assert server.http("POST", path, headers=[("Authorization", wrong)]).status == 401
    assert server.idle(call.environment)["phase"] == "idle"
    bearer = ("Authorization", f"Bearer {server.token}")
    assert server.http("GET", path, headers=[bearer]).status == 405
    assert server.http("POST", "/_lambent/environments/absent/retire", headers=[bearer]).status == 404
    assert server.http("POST", path, headers=[bearer]).status == 202
    until(lambda: call.environment not in [row["id"] for row in server.environments()])


def test_a_busy_environment_is_retired_after_its_invocation(server: Server) -> None:
    with meeting(1) as (port, met, go):
        caller = server.background("meets", {"meet": port})
        assert met.wait(10)
        [row] = [row for row in server.environments("meets") if row["phase"] == "invoke"]
        path = f"/_lambent/environments/{row['id']}/retire"
        assert server.http("POST", path, headers=[("Authorization", f"Bearer {server.token}")]).status == 202
        other = server.invoke("meets")  # nobody else is given to it
        assert other.environment != row["id"]
        assert server.environment(row["id"])["phase"] == "invoke"
        go.set()
        assert caller.result().error is None
    until(lambda: row["id"] not in [other["id"] for other in server.environments()])


def test_the_token_is_for_the_owner_of_the_data_directory_only(server: Server) -> None:
    found = os.stat(server.data_dir / "token")
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == os.getuid()
    assert len(server.token) >= 32


@pytest.mark.parametrize("path", ["/_lambent/health", "/_lambent/environments", "/2015-03-31/functions"])
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Origin", "http://evil.example", 403),
        ("Origin", "http://localhost.evil.example:4566", 403),
        ("Origin", "http://203.0.113.5", 403),
        ("Origin", f"http://{'a' * 32}.lambda-url.us-east-1.localhost:4566", 403),
        ("Origin", "null", 403),
        ("Origin", "", 403),
        ("Origin", "http://localhost:3000", 200),
        ("Origin", "http://127.0.0.1", 200),
        ("Host", "evil.example", 403),
        ("Host", "rebound.example:4566", 403),
        ("Host", "localhost", 200),
        ("Host", "[::1]:4566", 200),
    ],
)
def test_web_pages_from_elsewhere_are_kept_out(server: Server, path: str, name: str, value: str, status: int) -> None:
    if name == "Host":
        reply = server.http("GET", path, host=value)
    else:
        reply = server.http("GET", path, headers=[(name, value)])
    assert reply.status == status


def test_a_web_page_cannot_invoke_or_deploy(server: Server) -> None:
    origin = [("Origin", "http://evil.example"), ("Content-Type", "text/plain")]
    for method, path in (("POST", "/2015-03-31/functions/meets/invocations"), ("POST", "/2015-03-31/functions"),
                         ("DELETE", "/2015-03-31/functions/meets"), ("POST", "/")):  # fmt: skip
        assert server.http(method, path, headers=origin, body=b"{}").status == 403
    assert server.functions.get_function(FunctionName="meets")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_lambent/health"),
        ("GET", "/_lambent/environments"),
        ("POST", "/_lambent/environments/absent/retire"),
        ("GET", "/_lambent/chaos"),
        ("POST", "/_lambent/chaos/advance"),
        ("DELETE", "/_lambent/chaos"),
        ("GET", "/_lambent/../_lambent/health"),
    ],
)
def test_environments_cannot_reach_the_management_api(server: Server, method: str, path: str) -> None:
    bearer = {"Authorization": f"Bearer {server.token}"}
    event = {"port": server.port, "method": method, "path": path, "headers": bearer}
    assert server.invoke("asks", event).payload[0] == 403


def test_environments_may_call_the_api_of_lambda(server: Server) -> None:
    event = {"port": server.port, "method": "GET", "path": "/2015-03-31/functions/meets/configuration"}
    assert server.invoke("asks", event).payload[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/_lambent/", 404), ("GET", "/_lambent/nothing", 404), ("POST", "/_lambent/health", 405),
     ("GET", "/_lambent/environments/absent/story", 404), ("DELETE", "/_lambent/environments", 405)],
)  # fmt: skip
def test_what_is_not_there_is_said(server: Server, method: str, path: str, status: int) -> None:
    reply = server.http(method, path)
    assert reply.status == status
    assert reply.json()["message"]
