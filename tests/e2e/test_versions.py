"""Versions and aliases on a real server: what runs, what its callers and the function itself are told."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from botocore.exceptions import ClientError

from .harness import Function, Server

SOURCE = """
import os

def handler(event, context):
    return {"code": %s, "setting": os.environ["SETTING"], "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
            "context": context.function_version, "arn": context.invoked_function_arn}
"""


def edition(name: str, code: int, **more: Any) -> Function:
    """A function whose code and configuration say the same number."""
    return Function(name, SOURCE % code, more={"Environment": {"Variables": {"SETTING": str(code)}}, **more})


FUNCTIONS = (edition("routed", 1), edition("mixing", 0))
ARN = "arn:aws:lambda:us-east-1:000000000000:function:routed"


def release(server: Server, edited: Function) -> str:
    """Update code and configuration, publish, and wait; the version's number."""
    lambda_ = server.functions
    lambda_.update_function_configuration(FunctionName=edited.name, Environment=edited.more["Environment"])
    server.wait_active(edited.name, "function_updated_v2")
    answer = lambda_.update_function_code(FunctionName=edited.name, ZipFile=edited.package(), Publish=True)
    lambda_.get_waiter("published_version_active").wait(
        FunctionName=edited.name, Qualifier=answer["Version"], WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    server.wait_active(edited.name, "function_updated_v2")
    return str(answer["Version"])


def test_versions_and_aliases_run_what_they_name(server: Server) -> None:
    lambda_ = server.functions
    assert release(server, edition("routed", 1)) == "1"
    assert release(server, edition("routed", 2)) == "2"
    release(server, edition("routed", 3))
    for qualifier, number in (("1", 1), ("2", 2), ("$LATEST", 3)):
        call = server.invoke("routed", Qualifier=qualifier)
        assert call.headers["x-amz-executed-version"] == qualifier
        assert call.payload == {"code": number, "setting": str(number), "version": qualifier, "context": qualifier,
                                "arn": f"{ARN}:{qualifier}"}  # fmt: skip
        assert f"/[{qualifier}]" in server.story(call.environment)["log_stream"]
    lambda_.create_alias(FunctionName="routed", Name="prod", FunctionVersion="1")
    call = server.invoke("routed:prod")
    assert call.headers["x-amz-executed-version"] == "1"
    assert (call.payload["version"], call.payload["arn"]) == ("1", f"{ARN}:prod")
    assert server.invoke("routed", Qualifier="1").environment == call.environment

    lambda_.update_alias(FunctionName="routed", Name="prod", RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    drawn: Counter[str] = Counter()
    for _ in range(60):
        call = server.invoke(f"{ARN}:prod")
        version = call.headers["x-amz-executed-version"]
        assert (call.payload["code"], call.payload["version"]) == (int(version), version)
        assert call.payload["arn"] == f"{ARN}:prod"
        drawn[version] += 1
    # Outside of this once in a million runs.
    assert set(drawn) == {"1", "2"} and min(drawn.values()) >= 10, drawn

    lambda_.delete_alias(FunctionName="routed", Name="prod")
    lambda_.delete_function(FunctionName="routed", Qualifier="1")
    try:
        server.invoke("routed", Qualifier="1")
        raise AssertionError("a version that was deleted ran")
    except ClientError as error:
        assert error.response["Error"]["Message"] == f"Function not found: {ARN}:1"
    assert server.invoke("routed", Qualifier="2").payload["code"] == 2


def test_updates_during_invocations_never_mix_code_and_configuration(server: Server) -> None:
    done = threading.Event()
    seen: list[tuple[int, str]] = []
    failures: list[BaseException] = []

    def invoke() -> None:
        try:
            while not done.is_set():
                payload = server.invoke("mixing", LogType="None").payload
                seen.append((payload["code"], payload["setting"]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=invoke) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 5):
            edited = edition("mixing", number)
            environment = edited.more["Environment"]
            server.functions.update_function_configuration(FunctionName="mixing", Environment=environment)
            server.wait_active("mixing", "function_updated_v2")
            server.functions.update_function_code(FunctionName="mixing", ZipFile=edited.package())
            server.wait_active("mixing", "function_updated_v2")
            assert server.invoke("mixing").payload["code"] == number
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures
    # Each update changes one of the two; what ran was always one of the states that were served.
    states = {(0, "0"), *((number - 1, str(number)) for number in range(1, 5)), *((n, str(n)) for n in range(1, 5))}
    assert set(seen) <= states and len(set(seen)) > 2, set(seen) - states
