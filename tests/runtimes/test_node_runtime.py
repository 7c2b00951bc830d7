"""The managed Node.js runtime as a host process: handlers, context, errors and logs of AWS (fact sheet 17.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runtime_api import guest

from lambent.runtimes import PreparedRuntime

Task = Callable[[dict[str, str]], Path]
STREAMING = "Symbol.for('aws.lambda.runtime.handler.streaming')"
ECHO = "export const handler = async (event) => event;\n"
NEVER = "exports.handler = async () => new Promise(() => {});\n"
#: Handlers with three parameters are warned of at Init.
QUIET = {"AWS_LAMBDA_NODEJS_DISABLE_CALLBACK_WARNING": "1"}


@pytest.mark.parametrize(("handler", "files"), [
    ("app.handler", {"app.js": "exports.handler = async (event) => event;"}),
    ("app.handler", {"app.cjs": "exports.handler = async (event) => event;"}),
    ("app.handler", {"app.mjs": ECHO}),
    ("app.handler", {"app.js": ECHO, "package.json": '{"type": "module"}'}),
    ("app.handler", {"app.js": "exports.handler = async (event) => event;", "app/readme": ""}),
    ("src/deep/app.handler", {"src/deep/app.js": ECHO, "src/package.json": '{"type": "module"}'}),
    ("app.nested.one.handler", {"app.js": "exports.nested = { one: { handler: async (event) => event } };"}),
    ("folder.handler", {"folder/index.js": "exports.handler = async (event) => event;"}),
    ("app.handler", {"app.js": "exports.handler = (event, context, callback) => callback(null, event);"}),
    ("app.handler", {"app.js": "exports.handler = (event, context) => context.succeed(event);"}),
    ("app.handler", {"app.js": "exports.handler = (event, context) => context.done(null, event);"}),
    ("app.handler", {"app.js": "exports.handler = (event) => ({ then: (yes) => yes(event) });"}),
    ("app.handler", {"app.js": "exports.handler = async (event, context, callback) => callback(null, event);"}),
    ("app.handler", {"app.js": "exports.handler = async (event, c, callback) => { callback(null, event); throw 1; };"}),
    ("app.handler", {"app.js": "exports.handler = (event, c, callback) => { callback(null, event); throw 1; };"}),
    ("app.handler", {"app.js": "exports.handler = async (event, c) => { c.succeed(event); return 'late'; };"}),
])  # fmt: skip
async def test_every_form_of_a_handler(
    node: PreparedRuntime, task: Task, handler: str, files: dict[str, str]
) -> None:
    async with guest(node, task(files), handler) as running:
        assert (await running.invoke({"größe": [1]})).json == {"größe": [1]}
        second = await running.invoke("again")
    assert (second.kind, second.json, second.headers["content-type"]) == ("response", "again", "application/json")


async def test_the_context_is_complete(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": """
exports.handler = async (event, c) => [c.functionName, c.functionVersion, c.memoryLimitInMB, c.logGroupName,
  c.logStreamName, c.invokedFunctionArn, c.awsRequestId, c.getRemainingTimeInMillis() > 1000, c.clientContext.custom,
  c.identity === undefined, c.callbackWaitsForEmptyEventLoop, process.env._X_AMZN_TRACE_ID ?? null];
"""})
    headers = {"Lambda-Runtime-Client-Context": '{"custom":{"k":"ö"}}', "Lambda-Runtime-Trace-Id": "Root=1-2"}
    async with guest(node, code) as running:
        post = await running.invoke(None, headers)
        without_trace = await running.invoke(None, {"Lambda-Runtime-Client-Context": '{"custom":1}'})
    assert post.json == [
        "f", "$LATEST", "256", "/aws/lambda/f", "2026/11/21/[$LATEST]00",
        "arn:aws:lambda:us-east-1:000000000000:function:f:live", post.path.split("/")[-2], True, {"k": "ö"}, True,
        True, "Root=1-2",
    ]  # fmt: skip
    assert without_trace.json[-1] is None


@pytest.mark.parametrize("source", [
    "exports.handler = async () => {};", "exports.handler = (e, c, callback) => callback();",
    "exports.handler = () => {};", "exports.handler = () => 'a plain return is not a response';",
    "exports.handler = async () => () => 1;", "exports.handler = () => new Promise(() => {});",
    "exports.handler = () => { throw undefined; };",
])  # fmt: skip
async def test_nothing_and_a_forgotten_callback_are_null(node: PreparedRuntime, task: Task, source: str) -> None:
    async with guest(node, task({"app.js": source})) as running:
        post = await running.invoke()
    assert (post.kind, post.body) == ("response", b"null")


@pytest.mark.parametrize(("waits", "ran"), [("true", True), ("false", False)])
async def test_a_callback_waits_for_an_empty_event_loop_unless_told_not_to(
    node: PreparedRuntime, task: Task, waits: str, ran: bool
) -> None:
    code = task({"app.js": f"""
