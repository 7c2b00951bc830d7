"""The Python runtime's plain path (`lambent_loop`): what it makes of events and responses is what the official client
makes of them, and nobody can see which of the two served."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_runtime_api import guest, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent.runtimes import PreparedRuntime

Task = Callable[[dict[str, str]], Path]

LOADED = """
import sys
OFFICIAL = ("logging", "re", "simplejson", "decimal", "traceback", "awslambdaric.bootstrap")
def loaded():
    return [name for name in OFFICIAL if name in sys.modules]
"""

COMPARE = r"""
import json, os, sys
from collections import OrderedDict, namedtuple
sys.path.append(sys.argv[1])
sys.modules["runtime_client"] = None
os.environ["AWS_EXECUTION_ENV"] = "AWS_Lambda_python" + sys.argv[2]
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
from lambent_json import Writer, loads
official, writer = LambdaMarshaller(), Writer()
class Text(str): pass
class Pairs(dict): pass
Point = namedtuple("Point", "x y")
nan, inf = float("nan"), float("inf")
def attempt(function, *arguments):
    try:
        return ascii(function(*arguments))
    except Exception as error:
        return None
for line in sys.stdin:
    kind, text = json.loads(line)
    if kind == "loads":
        body = text.encode("utf-8", "surrogatepass")
        ours, theirs = attempt(loads, body), attempt(official.unmarshal_request, body)
    else:
        value = eval(text)
        ours, theirs = attempt(writer.dumps, value), attempt(lambda: official.marshal_response(value)[0])
    print(json.dumps([ours, theirs]), flush=True)
"""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)
#: Texts of expressions that the official client writes in ways of its own, or not at all.
special = st.sampled_from([
    "Point(1, [2])", "Text('a')", "Pairs(a=1)", "OrderedDict(b=1)", "{1: 2}", "{True: 1}", "{None: 1}", "b'x'", "{1}",
    "[b'x']", "object()", "__import__('decimal').Decimal('1.5')", "{Text('k'): 1}", "range(3)", "2**70", "-0.0",
    "1e400",
])  # fmt: skip
values = plain.map(ascii) | special | st.lists(special).map(lambda texts: "[" + ", ".join(texts) + "]")
texts = st.text() | plain.map(json.dumps) | st.builds(
    lambda value, at, put: (text := json.dumps(value))[: at % (len(text) + 1)] + put + text[at % (len(text) + 1):],
    plain, st.integers(0), st.sampled_from([" ", "\n", ",", "NaN", "-", "0", "1e5", "\ufeff", "\x01", '"', "\u2028"]),
)  # fmt: skip


class Comparison:
    """An interpreter with both ways in it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, kind: str, text: str) -> tuple[str | None, str | None]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, text]) + "\n")
        self._process.stdin.flush()
        ours, theirs = json.loads(self._process.stdout.readline())
        return ours, theirs


@contextmanager
def comparison(runtime: PreparedRuntime) -> Iterator[Comparison]:
    argv = [f"{runtime.host_lang}/bin/python{runtime.line}", "-I", "-S", "-c", COMPARE, str(runtime.runtime_dir),
            runtime.line]  # fmt: skip
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Comparison(process)


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(9, 15))
def test_plain_json_is_that_of_the_official_client(minor: int) -> None:
    with comparison(prepared(f"python3.{minor}")) as both:

        @settings(max_examples=300)
        @given(st.tuples(st.just("dumps"), values) | st.tuples(st.just("loads"), texts))
        def compare(example: tuple[str, str]) -> None:
            ours, theirs = both.ask(*example)
            assert ours is None or ours == theirs

        compare()
        assert both.ask("dumps", "{'a': [1, 2.5, None, True, 'ö']}")[0] is not None
        assert both.ask("loads", ' {"a": [1, 2.5, null, true, "ö"]} ')[0] == ascii({"a": [1, 2.5, None, True, "ö"]})


