"""`lambent deploy`: create, update, leave alone, wait, fail."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lambent.cli import deploy

from .conftest import Lambent
from .fake_server import FakeServer


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "POLL_S", 0.001)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hello"
    made.mkdir()
    (made / "app.py").write_text("def handler(event, context):\n    return event\n")
    return made


FIRST = ("--handler", "app.handler", "--runtime", "python3.12")


def changes(server: FakeServer) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in server.requests if method in ("POST", "PUT")]


def body(server: FakeServer, method: str, end: str) -> dict[str, Any]:
    found = [json.loads(body) for sent, path, body in server.requests if sent == method and path.endswith(end)]
    assert len(found) == 1
    return dict(found[0])


def test_a_new_function_is_created_and_waited_for(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    server.pending_polls = 3
    ran = lambent("deploy", str(folder), *FIRST)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("hello  created  Active  python3.12  app.handler  128 MB  3 s  (1 file, 0.")
    created = body(server, "POST", "/functions")
    assert (created["FunctionName"], created["Runtime"], created["Handler"]) == ("hello", "python3.12", "app.handler")
    assert created["Role"].startswith("arn:aws:iam::") and "MemorySize" not in created and "Environment" not in created
    with zipfile.ZipFile(io.BytesIO(server.packages["hello"])) as archive:
        assert archive.namelist() == ["app.py"]


def test_every_option_reaches_the_server(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    ran = lambent("deploy", str(folder), *FIRST, "--name", "other", "--env", "AA=1", "--env", "BB=x=y", "--env", "CC=",
                  "--memory", "512", "--timeout", "30", "--ephemeral", "1024")  # fmt: skip
    assert ran.code == 0
    created = body(server, "POST", "/functions")
    assert created["FunctionName"] == "other"
    assert created["Environment"] == {"Variables": {"AA": "1", "BB": "x=y", "CC": ""}}
    assert (created["MemorySize"], created["Timeout"], created["EphemeralStorage"]) == (512, 30, {"Size": 1024})


def test_deploying_the_same_again_changes_nothing(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    lambent("deploy", str(folder), *FIRST, "--env", "AA=1")
    server.requests.clear()
    ran = lambent("deploy", str(folder), *FIRST, "--env", "AA=1")
    assert ran.code == 0 and "hello  unchanged  Active" in ran.out
    assert changes(server) == []


def test_new_code_updates_only_the_code(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    lambent("deploy", str(folder), *FIRST)
    server.requests.clear()
    (folder / "app.py").write_text("def handler(event, context):\n    return 2\n")
    server.pending_polls = 2
    ran = lambent("deploy", str(folder))
    assert ran.code == 0 and "updated (code)" in ran.out
    assert changes(server) == [("PUT", "/2015-03-31/functions/hello/code")]


def test_a_new_option_updates_only_the_configuration(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    lambent("deploy", str(folder), *FIRST)
    server.requests.clear()
    ran = lambent("deploy", str(folder), "--memory", "256")
    assert ran.code == 0 and "updated (configuration)" in ran.out and "256 MB" in ran.out
    assert body(server, "PUT", "/configuration") == {"MemorySize": 256}
    assert len(changes(server)) == 1


def test_both_are_updated_one_after_the_other(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    lambent("deploy", str(folder), *FIRST)
    server.requests.clear()
    (folder / "more.py").write_text("")
    ran = lambent("deploy", str(folder), "--timeout", "9")
    assert "updated (code and configuration)" in ran.out
    assert [path.rsplit("/", 1)[1] for _, path in changes(server)] == ["configuration", "code"]


@pytest.mark.parametrize(("option", "told"), [
    (("--memory", "64"), "Value '64' at 'memorySize' failed to satisfy constraint"),
    (("--memory", "20000"), "'MemorySize' value failed to satisfy constraint"),
    (("--timeout", "901"), "Value '901' at 'timeout' failed to satisfy constraint"),
    (("--runtime", "cobol"), "Value cobol at 'runtime' failed to satisfy constraint"),
    (("--env", "AWS_REGION=x"), "Reserved keys used in this request: AWS_REGION"),
])  # fmt: skip
def test_a_value_that_the_server_would_refuse_is_refused_before_packing(
    lambent: Lambent, server: FakeServer, folder: Path, option: tuple[str, str], told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lambent("deploy", str(folder), *FIRST)
    server.requests.clear()
    monkeypatch.setattr(deploy, "build", None)
    for name in ("new", "hello"):
        first = FIRST if name == "new" else ()
        ran = lambent("deploy", str(folder), "--name", name, *first, *option)
        assert (ran.code, ran.out) == (4, "") and told in ran.err
    assert changes(server) == []


@pytest.mark.parametrize(("typed", "meant"), [
    ("python312", "python3.12"), ("nodejs22", "nodejs22.x"), ("provided.al2032", "provided.al2023"),
])  # fmt: skip
def test_a_runtime_that_was_mistyped_suggests_the_nearest(
    lambent: Lambent, server: FakeServer, folder: Path, typed: str, meant: str
) -> None:
    ran = lambent("deploy", str(folder), "--handler", "app.handler", "--runtime", typed)
    assert (ran.code, ran.err) == (2, f"lambent: there is no runtime '{typed}'; did you mean '{meant}'?\n")
    assert changes(server) == []


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_bootstrap_that_cannot_be_executed_is_warned_of(
    lambent: Lambent, server: FakeServer, folder: Path, mode: int
) -> None:
    (folder / "bootstrap").write_text("#!/bin/sh\n")
    (folder / "bootstrap").chmod(mode)
    ran = lambent("deploy", str(folder), "--handler", "x", "--runtime", "provided.al2023")
    assert (ran.code, "bootstrap is not executable" in ran.err) == (0, mode == 0o644)


def test_a_url_is_made_once_and_shown_with_a_curl_line(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    ran = lambent("deploy", str(folder), *FIRST, "--url")
    address = f"abc123.lambda-url.us-east-1.localhost:{server.port}"
    assert f"url   http://{address}/\n" in ran.out
    assert f"curl  curl -H 'Host: {address}' http://127.0.0.1:{server.port}/\n" in ran.out
    assert [(one["Action"], one["Principal"]) for one in server.policies["hello"]] == [
        ("lambda:InvokeFunctionUrl", "*"), ("lambda:InvokeFunction", "*")]  # fmt: skip
    server.requests.clear()
    assert address in lambent("deploy", str(folder)).out
    assert lambent("deploy", str(folder), "--url").code == 0
    assert changes(server) == []


def test_json(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    told = json.loads(lambent("deploy", str(folder), *FIRST, "--url", "--json").out)
    assert told["function"]["FunctionName"] == "hello" and told["function"]["State"] == "Active"
    assert told["action"] == "created" and told["url"].startswith("http://abc123.") and told["curl"].startswith("curl ")


def test_a_function_that_fails_exits_1_with_the_reason(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    server.failure = "python3.12 is not on this host; install it"
    ran = lambent("deploy", str(folder), *FIRST)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "lambent: hello: Failed: python3.12 is not on this host; install it\n"


def test_a_failed_function_is_made_again_from_the_same_code(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    server.failure = "offline"
    lambent("deploy", str(folder), *FIRST)
    server.failure = None
    ran = lambent("deploy", str(folder))
    assert ran.code == 0 and "updated (code)  Active" in ran.out


def test_a_failed_update_exits_1(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    lambent("deploy", str(folder), *FIRST)
    server.functions["hello"] |= {"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "disk full"}
    server.raw = lambda method, path: (200, {}, b"{}") if method == "PUT" else None
    ran = lambent("deploy", str(folder))
    assert ran.code == 1
    assert "hello: the update failed: disk full" in ran.err


def test_a_function_that_is_never_ready_exits_4(
    lambent: Lambent, server: FakeServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "READY_TIMEOUT_S", 0.005)
    server.pending_polls = 1000
    ran = lambent("deploy", str(folder), *FIRST)
    assert ran.code == 4
    assert "hello is still being prepared after 0.005 s" in ran.err


@pytest.mark.parametrize("argv", [(), ("--handler", "a.b"), ("--runtime", "python3.12")])
def test_a_new_function_needs_handler_and_runtime(
    lambent: Lambent, server: FakeServer, folder: Path, argv: tuple[str, ...]
) -> None:
    ran = lambent("deploy", str(folder), *argv)
    assert ran.code == 2
    assert "hello is new: give --handler and --runtime" in ran.err and ran.err.count("\n") == 1
    assert changes(server) == []


@pytest.mark.parametrize("pair", ["A", "=1", ""])
def test_an_env_that_is_no_pair_exits_2(lambent: Lambent, server: FakeServer, folder: Path, pair: str) -> None:
    ran = lambent("deploy", str(folder), *FIRST, "--env", pair)
    assert ran.code == 2
    assert f"--env: {pair!r} is not of the form K=V" in ran.err
    assert server.requests == []


def test_a_folder_that_is_none_exits_2(lambent: Lambent, server: FakeServer, tmp_path: Path) -> None:
    ran = lambent("deploy", str(tmp_path / "absent"), *FIRST)
    assert ran.code == 2
    assert "absent is not a folder" in ran.err
    assert changes(server) == []


def test_a_value_that_the_server_refuses_exits_4(lambent: Lambent, server: FakeServer, folder: Path) -> None:
    refusal = (400, {"x-amzn-ErrorType": "ValidationException"}, b'{"message":"1 validation error detected"}')
    server.raw = lambda method, path: refusal if method == "POST" else None
    ran = lambent("deploy", str(folder), *FIRST, "--memory", "130")
    assert ran.code == 4
    assert ran.err == "lambent: ValidationException: 1 validation error detected\n"


@pytest.mark.parametrize(
    ("name", "expected"), [("my app", "my-app"), ("a.b", "a-b"), ("__x", "__x"), ("é", "function")]
)
def test_the_folders_name_becomes_a_legal_function_name(
    lambent: Lambent, server: FakeServer, tmp_path: Path, name: str, expected: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "app.py").write_text("")
    assert lambent("deploy", str(tmp_path / name), *FIRST).code == 0
    assert list(server.functions) == [expected]


def test_nothing_is_left_in_the_temporary_folder(
    lambent: Lambent, server: FakeServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert lambent("deploy", str(folder), *FIRST).code == 0
    (folder / "broken").symlink_to("nowhere")
    assert lambent("deploy", str(folder)).code == 2
    assert list((tmp_path / "temporary").iterdir()) == []