let ran = false;
exports.handler = (event, context, callback) => {{
  context.callbackWaitsForEmptyEventLoop = {waits};
  if (event === "ask") return callback(null, ran);
  setTimeout(() => {{ ran = true; }}, {50 if waits == "true" else 60_000});
  callback(null, "first");
  callback(null, "second");
}};
"""})
    async with guest(node, code) as running:
        assert (await running.invoke()).json == "first"
        if waits == "false":
            assert (await running.invoke("ask")).json is ran
        else:
            assert (await running.invoke("ask")).json is ran


async def test_an_async_handler_does_not_wait_for_the_event_loop(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": "exports.handler = async () => { setTimeout(() => {}, 60000); return 1; };"})
    async with guest(node, code) as running:
        assert (await running.invoke()).json == 1


ERRORS: list[tuple[str, dict[str, Any]]] = [
    ("async () => { throw new TypeError('boom'); }", {"errorType": "TypeError", "errorMessage": "boom"}),
    ("() => { throw new Error('sync'); }", {"errorType": "Error", "errorMessage": "sync"}),
    ("(e, c, callback) => callback(new RangeError('called'))", {"errorType": "RangeError", "errorMessage": "called"}),
    ("(e, c, callback) => callback('text')", {"errorType": "string", "errorMessage": "text", "trace": []}),
    ("(e, c) => c.fail(new Error('failed'))", {"errorType": "Error", "errorMessage": "failed"}),
    ("async () => { throw 'text'; }", {"errorType": "string", "errorMessage": "text", "trace": []}),
    ("async () => { throw { a: 1 }; }", {"errorType": "object", "errorMessage": "[object Object]", "trace": []}),
    ("async () => { throw undefined; }", {"errorType": "string", "errorMessage": "handled", "trace": []}),
    ("async () => Promise.reject(Object.create(null))", {"errorType": "handled"}),
    ("async () => { const a = {}; a.a = a; return a; }", {"errorMessage": "Unable to stringify response body"}),
    ("async () => 10n", {"errorMessage": "Unable to stringify response body"}),
]


@pytest.mark.parametrize(("source", "expected"), ERRORS)
async def test_an_error_is_answered_and_the_runtime_goes_on(
    node: PreparedRuntime, task: Task, source: str, expected: dict[str, Any]
) -> None:
    code = task({"app.js": f"const failing = {source};\n"
                           "exports.handler = (e, c, cb) => e === 'fine' ? cb(null, 1) : failing(e, c, cb);"})
    async with guest(node, code, environment=QUIET) as running:
        post, fine = await running.invoke(), await running.invoke("fine")
        lines = await running.log()
    assert post.kind == "error" and fine.json == 1
    assert {name: post.json[name] for name in expected} == expected
    assert "lambda-runtime-function-error-type" not in post.headers  # AWS sends it for init errors only
    assert len(lines) == 1 and f"\t{post.path.split('/')[-2]}\tERROR\tInvoke Error \t{{" in lines[0]


async def test_a_function_declared_async_must_settle(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": "exports.handler = async (event) => event === 'fine' ? 1 : new Promise(() => {});"})
    async with guest(node, code) as running:
        post, fine = await running.invoke(), await running.invoke("fine")
        (line,) = await running.log()
    assert (post.kind, post.json["errorType"], fine.json) == ("error", "Runtime.NodeJsExit", 1)
    assert post.json["errorMessage"] == (
        "The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise "
        "that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes")
    assert line.split("\t")[2:4] == ["ERROR", "Invoke Error "]


async def test_the_shapes_of_an_error(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": """
class Custom extends Error { name = "Custom"; code = "E1"; extra = { a: 1 }; }
exports.handler = async () => {
  const error = new Custom("böse\\nline");
  Error.captureStackTrace(error); // now that it has its name
  throw error;
};
"""})
    async with guest(node, code) as running:
        post = await running.invoke()
        (line,) = await running.log()
    trace = post.json["trace"]
    assert list(post.json) == ["errorType", "errorMessage", "trace"]
    assert trace[:2] == ["Custom: böse", "line"] and trace[2].startswith("    at exports.handler (")
    stamp, request_id, level, title, text = line.split("\t")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert (request_id, level, title) == (post.path.split("/")[-2], "ERROR", "Invoke Error ")
    logged = json.loads(text)
    assert logged == {"errorType": "Custom", "errorMessage": "böse\nline", "code": "E1", "extra": {"a": 1},
                      "name": "Custom", "stack": trace}  # fmt: skip
    cause = json.loads(post.headers["lambda-runtime-function-xray-error-cause"])
    assert cause["exceptions"][0]["type"] == "Custom" and f"{code}/app.js" in cause["paths"]


@pytest.mark.parametrize(("source", "kind", "title", "code"), [
    ("() => { setTimeout(() => { throw new Error('later'); }); }", "Error", "Uncaught Exception ", 129),
    ("() => { Promise.reject(new Error('later')); setTimeout(() => {}, 60000); }", "Runtime.UnhandledPromiseRejection",
     "Unhandled Promise Rejection ", 128),
])  # fmt: skip
async def test_an_error_outside_of_the_handler_ends_the_process(
    node: PreparedRuntime, task: Task, source: str, kind: str, title: str, code: int
) -> None:
    async with guest(node, task({"app.js": f"exports.handler = {source};"})) as running:
        post = await running.invoke()
        assert await running.exit_code() == code
        (line,) = await running.log()
    assert (post.kind, post.json["errorType"]) == ("error", kind)
    assert line.split("\t")[3] == title and json.loads(line.split("\t")[4])["errorType"] == kind
    if kind == "Runtime.UnhandledPromiseRejection":
        assert post.json["errorMessage"] == "Error: later"
        assert json.loads(line.split("\t")[4])["reason"]["errorMessage"] == "later"


async def test_an_error_between_invocations_ends_the_process_unreported(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": "exports.handler = async () => { setTimeout(() => { throw new Error('late'); }, 30); };"})
    async with guest(node, code) as running:
        await running.invoke()
        assert await running.exit_code() == 129
        assert running.api.posts.empty()
        assert "Uncaught Exception" in (await running.log())[0]


@pytest.mark.parametrize("call", ["process.exit(3)", "process.kill(process.pid, 'SIGKILL')"])
async def test_an_exit_in_the_handler_ends_the_process_unreported(
    node: PreparedRuntime, task: Task, call: str
) -> None:
    async with guest(node, task({"app.js": f"exports.handler = async () => {{ {call}; }};"})) as running:
        running.api.put(b"{}")
        assert await running.exit_code() == (3 if "exit" in call else -9)
        assert running.api.posts.empty()


@pytest.mark.parametrize(("handler", "files", "kind", "message", "code"), [
    ("nope.handler", {}, "Runtime.ImportModuleError", "Error: Cannot find module 'nope'\nRequire stack:", 129),
    ("app.handler", {"app.js": "require('missing')"}, "Runtime.ImportModuleError",
     "Error: Cannot find module 'missing'\nRequire stack:\n- ", 129),
    ("app.handler", {"app.mjs": "import 'missing'"}, "Error", "Cannot find package 'missing' imported from ", 129),
    ("app.handler", {"app.js": "exports.handler = (;"}, "Runtime.UserCodeSyntaxError",
     "SyntaxError: Unexpected token ';'", 129),
    ("app.handler", {"app.mjs": "export const handler = (;"}, "Runtime.UserCodeSyntaxError",
     "SyntaxError: Unexpected token ';'", 129),
    ("app.handler", {"app.js": ECHO}, "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected token 'export'", 129),
    ("app.handler", {"app.js": "require('./other.mjs')", "other.mjs": ECHO}, "Error", "require() of ES Module ", 129),
    ("app.other", {"app.js": "exports.handler = 1"}, "Runtime.HandlerNotFound",
     "app.other is undefined or not exported", 129),
    ("app.handler", {"app.js": "exports.handler = 1"}, "Runtime.HandlerNotFound", "app.handler is not a function", 129),
    ("../app.handler", {}, "Runtime.MalformedHandlerName", "'../app.handler' is not a valid handler name. "
     "Use absolute paths when specifying root directories in handler names.", 129),
    ("app", {}, "Runtime.MalformedHandlerName", "Bad handler", 129),
    ("app.handler", {"app.js": "throw new RangeError('early')"}, "RangeError", "early", 129),
    ("app.handler", {"app.js": "Promise.reject(new Error('early')); " + NEVER}, "Runtime.UnhandledPromiseRejection",
     "Error: early", 128),
    ("app.handler", {"app.mjs": "await new Promise(() => {});"}, "Runtime.NodeJsExit",
     "The Lambda runtime client detected an unexpected Node.js exit code.", 13),
    ("app.handler", {"app.mjs": "export default { handler: async (event) => event };"}, "Runtime.HandlerNotFound",
     "app.handler is undefined or not exported", 129),
    ("app.handler", {"app.mjs": ECHO, "app/readme": ""}, "Runtime.ImportModuleError", "Error: Cannot find module '/",
     129),
    ("app.handler", {"app.js": "exports.handler = awslambda.streamifyResponse('no function');"}, "TypeError",
     "Cannot create property 'Symbol(aws.lambda.runtime.handler.streaming)' on string 'no function'", 129),
    ("app.handler", {"app.js": f"exports.handler = async () => {{}}; exports.handler[{STREAMING}] = 'request';"},
     "Runtime.MalformedStreamingHandler", "Only response streaming is supported.", 129),
])  # fmt: skip
async def test_a_module_that_cannot_be_loaded_is_an_init_error(
    node: PreparedRuntime, task: Task, handler: str, files: dict[str, str], kind: str, message: str, code: int
) -> None:
    async with guest(node, task({"readme.txt": "", **files}), handler) as running:
        post = await running.posted()
        assert await running.exit_code() == code
        lines = await running.log()
    assert post.kind == "init/error" and post.headers["lambda-runtime-function-error-type"] == kind
    assert post.json["errorType"] == kind and post.json["errorMessage"].startswith(message)
    assert lines[-1].split("\t")[1:3] == ["undefined", "ERROR"] and f'"errorType":"{kind}"' in lines[-1]


async def test_es_modules_can_be_required_on_request(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": "exports.handler = require('./other.mjs').handler;", "other.mjs": ECHO})
    options = {"NODE_OPTIONS": "--experimental-require-module --no-warnings"}
    async with guest(node, code, environment=options) as running:
        assert (await running.invoke("echo")).json == "echo"


@pytest.mark.parametrize("name", ["app.js", "app.mjs"])
async def test_layers_and_the_sdk_are_found_by_both_module_systems(
    node: PreparedRuntime, task: Task, tmp_path: Path, name: str
) -> None:
    package = tmp_path / "opt" / "nodejs" / "node_modules" / "layered"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"main": "index.js"}')
    (package / "index.js").write_text("exports.where = 'layer';")
    names = "{ S3Client }", "{ DynamoDBDocumentClient }", "layered"
    modules = "@aws-sdk/client-s3", "@aws-sdk/lib-dynamodb", "layered"
    if name == "app.js":
        imports = [f"const {n} = require('{m}');" for n, m in zip(names, modules, strict=True)]
        export = "exports.handler ="
    else:
        imports = [f"import {n} from '{m}';" for n, m in zip(names, modules, strict=True)]
        export = "export const handler ="
    body = "async () => [typeof S3Client, typeof DynamoDBDocumentClient, layered.where];"
    async with guest(node, task({name: "\n".join([*imports, f"{export} {body}"])}), opt=tmp_path / "opt") as running:
        assert (await running.invoke()).json == ["function", "function", "layer"]


@pytest.mark.parametrize(("handler", "environment", "warned"), [
    ("(event, context, callback) => callback()", {}, True), ("(event, context, callback) => callback()", QUIET, False),
    ("async (event, context, callback) => callback()", {}, False), ("(event, context) => context.done()", {}, False),
])  # fmt: skip
async def test_a_handler_that_means_to_call_back_is_warned_of_at_init(
    node: PreparedRuntime, task: Task, handler: str, environment: dict[str, str], warned: bool
) -> None:
    async with guest(node, task({"app.js": f"exports.handler = {handler};"}), environment=environment) as running:
        await running.ready()
        lines = await running.log()
    assert ["\tundefined\tWARN\tAWS Lambda plans to remove support for callback-based" in line for line in lines] == (
        [True] if warned else [])  # fmt: skip


async def test_wrappers_of_handlers_mark_a_streaming_one_by_its_public_name(node: PreparedRuntime, task: Task) -> None:
    """As tracing layers do: the mark of the handler that they wrap is copied to their own."""
    code = task({"app.js": f"""
