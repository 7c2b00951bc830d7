"""Several accounts and regions in one server: invocations, logs and credentials of functions stay apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from .harness import Function, Server

PLACE = Function("place", "import os\n\ndef handler(event, context):\n    return [os.environ['AWS_REGION'], "
                 "context.invoked_function_arn, os.environ['AWS_ACCESS_KEY_ID']]\n")  # fmt: skip
#: (access key id, region) of the callers, and the account that each is in.
CALLERS = (("e2e", "eu-west-1", "000000000000"), ("111111111111", "us-east-1", "111111111111"))


_made: list[Any] = []


@pytest.fixture(autouse=True)
def close_clients() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def client(server: Server, service: str, key: str, region: str) -> Any:
    _made.append(boto3.client(
        service, endpoint_url=server.url, region_name=region, aws_access_key_id=key, aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1})))  # fmt: skip
    return _made[-1]


def test_each_caller_invokes_a_function_of_its_own(server: Server) -> None:
    for key, region, account in CALLERS:
        functions, logs = client(server, "lambda", key, region), client(server, "logs", key, region)
        with pytest.raises(ClientError) as caught:
            functions.invoke(FunctionName="place")
        arn = f"arn:aws:lambda:{region}:{account}:function:place"
        assert caught.value.response["Error"]["Message"] == f"Function not found: {arn}:$LATEST"
        functions.create_function(**PLACE.request())
        often = {"Delay": 0.05, "MaxAttempts": 600}
        functions.get_waiter("function_active_v2").wait(FunctionName="place", WaiterConfig=often)
        said = json.loads(functions.invoke(FunctionName="place", LogType="Tail")["Payload"].read())
        assert said[:2] == [region, arn]
        # With its own credentials a function finds itself where it is.
        assert client(server, "sts", said[2], region).get_caller_identity()["Account"] == account
        groups = logs.describe_log_groups()["logGroups"]
        assert [group["logGroupName"] for group in groups] == ["/aws/lambda/place"]
        assert f":{region}:{account}:" in groups[0]["arn"]
    assert server.functions.list_functions()["Functions"] == []
    assert server.logs.describe_log_groups()["logGroups"] == []
