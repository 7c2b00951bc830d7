"""kill -9 while every kind of setting is changed and taken away: what was answered is kept, the rest is old or new."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from .harness import Function, Server, running

#: Seconds after which a round's server is killed, from a fixed seed.
KILLS_S = [random.Random(7).uniform(0.2, 1.0) for _ in range(3)]
NAME = "kept"
ARN = f"arn:aws:lambda:us-east-1:000000000000:function:{NAME}"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/test"
Client = Any


@dataclass
class Setting:
    """Something that holds a number. `delete` is None for what is never taken away."""

    put: Callable[[Client, int], Any]
    get: Callable[[Client], Any]
    delete: Callable[[Client], Any] | None = None
    service: str = "lambda"
    shown: Callable[[int], Any] = lambda number: number  #: the number as `get` tells it
    sure: Any = None  #: what was answered last
    asked: Any = None  #: what may have been done since
    changes: int = field(default=0)

    def change(self, client: Client, number: int) -> None:
        gone = self.delete is not None and number % 4 == 0
        self.asked = None if gone else self.shown(number)
        try:
            if gone:
                assert self.delete is not None
                self.delete(client)
            else:
                self.put(client, number)
        except ClientError as error:
            assert 400 <= error.response["ResponseMetadata"]["HTTPStatusCode"] < 500, error
            self.asked = self.sure  # it was not there, or an update is under way
            return
        self.sure = self.asked
        self.changes += 1

    def check(self, client: Client) -> None:
        found = self.read(client)
        assert found in (self.sure, self.asked)
        self.sure = self.asked = found

    def read(self, client: Client) -> Any:
        """The number; None when there is none."""
        try:
            return self.get(client)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404, error
            return None


def settings() -> dict[str, Setting]:
    """Every setting, by its name, as nothing has been asked yet."""
    here = {"FunctionName": NAME}
    return {
        "timeout": Setting(lambda c, n: c.update_function_configuration(**here, Timeout=n),
                           lambda c: c.get_function_configuration(**here)["Timeout"]),
        "description": Setting(lambda c, n: c.update_function_configuration(**here, Description=str(n)),
                               lambda c: int(c.get_function_configuration(**here)["Description"] or 0)),
        "reserved": Setting(lambda c, n: c.put_function_concurrency(**here, ReservedConcurrentExecutions=n),
                            lambda c: c.get_function_concurrency(**here).get("ReservedConcurrentExecutions"),
                            lambda c: c.delete_function_concurrency(**here)),
        "event invoke": Setting(
            lambda c, n: c.put_function_event_invoke_config(**here, MaximumEventAgeInSeconds=60 + n),
            lambda c: c.get_function_event_invoke_config(**here)["MaximumEventAgeInSeconds"] - 60,
            lambda c: c.delete_function_event_invoke_config(**here)),
        "url": Setting(_put_url, lambda c: c.get_function_url_config(**here)["Cors"]["MaxAge"],
                       lambda c: c.delete_function_url_config(**here)),
        "alias": Setting(_put_alias, lambda c: int(c.get_alias(**here, Name="live")["Description"]),
                         lambda c: c.delete_alias(**here, Name="live")),
        "tag": Setting(lambda c, n: c.tag_resource(Resource=ARN, Tags={"number": str(n)}),
                       lambda c: _number(c.list_tags(Resource=ARN)["Tags"].get("number")),
                       lambda c: c.untag_resource(Resource=ARN, TagKeys=["number"])),
        "statement": Setting(
            lambda c, n: c.add_permission(**here, StatementId="s", Action="lambda:InvokeFunction",
                                          Principal="s3.amazonaws.com", SourceArn=f"arn:aws:s3:::b{n}"),
            lambda c: int(c.get_policy(**here)["Policy"].partition("arn:aws:s3:::b")[2].partition('"')[0]),
            lambda c: c.remove_permission(**here, StatementId="s")),
        "recursion": Setting(
            lambda c, n: c.put_function_recursion_config(**here, RecursiveLoop=("Allow", "Terminate")[n % 2]),
            lambda c: ("Allow", "Terminate").index(c.get_function_recursion_config(**here)["RecursiveLoop"]),
            shown=lambda n: n % 2),
        "mapping": Setting(_put_mapping, lambda c: _mapping(c)["BatchSize"],
                           lambda c: c.delete_event_source_mapping(UUID=_mapping(c)["UUID"])),
        "signing": Setting(_put_signing, lambda c: int(_signing(c)["Description"]),
                           lambda c: c.delete_code_signing_config(CodeSigningConfigArn=_signing(c)[
                               "CodeSigningConfigArn"])),
        "role": Setting(lambda c, n: _put_role(c, str(n)), lambda c: int(c.get_role(RoleName=NAME)["Role"][
            "Description"]), lambda c: c.delete_role(RoleName=NAME), "iam"),
    }  # fmt: skip


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _put_url(client: Client, number: int) -> None:
    cors = {"AllowOrigins": ["*"], "MaxAge": number}
    try:
        client.create_function_url_config(FunctionName=NAME, AuthType="NONE", Cors=cors)
    except client.exceptions.ResourceConflictException:
        client.update_function_url_config(FunctionName=NAME, Cors=cors)


def _put_alias(client: Client, number: int) -> None:
    try:
        client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description=str(number))
    except client.exceptions.ResourceConflictException:
        client.update_alias(FunctionName=NAME, Name="live", Description=str(number))


def _mapping(client: Client) -> dict[str, Any]:
    """The one mapping, or the 404 of one that is not there."""
    found = client.list_event_source_mappings(FunctionName=NAME)["EventSourceMappings"]
    identity = found[0]["UUID"] if found else "00000000-0000-4000-8000-000000000000"
    mapping: dict[str, Any] = client.get_event_source_mapping(UUID=identity)
    return mapping


def _put_mapping(client: Client, number: int) -> None:
    try:
        client.update_event_source_mapping(UUID=_mapping(client)["UUID"], BatchSize=number)
    except client.exceptions.ResourceNotFoundException:
        client.create_event_source_mapping(FunctionName=NAME, EventSourceArn=QUEUE, BatchSize=number,
                                           MaximumBatchingWindowInSeconds=1)  # fmt: skip


def _signing(client: Client) -> dict[str, Any]:
    """The one configuration, or the 404 of one that is not there."""
    found = client.list_code_signing_configs()["CodeSigningConfigs"]
    arn = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
    shown = client.get_code_signing_config(CodeSigningConfigArn=found[0]["CodeSigningConfigArn"] if found else arn)
    config: dict[str, Any] = shown["CodeSigningConfig"]
    return config


def _put_signing(client: Client, number: int) -> None:
    allowed = {"SigningProfileVersionArns": [PROFILE]}
    try:
        arn = _signing(client)["CodeSigningConfigArn"]
        client.update_code_signing_config(CodeSigningConfigArn=arn, Description=str(number))
    except client.exceptions.ResourceNotFoundException:
        client.create_code_signing_config(AllowedPublishers=allowed, Description=str(number))


def _put_role(client: Client, text: str) -> None:
    try:
        client.create_role(RoleName=NAME, AssumeRolePolicyDocument="{}", Description=text)
    except client.exceptions.EntityAlreadyExistsException:
        client.update_role(RoleName=NAME, Description=text)


def churn(server: Server, mine: dict[str, Setting], seed: int) -> None:
    """Change these settings until the server is gone."""
    dice = random.Random(seed)
    clients = {setting.service: server.aws(setting.service) for setting in mine.values()}
    try:
        while True:
            setting = mine[dice.choice(list(mine))]
            setting.change(clients[setting.service], dice.randrange(1, 800))
    except BotoCoreError:
        pass


@pytest.mark.slow
def test_killed_server_has_each_setting_as_it_was_or_as_it_was_to_be(tmp_path: Path) -> None:
    all_of_them = settings()
    with running(tmp_path / "data") as server:
        server.deploy(Function(NAME, "def handler(event, context):\n    pass\n"))
        server.functions.publish_version(FunctionName=NAME)
        for setting in all_of_them.values():
            setting.sure = setting.asked = setting.read(server.aws(setting.service))
    for turn, after_s in enumerate(KILLS_S):
        server = Server(tmp_path / "data")
        for service in ("lambda", "iam"):
            server.aws(service)  # made here, since making a client is not safe in threads
        parts = [dict(list(all_of_them.items())[number::3]) for number in range(3)]
        threads = [threading.Thread(target=churn, args=(server, part, turn * 100 + number))
                   for number, part in enumerate(parts)]  # fmt: skip
        for thread in threads:
            thread.start()
        threads[0].join(after_s)  # it goes on until the kill: this is the time until then
        server.process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(60)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        with running(tmp_path / "data") as server:
            for setting in all_of_them.values():
                setting.check(server.aws(setting.service))
            server.wait_active(NAME, "function_updated_v2")
    assert all(setting.changes for setting in all_of_them.values()), "a setting was never changed"
