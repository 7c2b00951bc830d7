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

PLACE = Function("place", """
import os
import boto3
from botocore.config import Config

def handler(event, context):
    found = [os.environ["AWS_REGION"], context.invoked_function_arn]
    once = Config(retries={"total_max_attempts": 1})
    aws = {name: boto3.client(name, endpoint_url=event["server"], config=once) for name in ("sts", "lambda")}
    shown = aws["sts"].get_caller_identity()
    functions = aws["lambda"].list_functions()["Functions"]
    return [*found, shown["Arn"], shown["UserId"], shown["Account"], [f["FunctionArn"] for f in functions]]
""", timeout=60, memory=1024)
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]})  # fmt: skip
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
        role = client(server, "iam", key, region).create_role(
            RoleName="e2e", Path="/service/", AssumeRolePolicyDocument=TRUST)["Role"]  # fmt: skip
        functions.create_function(**PLACE.request() | {"Role": role["Arn"]})
        often = {"Delay": 0.05, "MaxAttempts": 600}
        functions.get_waiter("function_active_v2").wait(FunctionName="place", WaiterConfig=often)
        event = json.dumps({"server": server.url})
        said = json.loads(functions.invoke(FunctionName="place", Payload=event)["Payload"].read())
        # With its own credentials a function is its role, and finds itself where it is.
        identity = f"arn:aws:sts::{account}:assumed-role/e2e/place"
        assert said == [region, arn, identity, f"{role['RoleId']}:place", account, [arn]]
        groups = logs.describe_log_groups()["logGroups"]
        assert [group["logGroupName"] for group in groups] == ["/aws/lambda/place"]
        assert f":{region}:{account}:" in groups[0]["arn"]
        # Another account is let in by the function's policy, and runs it where it is.
        outside = client(server, "lambda", "222222222222", region)
        with pytest.raises(ClientError, match="AccessDenied"):
            outside.invoke(FunctionName=arn)
        functions.add_permission(FunctionName="place", StatementId="s", Action="lambda:InvokeFunction",
                                 Principal="222222222222")  # fmt: skip
        assert json.loads(outside.invoke(FunctionName=arn, Payload=event)["Payload"].read()) == said
    assert server.functions.list_functions()["Functions"] == []
    assert server.logs.describe_log_groups()["logGroups"] == []
