"""Extensions on a real server: their API with its errors, what ends an environment and how long it takes, telemetry."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from .harness import PYTHON, Call, Function, Server, until
from .test_layers import layer

EXAMPLES = Path(__file__).parents[2] / "examples" / "extensions"
WITNESS = (EXAMPLES / "python" / "extensions" / "witness").read_text()
NODE_WITNESS = (EXAMPLES / "node" / "extensions" / "witness.js").read_text()

#: Calls an API of the environment; the status, the error type and the body.
TALK = """
import json, os, urllib.error, urllib.request

HOST = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]

def talk(method, path, headers={}, body=None):
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(HOST + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, dict(reply.headers), json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read() or b"null")

def register(name, events, **headers):
    return talk("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": name, **headers},
                {"events": events})

def identity(answer):
    return {"Lambda-Extension-Identifier": answer[1]["Lambda-Extension-Identifier"]}
"""
TOPS = f"#!/var/lang/bin/{PYTHON}\n" + TALK

#: On SIGTERM it says for how long it is still let live.
MORTAL = """
import os, signal, sys, time

def on_term(number, frame):
    begun = time.monotonic()
    while True:
        print("alive", round((time.monotonic() - begun) * 1000), flush=True)
        time.sleep(0.02)

signal.signal(signal.SIGTERM, on_term)

def handler(event, context):
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(event["exit"])
    print("handled")
    return context.aws_request_id
"""
INTERNAL = TALK + """
import threading

def serve(me):
    while True:
        talk("GET", "/2020-01-01/extension/event/next", me)

threading.Thread(target=serve, args=(identity(register("inside", ["INVOKE"])),), daemon=True).start()
""" + MORTAL
WRONG_INSIDE = TALK + """
import threading
NEXT = "/2020-01-01/extension/event/next"
SEEN = {}

def note(name, answer):
    SEEN[name] = [answer[0], (answer[2] or {}).get("errorType")]

note("no name", talk("POST", "/2020-01-01/extension/register", {}, {"events": []}))
note("no json", talk("POST", "/2020-01-01/extension/register", {"Lambda-Extension-Name": "x"}, b"{"))
note("odd event", register("x", ["DANCE"]))
note("shutdown inside", register("x", ["SHUTDOWN"]))
note("the runtime's name", register("runtime", []))
me = register("inside", [], **{"Lambda-Extension-Accept-Feature": "accountId"})
SEEN["account"] = me[2]["accountId"]
note("twice", register("inside", []))
note("no identifier", talk("GET", NEXT))
note("not a uuid", talk("GET", NEXT, {"Lambda-Extension-Identifier": "x"}))
note("unknown", talk("GET", NEXT, {"Lambda-Extension-Identifier": "00000000-0000-4000-8000-000000000000"}))
note("no error type", talk("POST", "/2020-01-01/extension/init/error", identity(me), {}))
for field, body in {
    "telemetry without types": {"types": [], "destination": {"protocol": "TCP", "port": 8080}},
    "telemetry elsewhere": {"types": ["platform"], "destination": {"protocol": "HTTP", "URI": "http://127.0.0.1:80"}},
}.items():
    note(field, talk("PUT", "/2022-07-01/telemetry", identity(me), body))
note("logs without types", talk("PUT", "/2020-08-15/logs/", identity(me), body | {"types": []}))
note("telemetry of nobody", talk("PUT", "/2022-07-01/telemetry", {}, {}))
everybody = [identity(me)]
for number in range(9):
    everybody.append(identity(register(f"e{number}", [])))
note("eleventh", register("e10", []))
for one in everybody:
    threading.Thread(target=talk, args=("GET", NEXT, one), daemon=True).start()

def handler(event, context):
    note("late", register("late", []))
    note("late telemetry", talk("PUT", "/2022-07-01/telemetry", identity(me), {}))
    note("late logs", talk("PUT", "/2020-08-15/logs", identity(me), {}))
    return SEEN
