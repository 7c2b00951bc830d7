"""The AWS CLI against the server: what somebody types, without any configuration but the endpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .harness import PYTHON, ROLE, Function, Server

AWS = shutil.which("aws", path=os.path.dirname(sys.executable)) or shutil.which("aws")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(AWS is None, reason="needs the AWS CLI")]

GREETER = Function("greeter", "def handler(event, context):\n    print('greeting', event['name'])\n"
                   "    return {'said': 'hello ' + event['name'], 'arn': context.invoked_function_arn}\n")  # fmt: skip
ARN = "arn:aws:lambda:us-east-1:000000000000:function:greeter"


class Cli:
    """`aws` with this server as its endpoint, and no file of its user."""

    def __init__(self, server: Server, home: Path) -> None:
        self._environment = {
            "PATH": os.environ.get("PATH", ""), "HOME": str(home), "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "cli", "AWS_SECRET_ACCESS_KEY": "cli", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "",
        }  # fmt: skip
        self._home = home

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert AWS is not None
        return subprocess.run([AWS, *words, "--output", "json"], env=self._environment, cwd=self._home, text=True,
                              capture_output=True, timeout=120)  # fmt: skip

    def __call__(self, *words: str) -> Any:
        """What a command prints, as JSON; None for nothing. The command must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture
def aws(server: Server, tmp_path: Path) -> Cli:
    return Cli(server, tmp_path)


def test_a_functions_life_on_the_command_line(aws: Cli, tmp_path: Path) -> None:
    (tmp_path / "code.zip").write_bytes(GREETER.package())
    assert aws("sts", "get-caller-identity")["Account"] == "000000000000"
    created = aws("lambda", "create-function", "--function-name", "greeter", "--runtime", PYTHON, "--role", ROLE,
                  "--handler", "app.handler", "--zip-file", "fileb://code.zip", "--tags", "team=green")  # fmt: skip
    assert (created["FunctionArn"], created["State"]) == (ARN, "Pending")
    aws("lambda", "wait", "function-active-v2", "--function-name", "greeter")
    reply = aws("lambda", "invoke", "--function-name", "greeter", "--payload", '{"name": "you"}', "out.json")
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert json.loads((tmp_path / "out.json").read_text()) == {"said": "hello you", "arn": ARN}
    aws("lambda", "update-function-configuration", "--function-name", "greeter", "--timeout", "7")
    aws("lambda", "wait", "function-updated-v2", "--function-name", "greeter")
    version = aws("lambda", "publish-version", "--function-name", "greeter")["Version"]
    aws("lambda", "wait", "published-version-active", "--function-name", "greeter", "--qualifier", version)
    alias = aws("lambda", "create-alias", "--function-name", "greeter", "--name", "prod", "--function-version", version)
    assert alias["AliasArn"] == f"{ARN}:prod"
    reply = aws("lambda", "invoke", "--function-name", "greeter:prod", "--payload", '{"name": "you"}', "out.json")
    assert reply["ExecutedVersion"] == version
    shown = aws("lambda", "get-function", "--function-name", ARN)
    assert (shown["Configuration"]["Timeout"], shown["Tags"]) == (7, {"team": "green"})
    listed = aws("lambda", "list-functions", "--query", "Functions[].FunctionName")
    assert listed == ["greeter"]
    found = aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/greeter", "--filter-pattern", "greeting")
    assert [event["message"].strip() for event in found["events"]] == ["greeting you"] * 2
    aws("lambda", "delete-function", "--function-name", "greeter")
    gone = aws.run("lambda", "get-function", "--function-name", "greeter")
    assert gone.returncode != 0 and f"(ResourceNotFoundException) when calling the GetFunction operation: " \
        f"Function not found: {ARN}" in gone.stderr  # fmt: skip


def test_what_hangs_on_a_function_on_the_command_line(aws: Cli, server: Server) -> None:
    server.deploy(Function("hung", GREETER.source))
    arn = ARN.replace("greeter", "hung")
    trust = '{"Version": "2012-10-17", "Statement": []}'
    assert aws("iam", "create-role", "--role-name", "cli", "--assume-role-policy-document", trust)["Role"]["Arn"] == (
        "arn:aws:iam::000000000000:role/cli")  # fmt: skip
    aws("lambda", "tag-resource", "--resource", arn, "--tags", "a=b,c=d")
    assert aws("lambda", "list-tags", "--resource", arn)["Tags"] == {"a": "b", "c": "d"}
    aws("lambda", "add-permission", "--function-name", "hung", "--statement-id", "s", "--action",
        "lambda:InvokeFunction", "--principal", "s3.amazonaws.com")  # fmt: skip
    assert "s3.amazonaws.com" in aws("lambda", "get-policy", "--function-name", "hung")["Policy"]
    config = aws("lambda", "put-function-event-invoke-config", "--function-name", "hung",
                 "--maximum-retry-attempts", "1")  # fmt: skip
    assert config["FunctionArn"] == f"{arn}:$LATEST"
    mapping = aws("lambda", "create-event-source-mapping", "--function-name", "hung", "--event-source-arn",
                  "arn:aws:sqs:us-east-1:000000000000:q")  # fmt: skip
    assert (mapping["State"], mapping["BatchSize"]) == ("Creating", 10)
    assert aws("lambda", "get-account-settings")["AccountUsage"]["FunctionCount"] == 1
    other = aws.run("s3api", "list-buckets")
    assert other.returncode != 0 and "s3 is not served by Lambent" in other.stderr
