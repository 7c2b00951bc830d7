"""The managed Python runtime as a host process: handlers, context, errors and logs of AWS (fact sheet 17.1)."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runtime_api import FakeRuntimeApi, guest, prepared

from lambent.runtimes import PreparedRuntime

Task = Callable[[dict[str, str]], Path]


@pytest.fixture(params=["http", "lane"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs over both ways to talk to the platform."""
    monkeypatch.setattr(FakeRuntimeApi, "lane", request.param == "lane")


async def test_state_survives_between_invocations(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return [n, event]\n"})
    async with guest(python, code) as running:
        first, second = await running.invoke({"a": 1}), await running.invoke("x")
    assert (first.kind, first.json, second.json) == ("response", [1, {"a": 1}], [2, "x"])
    assert first.headers["content-type"] == "application/json"


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(9, 16))
def test_every_version_that_this_host_has(task: Task, minor: int) -> None:
    runtime = prepared(f"python3.{minor}")

    async def run() -> None:
        source = "import sys\ndef handler(event, context):\n    return [sys.version_info[1], 1 // event]\n"
        code = task({"app.py": source})
        async with guest(runtime, code, environment={"PYTHONSAFEPATH": "1"}) as running:
            assert (await running.invoke(1)).json == [minor, 1]
            assert (await running.invoke(0)).json["errorType"] == "ZeroDivisionError"

    asyncio.run(run())


