"""AWS Lambda Powertools for Python, from PyPI, in a function that somebody deployed: logger, metrics, idempotency."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from . import agents
from .harness import PYTHON, Call, Server, until

pytestmark = pytest.mark.slow

REQUIREMENTS = "aws-lambda-powertools==3.37.0\n"

OBSERVED = """
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger()
metrics = Metrics()

@logger.inject_lambda_context(correlation_id_path="order", log_event=True)
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    logger.debug("not shown")
    logger.info("paid", extra={"amount": 12})
    logger.warning("late")
    metrics.add_metric(name="Paid", unit=MetricUnit.Count, value=1)
    if "raise" in event:
        raise ValueError(event["raise"])
"""

ONCE = """
import os, time, urllib.request
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent

store = DynamoDBPersistenceLayer(table_name="once")
config = IdempotencyConfig(event_key_jmespath="order")

@idempotent(config=config, persistence_store=store)
def handler(event, context):
    print("charging", event["order"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    return {"charged_by": context.aws_request_id}
"""


def records(call: Call) -> list[dict[str, Any]]:
    """The lines of JSON in an invocation's log."""
    return [json.loads(line) for line in call.log.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def observed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    return agents.deploy(
        server, tmp_path_factory.mktemp("package") / "observed", {"app.py": OBSERVED, "requirements.txt": REQUIREMENTS},
        "--handler", "app.handler", "--runtime", PYTHON, "--memory", "512",
        "--env", "POWERTOOLS_SERVICE_NAME=shop", "--env", "POWERTOOLS_METRICS_NAMESPACE=Shop")  # fmt: skip


@pytest.fixture
def fresh(server: Server, observed: str) -> str:
    """The function, without an environment."""
    for row in server.environments(observed):
        server.retire(row["id"])
    return observed


def test_logger_has_the_context_of_each_invocation_and_knows_a_cold_start(server: Server, fresh: str) -> None:
    calls = [server.invoke(fresh, {"order": "o-1"}) for _ in range(2)]
    for call, cold in zip(calls, (True, False), strict=True):
        assert call.error is None, call.log
        [paid] = [row for row in records(call) if row.get("message") == "paid"]
        assert paid | {"timestamp": "", "location": "", "xray_trace_id": ""} == {
            "level": "INFO", "location": "", "message": "paid", "timestamp": "", "service": "shop", "amount": 12,
            "cold_start": cold, "function_name": "observed", "function_memory_size": "512",
            "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:observed",
            "function_request_id": call.request_id, "correlation_id": "o-1", "xray_trace_id": ""}  # fmt: skip
        assert f"Root={paid['xray_trace_id']};" in call.headers["x-amzn-trace-id"]
        assert [row["message"] for row in records(call) if "message" in row] == [{"order": "o-1"}, "paid", "late"]


def test_metrics_are_lines_that_cloudwatch_reads(server: Server, fresh: str) -> None:
    cold, failed = server.invoke(fresh, {"order": 1}), server.invoke(fresh, {"order": 2, "raise": "no"})
    assert failed.payload["errorType"] == "ValueError"

    def measured(call: Call) -> list[tuple[list[list[str]], str, list[float]]]:
        found = []
        for row in records(call):
            for block in row.get("_aws", {}).get("CloudWatchMetrics", ()):
                assert block["Namespace"] == "Shop" and row["service"] == "shop"
                found += [(block["Dimensions"], metric["Name"], row[metric["Name"]]) for metric in block["Metrics"]]
        return found

    paid = ([["service"]], "Paid", [1.0])
    assert measured(cold) == [([["function_name", "service"]], "ColdStart", [1.0]), paid]
    assert measured(failed) == [paid]  # written although the handler failed


def test_logger_obeys_the_functions_log_level(server: Server, observed: str) -> None:
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN"}
    server.functions.update_function_configuration(FunctionName=observed, LoggingConfig=config)
    server.wait_active(observed, "function_updated_v2")
    call = server.invoke(observed, {"order": 3})
    assert [row["message"] for row in records(call) if "message" in row] == ["late"]
    config = {"LogFormat": "Text"}
    server.functions.update_function_configuration(FunctionName=observed, LoggingConfig=config)
    server.wait_active(observed, "function_updated_v2")


@pytest.fixture(scope="module")
def table() -> Iterator[Any]:
    """The table of the idempotency records, in a DynamoDB of this machine."""
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    resource = boto3.resource("dynamodb", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
                              aws_access_key_id="ASIAFUNC", aws_secret_access_key="x")  # fmt: skip
    try:
        yield resource.create_table(
            TableName="once", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])  # fmt: skip
    finally:
        resource.meta.client.close()
        moto.stop()


@pytest.fixture(scope="module")
def once(server: Server, table: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return agents.deploy(
        server, tmp_path_factory.mktemp("package") / "once", {"app.py": ONCE, "requirements.txt": REQUIREMENTS},
        "--handler", "app.handler", "--runtime", PYTHON, "--memory", "1769", "--timeout", "3",
        "--env", f"AWS_ENDPOINT_URL_DYNAMODB={table.meta.client.meta.endpoint_url}")  # fmt: skip


def test_the_same_order_is_charged_once(server: Server, once: str, table: Any) -> None:
    first, again, other = (server.invoke(once, {"order": order}) for order in ("a", "a", "b"))
    assert first.payload == {"charged_by": first.request_id}, first.log
    assert again.payload == first.payload and again.request_id != first.request_id
    assert other.payload == {"charged_by": other.request_id}
    assert ["charging" in call.log for call in (first, again, other)] == [True, False, True]
    assert {row["status"] for row in table.scan()["Items"]} == {"COMPLETED"}


def test_an_order_that_is_being_charged_elsewhere_is_refused(server: Server, once: str, table: Any) -> None:
    """The second invocation has an environment of its own, and the two meet in the table."""
    charging = server.background(once, {"order": "c", "sleep": 2})
    until(lambda: any(row["status"] == "INPROGRESS" for row in table.scan()["Items"]))
    refused = server.invoke(once, {"order": "c", "sleep": 2})
    assert refused.payload["errorType"] == "IdempotencyAlreadyInProgressError"
    assert charging.result().error is None
    assert refused.environment != charging.result().environment


def test_an_order_whose_charging_timed_out_may_be_charged_again(server: Server, once: str, table: Any) -> None:
    """The record says until when the invocation may have lived: the deadline that the runtime told it."""
    slow = server.invoke(once, {"order": "d", "sleep": 30})
    assert slow.payload["errorType"] == "Sandbox.Timedout"
    assert [row["status"] for row in table.scan()["Items"]].count("INPROGRESS") == 1
    again = server.invoke(once, {"order": "d"})
    assert again.payload == {"charged_by": again.request_id}, again.log
    assert again.environment == slow.environment  # reset, not replaced
