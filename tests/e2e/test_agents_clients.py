"""Runtime clients and tools that functions bring along, from their registries.

The official Python client in a custom runtime's package, AWS's library for Go, and what Node.js functions are commonly
made with: Middy and Powertools for TypeScript.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from . import agents
from .harness import Function, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(agents.BUILD_TIMEOUT_S)]

GO_FUNCTION = Path(__file__).parent / "go-function"
SYSTEM_PYTHON = "/usr/bin/python3"

PYTHON_HANDLER = """
import sys

def handler(event, context):
    print("handled on", sys.executable)
    if event == "raise":
        raise ValueError("boom")
    return {"event": event, "id": context.aws_request_id, "name": context.function_name,
            "left": context.get_remaining_time_in_millis(), "stream": context.log_stream_name}
"""

NODE_HANDLER = """
import middy from '@middy/core';
import { Logger } from '@aws-lambda-powertools/logger';
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware';
import { Metrics } from '@aws-lambda-powertools/metrics';
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware';

const logger = new Logger({ serviceName: 'shop' });
const metrics = new Metrics({ namespace: 'Shop', serviceName: 'shop' });

export const handler = middy(async (event) => {
  logger.debug('not shown');
  logger.info('paid', { amount: 12 });
  metrics.addMetric('paid', 'Count', 1);
  if (event.raise) throw new Error(event.raise);
  return { order: event.order };
})
  .use(injectLambdaContext(logger))
  .use(logMetrics(metrics, { captureColdStartMetric: true }))
  .use({ onError: async (request) => { request.response = { failed: request.error.message }; } });
"""
NODE_PACKAGES = {"@aws-lambda-powertools/logger": "2.36.0", "@aws-lambda-powertools/metrics": "2.36.0",
                 "@middy/core": "7.9.2"}  # fmt: skip


def test_the_official_python_client_in_a_custom_runtime(server: Server, tmp_path: Path) -> None:
    """On the host's interpreter, by plain HTTP: nothing of ours is in the environment."""
    if not Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"needs {SYSTEM_PYTHON}")
    asked = subprocess.run([SYSTEM_PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    agents.from_registry("pip", [
        sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path / "official"),
        "--only-binary=:all:", "--implementation", "cp", "--python-version", asked.stdout.strip(),
        "awslambdaric==4.2.2"])  # fmt: skip
    bootstrap = f'#!/bin/sh\nexec {SYSTEM_PYTHON} -m awslambdaric "$_HANDLER"\n'
    name = agents.deploy(server, tmp_path / "official", {"app.py": PYTHON_HANDLER, "bootstrap": bootstrap},
                         "--handler", "app.handler", "--runtime", "provided.al2023", "--memory", "512")  # fmt: skip
    for event in ("one", {"\u2603": [1]}, "x" * 100_000):
        call = server.invoke(name, event)
        assert call.error is None, call.log
        stream = server.story(call.environment)["log_stream"]
        assert call.payload | {"left": 0} == {
            "event": event, "id": call.request_id, "name": name, "left": 0, "stream": stream}  # fmt: skip
        assert 0 < call.payload["left"] <= 3000
    assert "handled on /usr/bin/python3" in call.log
    failed = server.invoke(name, "raise")
    assert (failed.payload["errorType"], failed.payload["requestId"]) == ("ValueError", failed.request_id)
    assert server.invoke(name, "after").environment == call.environment


@pytest.fixture(scope="module")
def go(server: Server) -> str:
    """A function whose bootstrap is a Go program."""
    program = agents.built(f"go-function-{agents.digest(GO_FUNCTION)}", [
        agents.tool("go"), "build", "-trimpath", "-o", "{out}/bootstrap", "."], "bootstrap", GO_FUNCTION)  # fmt: skip
    server.deploy(Function("go", runtime="provided.al2023", files={"bootstrap": program}))
    return "go"


def test_a_function_of_awss_go_library(server: Server, go: str) -> None:
    call = server.invoke(go, {"do": "say", "text": "h\u00e9"})
    assert call.error is None, call.log
    assert call.payload | {"deadline": 0} == {
        "text": "h\u00e9", "id": call.request_id, "arn": f"arn:aws:lambda:us-east-1:000000000000:function:{go}",
        "bounded": True, "deadline": 0, "name": go, "memory": 256}  # fmt: skip
    assert "go was asked to say\n" in call.log
    failed = server.invoke(go, {"do": "fail", "text": "no"})
    assert failed.payload == {"errorMessage": "no", "errorType": "errorString"}
    assert server.invoke(go, {"do": "say"}).environment == call.environment


def test_a_panic_in_go_ends_the_runtime_after_its_answer(server: Server, go: str) -> None:
    """The library posts the error, and then ends the process."""
    panicked = server.invoke(go, {"do": "panic", "text": "oh"})
    assert (panicked.error, panicked.payload["errorMessage"]) == ("Unhandled", "oh")
    after = server.invoke(go, {"do": "say", "text": "again"})
    assert after.payload["text"] == "again"
    assert after.environment == panicked.environment


def test_a_reader_in_go_is_a_streamed_response(server: Server, go: str) -> None:
    reply = server.functions.invoke_with_response_stream(
        FunctionName=go, Payload=json.dumps({"do": "stream", "text": "piece by piece"}).encode())
    chunks = [event["PayloadChunk"]["Payload"] for event in reply["EventStream"] if "PayloadChunk" in event]
    assert b"".join(chunks) == b"piece by piece"


def test_middy_and_powertools_in_node(server: Server, tmp_path: Path) -> None:
    agents.tool("npm")
    packages = json.dumps({"type": "module", "dependencies": NODE_PACKAGES})
    name = agents.deploy(server, tmp_path / "middied", {"index.mjs": NODE_HANDLER, "package.json": packages},
                         "--handler", "index.handler", "--runtime", "nodejs20.x", "--memory", "1769")  # fmt: skip
    cold, failed = server.invoke(name, {"order": 7}), server.invoke(name, {"raise": "no"})
    assert (cold.payload, failed.payload) == ({"order": 7}, {"failed": "no"}), failed.log
    for call, is_cold in ((cold, True), (failed, False)):
        rows = [json.loads(line[line.index("{"):]) for line in call.log.splitlines() if "{" in line]
        [paid] = [row for row in rows if row.get("message") == "paid"]
        assert (paid["level"], paid["cold_start"], paid["function_request_id"], paid["amount"]) == (
            "INFO", is_cold, call.request_id, 12)  # fmt: skip
        measured = [row for row in rows if "_aws" in row]
        assert [("ColdStart" in row, "paid" in row) for row in measured] == (
            [(True, False), (False, True)] if is_cold else [(False, True)])  # fmt: skip
        assert not any(row.get("message") == "not shown" for row in rows)