async def test_a_plain_function_is_served_without_the_official_client(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": LOADED + "def handler(event, context):\n    return loaded(), event\n"})
    async with guest(python, code) as running:
        assert (await running.invoke({"a": [1]})).json == [[], {"a": [1]}]
        assert (await running.invoke({})).json == [[], {}]


async def test_whoever_imports_logging_finds_it_set_up(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": LOADED + """
def handler(event, context):
    if event:
        import logging
        logging.error("from within")
        return [type(handler).__name__ for handler in logging.getLogger().handlers], loaded() == list(OFFICIAL)
"""})
    async with guest(python, code) as running:
        await running.invoke(0)
        post = await running.invoke(1)
        lines = await running.log()
    assert post.json == [["LambdaLoggerHandler"], True]
    request_id = post.path.split("/")[-2]
    assert len(lines) == 1 and lines[0].startswith("[ERROR]\t") and lines[0].endswith(f"\t{request_id}\tfrom within")


async def test_a_thread_finds_logging_set_up_while_an_error_is_told(python: PreparedRuntime, task: Task) -> None:
    """The thread imports logging while the official client, which the handler's error needs, is being loaded."""
    code = task({"app.py": """
import _thread, sys
sys.setswitchinterval(1e-6)
ended, seen = _thread.allocate_lock(), []
ended.acquire()
def look():
    while "traceback" not in sys.modules:  # which logging imports
        pass
    import logging
    seen.append(len(logging.getLogger().handlers))
    ended.release()
def handler(event, context):
    if event:
        ended.acquire()
        return seen
    _thread.start_new_thread(look, ())
    raise ValueError("while the thread looks")
"""})
    async with guest(python, code) as running:
        assert (await running.invoke(0)).kind == "error"
        assert (await running.invoke(1)).json == [1]


@pytest.mark.parametrize("line", [
    "import awslambdaric.bootstrap", "import awslambdaric.lambda_runtime_client",
    "from awslambdaric.lambda_runtime_log_utils import JsonFormatter",
    "from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller", "import simplejson, decimal, traceback",
])  # fmt: skip
async def test_parts_of_the_official_client_can_be_imported(python: PreparedRuntime, task: Task, line: str) -> None:
    code = task({"app.py": f"{line}\nimport logging\ndef handler(event, context):\n    logging.error('x')\n"})
    async with guest(python, code) as running:
        request_id = (await running.invoke()).path.split("/")[-2]
        lines = await running.log()
    assert len(lines) == 1 and lines[0].endswith(f"\t{request_id}\tx")


@pytest.mark.parametrize(("source", "answer"), [
    ("""
from awslambdaric import bootstrap
real = bootstrap.handle_event_request
def wrapped(client, handler, *rest):
    return real(client, lambda event, context: ["wrapped", handler(event, context)], *rest)
bootstrap.handle_event_request = wrapped
""", ["wrapped", 7]),
    ("""
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient
class Marshaller:
    def unmarshal_request(self, request, content_type):
        return 6
    def marshal_response(self, response):
        return '["marshalled", %d]' % response, "application/json"
LambdaRuntimeClient.marshaller = Marshaller()
""", ["marshalled", 6]),
    ("""
import __main__
client = __main__.awslambdaricmain.bootstrap.LambdaRuntimeClient
post, wait = client.post_invocation_result, client.wait_next_invocation
def waited(self):
    request = wait(self)
    request.event_body += b"0"
    return request
client.post_invocation_result = lambda self, request_id, result, *rest: post(self, request_id, f"[{result}]", *rest)
client.wait_next_invocation = waited
""", [70]),
    ("""
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
LambdaMarshaller.marshal_response = lambda self, response: ("[8]", "application/json")
""", [8]),
    ("""
from awslambdaric import bootstrap
bootstrap.create_lambda_context = lambda *arguments: "context"
""", "context"),
])  # fmt: skip
async def test_what_a_function_replaces_in_the_official_client_is_used(
    python: PreparedRuntime, task: Task, source: str, answer: list[Any]
) -> None:
    handler = "def handler(event, context):\n    return context if context == 'context' else event\n"
    async with guest(python, task({"app.py": source + handler})) as running:
        assert (await running.invoke(7)).json == answer


async def test_what_a_handler_replaces_ends_its_own_invocation(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
def handler(event, context):
    from awslambdaric import bootstrap
    def refuse(*arguments):
        raise RuntimeError("this invocation was begun by another")
    bootstrap.handle_event_request = refuse
    class Marshaller:
        def unmarshal_request(self, request, content_type):
            assert request == b"7"
        def marshal_response(self, response):
            return f"{response}, 8", content_type
    content_type, bootstrap.LambdaRuntimeClient.marshaller = "application/json", Marshaller()
    def post(self, invoke_id, result, *rest):
        return real(self, invoke_id, "[%s]" % result, *rest)
    client = bootstrap.LambdaRuntimeClient
    real, client.post_invocation_result = client.post_invocation_result, post
    return event
"""})
    async with guest(python, code) as running:
        assert (await running.invoke(7)).json == [7, 8]
        running.api.put(b"1")
        assert await running.exit_code() == 1


STACK = [
    ("bootstrap.py", "<module>", "main()"),
    ("bootstrap.py", "main", 'awslambdaricmain.main([os.environ["LAMBDA_TASK_ROOT"], os.environ["_HANDLER"]])'),
    ("awslambdaric/__main__.py", "main", "bootstrap.run(handler, client)"),
    ("awslambdaric/bootstrap.py", "run", "handle_event_request("),
    ("awslambdaric/bootstrap.py", "handle_event_request", "response = request_handler(event, lambda_context)"),
]


@pytest.mark.parametrize("imports", ["", "import logging"])
async def test_under_the_handler_stand_the_frames_of_the_official_client(
    python: PreparedRuntime, task: Task, imports: str
) -> None:
    code = task({"app.py": imports + """
import sys
def handler(event, context):
    below, official = sys._getframe(1), "awslambdaric.bootstrap"
    names = [below.f_globals["__name__"], sorted(below.f_locals)[:4], official in sys.modules]
    from awslambdaric import bootstrap
    import inspect, traceback
    lines, first = inspect.getsourcelines(below)
    return ([[frame.filename, frame.name, frame.line] for frame in traceback.extract_stack()[:-1]], names,
            below.f_globals is vars(bootstrap), lines[0], type(sys.stdout) is bootstrap.Unbuffered,
            type(below.f_locals["lambda_runtime_client"]) is bootstrap.LambdaRuntimeClient)
"""})
    async with guest(python, code) as running:
        stack, names, *rest = (await running.invoke()).json
    assert stack == [[f"{python.runtime_dir}/{file}", name, line] for file, name, line in STACK]
    assert names == ["awslambdaric.bootstrap", ["client_context_json", "cognito_identity_json", "content_type",
                                                "epoch_deadline_time_in_ms"], bool(imports)]  # fmt: skip
    assert rest == [True, "def handle_event_request(\n", True, True]


async def test_under_the_functions_import_stand_the_frames_of_the_official_client(
    python: PreparedRuntime, task: Task
) -> None:
    code = task({"app.py": """
import traceback
stack = [[frame.name, frame.line] for frame in traceback.extract_stack() if "importlib" not in frame.filename]
def handler(event, context):
    return stack
"""})
    async with guest(python, code) as running:
        stack = (await running.invoke()).json
    assert stack[3:5] == [["run", "request_handler = _get_handler(handler)"],
                          ["_get_handler", 'm = importlib.import_module(modname.replace("/", "."))']]  # fmt: skip
    assert [name for name, _ in stack] == ["<module>", "main", "main", "run", "_get_handler", "<module>"]


@pytest.mark.parametrize("imports", ["logging", "awslambdaric.bootstrap", "awslambdaric.lambda_runtime_client"])
async def test_logging_is_set_up_where_our_finder_was_taken_out(
    python: PreparedRuntime, task: Task, imports: str
) -> None:
    code = task({"app.py": f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
import {imports}
import logging
def handler(event, context):
    logging.error("x")
    return [type(handler).__name__ for handler in logging.getLogger().handlers], 1 / event
"""})
    async with guest(python, code) as running:
        assert (await running.invoke(1)).json == [["LambdaLoggerHandler"], 1]
        assert (await running.invoke(0)).json["errorType"] == "ZeroDivisionError"
        assert [line[:8] for line in await running.log()] == ["[ERROR]\t", "[ERROR]\t", "[ERROR] "]


@pytest.mark.parametrize("imports", ["threading", "logging"])
async def test_the_main_thread_is_the_main_one_whoever_imports_threading_first(
    python: PreparedRuntime, task: Task, imports: str
) -> None:
    code = task({"app.py": f"""
import _thread, os, sys
def run():
    import {imports}, threading
    seen.append(threading.current_thread() is threading.main_thread())
    ended.release()
def handler(event, context):
    import threading
    main = threading.main_thread()
    if event:
        sys.exit(7)
    return (seen, main is threading.current_thread(), main.is_alive(), main.ident == _thread.get_ident(),
            main.native_id == os.getpid(), sum(thread is main for thread in threading.enumerate()))
ended, seen = _thread.allocate_lock(), []
ended.acquire()
_thread.start_new_thread(run, ())
ended.acquire()
"""})
    async with guest(python, code) as running:
        assert (await running.invoke(0)).json == [[False], True, True, True, True, 1]
        running.api.put(b"1")
        assert await running.exit_code() == 7


async def test_reloading_the_official_client_sets_up_nothing_again(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
import importlib, logging
from awslambdaric import bootstrap
importlib.reload(bootstrap)
def handler(event, context):
    importlib.reload(bootstrap)
    logging.error("x")
    return bootstrap._GLOBAL_AWS_REQUEST_ID == context.aws_request_id
"""})
    async with guest(python, code) as running:
        assert (await running.invoke()).json is True
        assert len(await running.log()) == 1


async def test_a_package_cannot_take_the_names_of_what_the_client_imports(python: PreparedRuntime, task: Task) -> None:
    names = ("logging", "traceback", "decimal", "simplejson", "enum", "re")
    files = {f"{name}.py": "mine = True" for name in names}
    code = task({"app.py": f"""
import {", ".join(names)}, sys
def handler(event, context):
    return [hasattr(sys.modules[name], "mine") for name in {names!r}], logging.getLogger().level
""", **files})
    async with guest(python, code) as running:
        assert (await running.invoke()).json == [[False] * len(names), 30]


async def test_a_package_can_have_modules_of_the_names_of_ours(python: PreparedRuntime, task: Task) -> None:
    names = ("start_image", "code_image", "compile_code", "bootstrap")
    code = task({"app.py": f"""
import {", ".join(names)}
def handler(event, context):
    import logging
    return start_image.mine, code_image.mine, compile_code.mine, bootstrap.mine, 1 / event
""", **{f"{name}.py": "mine = True" for name in names}})
    async with guest(python, code) as running:
        assert (await running.invoke(1)).json == [True, True, True, True, 1.0]
        assert (await running.invoke(0)).json["errorType"] == "ZeroDivisionError"


async def test_a_package_cannot_take_the_names_of_extension_modules_either(python: PreparedRuntime, task: Task) -> None:
    files = {f"{name}.py": "1 / 0" for name in ("math", "_decimal", "_json", "_heapq")}
    code = task({"app.py": "def handler(event, context):\n    import decimal, math\n"
                           "    return decimal.Decimal('1.5') + event, math.pi > 3\n", **files})  # fmt: skip
    async with guest(python, code) as running:
        assert (await running.invoke(1)).json == [2.5, True]


@pytest.mark.parametrize(("package", "part"), [
    ("collections", "collections.abc.Mapping"), ("awslambdaric", "awslambdaric.bootstrap.handle_event_request"),
    ("awslambdaric", "awslambdaric.lambda_runtime_marshaller.to_json"),
])  # fmt: skip
async def test_parts_that_the_official_client_imports_need_no_import(
    python: PreparedRuntime, task: Task, package: str, part: str
) -> None:
    code = task({"app.py": f"""
import {package}
part = {part}
def handler(event, context):
    return hasattr({package}, "nothing"), callable(part)
"""})
    async with guest(python, code) as running:
        assert (await running.invoke()).json == [False, True]


async def test_the_context_writes_to_the_log_where_nobody_imported_logging(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "def handler(event, context):\n    context.log('a line')\n"
                           "    return type(context).__module__\n"})
    async with guest(python, code) as running:
        assert (await running.invoke()).json == "awslambdaric.lambda_context"
        assert await running.log() == ["a line"]


async def test_a_failed_import_is_told_with_its_frames_and_happens_once(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": "print('imported')\nimport logging\nlogging.error('early')\n1 / 0\n"})
    async with guest(python, code) as running:
        post = await running.posted()
        assert await running.exit_code() == 1
        lines = await running.log()
    frames = post.json["stackTrace"]
    assert "importlib/__init__.py" in frames[0] and "in import_module" in frames[0]
    assert frames[1].startswith('  File "<frozen importlib._bootstrap>"') and f'"{code}/app.py", line 4' in frames[-1]
    assert lines[0] == "imported" and lines[1].endswith("\tearly") and "LAMBDA_WARNING" in lines[2]
    assert lines[3].startswith("[ERROR] ZeroDivisionError: division by zero\r") and len(lines) == 4


async def test_an_error_with_a_traceback_of_its_own_is_told_like_others(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
class Odd(Exception):
    __traceback__ = None
    def with_traceback(self, traceback):
        raise SystemExit(9)
def handler(event, context):
    raise Odd("shown")
"""})
    async with guest(python, code) as running:
        post = await running.invoke()
    (frame,) = post.json["stackTrace"]
    assert post.json["errorMessage"] == "shown" and f'"{code}/app.py", line 7, in handler' in frame