const inner = awslambda.streamifyResponse(async (event, stream, context) => {{
  stream.write({{ mark: inner[{STREAMING}], waterMark: stream.writableHighWaterMark }}); // an object travels as JSON
  stream.write(" " + [context.succeed, context.fail, context.done, context.callbackWaitsForEmptyEventLoop]);
  stream.end(" " + globalThis[Symbol.for("aws.lambda.runtime.requestId")]);
}}, {{ highWaterMark: 77 }});
exports.handler = (...all) => inner(...all);
for (const symbol of Object.getOwnPropertySymbols(inner)) exports.handler[symbol] = inner[symbol];
"""})
    async with guest(node, code) as running:
        post = await running.invoke()
    assert post.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert post.body.decode() == '{"mark":"response","waterMark":77} ,,,true ' + post.path.split("/")[-2]


@pytest.mark.parametrize(("inner", "expected"), [
    ("async () => 1", ("succeeded", 1)), ("async () => { throw new Error('x'); }", ("failed", "x")),
    ("async () => 'break'", ("failed", "broken")),
])  # fmt: skip
async def test_what_replaces_the_contexts_methods_is_told_of_the_end(
    node: PreparedRuntime, task: Task, inner: str, expected: tuple[str, object]
) -> None:
    """So Elastic's agent ends its transaction, and sends it, before the caller is answered."""
    code = task({"app.js": f"""
const inner = {inner};
exports.handler = (event, context) => {{
  const {{ succeed, fail }} = context;
  context.succeed = (value) => {{
    if (value === 'break') throw new Error('broken');
    succeed(['succeeded', value]);
  }};
  context.fail = (error) => succeed(['failed', error.message]);
  return inner();
}};
"""})
    async with guest(node, code) as running:
        assert tuple((await running.invoke()).json) == expected