"""
PLAIN = "def handler(event, context):\n    print('line of the function')\n    return context.aws_request_id\n"
PLAIN_NODE = """
exports.handler = async (event, context) => {
  process.stdout.write("line of the function\\n");
  return context.awsRequestId;
};
"""
SHY = TOPS + """
me = identity(register("shy", ["INVOKE"]))
print("shy sees", json.dumps(sorted(os.environ)), flush=True)
while True:
    talk("GET", "/2020-01-01/extension/event/next", me)
"""
SLOW = TOPS + """
import time
me = identity(register("slow", ["INVOKE", "SHUTDOWN"]))
while True:
    event = talk("GET", "/2020-01-01/extension/event/next", me)[2]
    print("slow", event["eventType"], event.get("shutdownReason"), flush=True)
    if event["eventType"] == "SHUTDOWN":
        break
    time.sleep(float(os.environ["SLOW_S"]))
"""
DEAF = TOPS + """
import threading, time

def live():
    while True:
        print("deaf lives", flush=True)
        time.sleep(0.02)

me = identity(register("deaf", ["INVOKE"]))
threading.Thread(target=live, daemon=True).start()
while True:
    talk("GET", "/2020-01-01/extension/event/next", me)
"""
LINGERS = TOPS + """
import time
me = identity(register("lingers", ["SHUTDOWN"]))
talk("GET", "/2020-01-01/extension/event/next", me)
print("lingers is told", flush=True)
time.sleep(0.4)
print("lingers goes", flush=True)
"""
FAILING = TOPS + """
me = identity(register("failing", ["INVOKE"]))
how = os.environ["HOW"]
error = {**me, "Lambda-Extension-Function-Error-Type": "Extension.NoLicence"}
if how == "init":
    talk("POST", "/2020-01-01/extension/init/error", error, {})
talk("GET", "/2020-01-01/extension/event/next", me)
if how == "exit":
    talk("POST", "/2020-01-01/extension/exit/error", error, {})
os._exit(0)
"""


def with_layer(server: Server, name: str, source: str, program: str, *, timeout: int = 10, runtime: str = PYTHON,
               **variables: str) -> None:
    """Deploy a function with one external extension, whose file name is the function's."""
    file_name = variables.pop("file", name)
    arn = layer(server, name, {f"extensions/{file_name}": program})
    server.deploy(Function(name, source, timeout=timeout, runtime=runtime,
                           more={"Layers": [arn], "Environment": {"Variables": variables}}))


def said(log: str, who: str, what: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in re.findall(rf"^{re.escape(who)}: {what} (.*)$", log, re.M)]


def lifetime_ms(log: str) -> int:
    """For how long a runtime that ignores SIGTERM lived after it; -1 when it never saw one."""
    return max(map(int, re.findall(r"^alive (\d+)$", log, re.M)), default=-1)


def end(server: Server, call: Call) -> str:
    server.retire(call.environment)
    until(lambda: server.story(call.environment)["phase"] == "gone")
    return server.stream(call)


# How an environment ends


def test_without_extensions_the_runtime_sees_no_sigterm(server: Server) -> None:
    server.deploy(Function("alone", MORTAL))
    assert lifetime_ms(end(server, server.invoke("alone"))) == -1


def test_internal_extension_gives_the_runtime_half_a_second(server: Server) -> None:
    server.deploy(Function("internal", INTERNAL))
    call = server.invoke("internal")
    assert call.error is None
    assert "EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]\n" in server.stream(call)
    assert 300 <= lifetime_ms(end(server, call)) <= 700


def test_external_extension_gives_the_runtime_a_share_and_is_told_then(server: Server) -> None:
    with_layer(server, "witness", MORTAL, WITNESS)
    call = server.invoke("witness")
    assert call.error is None, call.log
    log = end(server, call)
    assert 400 <= lifetime_ms(log) <= 800
    told = said(log, "witness", "shutdown")
    assert len(told) == 1 and told[0]["reason"] == "spindown"
    assert 900 <= told[0]["left_ms"] <= 1500  # two seconds less the runtime's share
    assert log.rindex("\nalive ") < log.index("witness: shutdown")


