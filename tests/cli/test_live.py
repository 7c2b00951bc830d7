"""The command line against the real server: what the fake one cannot vouch for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lambent.cli.main import run
from lambent.client import Client

from .conftest import Ran

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "lambent"  # as the demo's; `make clean` removes it
RUNTIME = f"python{sys.version_info.major}.{sys.version_info.minor}"
CODE = """
def handler(event, context):
    print("asked for", event["ask"])
    if event["ask"] == "trouble":
        raise ValueError("here it is")
    return {"got": event["ask"], "path": event.get("rawPath")}
"""

pytestmark = pytest.mark.slow


class Live(NamedTuple):
    endpoint: str
    data_dir: Path
    folder: Path


def up(data_dir: Path, *argv: str) -> subprocess.Popen[str]:
    argv = ("up", "--port", "0", "--data-dir", str(data_dir), "--cache-dir", str(CACHE), *argv)
    return subprocess.Popen(
        [sys.executable, "-m", "lambent.cli.main", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a function `asker`."""
    folder = tmp_path_factory.mktemp("asker")
    (folder / "app.py").write_text(CODE)
    data_dir = tmp_path_factory.mktemp("data")
    with up(data_dir) as process:
        assert process.stdout is not None and process.stderr is not None
        ready = process.stdout.readline()
        assert ready.startswith("Lambent "), process.stderr.read()
        endpoint = ready.split()[-1]
        try:
            deploying = ("deploy", str(folder), "--name", "asker", "--handler", "app.handler", "--runtime", RUNTIME)
            assert run([*deploying, "--url", "--endpoint", endpoint]) == 0
            yield Live(endpoint, data_dir, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            assert "Traceback" not in process.stderr.read()


@pytest.fixture
def lambent(capfd: pytest.CaptureFixture[str], live: Live) -> Iterator[object]:
    def ran(*argv: str) -> Ran:
        code = run([*argv, "--endpoint", live.endpoint])
        return Ran(code, *capfd.readouterr())

    yield ran
    assert "Traceback" not in capfd.readouterr().err


def test_a_life_from_the_command_line(live: Live, lambent) -> None:  # type: ignore[no-untyped-def]
    first = lambent("invoke", "asker", "-d", '{"ask": "this"}')
    assert first.code == 0 and json.loads(first.out) == {"got": "this", "path": None}
    assert "asked for this" in first.err
    assert first.err.splitlines()[-1].startswith("cold  duration ") and "  init " in first.err.splitlines()[-1]

    second = json.loads(lambent("invoke", "asker", "-d", '{"ask": "that"}', "--json").out)
    assert second["start"] == "warm" and second["report"]["init_ms"] is None and second["report"]["cost_usd"] > 2e-7

    failed = lambent("invoke", "asker", "-d", '{"ask": "trouble"}')
    assert failed.code == 1
    assert json.loads(failed.out)["errorType"] == "ValueError"
    assert 'raise ValueError("here it is")\nValueError: here it is\n' in failed.err

    [environment] = json.loads(lambent("ps", "--json").out)
    assert environment["id"] == second["environment"] and environment["invocations"] == 3
    assert environment["id"] in lambent("ps").out

    story = lambent("story", environment["id"]).out
    assert "sandbox created" in story and "freeze" in story and "3 invocations, $0.0000" in story

    logged = [json.loads(line)["message"] for line in lambent("logs", "asker", "--json").out.splitlines()]
    assert [line.strip() for line in logged if line.startswith("asked")] == [
        "asked for this", "asked for that", "asked for trouble"
    ]  # fmt: skip
    assert sum(line.startswith("REPORT") for line in logged) == 3
    words = ("logs", "asker", "--filter", '"asked for" -trouble', "--environment", environment["id"], "--json")
    chosen = [json.loads(line)["message"] for line in lambent(*words).out.splitlines()]
    assert chosen == ["asked for this\n", "asked for that\n"]

    assert lambent("retire", environment["id"], "--token", "wrong").code == 4
    assert lambent("retire", environment["id"], "--data-dir", str(live.data_dir)).code == 0


def test_a_url_answers_by_its_host_header(live: Live, lambent) -> None:  # type: ignore[no-untyped-def]
    told = json.loads(lambent("deploy", str(live.folder), "--name", "asker", "--json").out)
    assert told["action"] == "unchanged"
    with Client(live.endpoint) as client:
        answer = client.request("GET", "/some/path", host=told["url"].split("/")[2])
    assert answer.status == 502  # the handler asks for what no URL event has; the platform still answers
    assert [function["FunctionName"] for function in json.loads(lambent("functions", "--json").out)] == ["asker"]


def test_a_new_deployment_is_what_the_next_invocation_runs(live: Live, lambent) -> None:  # type: ignore[no-untyped-def]
    (live.folder / "app.py").write_text(CODE.replace('"got"', '"now"'))
    assert "updated (code)" in lambent("deploy", str(live.folder), "--name", "asker").out
    assert json.loads(lambent("invoke", "asker", "-d", '{"ask": 1}').out) == {"now": 1, "path": None}


def test_a_function_that_is_deleted_is_gone_and_its_logs_stay(live: Live, lambent) -> None:  # type: ignore[no-untyped-def]
    assert (
        lambent("deploy", str(live.folder), "--name", "short", "--handler", "app.handler", "--runtime", RUNTIME).code
        == 0
    )
    assert lambent("invoke", "short", "-d", '{"ask": "once"}').code == 0
    assert lambent("delete", "short").code == 0
    gone = lambent("invoke", "short")
    assert gone.code == 4 and "Function not found" in gone.err
    assert "asked for once" in lambent("logs", "short").out


def test_a_busy_port_and_a_busy_data_directory_are_one_line_each(live: Live, tmp_path: Path) -> None:
    port = live.endpoint.rpartition(":")[2]
    busy_port, busy_dir = up(tmp_path / "new", "--port", port), up(live.data_dir)
    for process, said in (
        (busy_port, f"port {port} on 127.0.0.1 is in use"),
        (busy_dir, "is in use by another server"),
    ):
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (2, "")
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out, err = (process := up(tmp_path / "file" / "data")).communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("lambent: data directory ") and err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_exit_code_0(tmp_path: Path, number: int) -> None:
    with up(tmp_path) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("Lambent ")
        process.send_signal(number)
        assert process.wait(30) == 0
        assert "Traceback" not in process.stderr.read()


def test_what_is_provoked_from_the_command_line(live: Live, lambent) -> None:  # type: ignore[no-untyped-def]
    provoking = ("--data-dir", str(live.data_dir))
    assert lambent("chaos", "recycle", "--function", "asker", *provoking).code == 0
    assert lambent("chaos", "fail-init", "asker", "--failure", "Runtime.Sad", *provoking).code == 0
    assert "Runtime.Sad" in lambent("chaos", "show").out
    failed = lambent("invoke", "asker", "-d", '{"ask": "this"}')
    assert failed.code == 1 and "Runtime.Sad: this Init was made to fail" in failed.err
    (row,) = json.loads(lambent("ps", "--json").out)
    assert "Init made to fail: Runtime.Sad (provoked)" in lambent("story", "asker").out
    wrong = lambent("chaos", "crash", row["id"], *provoking)
    assert wrong.code == 4 and "is in the phase idle and has no runtime that runs" in wrong.err
    assert f"retired {row['id']} of asker:$LATEST: age" in lambent("chaos", "advance", "5h", *provoking).out
    assert lambent("chaos", "throttle", "asker", "--times", "1", *provoking).code == 0
    assert "Rate Exceeded. (ConcurrentInvocationLimitExceeded)" in lambent("invoke", "asker").err
    assert lambent("invoke", "asker", "-d", '{"ask": "this"}').code == 0