async def test_the_context_is_complete(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
import os
def handler(event, context):
    return [context.function_name, context.function_version, context.memory_limit_in_mb, context.log_group_name,
            context.log_stream_name, context.invoked_function_arn, context.aws_request_id,
            context.get_remaining_time_in_millis() > 1000, context.client_context.custom["k"],
            context.identity.cognito_identity_id, os.environ["_X_AMZN_TRACE_ID"]]
"""})
    headers = {"Lambda-Runtime-Client-Context": '{"custom":{"k":"v"}}', "Lambda-Runtime-Trace-Id": "Root=1-2;Sampled=0"}
    async with guest(python, code) as running:
        post = await running.invoke(None, headers)
    assert post.json == [
        "f", "$LATEST", "256", "/aws/lambda/f", "2026/11/21/[$LATEST]00",
        "arn:aws:lambda:us-east-1:000000000000:function:f:live", post.path.split("/")[-2], True, "v", None,
        "Root=1-2;Sampled=0",
    ]  # fmt: skip


async def test_the_search_path_is_that_of_aws(python: PreparedRuntime, task: Task, tmp_path: Path) -> None:
    code = task({"app.py": "import sys, layered\ndef handler(e, c):\n    return [sys.path, layered.where, sys.argv]\n"})
    layer = tmp_path / "opt" / "python"
    layer.mkdir(parents=True)
    (layer / "layered.py").write_text("where = 'layer'")
    async with guest(python, code, opt=tmp_path / "opt") as running:
        path, where, argv = (await running.invoke()).json
    runtime = str(python.runtime_dir)
    assert path[0] == str(code) and where == "layer"
    assert path.index(str(layer)) < path.index(runtime) < path.index(f"{python.host_lang}/lib/python{python.line}")
    assert not [entry for entry in path if entry.endswith(("site-packages", "dist-packages"))
                and entry.startswith(python.host_lang)]
    assert argv == [f"{runtime}/bootstrap.py"]


async def test_what_site_gives_to_programs_is_there(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "def handler(e, c):\n    import sys\n    names = [exit, quit, help, copyright, license]\n"
                           "    return [callable(name) for name in names], sys.prefix\n"})
    async with guest(python, code) as running:
        assert (await running.invoke()).json[0] == [True] * 5


async def test_boto3_is_there_and_not_imported_before_the_handler(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "import sys\nseen = [m for m in ('boto3', 'ssl', 'asyncio') if m in sys.modules]\n"
                           "import boto3\ndef handler(e, c):\n    return [seen, boto3.__file__]\n"})
    async with guest(python, code) as running:
        seen, file = (await running.invoke()).json
    assert seen == [] and file == f"{python.runtime_dir}/boto3/__init__.py"


async def test_bytes_and_other_content_types_pass_unchanged(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "def handler(event, context):\n    return b'\\x00\\xff' if event == {} else 'größe'\n"})
    async with guest(python, code) as running:
        raw, text = await running.invoke({}), await running.invoke(1)
    assert (raw.body, raw.headers["content-type"]) == (b"\x00\xff", "application/unknown")
    escaped = b'"gr\\u00f6\\u00dfe"' if int(python.line.split(".")[1]) < 12 else '"größe"'.encode()
    assert text.body == escaped


@pytest.mark.slow
async def test_six_megabytes_go_both_ways(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "def handler(event, context):\n    return event + 'x'\n"})
    async with guest(python, code) as running:
        post = await running.invoke("y" * 6_000_000)
    assert post.json == "y" * 6_000_000 + "x"


async def test_a_response_that_is_refused_does_not_end_the_runtime(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "def handler(event, context):\n    return event\n"})
    async with guest(python, code, post_status=413) as running:
        await running.invoke(1)
        assert (await running.invoke(2)).json == 2


@pytest.mark.parametrize(("handler", "source", "kind", "message"), [
    ("nope.handler", "", "Runtime.ImportModuleError", "Unable to import module 'nope': No module named 'nope'"),
    ("app.handler", "import missing_thing", "Runtime.ImportModuleError",
     "Unable to import module 'app': No module named 'missing_thing'"),
    ("app.handler", "def broken(:\n    pass", "Runtime.UserCodeSyntaxError",
     "Syntax error in module 'app': invalid syntax (app.py, line 1)"),
    ("app.other", "x = 1", "Runtime.HandlerNotFound", "Handler 'other' missing on module 'app'"),
    ("app", "", "Runtime.MalformedHandlerName", "Bad handler 'app': not enough values to unpack (expected 2, got 1)"),
    ("sys.handler", "", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ("app.handler", "raise KeyError('early')", "KeyError", "'early'"),
])  # fmt: skip
async def test_a_module_that_cannot_be_loaded_is_an_init_error(
    python: PreparedRuntime, task: Task, handler: str, source: str, kind: str, message: str
) -> None:
    async with guest(python, task({"app.py": source}), handler) as running:
        post = await running.posted()
        assert await running.exit_code() == 1
        lines = await running.log()
    assert post.kind == "init/error" and post.headers["lambda-runtime-function-error-type"] == kind
    assert post.json["errorType"] == kind and post.json["errorMessage"] == message and post.json["requestId"] == ""
    assert lines[0].startswith("[WARNING]\t") and "LAMBDA_WARNING: Unhandled exception." in lines[0]
    assert lines[1].startswith(f"[ERROR] {kind}: {message}\rTraceback (most recent call last):")


async def test_an_exception_is_answered_and_the_runtime_goes_on(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "def handler(event, context):\n    if event:\n        raise ValueError('boom')\n"})
    async with guest(python, code) as running:
        failed, fine = await running.invoke(1), await running.invoke(0)
        lines = await running.log()
    assert failed.kind == "error" and list(failed.json) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (failed.json["errorMessage"], failed.json["errorType"]) == ("boom", "ValueError")
    assert failed.json["requestId"] == failed.path.split("/")[-2]
    frame = f'  File "{code}/app.py", line 3, in handler\n    raise ValueError(\'boom\')\n'
    assert failed.json["stackTrace"] == [frame]
    assert "lambda-runtime-function-error-type" not in failed.headers  # AWS sends it for init errors only
    assert '"type": "ValueError"' in failed.headers["lambda-runtime-function-xray-error-cause"]
    assert fine.body == b"null"
    assert lines == [f'[ERROR] ValueError: boom\rTraceback (most recent call last):\r\u00a0\u00a0File "{code}/app.py", '
                     "line 3, in handler\r\u00a0\u00a0\u00a0\u00a0raise ValueError('boom')"]


@pytest.mark.parametrize(("payload", "kind", "message"), [
    (b'"object"', "Runtime.MarshalError", "Unable to marshal response: Object of type object is not JSON serializable"),
    (b"{not json", "Runtime.UnmarshalError", "Unable to unmarshal input: "),
])  # fmt: skip
async def test_what_is_not_json_is_an_error_of_the_runtime(
    python: PreparedRuntime, task: Task, payload: bytes, kind: str, message: str
) -> None:
    async with guest(python, task({"app.py": "def handler(event, context):\n    return object()\n"})) as running:
        post = await running.invoke(payload)
    assert (post.kind, post.json["errorType"]) == ("error", kind) and post.json["errorMessage"].startswith(message)


@pytest.mark.parametrize(("source", "code"), [
    ("def handler(e, c):\n    import sys; sys.exit(0)", 0), ("def handler(e, c):\n    import sys; sys.exit(3)", 3),
    ("def handler(e, c):\n    import os; os._exit(4)", 4),
    ("def handler(e, c):\n    import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
])  # fmt: skip
async def test_an_exit_in_the_handler_ends_the_process_unreported(
    python: PreparedRuntime, task: Task, source: str, code: int
) -> None:
    async with guest(python, task({"app.py": source})) as running:
        running.api.put(b"{}")
        assert await running.exit_code() == code
        assert running.api.posts.empty()


async def test_an_exit_at_import_ends_the_process_unreported(python: PreparedRuntime, task: Task) -> None:
    async with guest(python, task({"app.py": "import sys\nsys.exit(0)"})) as running:
        assert await running.exit_code() == 0
        assert running.api.posts.empty() and not running.api.asked.is_set()


async def test_text_logs(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
import logging
logging.warning("at init")
def handler(event, context):
    print("plain")
    logging.info("not shown")
    logging.error("shown %d", 1)
"""})
    async with guest(python, code) as running:
        request_id = (await running.invoke()).path.split("/")[-2]
        lines = await running.log()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rf"\[WARNING\]\t{stamp}\t\tat init", lines[0])
    assert lines[1] == "plain"
    assert re.fullmatch(rf"\[ERROR\]\t{stamp}\t{request_id}\tshown 1", lines[2]) and len(lines) == 3