@pytest.mark.parametrize(("event", "reason", "error_type"), [
    ({"sleep": 9}, "timeout", "Sandbox.Timedout"), ({"exit": 1}, "failure", "Runtime.ExitError")])
def test_reset_tells_the_extension_why_and_keeps_the_environment(
    server: Server, event: dict[str, int], reason: str, error_type: str
) -> None:
    name = f"reset-{reason}"
    with_layer(server, name, MORTAL, WITNESS, timeout=2)
    call = server.invoke(name, event)
    assert call.payload["errorType"] == error_type
    after = server.invoke(name)
    assert after.environment == call.environment and after.payload == after.request_id
    log = server.stream(call)
    assert [told["reason"] for told in said(log, name, "shutdown")] == [reason]
    assert len(said(log, name, "registered")) == 2
    assert log.count("INIT_START Runtime") == 1


def test_extension_without_shutdown_is_killed_without_a_word(server: Server) -> None:
    with_layer(server, "shy", PLAIN, SHY)
    call = server.invoke("shy")
    end(server, call)
    steps = str(server.story(call.environment)["steps"])
    assert "SignalRuntime" in steps and "DeliverShutdown" not in steps


def test_extension_without_shutdown_does_not_outlive_the_telling_of_others(server: Server) -> None:
    arn = layer(server, "deaf", {"extensions/deaf": DEAF, "extensions/lingers": LINGERS})
    server.deploy(Function("deaf", PLAIN, more={"Layers": [arn]}))
    log = end(server, server.invoke("deaf"))
    between = log[log.index("lingers is told") : log.index("lingers goes")]
    assert log.count("deaf lives") > 0 and between.count("deaf lives") <= 3  # twenty, if it lived as long


# Extensions that are slow or fail


def test_caller_is_answered_before_a_slow_extension_is_done_and_billed_for_it(server: Server) -> None:
    with_layer(server, "slow", PLAIN, SLOW, SLOW_S="0.5")
    call = server.invoke("slow", LogType="None")
    assert call.error is None
    assert server.environment(call.environment)["phase"] == "invoke"
    server.idle(call.environment)
    duration = re.search(r"\tDuration: (\d+\.\d\d) ms", server.stream(call))
    assert duration is not None and float(duration[1]) >= 500


def test_slow_extension_runs_into_the_timeout_after_the_answer_and_is_told_when_it_asks(server: Server) -> None:
    with_layer(server, "slow-over", PLAIN, SLOW, timeout=1, SLOW_S="1.3", file="slow")
    call = server.invoke("slow-over", LogType="None")
    assert call.error is None
    server.idle(call.environment)
    log = server.stream(call)
    assert "Duration: 1000.00 ms" in log and "Status: timeout" in log
    assert "slow SHUTDOWN timeout" in log


@pytest.mark.parametrize(("how", "error_type", "message"), [
    ("init", "Extension.InitError", "exit code 0"),
    ("exit", "Extension.ExitError", "exit code 0"),
    ("crash", "Extension.Crash", "exit code 0"),
])
def test_extension_that_fails_is_the_callers_answer(server: Server, how: str, error_type: str, message: str) -> None:
    with_layer(server, f"failing-{how}", "import time\ndef handler(event, context):\n    time.sleep(5)\n", FAILING,
               HOW=how, file="failing")
    call = server.invoke(f"failing-{how}")
    assert call.error == "Unhandled"
    assert call.payload["errorType"] == error_type
    assert call.payload["errorMessage"] == f"RequestId: {call.request_id} Error: {message}"
    log = server.stream(call)
    if how == "init":
        assert log.count("EXTENSION\tName: failing\tState: InitError\tEvents: [INVOKE]\t"
                         "Error Type: Extension.NoLicence\n") == 2
        assert re.findall(r"INIT_REPORT .*\tPhase: (\w+)\tStatus: error\tError Type: Extension.InitError", log) == [
            "init", "invoke"]  # fmt: skip
    else:
        assert f"Status: error\tError Type: {error_type}\n" in log
    again = server.invoke(f"failing-{how}")
    assert again.environment == call.environment and again.payload["errorType"] == error_type


