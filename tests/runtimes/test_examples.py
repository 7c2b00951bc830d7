"""The example functions do what they say, on the bare host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_runtime_api import guest

from lambent.runtimes import PreparedRuntime

EXAMPLES = Path(__file__).parents[2] / "examples" / "functions"
URL_EVENT = {"requestContext": {}, "queryStringParameters": {"name": "Ada"}}


@pytest.mark.parametrize(("name", "handler"), [("hello-python", "app.handler"), ("hello-node", "index.handler")])
async def test_hello(python: PreparedRuntime, node: PreparedRuntime, name: str, handler: str) -> None:
    async with guest(node if "node" in name else python, EXAMPLES / name, handler) as running:
        direct = (await running.invoke({"name": "Ada"})).json
        through_url = (await running.invoke(URL_EVENT)).json
    assert direct["message"] == "Hello, Ada!" and direct["remaining_ms"] > 0
    assert through_url["statusCode"] == 200 and '"Hello, Ada!"' in through_url["body"]


@pytest.mark.parametrize(("how", "code"), [("exit", 1), ("crash", -11)])
async def test_error_ends_the_process_when_asked(python: PreparedRuntime, how: str, code: int) -> None:
    async with guest(python, EXAMPLES / "error") as running:
        raised = await running.invoke({})
        assert (raised.kind, raised.json["errorType"]) == ("error", "NotEnoughCheese")
        running.api.put(b'{"how": "%s"}' % how.encode())
        assert await running.exit_code() == code


async def test_timeout_sleeps_as_long_as_it_is_told(python: PreparedRuntime) -> None:
    async with guest(python, EXAMPLES / "timeout") as running:
        assert (await running.invoke({"seconds": 0.01})).json == {"slept": 0.01}
        assert (await running.log())[0].startswith("sleeping 0.01 s with ")


async def test_counter_counts_in_memory_and_in_tmp(python: PreparedRuntime, tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path)}
    async with guest(python, EXAMPLES / "counter", environment=environment) as running:
        first, second = (await running.invoke({})).json, (await running.invoke(None)).json
    assert first["environment"] == second["environment"]
    assert [(one["calls"], one["in_tmp"]) for one in (first, second)] == [(1, 1), (2, 2)]


async def test_custom_runtime_answers_and_survives_bad_events(provided: PreparedRuntime) -> None:
    if not shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin"):
        pytest.skip("needs the system's python3")
    async with guest(provided, EXAMPLES / "custom-runtime", "upside.down") as running:
        fine = await running.invoke({"a": "abc", "b": [1, 2]})
        bad = await running.invoke(b"{")
        lines = await running.log()
    assert fine.json == {"a": "cba", "b": [2, 1]}
    assert (bad.kind, bad.json["errorType"]) == ("error", "JSONDecodeError")
    assert [line.split(" answers ")[0] for line in lines] == ["upside.down", "upside.down"]
