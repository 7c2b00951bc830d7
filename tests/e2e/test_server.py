"""The server as a process: how it starts, says no, stops, dies and comes back (points 2 and 15)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lambent import __version__

from .harness import Function, Server, clean_environment, refusal, running, until, wire
from .traces import Traces, start_time

COUNTS = Function("counts", "COUNT = []\ndef handler(event, context):\n    COUNT.append(1)\n    return len(COUNT)\n")

SLOW = Function("slow", "import time\ndef handler(event, context):\n    time.sleep(0.7)\n    return 'done'\n")

ENDLESS = (
    Function("endless", "import time\ndef handler(event, context): time.sleep(60)", timeout=60),
    Function("endless-init", "import time\ntime.sleep(60)", timeout=60),
    Function("node-endless", "exports.handler = () => { for (;;); }", runtime="nodejs20.x", timeout=60),
)


def fails(*flags: str, **variables: str) -> str:
    """`lambent up` that must give up with exit code 2: its one line."""
    done = subprocess.run(
        [sys.executable, "-m", "lambent.cli.main", "up", *flags], capture_output=True, text=True, timeout=30,
        env=clean_environment() | variables)  # fmt: skip
    assert done.returncode == 2, done
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_one_line_says_that_it_is_ready_and_health_answers(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        assert server.ready_line == f"Lambent {__version__} is ready at http://127.0.0.1:{server.port}"
        answer = server.http("GET", "/_lambent/health")
        health = answer.json()
        assert answer.status == 200
        assert health["status"] == "ok"
        assert health["sandbox"] == "namespace"
        assert (health["account"], health["region"]) == ("000000000000", "us-east-1")
        assert health["pid"] == server.process.pid


def test_account_and_region_are_settable(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--account", "123456789012", "--region", "eu-central-1") as server:
        # A request without a signature, which names neither.
        [answer] = server.pipeline(("POST", "/2015-03-31/functions", wire(COUNTS.request())))
        assert answer.json()["FunctionArn"] == "arn:aws:lambda:eu-central-1:123456789012:function:counts"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    with running(tmp_path / "data") as server:
        server.deploy(COUNTS, Function("busy", "import time\ndef handler(event, context): time.sleep(0.2)"))
        server.invoke("counts")
        server.invoke("busy")
        traces = Traces(server)
        assert len(traces.processes) >= 5  # the server, and a process 1 and a runtime for each environment
        assert traces.groups()
        assert server.stop(number) == 0
        assert traces.remaining() == []
        assert not list((tmp_path / "data" / "run").glob("namespace-*"))


def test_a_running_invocation_is_finished_before_the_end(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        server.deploy(SLOW)
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(b"POST /2015-03-31/functions/slow/invocations HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")  # fmt: skip
            until(lambda: [row["phase"] for row in server.environments("slow")] == ["invoke"])
            assert server.stop() == 0
            assert b"".join(iter(lambda: caller.recv(65536), b"")).endswith(b'\r\n\r\n"done"')


@pytest.mark.parametrize("name", ["endless", "endless-init", "node-endless"])
def test_who_does_not_end_in_time_is_ended(tmp_path: Path, name: str) -> None:
    with running(tmp_path / "data", "--drain-s", "0.5") as server:
        server.deploy(*ENDLESS)
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: localhost\r\n"
                           "Content-Length: 2\r\nConnection: close\r\n\r\n{}".encode())  # fmt: skip
            until(lambda: [bool(row["pids"]) for row in server.environments(name)] == [True])
            traces = Traces(server)
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 4
            assert b"".join(iter(lambda: caller.recv(65536), b"")).startswith(b"HTTP/1.1 500 ")
        assert traces.remaining() == []


def test_functions_survive_a_restart(tmp_path: Path) -> None:
    variables = {"Environment": {"Variables": {"COLOUR": "blue"}}}
    source = "import os\ndef handler(event, context): return os.environ['COLOUR']"
    with running(tmp_path / "data") as server:
        server.deploy(Function("kept", source, memory=192, more=variables), COUNTS)
        before = server.functions.get_function_configuration(FunctionName="kept")
        url = server.functions.create_function_url_config(FunctionName="kept", AuthType="NONE")["FunctionUrl"]
        first = server.invoke("kept")
        assert first.payload == "blue"
        written = server.stream(first)
        server.functions.delete_function(FunctionName="counts")
        token = server.token
    with running(tmp_path / "data") as server:
        after = server.functions.get_function_configuration(FunctionName="kept")
        before.pop("ResponseMetadata")
        after.pop("ResponseMetadata")
        assert after == before
        assert server.token == token
        names = [row["FunctionName"] for row in server.functions.list_functions()["Functions"]]
        assert names == ["kept"]
        assert server.invoke("kept").payload == "blue"
        again = server.functions.get_function_url_config(FunctionName="kept")["FunctionUrl"]
        assert again.split(".")[0] == url.split(".")[0]
        streams = server.logs.describe_log_streams(logGroupName="/aws/lambda/kept")["logStreams"]
        events = [server.logs.get_log_events(logGroupName="/aws/lambda/kept", logStreamName=stream["logStreamName"])
                  for stream in streams]  # fmt: skip
        assert written in ["".join(event["message"] for event in found["events"]) for found in events]


def test_after_a_kill_the_next_start_takes_a_second_and_removes_what_was_left(tmp_path: Path) -> None:
    with running(tmp_path / "neighbour") as neighbour:
        neighbour.deploy(COUNTS)
        neighbour.invoke("counts")
        theirs = Traces(neighbour)

        victim = Server(tmp_path / "data")
        victim.deploy(COUNTS, Function("spins", "import threading\nthreading.Thread(target=lambda: [0 for _ in "
                                       "iter(int, 1)], daemon=True).start()\ndef handler(event, context): pass"))
        victim.invoke("counts")
        victim.invoke("spins")
        ours = Traces(victim)
        assert victim.stop(signal.SIGKILL) == -signal.SIGKILL

        begun = time.monotonic()
        with running(tmp_path / "data") as server:
            assert time.monotonic() - begun < 3  # about one, on a machine with nothing else to do
            old = {f"process {pid}" for pid, _ in ours.processes}
            until(lambda: not old & set(ours.remaining()))
            assert server.environments() == []
            assert not [path for path in ours.groups() if path.name != f"lambent-{server.instance}"]
            assert server.invoke("counts").payload == 1
            # Nobody else's: the neighbour's environment is still the same process.
            assert all(start_time(pid) == started for pid, started in theirs.processes if started)
            assert neighbour.invoke("counts").payload == 2
        assert ours.remaining() == []


def test_a_function_that_was_pending_at_the_kill_becomes_active(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    assert server.create(COUNTS)["State"] == "Pending"
    server.stop(signal.SIGKILL)
    with running(tmp_path / "data") as server:
        server.wait_active("counts")
        assert server.invoke("counts").payload == 1


def test_a_busy_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert line == f"lambent: port {port} on 127.0.0.1 is in use; choose another one with --port (0 picks a free one)"
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = fails("--port", "0", "--data-dir", str(tmp_path / "file"))
    assert line.startswith(f"lambent: data directory {tmp_path / 'file'} is not a folder")
    line = fails("--port", "0", "--data-dir", "/proc/nowhere")
    assert line.startswith("lambent: data directory /proc/nowhere: ")


def test_a_second_server_on_a_data_directory_is_told_in_one_line(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        server.deploy(COUNTS)
        server.invoke("counts")
        line = fails("--port", "0", "--data-dir", str(tmp_path / "data"))
        assert "is in use by another server" in line and str(server.process.pid) in line
        assert server.invoke("counts").payload == 2


@pytest.mark.parametrize(
    ("flags", "variables", "words"),
    [
        (["--prot", "4566"], {}, "--prot"),
        (["--port", "many"], {}, "'many' is not a whole number"),
        (["--port", "70000"], {}, "not a port"),
        (["--sandbox", "jail"], {}, "'jail' is not one of auto, namespace, process"),
        (["--account", "12"], {}, "12-digit"),
        (["--keep-alive-s", "-1"], {}, "below 0"),
        ([], {"LAMBENT_COLOUR": "blue"}, "LAMBENT_COLOUR is not a setting"),
        ([], {"LAMBENT_CONCURRENCY": "0"}, "below 1"),
        (["--host", "nowhere.invalid", "--port", "0"], {}, "nowhere.invalid"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(
    tmp_path: Path, flags: list[str], variables: dict[str, str], words: str
) -> None:
    assert words in fails("--data-dir", str(tmp_path / "data"), *flags, **variables)


def test_the_process_sandbox_says_that_it_isolates_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--sandbox", "process") as server:
        assert "NO ISOLATION" in server.stderr()
        server.deploy(Function("host", "import os\ndef handler(event, context): return os.getuid()"))
        call = server.invoke("host")
        assert call.payload == os.getuid()
        assert server.environment(call.environment)["sandbox"] == "process"
        traces = Traces(server)
        assert server.stop() == 0
        assert traces.remaining() == []


def test_an_invocation_while_stopping_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        server.deploy(SLOW, COUNTS)
        with socket.create_connection(("127.0.0.1", server.port)) as caller:
            caller.sendall(b"POST /2015-03-31/functions/slow/invocations HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Length: 2\r\n\r\n{}")  # fmt: skip
            until(lambda: [row["phase"] for row in server.environments("slow")] == ["invoke"])
            server.process.send_signal(signal.SIGTERM)
            assert server.process.stdout is not None
            assert server.process.stdout.readline() == b"Lambent is stopping\n"
            status, code, message, _ = refusal(lambda: server.invoke("counts"))
            assert (status, code) == (500, "ServiceException")
            assert "stopping" in message
            assert server.process.wait(10) == 0
