"""Functions find under our runtime what they find under AWS's official client: each question is put to both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from official import official, seen, started

from lambent.runtimes import PreparedRuntime

Task = Callable[[dict[str, str]], Path]
Both = Callable[..., Awaitable[tuple[list[Any], list[Any]]]]

HANDLER = "import os, sys\ndef handler(event, context):\n"
#: Expressions of a handler's `event` and `context`.
SEEN = [
    "sys.argv[1:]", "sys._xoptions, sys.warnoptions, sys.dont_write_bytecode, sys.pycache_prefix",
    "os.getcwd(), os.umask(0o22)", "sys.getrecursionlimit(), sys.getswitchinterval()",
    "{name: value for name, value in os.environ.items() if name != 'AWS_LAMBDA_RUNTIME_API'}",
    "sys.path, len(sys.path_hooks)", "sys.stdin.read(), sys.stdin.encoding, sys.stdin.errors, sys.stdin.fileno()",
    "[(repr(type(one)), sorted(vars(one)), one.encoding, one.errors, one.line_buffering, one.fileno())"
    " for one in (sys.stdout, sys.stderr)], sys.stdout.stream is sys.__stdout__",
    "sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace(), sys.getprofile()",
    "sys.getfilesystemencoding(), __import__('locale').setlocale(6), __import__('locale').getpreferredencoding()",
    "[repr(__import__('signal').getsignal(number)) for number in range(1, 32)]",
    "[repr(one) for one in __import__('warnings').filters]", "sorted(os.listdir('/proc/self/fd'))[:3]",
    "__import__('gc').isenabled(), __import__('gc').get_threshold()", "sorted(dir(__import__('builtins')))",
    "[hasattr(__import__('__main__'), name) for name in ('json', 'logging', 'os', 'site', 'sys', 'time', 'traceback',"
    " 'warnings', 'awslambdaricmain', 'other')]", "__import__('__main__').__spec__, __import__('__main__').__package__",
    "__name__, __package__, __spec__.name, type(__loader__).__name__, __file__, __cached__",
    "repr(context), sorted(vars(context)), dir(context), type(context).__module__, context.tenant_id",
    "type(context.get_remaining_time_in_millis()).__name__, context.get_remaining_time_in_millis() > 1000",
    "repr(context.identity), repr(context.client_context), os.environ.get('_X_AMZN_TRACE_ID')",
    "repr(__import__('copy').deepcopy(context)), len(__import__('pickle').dumps(context)) > 100",
    "__import__('threading').current_thread() is __import__('threading').main_thread()",
    "[repr(one) for one in __import__('logging').root.handlers], __import__('logging').root.level",
    "[vars(one.log_sink) for one in __import__('logging').root.handlers], __import__('logging').Formatter.converter",
    "[[frame.name, frame.line] for frame in __import__('traceback').extract_stack()[2:-1]]",
    "[sorted(frame[0].f_locals) for frame in __import__('traceback').walk_stack(sys._getframe(1))][:2]",
    "__import__('importlib').reload(__import__('awslambdaric.bootstrap').bootstrap).__name__",
]  # fmt: skip
NAMES = """
import array, datetime, enum, uuid
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
class Plain(enum.Enum): A = 1
class Number(enum.IntEnum): A = 1
class Word(str, enum.Enum): A = "a"
class Text(str): pass
class Whole(int):
    def __repr__(self): return "repr"
class Pairs(dict): pass
class Asked:
    def for_json(self): return 1
    def _asdict(self): return {"a": 1}
@dataclass
class Data:
    a: int
Point = namedtuple("Point", "x y")
async def coroutine(): return 1
def generator(): yield 1
def loop():
    values = []
    values.append(values)
    return values
def nested(number, make=lambda inner: [inner]):
    value = 1
    for _ in range(number):
        value = make(value)
    return value
