"""`lambent chaos`: what is asked of the server, what is told, and what is wrong usage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Lambent
from .fake_server import TOKEN, FakeServer

PATH = "/_lambent/chaos"
RETIRED = {
    "time": "2026-11-21T14:00:00.000Z", "offset_s": 18000.0, "retired": [
        {"id": "3f9a-1", "function_name": "hello", "version": "$LATEST", "reason": "idle", "busy": False},
        {"id": "3f9a-2", "function_name": "hello", "version": "7", "reason": "age", "busy": True}]}  # fmt: skip


def asked(server: FakeServer) -> tuple[str, str, Any]:
    """The last request: method, path and body."""
    method, path, body = server.requests[-1]
    return method, path, json.loads(body) if body else None


@pytest.mark.parametrize(("argv", "path", "body"), [
    (["recycle", "--function", "hello"], "recycle", {"function": "hello"}),
    (["recycle", "1"], "recycle", {"environment": "3f9a-1"}),
    (["fail-init", "hello"], "init-failures", {"function": "hello", "failure": "exit", "times": 2}),
    (["fail-init", "hello", "--failure", "timeout", "--times", "1"], "init-failures",
     {"function": "hello", "failure": "timeout", "times": 1}),
    (["crash", "3f9a-1"], "crash", {"environment": "3f9a-1"}),
    (["crash", "1", "--extension", "agent"], "crash", {"environment": "3f9a-1", "participant": "agent"}),
    (["advance", "5h"], "advance", {"seconds": 18000.0}),
    (["advance", "1h30m"], "advance", {"seconds": 5400.0}),
    (["advance", "1.5d"], "advance", {"seconds": 129_600.0}),
    (["throttle", "hello", "--times", "3"], "throttles", {"function": "hello", "times": 3}),
    (["throttle", "--all", "--reason", "CallerRateLimitExceeded"], "throttles", {"reason": "CallerRateLimitExceeded"}),
])  # fmt: skip
def test_what_is_asked_of_the_server(
    lambent: Lambent, server: FakeServer, argv: list[str], path: str, body: dict[str, Any]
) -> None:
    server.add_environment("3f9a-1")
    server.provoked = (200, RETIRED | {"participant": "runtime", "environment": "3f9a-1", "phase": "idle"})
    ran = lambent("chaos", *argv, "--token", TOKEN)
    assert (ran.code, asked(server)) == (0, ("POST", f"{PATH}/{path}", body))
    assert json.loads(lambent("chaos", *argv, "--token", TOKEN, "--json").out) == server.provoked[1]


@pytest.mark.parametrize(("times", "how_long"), [
    (["--times", "1"], "for one call"), (["--times", "3"], "for 3 calls"),
    ([], "until it is cleared (lambent chaos clear)"),
])  # fmt: skip
def test_how_long_a_throttle_lasts_is_told(lambent: Lambent, server: FakeServer, times: list[str],
                                           how_long: str) -> None:
    ran = lambent("chaos", "throttle", "hello", *times, "--token", TOKEN)
    assert ran.out == f"hello is throttled {how_long}\n"


def test_clearing_names_the_function_if_there_is_one(lambent: Lambent, server: FakeServer) -> None:
    server.provoked = (200, {"cleared": 2})
    assert lambent("chaos", "clear", "--token", TOKEN).out == "cleared 2\n"
    assert asked(server) == ("DELETE", PATH, None)
    server.provoked = (200, {"cleared": 0})
    assert lambent("chaos", "clear", "--function", "hello", "--token", TOKEN).out == "nothing was armed\n"
    assert asked(server) == ("DELETE", f"{PATH}?function=hello", None)


def test_advancing_tells_the_time_and_what_retired(lambent: Lambent, server: FakeServer) -> None:
    server.provoked = (200, RETIRED)
    assert lambent("chaos", "advance", "5h", "--token", TOKEN).out.splitlines() == [
        "platform time is 2026-11-21T14:00:00.000Z, 5h00m ahead",
        "retired 3f9a-1 of hello:$LATEST: idle",
        "retired 3f9a-2 of hello:7: age, once its invocation is over",
    ]
    server.provoked = (200, RETIRED | {"retired": []})
    assert lambent("chaos", "advance", "5h", "--token", TOKEN).err == "no environment was retired\n"


def test_what_is_armed_and_what_was_provoked_are_tables(lambent: Lambent, server: FakeServer) -> None:
    out = lambent("chaos", "show").out
    assert out.count("nothing") == 2 and "5h00m ahead" in out
    server.chaos["armed"] = [{"what": "throttle", "function": None, "how": "CallerRateLimitExceeded", "left": None}]
    server.chaos["provoked"] = [{"at": "2026-11-21T14:00:00.000Z", "what": "init failure", "function": "hello",
                                 "how": "exit", "environment": "3f9a-1"}]  # fmt: skip
    lines = [line.split() for line in lambent("chaos", "show").out.splitlines()]
    assert ["throttle", "(all)", "CallerRateLimitExceeded", "until", "cleared"] in lines
    assert ["2026-11-21T14:00:00.000Z", "init", "failure", "hello", "exit", "3f9a-1"] in lines
    assert json.loads(lambent("chaos", "show", "--json").out) == server.chaos


@pytest.mark.parametrize(("argv", "said"), [
    ([], "Missing command"),
    (["frobnicate"], "no such command 'frobnicate'; lambent chaos --help lists the commands"),
    (["throtle", "hello"], "no such command 'throtle'; did you mean 'throttle'?"),
    (["recycle"], "name an environment, or a function"),
    (["recycle", "1", "--function", "hello"], "name an environment, or a function"),
    (["advance"], "Missing argument 'DURATION'"),
    (["advance", "5"], "'5' is no duration such as 30s"),
    (["advance", "five hours"], "is no duration"),
    (["advance", "5h 3m"], "is no duration"),
    (["throttle"], "name a function, or say --all"),
    (["throttle", "hello", "--all"], "name a function, or say --all"),
    (["throttle", "hello", "--times", "0"], "--times"),
    (["fail-init", "hello", "--times", "many"], "--times"),
])  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_2(
    lambent: Lambent, server: FakeServer, argv: list[str], said: str
) -> None:
    ran = lambent("chaos", *argv)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err and server.requests == []


@pytest.mark.parametrize("argv", [["crash", "beef"], ["recycle", "beef"]])
def test_unknown_environment_is_told_as_everywhere(lambent: Lambent, server: FakeServer, argv: list[str]) -> None:
    server.provoked = (404, {"message": "No environment beef is alive."})
    ran = lambent("chaos", *argv, "--token", TOKEN)
    assert (ran.code, ran.err) == (4, "lambent: no environment beef is known; lambent ps lists those that live\n")


def test_refusal_of_the_server_is_one_line(lambent: Lambent, server: FakeServer) -> None:
    server.provoked = (400, {"message": "'x' is no way to fail."})
    ran = lambent("chaos", "fail-init", "hello", "--failure", "x", "--token", TOKEN)
    assert (ran.code, ran.err) == (4, "lambent: InvalidParameterValueException: 'x' is no way to fail.\n")


def test_wrong_token_exits_4(lambent: Lambent, server: FakeServer) -> None:
    assert lambent("chaos", "clear", "--token", "guessed").code == 4


@pytest.mark.parametrize("name", ["recycle", "fail-init", "crash", "advance", "throttle", "show", "clear"])
def test_every_command_has_an_example(lambent: Lambent, name: str) -> None:
    ran = lambent("chaos", name, "--help")
    assert ran.code == 0 and f"lambent chaos {name}" in ran.out.split("Example", 1)[1]
    assert "[[" not in ran.out