@pytest.mark.parametrize(("name", "program", "mode", "reason", "told"), [
    ("absent", "#!/there/is/no/such/interpreter\n", 0o755, "no such file or directory", "UnknownError"),
    ("foreign", "\x7fELF of another machine", 0o755, "exec format error", "UnknownError"),
    ("forbidden", "#!/bin/sh\n", 0o644, "permission denied", "PermissionDenied"),
])  # fmt: skip
def test_extension_that_cannot_be_executed_is_a_launch_error(server: Server, name: str, program: str, mode: int,
                                                             reason: str, told: str) -> None:
    arn = layer(server, name, {f"extensions/{name}": program}, mode)
    server.deploy(Function(name, PLAIN, more={"Layers": [arn]}))
    call = server.invoke(name)
    assert call.payload == {
        "errorType": "Extension.LaunchError",
        "errorMessage": f"RequestId: {call.request_id} Error: fork/exec /opt/extensions/{name}: {reason}"}  # fmt: skip
    assert f"EXTENSION\tName: {name}\tState: LaunchError\tEvents: []\tError Type: {told}\n" in server.stream(call)


# The API


def test_what_an_extension_gets_wrong_is_refused_with_awss_errors(server: Server) -> None:
    server.deploy(Function("wrong", WRONG_INSIDE))
    call = server.invoke("wrong")
    assert call.payload == {
        "no name": [403, "Extension.InvalidExtensionName"],
        "no json": [403, "InvalidRequestFormat"],
        "odd event": [403, "Extension.InvalidEventType"],
        "shutdown inside": [403, "Extension.InvalidEventType"],
        "the runtime's name": [403, "Extension.InvalidExtensionName"],
        "account": "000000000000",
        "twice": [403, "Extension.InvalidExtensionState"],
        "no identifier": [403, "Extension.MissingExtensionIdentifier"],
        "not a uuid": [403, "Extension.InvalidExtensionIdentifier"],
        "unknown": [403, "Extension.UnknownExtensionIdentifier"],
        "no error type": [403, "Extension.MissingHeader"],
        "telemetry without types": [400, "ValidationError"],
        "telemetry elsewhere": [400, "ValidationError"],
        "logs without types": [400, "Logs.ValidationError"],
        "telemetry of nobody": [403, "Extension.MissingExtensionIdentifier"],
        "eleventh": [403, "Extension.TooManyExtensions"],
        "late": [403, "Extension.RegistrationClosed"],
        "late telemetry": [403, "Telemetry.SubscriptionClosed"],
        "late logs": [403, "Logs.SubscriptionClosed"],
    }