async def test_json_logs(python: PreparedRuntime, task: Task) -> None:
    import json

    code = task({"app.py": "import logging\ndef handler(event, context):\n    logging.info('hello')\n    1 / 0\n"})
    environment = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}
    async with guest(python, code, environment=environment) as running:
        request_id = (await running.invoke()).path.split("/")[-2]
        said, failed = [json.loads(line) for line in await running.log()]
    assert (said["level"], said["message"], said["requestId"], said["logger"]) == ("INFO", "hello", request_id, "root")
    assert (failed["errorType"], failed["errorMessage"], failed["requestId"]) == (
        "ZeroDivisionError", "division by zero", request_id)  # fmt: skip


async def test_a_signal_handler_runs_while_waiting(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
import signal, sys
def stop(number, frame):
    print("stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
def handler(event, context):
    pass
"""})
    async with guest(python, code) as running:
        await running.ready()
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        assert await running.log() == ["stopping"]


async def test_the_runtime_ends_when_the_platform_is_gone(python: PreparedRuntime, task: Task) -> None:
    async with guest(python, task({"app.py": "def handler(event, context):\n    pass\n"})) as running:
        await running.ready()
        running.api.stop()
        assert await running.exit_code() == 1


async def test_a_wrapper_starts_the_runtime(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "import os\ndef handler(e, c):\n    return os.environ['ADDED']\n",
                 "wrapper": '#!/bin/sh\nexport ADDED=yes\nexec "$@"\n'})
    (code / "wrapper").chmod(0o755)
    async with guest(python, code, environment={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}) as running:
        assert (await running.invoke()).json == "yes"
