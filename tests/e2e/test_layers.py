"""Layers on a real server: what stands in /opt and in which order, extensions and runtimes that come in a layer."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from .harness import PYTHON, Function, Server, running, until

LINE = PYTHON.removeprefix("python")

READER = """
import os, subprocess
import shared

def handler(event, context):
    return {"shared": shared.NUMBER, "both": open(shared.OPT + "/both").read(),
            "tool": subprocess.run(["tool"], capture_output=True, text=True).stdout,
            "files": sorted(os.path.relpath(os.path.join(folder, name), shared.OPT)
                            for folder, _, names in os.walk(shared.OPT) for name in names if name[-4:] != ".pyc"),
            "writable": os.access(shared.OPT, os.W_OK) or os.access(shared.OPT + "/both", os.W_OK)}
"""
SHARED = """
import os
NUMBER = %d
OPT = os.path.dirname(os.path.dirname(__file__))
"""
EXTENSION = f"""#!/var/lang/bin/python{LINE}
import json, os, urllib.request

BASE = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension/"

def call(path, headers, body=None):
    answer = urllib.request.urlopen(urllib.request.Request(BASE + path, body, headers))
    return answer.headers, json.load(answer)

headers, about = call("register", {{"Lambda-Extension-Name": os.path.basename(__file__)}},
                      json.dumps({{"events": ["INVOKE", "SHUTDOWN"]}}).encode())