def test_extension_sees_the_functions_variables_without_what_is_the_runtimes(server: Server) -> None:
    with_layer(server, "shy-variables", PLAIN, SHY, file="shy")
    call = server.invoke("shy-variables")
    seen = json.loads(re.findall(r"^shy sees (.*)$", server.stream(call), re.M)[0])
    assert {"AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "AWS_ACCESS_KEY_ID", "AWS_REGION"} <= set(seen)
    assert not {"_HANDLER", "AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
                "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"} & set(seen)  # fmt: skip


def test_node_example_lives_a_life(server: Server) -> None:
    source = "exports.handler = async () => 'done'\n"
    with_layer(server, "in-node", source, NODE_WITNESS, runtime="nodejs20.x", file="witness.js")
    call = server.invoke("in-node")
    assert call.payload == "done", call.log
    log = end(server, call)
    assert said(log, "witness.js", "registered") == [{"function": "in-node"}]
    assert [told["request"] for told in said(log, "witness.js", "invoke")] == [call.request_id]
    assert [told["reason"] for told in said(log, "witness.js", "shutdown")] == ["spindown"]


# Telemetry


def telemetry(log: str, who: str) -> list[tuple[str, Any]]:
    return [(event["type"], event["record"]) for event in said(log, who, "telemetry")]


@pytest.mark.parametrize(("example", "protocol"), [("python", "HTTP"), ("python", "TCP"), ("node", "HTTP")])
def test_telemetry_tells_a_cold_and_a_warm_invocation_and_the_end(server: Server, example: str, protocol: str) -> None:
    name = f"told-{example}-{protocol.lower()}"
    if example == "python":
        with_layer(server, name, PLAIN, WITNESS, WITNESS_PROTOCOL=protocol)
    else:
        with_layer(server, name, PLAIN_NODE, NODE_WITNESS, runtime="nodejs20.x")
    cold = server.invoke(name)
    assert cold.error is None, cold.log
    server.idle(cold.environment)
    warm = server.invoke(name)
    assert warm.environment == cold.environment
    server.idle(cold.environment)
    told = telemetry(end(server, cold), name)
    kinds = [kind for kind, _ in told]
    assert kinds[0] == "platform.initStart"
    # The runtime is started when all extensions have registered, and may be faster than one that then subscribes.
    assert sorted(kinds[1:3]) == ["platform.initRuntimeDone", "platform.telemetrySubscription"]
    assert kinds[3:5] == ["platform.extension", "platform.initReport"]
    each = ["platform.start", "function", "platform.runtimeDone", "platform.report"]
    assert kinds[5:] == each * 2, kinds
    records = dict(told[:6])
    assert records["platform.initStart"] | {"instanceId": "", "runtimeVersionArn": ""} == {
        "initializationType": "on-demand", "phase": "init", "functionName": name, "functionVersion": "$LATEST",
        "instanceMaxMemory": 256 * 1024 * 1024, "runtimeVersion": records["platform.initStart"]["runtimeVersion"],
        "instanceId": "", "runtimeVersionArn": ""}  # fmt: skip
    assert records["platform.telemetrySubscription"] == {
        "name": name, "state": "Subscribed", "types": ["platform", "function"]}
    assert records["platform.extension"] == {"name": name, "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    assert records["platform.initRuntimeDone"] == {
        "initializationType": "on-demand", "phase": "init", "status": "success"}
    start, line, done, report = [record for _, record in told[5:9]]
    arn = server.functions.get_function_configuration(FunctionName=name)["FunctionArn"]
    assert start == {"requestId": cold.request_id, "functionArn": arn, "version": "$LATEST"}
    assert line == "line of the function\n"
    assert (done["requestId"], done["status"], done["metrics"]["producedBytes"]) == (cold.request_id, "success", 38)
    assert [span["name"] for span in done["spans"]] == ["responseLatency", "responseDuration", "runtimeOverhead"]
    assert "initDurationMs" in report["metrics"] and report["status"] == "success"
    assert [span["name"] for span in report["spans"]] == ["extensionOverhead"]
    assert "initDurationMs" not in told[-1][1]["metrics"]
    log = server.stream(cold)
    assert f"TELEMETRY\tName: {name}\tState: Subscribed\tTypes: [Platform, Function]\n" in log


def test_telemetry_tells_a_repeated_init(server: Server) -> None:
    with_layer(server, "told-again", MORTAL, WITNESS, timeout=2)
    crashed = server.invoke("told-again", {"exit": 1})
    again = server.invoke("told-again")
    assert again.error is None and again.environment == crashed.environment
    told = telemetry(end(server, again), "told-again")
    failed = next(record for kind, record in told if kind == "platform.runtimeDone")
    assert (failed["status"], failed["errorType"]) == ("error", "Runtime.ExitError")
    phases = [record["phase"] for kind, record in told if kind == "platform.initStart"]
    assert phases == ["init", "invoke"]


def test_logs_api_tells_less(server: Server) -> None:
    with_layer(server, "told-logs", PLAIN, WITNESS, WITNESS_API="logs")
    call = server.invoke("told-logs")
    told = telemetry(end(server, call), "told-logs")
    assert [kind for kind, _ in told] == [
        "platform.logsSubscription", "platform.extension", "platform.start", "function", "platform.end",
        "platform.report"]  # fmt: skip
    assert told[4][1] == {"requestId": call.request_id}
    assert set(told[5][1]) == {"requestId", "metrics"}


def test_many_environments_listen_at_the_same_port(server: Server) -> None:
    source = "import time\ndef handler(event, context):\n    print('in', context.aws_request_id)\n    time.sleep(1)\n"
    with_layer(server, "told-both", source, WITNESS)
    first, second = server.background("told-both"), server.background("told-both")
    calls = [first.result(20), second.result(20)]
    assert calls[0].environment != calls[1].environment
    for call in calls:
        lines = [record for kind, record in telemetry(end(server, call), "told-both") if kind == "function"]
        assert lines == [f"in {call.request_id}\n"]


def test_telemetry_goes_to_nobody_but_the_environment_that_asked(server: Server) -> None:
    """An extension names a port at which somebody else listens, here this test, as a host's user."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(1.5)
        port = other.getsockname()[1]
        name = "told-elsewhere"
        program = SHY.replace('register("shy", ["INVOKE"]))', f"""register("{name}", ["INVOKE"]))