@pytest.mark.parametrize(("ending", "expected"), [
    ("stream.write('a'); stream.end('b');", '{"statusCode":404}' + "\0" * 8 + "ab"),
    ("stream.write(''); stream.end();", '{"statusCode":404}' + "\0" * 8),
    ("stream.end();", ""), ("stream.end('no');", "no"),
    ("await require('node:stream/promises').pipeline(require('node:stream').Readable.from([]), stream);", ""),
])  # fmt: skip
async def test_status_and_headers_of_a_stream_go_with_its_first_write(
    node: PreparedRuntime, task: Task, ending: str, expected: str
) -> None:
    """Not with `end`, which is what redirects without a body stumble over (the official client's issue 97)."""
    code = task({"app.js": f"""
exports.handler = awslambda.streamifyResponse(async (event, stream) => {{
  stream = awslambda.HttpResponseStream.from(stream, {{ statusCode: 404 }});
  {ending}
}});
"""})
    async with guest(node, code) as running:
        post = await running.invoke()
    assert post.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert post.body.decode() == expected


@pytest.mark.parametrize(("body", "expected"), [
    ("stream.write(null);", ("TypeError", "Cannot read properties of null (reading 'length')")),
    ("stream.write(undefined);", ("TypeError", "Cannot read properties of undefined (reading 'length')")),
    ("throw undefined;", ("handled", "callback called with Error argument, but there was a problem while retrieving "
                                     "one or more of its message, name, and stack")),
])  # fmt: skip
async def test_mistakes_in_streaming_handlers_are_told_as_the_official_client_tells_them(
    node: PreparedRuntime, task: Task, body: str, expected: tuple[str, str]
) -> None:
    """Its version 3.3, which these were compared with."""
    code = task({"app.js": f"exports.handler = awslambda.streamifyResponse(async (event, stream) => {{ {body} }});"})
    async with guest(node, code) as running:
        post = await running.invoke()
    assert (post.json["errorType"], post.json["errorMessage"]) == expected