"""
#: Expressions of what a handler returns.
RETURNED = [
    "float('nan')", "[float('-inf')]", "Decimal('1.50')", "Decimal('NaN')", "{'a': Decimal('1E+3')}", "b'x'", "[b'x']",
    "bytearray(b'x')", "{1, 2}", "Data(1)", "datetime.datetime(2020, 1, 1)", "{1: 2, 2.5: 3, None: 1, True: 1}",
    "{'b': 1, 1: 2}", "{(1, 2): 3}", "{b'k': 1}", "uuid.UUID(int=1)", "Plain.A", "Number.A", "Word.A", "{Word.A: 1}",
    "{float('nan'): 1}", "10 ** 400", "10 ** 5000", "1e16", "-0.0", "2 ** 53 + 1", "True", "None", "''", "()", "{}",
    "(x for x in [1])", "range(3)", "generator()", "{'a': 1}.items()", "object()", "handler", "1j", "Point(1, [2])",
    "OrderedDict(b=1, a=2)", "defaultdict(list, a=[1])", "Counter('aab')", "UserDict(a=1)", "ChainMap({'a': 1})",
    "MappingProxyType({'a': 1})", "Text('x')", "Whole(5)", "Pairs(a=1)", "Asked()", "array.array('i', [1])",
    "Fraction(1, 2)", "'\\u2028</script>\\x00\\x7f'", "loop()", "nested(900)", "nested(100000)", "event", "context",
    "nested(500, lambda inner: {'a': inner})", "list(range(1000))", "{'a': {'b': [1, {'c': None}]}}", "Exception('x')",
]  # fmt: skip
#: What callers send.
SENT = [
    b"null", b"", b"  ", b'{"a":1,"a":2}', b'{"a":NaN}', b"-Infinity", b"[1,]", b'{"a":1} x', b"1e400", b"-0", b"01",
    b"12345678901234567890123", b"1" * 5000, b'"\\u0000"', b'"\x01"', b"\xef\xbb\xbf1", b'"\xff"', b"[1", b"'a'",
    b"[" * 900 + b"]" * 900, b"[" * 100_000 + b"]" * 100_000, b'{"":1}', b"\n1\n", b"\x0c1", b'"\\x"', b"+1", b".5",
    b'"\\ud83d\\ude00"', b'"\\ud800\\u0041"', b"{1:2}", b"\x00", '"ü😀"'.encode(), b"\xff\xfe1\x00", b"[NaN]", b"--1",
]  # fmt: skip
#: Modules of functions, most of which fail.
MODULES = {
    "changes what it is given":
        "def handler(event, context):\n    event['x'] = context.aws_request_id = 1\n    return event",
    "sys.exit": "import sys\ndef handler(event, context):\n    print('bye', end='')\n    sys.exit(3)",
    "sys.exit with words": "import sys\ndef handler(event, context):\n    sys.exit('words')",
    "os._exit": "import os\ndef handler(event, context):\n    print('bye', end='')\n    os._exit(5)",
    "KeyboardInterrupt": "def handler(event, context):\n    raise KeyboardInterrupt('x')",
    "BaseException": "class Own(BaseException): pass\ndef handler(event, context):\n    raise Own('x')",
    "chained":
        "def handler(event, context):\n    try: 1 / 0\n    except Exception as error: raise KeyError from error",
    "error without words":
        "class Own(Exception):\n    def __str__(self): 1 / 0\ndef handler(event, context):\n    raise Own",
    "official error": "from awslambdaric.lambda_runtime_exception import FaultException\n"
                      "def handler(event, context):\n    raise FaultException('Own.Type', 'words', ['trace'])",
    "surrogate printed": "def handler(event, context):\n    print('a\\ud800')",
    "surrogate raised": "def handler(event, context):\n    raise ValueError('a\\ud800')",
    "coroutine": "async def handler(event, context):\n    return 1",
    "generator": "def handler(event, context):\n    yield 1",
    "too few parameters": "def handler(event):\n    pass",
    "class": "class handler:\n    def __init__(self, event, context): pass",
    "warns":
        "import warnings\ndef handler(event, context):\n    warnings.warn('a')\n    warnings.warn('b', stacklevel=2)",
    "closes its output": "import sys\ndef handler(event, context):\n    sys.stdout.close()\n    return 1",
    "at exit": "import atexit, sys\natexit.register(print, 'at exit')\ndef handler(event, context):\n    sys.exit()",
    "missing import": "import nothing_of_this_name",
    "syntax": "x = (",
    "exits at import": "import sys\nsys.exit(4)",
    "interrupted at import": "raise KeyboardInterrupt",
    "no handler": "x = 1",
    "odd attributes": "def __getattr__(name):\n    raise ValueError(name)",
}  # fmt: skip


@pytest.fixture
def both(python: PreparedRuntime, tmp_path: Path) -> Both:
    """What is seen under ours and under theirs."""

    async def ask(code: Path, events: Sequence[bytes], *more: dict[str, str]) -> tuple[list[Any], list[Any]]:
        theirs = official(python, tmp_path)
        ours, others = await asyncio.gather(seen(python, code, events, *more), seen(theirs, code, events, *more))
        return ours, others

    return ask


async def test_what_a_function_finds_around_it(both: Both, task: Task) -> None:
    code = task({"app.py": HANDLER + f"    return str(eval({SEEN!r}[event]))\n"})
    ours, theirs = await both(code, [b"%d" % number for number in range(len(SEEN))])
    for expression, one, other in zip([*SEEN, "exit code", "log"], ours, theirs, strict=True):
        assert one == other, expression
        assert expression in ("exit code", "log") or one[0] == "response", one


@pytest.mark.parametrize("headers", [
    {"Client-Context": '{"custom":{"k":"v"},"env":{"a":1},"client":{"app_title":"t"},"w3c":{"traceparent":"00"}}',
     "Cognito-Identity": '{"cognitoIdentityId":"a","cognitoIdentityPoolId":"b"}', "Trace-Id": "Root=1"},
    {"Client-Context": "{}", "Aws-Tenant-Id": "tenant"}, {"Client-Context": "{", "Trace-Id": ""},
    {"Client-Context": "[1]"}, {"Client-Context": "null"}, {"Cognito-Identity": "{"},
])  # fmt: skip
async def test_what_stands_in_the_context(both: Both, task: Task, headers: dict[str, str]) -> None:
    code = task({"app.py": HANDLER + "    return repr(context), context.w3c(), os.environ.get('_X_AMZN_TRACE_ID')\n"})
    ours, theirs = await both(code, [b"1", b"2"], {f"Lambda-Runtime-{name}": text for name, text in headers.items()})
    assert ours == theirs and len(ours) == 4


async def test_what_becomes_of_what_a_handler_returns(both: Both, task: Task) -> None:
    code = task({"app.py": NAMES + HANDLER + f"    return eval({RETURNED!r}[event])\n"})
    ours, theirs = await both(code, [b"%d" % number for number in range(len(RETURNED))])
    for expression, one, other in zip([*RETURNED, "exit code", "log"], ours, theirs, strict=True):
        assert one == other, expression


async def test_what_becomes_of_what_a_caller_sends(both: Both, task: Task) -> None:
    code = task({"app.py": HANDLER + "    return type(event).__name__, repr(event)\n"})
    ours, theirs = await both(code, SENT)
    for event, one, other in zip([*SENT, b"exit code", b"log"], ours, theirs, strict=True):
        assert one == other, event[:40]


@pytest.mark.parametrize("name", MODULES)
async def test_how_a_function_goes_wrong(both: Both, task: Task, name: str) -> None:
    ours, theirs = await both(task({"app.py": MODULES[name]}), [b"{}", b"{}"])
    assert ours == theirs


async def test_path_files_of_the_package_are_read(both: Both, task: Task) -> None:
    code = task({"app.py": HANDLER + "    return sys.of_path_file, [one for one in sys.path if 'more' in one]\n",
                 "own.pth": "import sys; sys.of_path_file = 1\nmore\n", "more/module.py": ""})  # fmt: skip
    ours, theirs = await both(code, [b"1"])
    assert ours == theirs and ours[0][1].startswith("[1, [\"")


async def test_a_wrapper_may_import_the_first_program(python: PreparedRuntime, task: Task) -> None:
    """As the tracing layer of Serverless does."""
    code = task({"app.py": "import bootstrap\ndef handler(event, context):\n"
                           "    return bootstrap.awslambdaricmain.__name__\n",
                 "wrap.py": "import importlib, os, sys\nsys.path.append(os.environ['LAMBDA_RUNTIME_DIR'])\n"
                            "importlib.import_module('bootstrap').main()\n"})  # fmt: skip
    (kind, body, _), *_ = await seen(started(python, code / "wrap.py"), code, [b"1"])
    assert (kind, body) == ("response", '"awslambdaric.__main__"')