print("subscribed", talk("PUT", "/2022-07-01/telemetry", me, {{"types": ["platform"], "buffering": {{"timeoutMs": 25}},
      "destination": {{"protocol": "HTTP", "URI": "http://sandbox.localdomain:{port}"}}}})[0], flush=True)""")
        with_layer(server, name, "import time\ndef handler(event, context):\n    time.sleep(1)\n", program)
        call = server.invoke(name)
        assert call.error is None, call.log
        assert "subscribed 200\n" in server.stream(call)
        with pytest.raises(TimeoutError):
            other.accept()


# Logs in JSON


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARN"])
def test_platform_events_are_json_from_the_systems_level_on(server: Server, level: str) -> None:
    source = """
import logging, os
def handler(event, context):
    logging.getLogger().info("noted")
    logging.getLogger().debug("hidden")
    print("plain")
    return os.environ["AWS_LAMBDA_LOG_FORMAT"], os.environ["AWS_LAMBDA_LOG_LEVEL"]
"""
    name = f"json-{level.lower()}"
    server.deploy(Function(name, source, more={"LoggingConfig": {
        "LogFormat": "JSON", "SystemLogLevel": level, "ApplicationLogLevel": "INFO", "LogGroup": "/shared/json"}}))
    call = server.invoke(name)
    assert call.payload == ["JSON", "INFO"]
    server.idle(call.environment)
    story = server.story(call.environment)
    assert story["log_group"] == "/shared/json"
    assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/{name}\[\$LATEST\][0-9a-f]{{32}}", story["log_stream"])
    lines = server.stream(call).splitlines()
    assert "plain" in lines
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    own = [row for row in rows if "level" in row]
    assert [(row["level"], row["message"], row["requestId"]) for row in own] == [("INFO", "noted", call.request_id)]
    shown = [row["type"].removeprefix("platform.") for row in rows if "type" in row]
    assert shown == {
        "DEBUG": ["initStart", "initRuntimeDone", "initReport", "start", "runtimeDone", "report"],
        "INFO": ["initStart", "start", "report"],
        "WARN": [],
    }[level]
    assert not any(line.startswith(("START", "END", "REPORT", "INIT_START")) for line in lines)


def test_failures_are_warnings_in_json(server: Server) -> None:
    server.deploy(Function("json-fails", "import os\ndef handler(event, context):\n    os._exit(1)\n",
                           more={"LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "WARN"}}))
    call = server.invoke("json-fails")
    rows = [json.loads(line) for line in server.stream(call).splitlines()]
    assert [(row["type"], row["record"]["status"], row["record"]["errorType"]) for row in rows] == [
        ("platform.runtimeDone", "error", "Runtime.ExitError"), ("platform.report", "error", "Runtime.ExitError")]
