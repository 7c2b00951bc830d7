"""What a warm invocation does not do: the whole server in this process, with an ear on its database."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import sqlite3
import sys
import zipfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from lambent.platform import start
from lambent.settings import load

CALLS = 100
FUNCTIONS = "/2015-03-31/functions"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SOURCE = "def handler(event, context):\n    print(event)\n    return event\n"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement of SQL that any connection of this process runs from now on."""
    heard: list[str] = []
    connect = sqlite3.connect

    def connected(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_trace_callback(heard.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    return heard


async def test_warm_calls_do_not_touch_the_database(tmp_path: Path, statements: list[str]) -> None:
    cache = {name: value for name, value in os.environ.items() if name == "LAMBENT_CACHE_DIR"}
    settings = load({"port": 0, "data_dir": tmp_path / "data", "sandbox": "process"}, cache)
    async with AsyncExitStack() as stack:
        url = await start(settings, stack)
        assert any("CREATE TABLE" in statement for statement in statements)
        await asyncio.to_thread(_drive, url, statements)


def _drive(url: str, statements: list[str]) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)

    def call(method: str, path: str, body: dict[str, Any] | None = None) -> tuple[Any, str | None]:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status < 300, content
        return json.loads(content or b"{}"), reply.getheader("X-Lambent-Start")

    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("app.py", SOURCE)
    zipped = base64.b64encode(package.getvalue()).decode()
    call("POST", FUNCTIONS, {"FunctionName": "f", "Runtime": PYTHON, "Handler": "app.handler",
                             "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": zipped}})  # fmt: skip
    while call("GET", f"{FUNCTIONS}/f/configuration")[0]["State"] == "Pending":
        pass
    call("POST", f"{FUNCTIONS}/f/invocations", {"call": "cold"})

    before = len(statements)
    warm = 0
    while warm < CALLS:  # a busy machine may have one start cold, which does not touch it either
        answer, begun = call("POST", f"{FUNCTIONS}/f/invocations?Qualifier=$LATEST", {"call": warm})
        assert answer == {"call": warm}
        warm += begun == "warm"
    assert statements[before:] == []
    # What is asked for is heard: a change is.
    call("PUT", f"{FUNCTIONS}/f/configuration", {"Timeout": 4})
    assert any(statement.lstrip().startswith("INSERT") for statement in statements[before:])
    connection.close()
