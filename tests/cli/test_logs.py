"""`lambent logs`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime

import pytest

from lambent.cli.logs import OVERLAP_MS, _start_ms
from lambent.clock import Clock

from .conftest import Lambent
from .fake_server import FakeServer

GROUP = "/aws/lambda/hello"


@pytest.fixture
def now_ms() -> int:
    return int(Clock().wall() * 1000)


def test_lines_with_their_times(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.add_log(GROUP, "START RequestId: 1\n", "one\n", "\x1b]0;x\x07two\n", start_ms=now_ms - 1000)
    ran = lambent("logs", "hello")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["START RequestId: 1", "one", "\\x1b]0;x\\x07two"]
    assert all(len(line.split("  ", 1)[0]) == len("12:00:00.000") for line in lines)


def test_lines_of_another_day_have_their_dates(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    for start_ms in (now_ms - 90_000_000, now_ms - 60_000, now_ms + 18_000_000):
        server.add_log(GROUP, "line\n", start_ms=start_ms)
    times = [line.split("  ", 1)[0] for line in lambent("logs", "hello", "--since", "2d").out.splitlines()]
    assert [len(time) for time in times] == [len("2026-11-21 12:00:00.000"), 12, len("2026-11-21 12:00:00.000")]
    assert times[0][:10] == f"{datetime.fromtimestamp(now_ms / 1000 - 90_000):%Y-%m-%d}"


def test_json_lines(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.add_log(GROUP, "one\n", "two\n", start_ms=now_ms - 1000)
    told = [json.loads(line) for line in lambent("logs", "hello", "--json").out.splitlines()]
    assert [event["message"] for event in told] == ["one\n", "two\n"]
    assert told[0] == {"timestamp": now_ms - 1000, "logStreamName": "2026/11/21/[1]ab", "message": "one\n"}


def test_only_since(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.add_log(GROUP, "old\n", start_ms=now_ms - 7_200_000)
    server.logs[GROUP].append({"timestamp": now_ms - 10, "message": "new\n", "eventId": "e"})
    assert "old" not in lambent("logs", "hello").out
    assert "old" in lambent("logs", "hello", "--since", "3h").out
    assert "new" in lambent("logs", "hello", "--since", "30s").out


def test_every_page_is_printed_once(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.page_size = 3
    server.add_log(GROUP, *(f"line {number}\n" for number in range(10)), start_ms=now_ms - 1000)
    lines = lambent("logs", "hello").out.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [f"line {number}" for number in range(10)]


def test_no_lines_yet(lambent: Lambent, server: FakeServer) -> None:
    server.add_function("hello")
    ran = lambent("logs", "hello")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f"nothing in {GROUP} since 1h; a longer --since may show more\n"
    assert lambent("logs", "hello", "--json") == (0, "", "")


def test_a_log_group_of_ones_own(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello", LoggingConfig={"LogFormat": "Text", "LogGroup": "shared"})
    server.add_log("shared", "here\n", start_ms=now_ms)
    assert "here" in lambent("logs", "hello").out


def test_a_deleted_functions_logs_are_still_found(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_log(GROUP, "last words\n", start_ms=now_ms)
    assert "last words" in lambent("logs", "hello").out


def test_only_what_matches_a_pattern(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.add_log(GROUP, "START 1\n", "ERROR one\n", "END 1\n", start_ms=now_ms)
    assert [line[14:] for line in lambent("logs", "hello", "--filter", "ERROR").out.splitlines()] == ["ERROR one"]
    nothing = lambent("logs", "hello", "--filter", "absent")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == f"nothing of that kind in {GROUP} since 1h; a longer --since may show more\n"


def test_only_of_one_environment_that_lives_or_has_ended(lambent: Lambent, server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.add_environment("3f9a00-7")
    for number in (7, 8):
        server.add_log(GROUP, f"from {number}\n", start_ms=now_ms, stream=f"stream{number}")
        server.stories[f"3f9a00-{number}"] = {"log_group": GROUP, "log_stream": f"stream{number}"}
    for given, number in (("7", 7), ("3f9a00-7", 7), ("3f9a00-8", 8)):
        ran = lambent("logs", "hello", "--environment", given)
        assert [line[14:] for line in ran.out.splitlines()] == [f"from {number}"]


@pytest.fixture
def versions(server: FakeServer, now_ms: int) -> None:
    """hello, its versions 1 to 3, of which 3 writes to another group, and alias `live`, which leads to 1."""
    for version in ("$LATEST", "1", "2", "3"):
        group, named = ("shared", "hello") if version == "3" else (GROUP, "")
        for name in ("hello", "hello:$LATEST") if version == "$LATEST" else (f"hello:{version}",):
            server.add_function(name, FunctionName="hello", Version=version, LoggingConfig={"LogGroup": group})
        server.add_log(group, f"from {version}\n", start_ms=now_ms - 10, stream=f"2026/11/21/{named}[{version}]ab")
    server.add_log("shared", "from another\n", start_ms=now_ms, stream="2026/11/21/other[3]ab")
    server.aliases["hello", "live"] = {"Name": "live", "FunctionVersion": "1"}


def messages(lambent: Lambent, *argv: str) -> set[str]:
    ran = lambent("logs", *argv)
    assert (ran.code, ran.err) == (0, "")
    return {line[14:] for line in ran.out.splitlines()}


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(("name", "expected"), [
    ("hello", {"from $LATEST", "from 1", "from 2"}), ("hello:1", {"from 1"}), ("hello:$LATEST", {"from $LATEST"}),
    ("hello:3", {"from 3"}), ("hello:live", {"from 1"}),
])  # fmt: skip
def test_only_of_a_version_or_of_the_one_that_an_alias_leads_to(lambent: Lambent, name: str,
                                                               expected: set[str]) -> None:
    assert messages(lambent, name) == expected


@pytest.mark.usefixtures("versions")
def test_of_both_versions_of_an_alias_with_weights(lambent: Lambent, server: FakeServer) -> None:
    routing = {"AdditionalVersionWeights": {"2": 0.1}}
    server.aliases["hello", "live"] |= {"RoutingConfig": routing}
    assert messages(lambent, "hello:live") == {"from 1", "from 2"}
    server.aliases["hello", "live"] |= {"FunctionVersion": "3"}
    assert messages(lambent, "hello:live") == {"from 3", "from 2"}


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(("name", "what"), [("hello:nope", "alias nope"), ("hello:9", "version 9")])
def test_an_alias_or_a_version_that_is_not_there_is_said(lambent: Lambent, name: str, what: str) -> None:
    assert lambent("logs", name) == (4, "", f"lambent: hello has no {what}\n")


@pytest.mark.usefixtures("versions")
def test_a_version_of_a_deleted_function_is_still_found(lambent: Lambent, server: FakeServer) -> None:
    server.functions.clear()
    server.aliases.clear()
    assert messages(lambent, "hello:2") == {"from 2"}
    assert "Function not found" in lambent("logs", "hello:live").err


@pytest.mark.usefixtures("versions")
def test_an_environment_of_another_version_is_said(lambent: Lambent, server: FakeServer) -> None:
    server.stories["3f9a00-1"] = {"log_group": GROUP, "log_stream": "2026/11/21/[2]ab"}
    assert messages(lambent, "hello:2", "-e", "3f9a00-1") == {"from 2"}
    other = lambent("logs", "hello:live", "-e", "3f9a00-1")
    assert other.code == 2 and "environment 3f9a00-1 is not of hello:live" in other.err


@pytest.mark.usefixtures("versions")
def test_what_is_followed_by_an_alias_goes_where_the_alias_is_led(server: FakeServer, now_ms: int) -> None:
    with subprocess.Popen([sys.executable, "-m", "lambent.cli.main", "logs", "hello:live", "-f"], text=True,
                          stdout=subprocess.PIPE, env=dict(os.environ)) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline()[14:] == "from 1\n"
        server.aliases["hello", "live"] = {"Name": "live", "FunctionVersion": "2"}
        assert process.stdout.readline()[14:] == "from 2\n"
        server.aliases.clear()
        server.add_log(GROUP, "late of 1\n", start_ms=now_ms, stream="2026/11/21/[1]ab")
        assert process.stdout.readline()[14:] == "late of 1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_an_environment_that_nobody_knows_or_of_another_function_is_said(
    lambent: Lambent, server: FakeServer, now_ms: int
) -> None:
    server.add_function("hello")
    server.add_log(GROUP, "here\n", start_ms=now_ms)
    unknown = lambent("logs", "hello", "-e", "9")
    assert unknown.code == 4 and "no environment 9 is known" in unknown.err
    server.stories["3f9a00-1"] = {"log_group": "/aws/lambda/other", "log_stream": "s"}
    other = lambent("logs", "hello", "-e", "3f9a00-1")
    assert other.code != 0 and "environment 3f9a00-1 writes to /aws/lambda/other" in other.err
    assert (unknown.out, other.out) == ("", "")


def test_a_function_that_never_was_exits_4(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("logs", "hello")
    assert ran.code == 4
    assert "Function not found" in ran.err


@pytest.mark.parametrize("since", ["soon", "10", "-5m", "2026-99-99"])
def test_a_since_that_means_nothing_exits_2(lambent: Lambent, server: FakeServer, since: str) -> None:
    ran = lambent("logs", "hello", f"--since={since}")
    assert ran.code == 2
    assert f"--since: '{since}' is neither an age (10m) nor a time" in ran.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("30s", 970_000),
        ("1.5m", 910_000),
        ("1h", 0),
        ("1d", 0),
        ("1970-01-01T00:10:00Z", 600_000),
        ("1970-01-01T01:10:00+01:00", 600_000),
    ],
)
def test_forms_of_since(since: str, expected: int) -> None:
    assert _start_ms(since, 1000.0) == expected


def test_follow_prints_new_lines_once_until_interrupted(server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    server.add_log(GROUP, "first\n", start_ms=now_ms)
    with subprocess.Popen(
        [sys.executable, "-m", "lambent.cli.main", "logs", "hello", "--follow"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith("first\n")
        late = {"timestamp": now_ms - OVERLAP_MS // 2, "message": "late\n", "eventId": "late"}
        server.logs[GROUP] += [late, {"timestamp": now_ms + 5, "message": "second\n", "eventId": "second"}]
        assert {process.stdout.readline()[14:] for _ in range(2)} >= {"second\n"}
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "" and process.stderr.read() == ""
        assert process.wait() == 130


def test_follow_waits_for_a_group_that_is_not_there_yet(server: FakeServer, now_ms: int) -> None:
    server.add_function("hello")
    with subprocess.Popen(
        [sys.executable, "-m", "lambent.cli.main", "logs", "hello", "-f"],
        text=True,
        stdout=subprocess.PIPE,
        env=dict(os.environ),
    ) as process:
        assert process.stdout is not None
        server.add_log(GROUP, "at last\n", start_ms=now_ms)
        assert process.stdout.readline().endswith("at last\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