async def test_a_stream_of_http_without_metadata_fails_at_its_first_write(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream);
  stream.write("x");
});
"""})
    async with guest(node, code) as running:
        post = await running.invoke()
    assert (post.json["errorType"], post.json["errorMessage"][:23]) == ("TypeError", 'The "chunk" argument mu')


@pytest.mark.parametrize(("waits", "ran"), [(True, True), (False, False)])
async def test_a_streaming_handler_waits_for_an_empty_event_loop_unless_told_not_to(
    node: PreparedRuntime, task: Task, waits: bool, ran: bool
) -> None:
    code = task({"app.js": f"""
let ran = false;
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{
  context.callbackWaitsForEmptyEventLoop = {json.dumps(waits)};
  if (event === "ask") return stream.end(String(ran));
  setTimeout(() => {{ ran = true; }}, {50 if waits else 60_000});
  stream.end("first");
}});
"""})
    async with guest(node, code) as running:
        assert (await running.invoke()).body == b"first"
        assert (await running.invoke("ask")).body == json.dumps(ran).encode()


async def test_the_global_of_streaming_is_left_out_on_request(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": "exports.handler = async () => typeof awslambda;"})
    async with guest(node, code, environment={"AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA": "true"}) as running:
        assert (await running.invoke()).json == "undefined"


@pytest.mark.parametrize(("code", "frames"), [
    ("export function handler() { throw new Error('x'); }", ["Runtime.handler", "Runtime.handleOnceNonStreaming"]),
    ("const { then } = Promise.prototype;\n"
     "Promise.prototype.then = function bound(...all) { return then.apply(this, all.map((f) => (v) => f(v))); };\n"
     "export function handler() { throw new Error('x'); }", ["Runtime.handler", "Runtime.handleOnceNonStreaming"]),
    ("export const handler = awslambda.streamifyResponse(function now() { throw new Error('x'); });",
     ["Runtime.now [as handler]", "Runtime.handleOnceStreaming"]),
    ("export const handler = awslambda.streamifyResponse(async function later() {\n"
     "  await new Promise(setImmediate); throw new Error('x');\n});",
     ["Runtime.later [as handler]", "async Runtime.handleOnceStreaming"]),
])  # fmt: skip
async def test_under_a_handler_stands_one_frame_with_the_name_that_it_has_on_aws(
    node: PreparedRuntime, task: Task, code: str, frames: list[str]
) -> None:
    async with guest(node, task({"app.mjs": code})) as running:
        post = await running.invoke()
    named = [line.strip().removeprefix("at ").partition(" (")[0] for line in post.json["trace"][1:]]
    assert [name for name in named if not name.startswith("process.")] == frames


async def test_no_module_is_the_main_one(node: PreparedRuntime, task: Task) -> None:
    """On AWS the first program is an ES module: who looks for the program's name or folder there finds nothing."""
    code = task({"app.js": "exports.handler = async () => [typeof require.main, typeof process.mainModule];"})
    async with guest(node, code) as running:
        assert (await running.invoke()).json == ["undefined", "undefined"]


