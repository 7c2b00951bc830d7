"""Single facts of the contract that no other module looks at, as boto3, plain HTTP and functions see them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from .harness import Answer, Function, Server
from .test_extensions import TOPS
from .test_layers import layer

NODE = "nodejs20.x"
INVOKE = "/2015-03-31/functions/{}/invocations"
ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"

ASKS = """
import json, os, urllib.error, urllib.request

def metadata(token, method="GET"):
    url = f"http://{os.environ['AWS_LAMBDA_METADATA_API']}/2026-01-15/metadata/execution-environment"
    request = urllib.request.Request(url, method=method, headers={"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, reply.headers["Cache-Control"], json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, None, None

TOKEN = os.environ["AWS_LAMBDA_METADATA_TOKEN"]
"""
APP = ASKS + """
def handler(event, context):
    seen = context.client_context
    return {
        "metadata": [metadata(TOKEN), metadata("wrong"), metadata(TOKEN, "POST")], "token": TOKEN,
        "trace": os.environ["_X_AMZN_TRACE_ID"],
        "context": seen and [seen.client.app_title, seen.custom, seen.env],
        "identity": [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
        "memory": context.memory_limit_in_mb, "left": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn, "version": context.function_version, "group": context.log_group_name,
    }
"""
NODE_APP = """
exports.handler = async (event, context) => ({
  context: context.clientContext ?? null, identity: context.identity ?? null, memory: context.memoryLimitInMB,
  left: context.getRemainingTimeInMillis(), arn: context.invokedFunctionArn, version: context.functionVersion,
  group: context.logGroupName, id: context.awsRequestId, name: context.functionName,
  trace: process.env._X_AMZN_TRACE_ID,
});
"""
EXTENSION = TOPS + ASKS.replace("import json, os, urllib.error, urllib.request\n", "") + """
me = identity(register("asks", ["INVOKE"]))
print("extension's zone", metadata(TOKEN)[2]["AvailabilityZoneID"], flush=True)
while True:
    talk("GET", "/2020-01-01/extension/event/next", me)
"""
FUNCTIONS = (Function("facts", APP, timeout=7), Function("node-facts", NODE_APP, runtime=NODE, timeout=7))


def context(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def post(server: Server, name: str, *headers: tuple[str, str], tail: str = "") -> Answer:
    return server.http("POST", INVOKE.format(name) + tail, body=b"{}", headers=headers)


def test_metadata_endpoint_tells_the_zone_to_processes_of_the_environment(server: Server) -> None:
    arn = layer(server, "asks", {"extensions/asks": EXTENSION})
    server.deploy(Function("asks", APP, more={"Layers": [arn]}))
    first = server.invoke("asks")
    good, bad, posted = first.payload["metadata"]
    assert good == [200, "private, max-age=43200, immutable", {"AvailabilityZoneID": "use1-az1"}]
    assert (bad[0], posted[0]) == (401, 405)
    assert "extension's zone use1-az1\n" in server.stream(first)
    server.retire(first.environment)
    assert server.invoke("asks").payload["token"] != first.payload["token"]  # random for each environment


@pytest.mark.parametrize(("given", "seen"), [
    (None, r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0"),
    (ROOT, rf"{ROOT};Parent=[0-9a-f]{{16}};Sampled=0;Lineage=1:[0-9a-f]{{8}}:0"),
    (f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1",
     rf"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=1:[0-9a-f]{{8}}:0"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["facts", "node-facts"])
def test_trace_header_is_whole(server: Server, name: str, given: str | None, seen: str) -> None:
    headers = [("X-Amzn-Trace-Id", given)] if given else []
    answer = post(server, name, *headers)
    assert re.fullmatch(seen, answer.json()["trace"])
    assert answer.header("X-Amzn-Trace-Id") == answer.json()["trace"]


def test_report_of_a_traced_invocation_names_the_trace(server: Server) -> None:
    answer = post(server, "facts", ("X-Amzn-Trace-Id", f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1"),
                  ("X-Amz-Log-Type", "Tail"))  # fmt: skip
    log = base64.b64decode(answer.header("X-Amz-Log-Result") or "").decode()
    assert log.endswith("\t\nXRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 53995c3f42cd8ad8\t"
                        "Sampled: true\t\n")  # fmt: skip


def test_python_context(server: Server) -> None:
    given = {"client": {"app_title": "t"}, "custom": {"a": 1}, "env": {"b": "c"}}
    call = server.invoke("facts", ClientContext=context(given))
    seen = call.payload
    assert seen["context"] == ["t", {"a": 1}, {"b": "c"}]
    assert seen["identity"] == [None, None]
    assert (seen["memory"], seen["version"], seen["group"]) == ("256", "$LATEST", "/aws/lambda/facts")
    assert seen["arn"] == "arn:aws:lambda:us-east-1:000000000000:function:facts"
    assert 6000 < seen["left"] <= 7000
    assert server.invoke("facts").payload["context"] is None


def test_node_context(server: Server) -> None:
    given = {"client": {"app_title": "t"}, "custom": {"a": 1}, "env": {"b": "c"}}
    call = server.invoke("node-facts", ClientContext=context(given))
    seen = call.payload
    assert (seen["context"], seen["identity"]) == (given, None)
    assert (seen["memory"], seen["version"], seen["group"]) == ("256", "$LATEST", "/aws/lambda/node-facts")
    assert (seen["arn"], seen["name"]) == ("arn:aws:lambda:us-east-1:000000000000:function:node-facts", "node-facts")
    assert seen["id"] == call.request_id
    assert 6000 < seen["left"] <= 7000


def test_answers_have_a_date_and_paths_may_end_in_a_slash(server: Server) -> None:
    date = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
    for answer in (post(server, "facts"), post(server, "facts", tail="/"), post(server, "absent"),
                   post(server, "facts", ("X-Amz-Invocation-Type", "DryRun"))):  # fmt: skip
        assert re.fullmatch(date, answer.header("Date") or ""), answer
    assert post(server, "facts", tail="/").status == 200


@pytest.mark.parametrize("given", ["%%%", base64.b64encode(b"no json").decode(), context([1]), "A" * 3584])
def test_client_context_that_is_none_is_refused(server: Server, given: str) -> None:
    answer = post(server, "facts", ("X-Amz-Client-Context", given))
    assert (answer.status, answer.header("x-amzn-ErrorType")) == (400, "InvalidRequestContentException")
    assert answer.json()["message"] == "Client context must be a valid Base64-encoded JSON object."
