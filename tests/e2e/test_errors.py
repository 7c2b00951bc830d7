"""What goes wrong in a function, and what its caller and its log see of it, for Python and Node.js (point 13)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from .harness import PYTHON, Function, Server, refusal

NODE = "nodejs20.x"
ID = "RequestId: {id} Error: "
MIB = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """One way to fail. `message` may hold `{id}`. `reported` is the status in REPORT; a raised error shows none.

    `logged` is the error type in REPORT where it is not the caller's: what a runtime names must begin with `Runtime.`
    or `Function.`, and it names a type at Init only.
    """

    name: str
    source: str
    error_type: str
    message: str
    reported: str = ""
    handler: str = "app.handler"
    timeout: int = 10
    memory: int = 256
    logged: str = ""


TOO_LARGE = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."


LATER = "const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));\n"


def python(body: str) -> str:
    return f"import os, signal, sys, time\ndef handler(event, context):\n    {body}\n"


def node(body: str) -> str:
    return f"exports.handler = async (event) => {{\n  {body}\n}};\n{LATER}"


PYTHON_CASES = (
    Case("py-raises", python("raise ValueError('boom')"), "ValueError", "boom"),
    Case("py-own-class", "class Odd(Exception): pass\n" + python("raise Odd('odd')"), "Odd", "odd"),
    Case("py-unicode", python("raise KeyError('h\u00e4\u2603')"), "KeyError", "'h\u00e4\u2603'"),
    Case("py-no-json", python("return object()"), "Runtime.MarshalError",
         "Unable to marshal response: Object of type object is not JSON serializable"),
    Case("py-too-large", python("return 'x' * (6 * 1024 * 1024 + 99)"), "Function.ResponseSizeTooLarge", TOO_LARGE,
         "error", logged="Runtime.ExitError"),
    # Init
    Case("py-import", "import absent_from_here", "Runtime.ImportModuleError",
         "Unable to import module 'app': No module named 'absent_from_here'", "error"),
    Case("py-no-module", "x = 1", "Runtime.ImportModuleError",
         "Unable to import module 'other': No module named 'other'", "error", handler="other.handler"),
    Case("py-no-handler", "x = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'", "error"),
    Case("py-bad-name", "x = 1", "Runtime.MalformedHandlerName",
         "Bad handler 'app': not enough values to unpack (expected 2, got 1)", "error", handler="app"),
    Case("py-built-in", "x = 1", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module",
         "error", handler="sys.exit"),
    Case("py-syntax", "def handler(event, context):\n    retrun 1\n", "Runtime.UserCodeSyntaxError",
         "Syntax error in module 'app': invalid syntax (app.py, line 2)", "error"),
    Case("py-exit-at-init", "import os\nos._exit(7)", "Runtime.ExitError",
         ID + "Runtime exited with error: exit status 7", "error"),
    # Ends of the process
    Case("py-exit-0", python("sys.exit(0)"), "Runtime.ExitError", ID + "Runtime exited without providing a reason",
         "error"),
    Case("py-exit-1", python("sys.exit(1)"), "Runtime.ExitError", ID + "Runtime exited with error: exit status 1",
         "error"),
    Case("py-segfault", python("os.kill(os.getpid(), signal.SIGSEGV); time.sleep(5)"), "Runtime.ExitError",
         ID + "Runtime exited with error: signal: segmentation fault", "error"),
    Case("py-killed", python("os.kill(os.getpid(), signal.SIGKILL); time.sleep(5)"), "Runtime.ExitError",
         ID + "Runtime exited with error: signal: killed", "error"),
    Case("py-memory", python("hoard = [bytearray(1 << 20) for _ in range(4096)]"), "Runtime.OutOfMemory",
         ID + "Runtime exited with error: signal: killed", "error", memory=128),
    Case("py-timeout", python("time.sleep(9)"), "Sandbox.Timedout", ID + "Task timed out after 1.00 seconds",
         "timeout", timeout=1),
    Case("py-busy-timeout", python("while True: pass"), "Sandbox.Timedout", ID + "Task timed out after 1.00 seconds",
         "timeout", timeout=1),
)  # fmt: skip

NODE_CASES = (
    Case("js-throws", node("throw new TypeError('boom')"), "TypeError", "boom"),
    Case("js-rejects", "exports.handler = () => Promise.reject(new Error('no'))", "Error", "no"),
    Case("js-throws-text", node("throw 'words'"), "string", "words"),
    Case("js-calls-back", "exports.handler = (e, c, callback) => callback(new RangeError('far'))", "RangeError", "far"),
    Case("js-too-large", node("return 'x'.repeat(6 * 1024 * 1024 + 99)"), "Function.ResponseSizeTooLarge", TOO_LARGE,
         "error"),
    # Init
    Case("js-import", "require('absent-from-here')", "Runtime.ImportModuleError",
         "Error: Cannot find module 'absent-from-here'\nRequire stack:\n- /var/task/app.js\n- /var/runtime/index.mjs",
         "error"),
    Case("js-no-module", "x = 1", "Runtime.ImportModuleError",
         "Error: Cannot find module 'other'\nRequire stack:\n- /var/runtime/index.mjs",
         "error", handler="other.handler"),
    Case("js-no-handler", "exports.x = 1", "Runtime.HandlerNotFound", "app.handler is undefined or not exported",
         "error"),
    Case("js-no-function", "exports.handler = 1", "Runtime.HandlerNotFound", "app.handler is not a function", "error"),
    Case("js-bad-name", "exports.x = 1", "Runtime.MalformedHandlerName", "Bad handler", "error", handler="app"),
    Case("js-syntax", node("let let = 1"), "Runtime.UserCodeSyntaxError", "SyntaxError: *", "error"),
    Case("js-throws-at-init", "throw new TypeError('early')", "TypeError", "early", "error",
         logged="Runtime.Unknown"),
    # Ends of the process
    Case("js-exit-0", node("process.exit(0)"), "Runtime.ExitError", ID + "Runtime exited without providing a reason",
         "error"),
    Case("js-exit-1", node("process.exit(1)"), "Runtime.ExitError", ID + "Runtime exited with error: exit status 1",
         "error"),
    Case("js-segfault", node("process.kill(process.pid, 'SIGSEGV'); await later(5000)"), "Runtime.ExitError",
         ID + "Runtime exited with error: signal: segmentation fault", "error"),
    Case("js-never-settled", node("await new Promise(() => {})"), "Runtime.NodeJsExit",
         "The Lambda runtime client detected an unexpected Node.js exit code. *"),
    Case("js-uncaught", node("setTimeout(() => { throw new Error('late') }, 1); await later(5000)"), "Error", "late",
         "error", logged="Runtime.ExitError"),
    Case("js-unhandled", node("Promise.reject(new Error('alone')); await later(5000)"),
         "Runtime.UnhandledPromiseRejection", "Error: alone", "error", logged="Runtime.ExitError"),
    Case("js-memory", node("const hoard = []; for (;;) hoard.push(Buffer.alloc(1 << 20, 1))"), "Runtime.OutOfMemory",
         ID + "Runtime exited with error: signal: killed", "error", memory=128),
    Case("js-timeout", node("await later(5000)"), "Sandbox.Timedout", ID + "Task timed out after 1.00 seconds",
         "timeout", timeout=1),
    Case("js-busy-timeout", node("for (;;);"), "Sandbox.Timedout", ID + "Task timed out after 1.00 seconds",
         "timeout", timeout=1),
)  # fmt: skip

CASES = PYTHON_CASES + NODE_CASES

FUNCTIONS = (
    *(Function(case.name, case.source, case.handler, PYTHON if case in PYTHON_CASES else NODE, case.timeout,
               case.memory) for case in CASES),
    Function("echo", "def handler(event, context): return event"),
    Function("largest", "def handler(event, context): return 'x' * (6 * 1024 * 1024 + 98)"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_caller_is_told_what_went_wrong(server: Server, case: Case) -> None:
    call = server.invoke(case.name)
    assert call.status == 200
    assert call.error == "Unhandled"
    assert call.headers["x-amz-executed-version"] == "$LATEST"
    assert call.headers["content-type"] == "application/json"
    assert call.payload["errorType"] == case.error_type
    assert like(call.payload["errorMessage"], case.message.replace("{id}", call.request_id))

    ending = call.log[call.log.rindex(f"REPORT RequestId: {call.request_id}\t") :]
    shown = re.search(r"\tStatus: (\w+)(?:\tError Type: (\S+))?\n$", ending)
    if case.reported:
        assert shown is not None
        assert shown.groups() == (case.reported, (case.logged or case.error_type) if case.reported == "error" else None)
    else:
        assert shown is None and ending.endswith("\t\n")

    if case.timeout == 1 or case.memory == 128:
        return  # to go wrong once more takes long
    again = server.invoke(case.name)
    assert again.environment == call.environment
    assert again.payload["errorType"] == case.error_type
    assert "INIT_START Runtime" not in again.log and "\tInit Duration" not in again.log


def test_python_errors_carry_the_request_and_a_trace_without_the_runtime(server: Server) -> None:
    call = server.invoke("py-raises")
    assert call.payload["requestId"] == call.request_id
    trace = "  File \"/var/task/app.py\", line 3, in handler\n    raise ValueError('boom')\n"
    assert call.payload["stackTrace"] == [trace]
    assert "[ERROR] ValueError: boom\nTraceback (most recent call last):\n" in call.log


def test_node_errors_carry_a_trace(server: Server) -> None:
    call = server.invoke("js-throws")
    assert call.payload["trace"][0] == "TypeError: boom"
    assert "/var/task/app.js:2:" in call.payload["trace"][1]
    assert "\tERROR\tInvoke Error \t" in call.log


def test_a_raised_error_does_not_end_the_process(server: Server) -> None:
    server.deploy(Function("py-counts", "COUNT = []\n" + python("COUNT.append(1); raise ValueError(str(len(COUNT)))")))
    assert [server.invoke("py-counts").payload["errorMessage"] for _ in range(3)] == ["1", "2", "3"]


def test_the_largest_response_passes(server: Server) -> None:
    call = server.invoke("largest")
    assert call.error is None
    assert len(call.raw) == 6 * MIB + 100


def test_an_event_over_the_limit_is_refused_before_the_function(server: Server) -> None:
    fits = b'"' + b"x" * (6 * MIB - 2) + b'"'
    assert server.invoke("echo", raw=fits).raw == fits
    status, code, message, _ = refusal(lambda: server.invoke("echo", raw=fits + b" "))
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert message == (
        f"{6 * MIB + 1} byte payload is too large for the RequestResponse invocation type (limit {6 * MIB} bytes)")


@pytest.mark.parametrize("raw", [b"{", b"nothing", b"{} {}", b"\xff", b'{"a": 1,}', b"[" * 100_000])
def test_an_event_that_is_not_json_is_refused_before_the_function(server: Server, raw: bytes) -> None:
    status, code, message, _ = refusal(lambda: server.invoke("echo", raw=raw))
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: Could not parse payload into json: ")


def like(text: str, pattern: str) -> bool:
    """Equality, with `*` for anything."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text, re.DOTALL) is not None


def test_a_failed_init_counts_as_a_cold_invocation_everywhere(server: Server) -> None:
    server.deploy(Function("counts-failed-init", "import absent_from_here"))
    call = server.invoke("counts-failed-init")
    assert server.idle(call.environment)["invocations"] == 1
    assert [bill["start"] for bill in server.story(call.environment)["invocations"]] == ["cold"]
    again = server.invoke("counts-failed-init")
    assert [bill["start"] for bill in server.story(again.environment)["invocations"]] == ["cold", "warm"]