async def test_text_logs(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": """
console.log("at init");
exports.handler = async () => {
  console.info("number %d", 1, { a: 1 }); console.warn("two\\nlines"); console.error(new Error("x").message);
  console.debug("d"); console.trace("t"); process.stdout.write("raw\\n");
};
"""})
    async with guest(node, code) as running:
        request_id = (await running.invoke()).path.split("/")[-2]
        lines = [line.split("\t")[1:] for line in await running.log()]
    assert lines == [
        ["undefined", "INFO", "at init"], [request_id, "INFO", "number 1 { a: 1 }"], [request_id, "WARN", "two\rlines"],
        [request_id, "ERROR", "x"], [request_id, "DEBUG", "d"], [request_id, "TRACE", "t"], [],
    ]  # fmt: skip


async def test_json_logs_above_the_level(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": """
exports.handler = async () => {
  console.debug("hidden"); console.info({ a: [1] }); console.warn("n %d", 1); console.error("bad", new TypeError("x"));
  const loop = {}; loop.loop = loop; console.log(loop); throw new RangeError("boom");
};
"""})
    environment = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}
    async with guest(node, code, environment=environment) as running:
        request_id = (await running.invoke()).path.split("/")[-2]
        records = [json.loads(line) for line in await running.log()]
    assert [record["level"] for record in records] == ["INFO", "WARN", "ERROR", "INFO", "ERROR"]
    assert {record["requestId"] for record in records} == {request_id}
    assert list(records[0]) == ["timestamp", "level", "requestId", "message"]
    assert (records[0]["message"], records[1]["message"]) == ({"a": [1]}, "n 1")
    assert (records[2]["errorType"], records[2]["errorMessage"]) == ("TypeError", "x") and records[2]["stackTrace"]
    assert "[Circular *1]" in records[3]["message"]
    assert records[4]["message"]["errorType"] == "RangeError" and records[4]["message"]["errorMessage"] == "boom"


async def test_json_logs_name_the_class_of_the_runtimes_own_errors(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": "Promise.reject(new RangeError('early')); exports.handler = async () => {};"})
    async with guest(node, code, environment={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as running:
        await running.posted()
        assert await running.exit_code() == 128
        message = json.loads((await running.log())[0])["message"]
    assert (message["errorType"], message["errorMessage"]) == ("UnhandledPromiseRejection", "RangeError: early")
    assert message["stackTrace"][0] == "Runtime.UnhandledPromiseRejection: RangeError: early"
    assert (message["reason"]["errorType"], message["promise"]) == ("RangeError", {})


@pytest.mark.slow
async def test_six_megabytes_go_both_ways(node: PreparedRuntime, task: Task) -> None:
    async with guest(node, task({"app.js": "exports.handler = async (event) => event + 'ö';"})) as running:
        post = await running.invoke("y" * 6_000_000)
    assert post.json == "y" * 6_000_000 + "ö"


async def test_a_response_that_is_refused_does_not_end_the_runtime(node: PreparedRuntime, task: Task) -> None:
    async with guest(node, task({"app.js": "exports.handler = async (event) => event;"}), post_status=413) as running:
        await running.invoke(1)
        assert (await running.invoke(2)).json == 2


async def test_the_runtime_ends_when_the_platform_is_gone(node: PreparedRuntime, task: Task) -> None:
    async with guest(node, task({"app.js": "exports.handler = async () => {};"})) as running:
        await running.ready()
        running.api.stop()
        assert await running.exit_code() == 1


async def test_the_heap_follows_the_memory_size(node: PreparedRuntime, task: Task) -> None:
    code = task({"app.js": """
const v8 = require("v8");
exports.handler = async () => [v8.getHeapStatistics().heap_size_limit / 2 ** 20, typeof gc];
"""})
    async with guest(node, code) as running:
        limit, gc = (await running.invoke()).json
    assert 200 <= limit <= 300 and gc == "function"  # of 256 MiB
    async with guest(node, code, environment={"NODE_OPTIONS": "--max-old-space-size=500"}) as running:
        assert (await running.invoke()).json[0] >= 500


async def test_from_24_on_the_context_has_the_trace_and_no_callbacks(
    node_without_callbacks: PreparedRuntime, task: Task
) -> None:
    code = task({"app.js": "exports.handler = async (event, context) => [context.xRayTraceId, Object.keys(context)];"})
    async with guest(node_without_callbacks, code) as running:
        trace, names = (await running.invoke(None, {"Lambda-Runtime-Trace-Id": "Root=1-2"})).json
    assert trace == "Root=1-2"
    assert not {"done", "succeed", "fail", "callbackWaitsForEmptyEventLoop"} & set(names)


@pytest.mark.parametrize("source", ["(event, context, callback) => callback(null, 1)", "() => 'plain'"])
async def test_from_24_on_callbacks_are_refused_and_plain_returns_count(
    node_without_callbacks: PreparedRuntime, task: Task, source: str
) -> None:
    async with guest(node_without_callbacks, task({"app.js": f"exports.handler = {source};"})) as running:
        if "callback" in source:
            post = await running.posted()
            assert (post.kind, post.json["errorType"]) == ("init/error", "Runtime.CallbackHandlerDeprecated")
            assert await running.exit_code() == 129
        else:
            assert (await running.invoke()).json == "plain"