@pytest.mark.parametrize("source", ["def handler():\n    pass\n", "handler = 5\n", "handler = int\n"])
async def test_where_the_handler_was_not_entered_the_trace_is_the_official_clients_call(
    python: PreparedRuntime, task: Task, source: str
) -> None:
    async with guest(python, task({"app.py": source})) as running:
        post = await running.invoke()
        (line,) = await running.log()
    (frame,) = post.json["stackTrace"]
    assert "/awslambdaric/bootstrap.py" in frame and "request_handler(event, lambda_context)" in frame
    assert post.headers["lambda-runtime-function-xray-error-cause"].count('"label"') == 1 and line.count(" line ") == 1


@pytest.mark.parametrize("imports", ["logging", "collections", "awslambdaric.bootstrap", "logging, simplejson"])
async def test_what_sitecustomize_imported_before_is_set_up(
    python: PreparedRuntime, task: Task, imports: str
) -> None:
    source = "import logging\ndef handler(event, context):\n    logging.error('x')\n    return 1 / event\n"
    code = task({"app.py": source,
                 "early/sitecustomize.py": f"import {imports}\n"})  # fmt: skip
    path = f"{code}/early:{python.runtime_dir}"
    async with guest(python, code, environment={"PYTHONPATH": path, "PYTHONUTF8": "1"}) as running:
        assert (await running.invoke(1)).json == 1
        assert (await running.invoke(0)).json["errorType"] == "ZeroDivisionError"
        lines = await running.log()
    assert [line.split("\t")[0] for line in lines[:2]] == ["[ERROR]"] * 2 and len(lines) == 3


