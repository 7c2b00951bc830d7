"""`lambent functions`, `lambent delete` and `lambent env`."""

from __future__ import annotations

import json
import subprocess

import pytest

from .conftest import Lambent
from .fake_server import FakeServer


def test_functions_are_a_table_for_people(lambent: Lambent, server: FakeServer) -> None:
    server.add_function("hello", MemorySize=512, Timeout=30, CodeSize=2048)
    server.add_function("very-long-name-of-a-function-that-is-not-to-be-cut-off-in-a-pipe")
    ran = lambent("functions")
    assert (ran.code, ran.err) == (0, "")
    header, first, second = ran.out.rstrip("\n").splitlines()
    assert header.split() == ["NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED"]
    assert first.split()[:9] == ["hello", "python3.12", "app.handler", "512", "MB", "30", "s", "2.0", "KB"]
    assert second.split()[0] == "very-long-name-of-a-function-that-is-not-to-be-cut-off-in-a-pipe"


def test_functions_are_json_for_programs(lambent: Lambent, server: FakeServer) -> None:
    assert json.loads(lambent("functions", "--json").out) == []
    server.add_function("hello")
    assert [found["FunctionName"] for found in json.loads(lambent("functions", "--json").out)] == ["hello"]


def test_no_functions_is_said_on_stderr(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("functions")
    assert (ran.code, ran.out) == (0, "")
    assert "no functions yet" in ran.err


def test_an_image_function_without_a_runtime_is_shown(lambent: Lambent, server: FakeServer) -> None:
    server.add_function("image")
    del server.functions["image"]["Runtime"], server.functions["image"]["Handler"]
    assert lambent("functions").code == 0


def test_delete(lambent: Lambent, server: FakeServer) -> None:
    server.add_function("hello")
    assert lambent("delete", "hello") == (0, "deleted hello\n", "")
    assert server.functions == {}
    server.add_function("hello")
    assert json.loads(lambent("delete", "hello", "--json").out) == {"deleted": "hello"}


def test_delete_of_what_is_not_there_exits_4(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("delete", "hello")
    assert ran.code == 4
    assert "ResourceNotFoundException: Function not found" in ran.err


def test_env_prints_what_a_shell_can_evaluate(lambent: Lambent, server: FakeServer) -> None:
    ran = lambent("env")
    assert ran.code == 0 and ran.err == ""
    shown = subprocess.run(
        ["sh", "-c", f"{ran.out}\nprintenv LAMBENT_ENDPOINT AWS_ENDPOINT_URL AWS_REGION AWS_ACCESS_KEY_ID"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert shown.stdout.split() == [server.endpoint, server.endpoint, "us-east-1", "lambent"]
    assert server.requests == []


def test_env_takes_endpoint_and_region(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = json.loads(lambent("env", "--json", "--endpoint", "10.0.0.5:99", "--region", "eu-west-1").out)
    assert variables["AWS_ENDPOINT_URL"] == "http://10.0.0.5:99"
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-west-1"
    monkeypatch.setenv("LAMBENT_REGION", "eu-north-1")
    monkeypatch.delenv("LAMBENT_ENDPOINT", raising=False)
    variables = json.loads(lambent("env", "--json").out)
    assert (variables["AWS_ENDPOINT_URL"], variables["AWS_REGION"]) == ("http://127.0.0.1:4566", "eu-north-1")


def test_env_prints_nothing_that_a_shell_would_run(lambent: Lambent) -> None:
    ran = lambent("env", "--region", "x;touch /tmp/here")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "lambent: --region: 'x;touch /tmp/here' is not the name of a region, like us-east-1\n"
