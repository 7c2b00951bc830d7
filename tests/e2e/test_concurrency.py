"""Reserved and provisioned concurrency on a real server: who is throttled, and what is warm before anybody asks."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .harness import Function, Server

SOURCE = """
import os, time

STARTED = time.time()

def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {"type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "started": STARTED}
"""
BROKEN = "raise RuntimeError('never')\n"
FUNCTIONS = (Function("reserved", SOURCE), Function("provisioned", SOURCE), Function("broken", BROKEN))


def publish(server: Server, name: str) -> None:
    server.functions.publish_version(FunctionName=name)
    server.functions.get_waiter("published_version_active").wait(
        FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})


def settled(server: Server, name: str) -> dict[str, Any]:
    """The provisioned concurrency of version 1, once it is not in progress any more."""
    for _ in range(200):
        found: dict[str, Any] = server.functions.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
        if found["Status"] != "IN_PROGRESS":
            return found
        time.sleep(0.05)
    raise AssertionError("provisioned concurrency stays in progress")


def test_reserved_concurrency_is_the_ceiling_and_zero_closes_the_function(server: Server) -> None:
    lambda_ = server.functions
    lambda_.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(server.invoke, "reserved", {"sleep": 1.0})
        while not any(e["function_name"] == "reserved" for e in server.environments()):
            time.sleep(0.02)
        with pytest.raises(ClientError) as refused:
            server.invoke("reserved")
        assert busy.result().error is None
    answer = refused.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert server.invoke("reserved").error is None
    lambda_.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError, match="Rate Exceeded"):
        server.invoke("reserved")
    lambda_.delete_function_concurrency(FunctionName="reserved")
    assert server.invoke("reserved").error is None


def test_provisioned_environments_are_initialised_before_anybody_asks_and_spill_over(server: Server) -> None:
    publish(server, "provisioned")
    lambda_ = server.functions
    lambda_.put_provisioned_concurrency_config(
        FunctionName="provisioned", Qualifier="1", ProvisionedConcurrentExecutions=2)
    ready = settled(server, "provisioned")
    assert (ready["Status"], ready["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)
    waiting = [e for e in server.environments() if e["function_name"] == "provisioned"]
    assert [(e["init_type"], e["phase"], e["frozen"], e["invocations"]) for e in waiting] == [
        ("provisioned-concurrency", "idle", True, 0)] * 2
    before = time.time()
    with ThreadPoolExecutor(3) as threads:
        calls = list(threads.map(lambda _: server.invoke("provisioned", {"sleep": 0.6}, Qualifier="1"), range(3)))
    kinds = sorted(call.payload["type"] for call in calls)
    assert kinds == ["on-demand", "provisioned-concurrency", "provisioned-concurrency"]
    for call in calls:
        early = call.payload["started"] < before
        assert early == (call.payload["type"] == "provisioned-concurrency") != call.cold
        server.idle(call.environment)
        [bill] = server.story(call.environment)["invocations"]
        gb_s = bill["billed_ms"] / 1000 * bill["memory_mib"] / 1024
        assert bill["cost_usd"] == pytest.approx(gb_s * (0.0000097222 if early else 0.0000166667) + 0.0000002)
        billed_init = 0 if early else bill["init_ms"]  # that of provisioned concurrency is part of its own price
        assert bill["billed_ms"] == math.ceil(round(bill["duration_ms"] + billed_init, 3))
    lambda_.delete_provisioned_concurrency_config(FunctionName="provisioned", Qualifier="1")
    for _ in range(200):
        kept = [e for e in server.environments() if e["init_type"] == "provisioned-concurrency"]
        if not kept:
            break
        time.sleep(0.05)
    assert kept == []


def test_provisioned_environment_that_cannot_be_initialised_fails_the_configuration(server: Server) -> None:
    publish(server, "broken")
    server.functions.put_provisioned_concurrency_config(
        FunctionName="broken", Qualifier="1", ProvisionedConcurrentExecutions=1)
    failed = settled(server, "broken")
    assert (failed["Status"], failed["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
