"""`aws logs tail`: the command itself where there is an AWS CLI 2, and the calls that it makes, through boto3."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import agents
from .harness import Function, Server, clean_environment

SOURCE = "def handler(event, context):\n    print('line', event['n'])\n"
FUNCTIONS = (Function("tailed", SOURCE), Function("polled", SOURCE), Function("lived", SOURCE))

#: What the AWS CLI 2 of Debian needs of others.
NEEDED = ("awscrt==0.31.0", "colorama==0.4.6", "cryptography==46.0.3", "distro==1.9.0", "docutils==0.19",
          "jmespath==1.0.1", "prompt-toolkit==3.0.38", "python-dateutil==2.9.0.post0", "ruamel.yaml==0.17.40",
          "ruamel.yaml.clib==0.2.15", "urllib3==1.26.20")  # fmt: skip


@pytest.fixture(scope="module")
def aws2(request: pytest.FixtureRequest) -> tuple[list[str], dict[str, str]]:
    """The AWS CLI 2: the host's, or that of a Debian package, which is unpacked and not installed."""
    if (found := shutil.which("aws")) and _version([found], {}).startswith("aws-cli/2"):
        return [found], {}
    apt, dpkg = agents.tool("apt-get"), agents.tool("dpkg-deb")
    folder = request.config.cache.mkdir("lambent-agents") / "aws-cli"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if subprocess.run([apt, "download", "awscli"], cwd=folder, capture_output=True, timeout=300).returncode != 0:
            pytest.skip("needs the AWS CLI 2")
        subprocess.run([dpkg, "-x", str(next(folder.glob("*.deb"))), str(folder)], check=True)
        agents.from_registry("pip", [
            sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / "needed"),
            *NEEDED])  # fmt: skip
        (folder / "ready").touch()
    command = [sys.executable, str(folder / "usr" / "bin" / "aws")]
    variables = {"PYTHONPATH": f"{folder}/needed:{folder}/usr/lib/python3/dist-packages"}
    if not _version(command, variables).startswith("aws-cli/2"):
        pytest.skip("needs the AWS CLI 2")
    return command, variables


def _version(command: list[str], variables: dict[str, str]) -> str:
    done = subprocess.run([*command, "--version"], env=clean_environment() | variables, capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(agents.BUILD_TIMEOUT_S)
def test_aws_logs_tail_follows(server: Server, aws2: tuple[list[str], dict[str, str]], tmp_path: Path) -> None:
    command, variables = aws2
    environment = clean_environment() | variables | {
        "HOME": str(tmp_path), "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": "cli", "AWS_PAGER": "",
        "AWS_SECRET_ACCESS_KEY": "cli", "AWS_DEFAULT_REGION": "us-east-1", "PYTHONUNBUFFERED": "1"}  # fmt: skip
    # Releases before 2.13 know no AWS_ENDPOINT_URL.
    words = [*command, "--endpoint-url", server.url, "logs", "tail", "/aws/lambda/tailed"]
    server.invoke("tailed", {"n": 1})
    once = subprocess.run([*words, "--since", "1h", "--filter-pattern", "line"], env=environment, text=True,
                          capture_output=True, timeout=60)  # fmt: skip
    assert once.returncode == 0, once.stderr
    assert re.fullmatch(r"20\S+\+00:00 20\d\d/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32} line 1\n", once.stdout), once.stdout
    with subprocess.Popen([*words, "--follow", "--format", "short"], env=environment, stdout=subprocess.PIPE,
                          text=True) as following:  # fmt: skip
        assert following.stdout is not None
        lines = (line.partition(" ")[2].strip() for line in following.stdout)
        first = _until(lines, "line 1")
        server.invoke("tailed", {"n": 2})
        second = _until(lines, "line 2")
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 0
    assert [line.split(" ")[0] for line in first] == ["INIT_START", "START", "line"]
    assert [line.split(" ")[0] for line in second] == ["END", "REPORT", "START", "line"]


def _until(lines: Iterator[str], last: str) -> list[str]:
    """The lines up to the one that is wanted; the test's own timeout ends the wait for one that never comes."""
    found = []
    for line in lines:
        found.append(line)
        if line == last:
            break
    return found


def test_a_poll_from_the_latest_event_on_finds_every_event_once(server: Server) -> None:
    """The calls of `aws logs tail --follow`: all pages, then from the time of the latest event on; ids tell repeats."""
    asked: dict[str, Any] = {"logGroupName": "/aws/lambda/polled", "startTime": 0, "interleaved": True}
    seen: dict[str, str] = {}
    repeated = 0

    def poll() -> None:
        nonlocal repeated
        more: dict[str, Any] = {}
        while True:
            page = server.logs.filter_log_events(**asked, **more, limit=3)
            for event in page["events"]:
                repeated += event["eventId"] in seen
                seen[event["eventId"]] = event["message"]
                asked["startTime"] = max(asked["startTime"], event["timestamp"])
            if "nextToken" not in page:
                return
            more = {"nextToken": page["nextToken"]}

    for number in range(4):
        call = server.invoke("polled", {"n": number})
        server.idle(call.environment)
        poll()
        poll()
    assert repeated > 0
    assert list(seen.values()).count("line 2\n") == 1
    assert [message for message in seen.values() if message.startswith("line")] == [f"line {n}\n" for n in range(4)]
    assert "".join(seen.values()) == server.stream(call)


def test_aws_logs_start_live_tail_tells_lines_while_they_are_written(server: Server, tmp_path: Path) -> None:
    """In a shell with the exports of `lambent env`; the command goes to an address of its own otherwise."""
    aws = agents.tool(str(Path(sys.executable).with_name("aws")))
    exports = subprocess.run(
        [sys.executable, "-m", "lambent.cli.main", "env", "--endpoint", server.url, "--json"],
        env=clean_environment(), capture_output=True, text=True, timeout=30, check=True)  # fmt: skip
    environment = clean_environment() | json.loads(exports.stdout) | {"HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    server.invoke("lived", {"n": 0})
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/lived"
    words = [aws, "logs", "start-live-tail", "--log-group-identifiers", arn, "--log-event-filter-pattern", "line"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tailing:
        assert tailing.stdout is not None and tailing.stderr is not None
        found: list[str] = []
        reader = threading.Thread(target=lambda output=tailing.stdout: found.append(output.readline()))
        reader.start()
        # When the session has begun is not told: lines are written until one is.
        for number in range(1, 300):
            server.invoke("lived", {"n": number})
            reader.join(0.2)
            if not reader.is_alive():
                break
        assert re.fullmatch(r"line \d+\n", found[0]), tailing.stderr.read()
        tailing.send_signal(signal.SIGINT)
        tailing.stdout.read()
        tailing.stderr.read()
