"""OpenTelemetry's instrumentation of Lambda functions, from PyPI, exporting to a collector of this test.

In both ways: asked for by the function's own code, and put around the runtime by AWS_LAMBDA_EXEC_WRAPPER with the
command of OpenTelemetry's distribution. The collector reads the little of protobuf that it needs by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from . import agents
from .harness import PYTHON, Server

pytestmark = pytest.mark.slow

REQUIREMENTS = """
opentelemetry-distro==0.66b1
opentelemetry-exporter-otlp-proto-http==1.45.1
opentelemetry-instrumentation-aws-lambda==0.66b1
opentelemetry-sdk-extension-aws==2.1.0
"""

HANDLER = """
from opentelemetry import trace

def handler(event, context):
    with trace.get_tracer("app").start_as_current_span("work") as span:
        span.set_attribute("order", event.get("order", 0))
    if "raise" in event:
        raise ValueError(event["raise"])
    return format(trace.get_current_span().get_span_context().trace_id, "032x")
"""

BY_HAND = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor
from opentelemetry.sdk.extension.aws.resource._lambda import AwsLambdaResourceDetector
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider(resource=AwsLambdaResourceDetector().detect())
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)
""" + HANDLER + """
AwsLambdaInstrumentor().instrument()
"""

WRAPPER = f"""#!/bin/sh
export PYTHONPATH="$LAMBDA_TASK_ROOT:$PYTHONPATH"
exec /var/lang/bin/{PYTHON} "$LAMBDA_TASK_ROOT/bin/opentelemetry-instrument" "$@"
"""

WAYS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "by-hand": ({"app.py": BY_HAND}, ()),
    "wrapped": ({"app.py": HANDLER, "wrapper": WRAPPER}, (
        "--env", "AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrapper",
        "--env", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=aws_lambda",
        "--env", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "--env", "OTEL_BSP_SCHEDULE_DELAY=600000",
        "--env", "OTEL_METRICS_EXPORTER=none", "--env", "OTEL_LOGS_EXPORTER=none")),
}  # fmt: skip


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of a protobuf message's fields: integers, bytes, and fixed ones as integers."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
        elif kind == 2:
            size = varint()
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            size, code = {1: (8, "<Q"), 5: (4, "<I")}[kind]
            yield tag >> 3, struct.unpack_from(code, message, at)[0]
            at += size


def every(message: bytes, number: int) -> list[Any]:
    return [value for found, value in fields(message) if found == number]


def attributes(pairs: list[bytes]) -> dict[str, Any]:
    """KeyValue messages; text and integers are all that there is."""
    return {every(pair, 1)[0].decode(): text[0].decode() if (text := every(value, 1)) else every(value, 3)[0]
            for pair in pairs for value in every(pair, 2) if every(value, 1) or every(value, 3)}  # fmt: skip


@dataclass(frozen=True)
class Span:
    """What a test looks at (opentelemetry/proto/trace/v1)."""

    name: str
    trace_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    failed: bool


def spans(collector: agents.Collector) -> list[Span]:
    found = []
    for path, body in collector.received:
        assert path == "/v1/traces"
        for group in every(body, 1):
            resource = attributes(every(every(group, 1)[0], 1))
            for span in (span for scope in every(group, 2) for span in every(scope, 2)):
                codes = [code for status in every(span, 15) for code in every(status, 3)]
                found.append(Span(every(span, 5)[0].decode(), every(span, 1)[0].hex(), attributes(every(span, 9)),
                                  resource, codes == [2]))  # fmt: skip
    return found


@pytest.fixture(scope="module")
def collector() -> Iterator[agents.Collector]:
    with agents.collecting() as collector:
        yield collector


@pytest.fixture(scope="module", params=WAYS)
def function(request: pytest.FixtureRequest, server: Server, collector: agents.Collector,
             tmp_path_factory: pytest.TempPathFactory) -> str:
    files, flags = WAYS[request.param]
    return agents.deploy(
        server, tmp_path_factory.mktemp("package") / request.param, {**files, "requirements.txt": REQUIREMENTS},
        "--handler", "app.handler", "--runtime", PYTHON, "--memory", "1769", "--timeout", "20",
        "--env", f"OTEL_EXPORTER_OTLP_ENDPOINT={collector.url}", *flags)  # fmt: skip


def test_spans_leave_before_the_caller_is_answered(server: Server, collector: agents.Collector, function: str) -> None:
    """Nobody sends them later: the batch's own time is ten minutes, and the environment is frozen then."""
    for order in (1, 2):
        collector.received.clear()
        call = server.invoke(function, {"order": order})
        sent = spans(collector)
        assert call.error is None, call.log
        assert sorted(span.name for span in sent) == sorted([function, "work"])
        assert {span.trace_id for span in sent} == {call.payload}
        served, worked = sorted(sent, key=lambda span: span.name == "work")
        assert served.attributes == {
            "faas.invocation_id": call.request_id, "cloud.account.id": "000000000000",
            "cloud.resource_id": f"arn:aws:lambda:us-east-1:000000000000:function:{function}"}  # fmt: skip
        assert worked.attributes == {"order": order}


def test_the_resource_is_the_execution_environment(server: Server, collector: agents.Collector, function: str) -> None:
    """The instance is the log stream, so a new one tells a cold start."""

    def instance() -> tuple[Any, str]:
        collector.received.clear()
        call = server.invoke(function, {})
        resource = spans(collector)[0].resource
        assert resource.items() >= {
            "cloud.provider": "aws", "cloud.platform": "aws_lambda", "cloud.region": "us-east-1",
            "faas.name": function, "faas.version": "$LATEST", "faas.max_memory": 1769}.items()  # fmt: skip
        assert resource["faas.instance"] == server.story(call.environment)["log_stream"]
        return resource["faas.instance"], call.environment

    warm, environment = instance()
    assert instance() == (warm, environment)
    server.retire(environment)
    assert instance()[0] != warm


def test_a_failed_invocation_has_a_failed_span(server: Server, collector: agents.Collector, function: str) -> None:
    collector.received.clear()
    call = server.invoke(function, {"raise": "no"})
    assert (call.payload["errorType"], call.payload["errorMessage"]) == ("ValueError", "no")
    assert {span.name: span.failed for span in spans(collector)} == {"work": False, function: True}


def test_a_request_to_the_url_goes_on_with_the_callers_trace(
    server: Server, collector: agents.Collector, function: str
) -> None:
    collector.received.clear()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = {"version": "2.0", "headers": {"traceparent": parent}, "requestContext": {
        "domainName": "x", "http": {"method": "GET", "path": "/a"}}, "rawQueryString": "b=1"}  # fmt: skip
    assert server.invoke(function, event).payload == "0af7651916cd43dd8448eb211c80319c"
    [served] = [span for span in spans(collector) if span.name == function]
    assert (served.attributes["faas.trigger"], served.attributes["http.target"]) == ("http", "/a?b=1")