async def test_what_the_function_makes_of_the_variables_comes_too_late(python: PreparedRuntime, task: Task) -> None:
    code = task({"app.py": """
import os
os.environ.pop("AWS_EXECUTION_ENV")
os.environ["AWS_LAMBDA_LOG_LEVEL"] = "DEBUG"
os.environ["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
import logging
def handler(event, context):
    logging.warning("text")
    return ["ö", os.environ["AWS_LAMBDA_LOG_FORMAT"], "AWS_EXECUTION_ENV" in os.environ, logging.getLogger().level]
"""})
    async with guest(python, code) as running:
        post = await running.invoke()
        lines = await running.log()
    quoted = "ö" if int(python.line.split(".")[1]) >= 12 else "\\u00f6"
    assert post.body.decode() == f'["{quoted}", "JSON", false, 30]'
    assert len(lines) == 1 and lines[0].startswith("[WARNING]\t")


async def test_an_error_is_told_where_no_descriptor_is_left(python: PreparedRuntime, task: Task) -> None:
    if int(python.line.split(".")[1]) >= 13:
        pytest.skip("from 3.13 on the official client itself ends then: its traceback opens files")
    code = task({"app.py": """
import os
kept = []
def handler(event, context):
    while event:
        kept.append(os.open("/dev/null", os.O_RDONLY))
    os.close(kept.pop())
    return os.path.sameopenfile(0, kept.pop())
"""})
    async with guest(python, code) as running:
        failed = await running.invoke(1)
        assert (failed.json["errorType"], len(failed.json["stackTrace"])) == ("OSError", 1)
        assert (await running.invoke(0)).json is True


async def test_without_an_image_the_official_client_serves_alone(
    python: PreparedRuntime, task: Task, tmp_path: Path
) -> None:
    import shutil
    from dataclasses import replace

    assert python.runtime_dir is not None
    folder = tmp_path / "runtime"
    await asyncio.to_thread(shutil.copytree, python.runtime_dir, folder, ignore=shutil.ignore_patterns(
        "boto*", "s3transfer", "dateutil", "urllib3", ".start-image"))  # fmt: skip
    code = task({"app.py": LOADED + "def handler(event, context):\n    return loaded() == list(OFFICIAL), event\n",
                 "decimal.py": "1 / 0"})  # fmt: skip
    async with guest(replace(python, runtime_dir=folder), code) as running:
        assert (await running.invoke({"a": 1})).json == [True, {"a": 1}]
        assert (await running.invoke(2)).json == [True, 2]