print("watcher registered for", about["functionName"], "handler variable", os.environ.get("_HANDLER"), flush=True)
identity = {{"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}}
while True:
    _, event = call("event/next", identity)
    print("watcher saw", event["eventType"], event.get("requestId") or event["shutdownReason"], flush=True)
    if event["eventType"] == "SHUTDOWN":
        break
"""
BOOTSTRAP = """#!/bin/bash
while true; do
  headers=$(mktemp)
  curl -sS -o /tmp/event -D "$headers" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next"
  id=$(grep -i lambda-runtime-aws-request-id "$headers" | tr -d '\\r' | cut -d' ' -f2)
  curl -sS -o /tmp/answer -d "\\"$0\\"" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response"
done
"""
FUNCTIONS = (Function("extended", "def handler(event, context):\n    return context.aws_request_id\n"),)


def layer(server: Server, name: str, files: Mapping[str, str | bytes], mode: int = 0o755) -> str:
    """Publish a layer of these files; the ARN of the version."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = mode << 16
            archive.writestr(entry, content)
    reply = server.functions.publish_layer_version(LayerName=name, Content={"ZipFile": buffer.getvalue()})
    return str(reply["LayerVersionArn"])


def set_layers(server: Server, name: str, *arns: str) -> None:
    server.functions.update_function_configuration(FunctionName=name, Layers=list(arns))
    server.wait_active(name, "function_updated_v2")


def check_reader(server: Server, writable: bool) -> None:
    first = layer(server, "first", {"python/shared.py": SHARED % 1, "both": "first", "bin/tool": "#!/bin/sh\necho 1\n"})
    second = layer(server, "second", {f"python/lib/python{LINE}/site-packages/other.py": "", "both": "second"}, 0o644)
    server.deploy(Function("reader", READER, more={"Layers": [first, second]}))
    call = server.invoke("reader")
    assert call.error is None, call.raw
    files = ["bin/tool", "both", f"python/lib/python{LINE}/site-packages/other.py", "python/shared.py"]
    assert call.payload == {"shared": 1, "both": "second", "tool": "1\n", "files": files,
                            "writable": writable}  # fmt: skip

    # The next Init sees the new order; a layer version that was deleted stays with those who have it.
    server.functions.delete_layer_version(LayerName="first", VersionNumber=1)
    third = layer(server, "third", {"both": "third"})
    server.functions.update_function_configuration(FunctionName="reader", Timeout=9)
    server.wait_active("reader", "function_updated_v2")
    assert server.invoke("reader").payload == call.payload
    newer = layer(server, "first", {"python/shared.py": SHARED % 2, "both": "newer", "bin/tool": "#!/bin/sh\necho 2\n"})
    set_layers(server, "reader", second, third, newer)
    assert newer.endswith(":2")
    payload = server.invoke("reader").payload
    assert (payload["shared"], payload["both"], payload["tool"]) == (2, "newer", "2\n")


def test_layers_stand_in_opt_in_their_order(server: Server) -> None:
    check_reader(server, writable=False)


def test_layers_stand_where_functions_find_them_without_isolation(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--sandbox", "process") as server:
        check_reader(server, writable=True)  # as everything is for root


def test_extension_in_a_layer_is_told_of_invocations_and_of_the_end(server: Server) -> None:
    plain = layer(server, "readme", {"extensions/docs/README": "folders are not looked into"}, 0o644)
    watcher = layer(server, "watcher", {"extensions/watcher": EXTENSION})
    set_layers(server, "extended", plain, watcher)
    call = server.invoke("extended")
    assert call.error is None, call.raw
    again = server.invoke("extended")
    assert again.environment == call.environment and not again.cold
    for request in (call, again):
        assert f"watcher saw INVOKE {request.payload}" in server.stream(call)
    assert "watcher registered for extended handler variable None" in server.stream(call)
    server.retire(call.environment)
    until(lambda: "watcher saw SHUTDOWN spindown" in server.stream(call))
    set_layers(server, "extended")
    assert "watcher" not in server.stream(server.invoke("extended"))


def test_extension_that_ends_fails_init(server: Server) -> None:
    server.deploy(Function("broken", FUNCTIONS[0].source,
                           more={"Layers": [layer(server, "dies", {"extensions/dies": "#!/bin/sh\nexit 3\n"})]}))
    call = server.invoke("broken")
    assert call.error == "Unhandled" and call.payload["errorType"] == "Extension.Crash", call.raw


def test_node_finds_modules_in_layers(server: Server) -> None:
    node = shutil.which("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout if node else ""
    if not version.startswith("v20."):
        pytest.skip("needs Node.js 20")
    modules = {"nodejs/node_modules/both/index.js": "module.exports = 'both';",
               "nodejs/node20/node_modules/both/index.js": "module.exports = 'twenty';"}  # fmt: skip
    source = "exports.handler = async () => require('both');"
    server.deploy(Function("noded", source, runtime="nodejs20.x", memory=1769,
                           more={"Layers": [layer(server, "modules", modules, 0o644)]}))  # fmt: skip
    assert server.invoke("noded").payload == "twenty"


def test_wrapper_in_a_layer_starts_the_runtime(server: Server) -> None:
    source = "import os\ndef handler(event, context):\n    return os.environ.get('WRAPPED')\n"
    wrapper = layer(server, "wrapper", {"wrapper": '#!/bin/sh\nexport WRAPPED="$(basename "$1")"\nexec "$@"\n'})
    variables = {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"}}
    server.deploy(Function("wrapped", source, more={"Layers": [wrapper], "Environment": variables}))
    assert server.invoke("wrapped").payload == PYTHON


def test_too_many_extensions_fail_the_function_before_any_is_started(server: Server) -> None:
    many = {f"extensions/e{number}": "#!/bin/sh\n" for number in range(11)}
    server.create(Function("many", FUNCTIONS[0].source, more={"Layers": [layer(server, "many", many)]}))
    until(lambda: server.functions.get_function_configuration(FunctionName="many")["State"] == "Failed")
    failed = server.functions.get_function_configuration(FunctionName="many")
    assert failed["StateReasonCode"] == "FunctionError.TooManyExtensions" and "11 extensions" in failed["StateReason"]


def test_living_environment_keeps_code_that_was_deleted(server: Server) -> None:
    source = """
import time

def handler(event, context):
    time.sleep(1)
    import late
    return [late.NUMBER, open("/opt/data").read()]
"""
    data = layer(server, "data", {"data": "x" * 10})
    server.deploy(Function("late", source, files={"late.py": "NUMBER = 7\n"}, more={"Layers": [data]}))
    digests = (server.functions.get_layer_version(LayerName="data", VersionNumber=1)["Content"]["CodeSha256"],
               server.functions.get_function_configuration(FunctionName="late")["CodeSha256"])  # fmt: skip
    unpacked = [server.data_dir / "packages" / base64.b64decode(digest).hex() for digest in digests]
    call = server.background("late")
    until(lambda: any(row["phase"] == "invoke" for row in server.environments("late")))
    assert all(folder.is_dir() for folder in unpacked)
    server.functions.delete_layer_version(LayerName="data", VersionNumber=1)
    server.functions.delete_function(FunctionName="late")
    assert call.result(20).payload == [7, "x" * 10]
    until(lambda: not server.environments("late"))
    until(lambda: not any(folder.exists() for folder in unpacked))


@pytest.mark.parametrize("own", [False, True])
def test_custom_runtime_in_a_layer_serves_unless_the_package_has_one(server: Server, own: bool) -> None:
    name = f"custom-{own}"
    runtime = layer(server, "runtime", {"bootstrap": BOOTSTRAP})
    files = {"bootstrap": BOOTSTRAP} if own else {"data": "x"}
    server.deploy(Function(name, runtime="provided.al2023", files=files, more={"Layers": [runtime]}))
    call = server.invoke(name)
    assert call.payload == ("/var/task/bootstrap" if own else "/opt/bootstrap"), (call.raw, call.log)
