"""kill -9 while all kinds of changes are under way: each is done or not begun, and what was answered is kept."""

from __future__ import annotations

import base64
import hashlib
import random
import signal
import threading
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from .harness import PYTHON, ROLE, Function, Server, running

#: Seconds after which a round's server is killed, from a fixed seed.
KILLS_S = [random.Random(5).uniform(0.1, 1.2) for _ in range(4)]
WORKERS = 4
SOURCE = "def handler(event, context):\n    return {number}\n"


def package(number: int) -> bytes:
    return Function("any", SOURCE.format(number=number)).package()


class Churn:
    """One caller with a function of its own. `sure` is what was answered, `asked` what may have been done, too."""

    def __init__(self, server: Server, name: str, seed: int) -> None:
        self._lambda = server.functions
        self._iam = server.aws("iam")
        self._dice = random.Random(seed)
        self.name = name
        self.sure: str | None = None
        self.asked: str | None = None
        self.layers = 0
        self.done = 0

    def run(self) -> None:
        """Change things until the server is gone."""
        steps = (self._code, self._code, self._publish, self._tag, self._alias, self._permit, self._layer, self._role)
        try:
            self._create()
            while True:
                try:
                    self._dice.choice(steps)()
                    self.done += 1
                except ClientError as error:
                    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                    assert 400 <= status < 500, error  # a conflict with an update under way, or what is there already
        except BotoCoreError:
            pass

    def _create(self) -> None:
        content = self._next()
        self._lambda.create_function(FunctionName=self.name, Role=ROLE, Runtime=PYTHON, Handler="app.handler",
                                     Code={"ZipFile": content})  # fmt: skip
        self.sure = digest(content)

    def _code(self) -> None:
        content = self._next()
        self._lambda.update_function_code(FunctionName=self.name, ZipFile=content)
        self.sure = digest(content)

    def _next(self) -> bytes:
        content = package(self._dice.randrange(10**6))
        self.asked = digest(content)
        return content

    def _publish(self) -> None:
        self._lambda.publish_version(FunctionName=self.name)

    def _tag(self) -> None:
        arn = f"arn:aws:lambda:us-east-1:000000000000:function:{self.name}"
        self._lambda.tag_resource(Resource=arn, Tags={"a": "b", "c": "d"})

    def _alias(self) -> None:
        self._lambda.create_alias(FunctionName=self.name, Name=f"a{self._dice.randrange(99)}", FunctionVersion="1")

    def _permit(self) -> None:
        self._lambda.add_permission(FunctionName=self.name, StatementId=f"s{self._dice.randrange(99)}",
                                    Action="lambda:InvokeFunction", Principal="s3.amazonaws.com")  # fmt: skip

    def _layer(self) -> None:
        self._lambda.publish_layer_version(LayerName=self.name, Content={"ZipFile": package(self.layers)})
        self.layers += 1

    def _role(self) -> None:
        self._iam.create_role(RoleName=f"{self.name}-{self._dice.randrange(99)}", AssumeRolePolicyDocument="{}")

    def check(self, server: Server) -> None:
        """Nothing that was answered is lost, nothing is half there."""
        if self.sure is None:
            return  # killed before its function was answered for; `whole` looks at what is there
        shown = server.functions.get_function(FunctionName=self.name)
        assert shown["Configuration"]["CodeSha256"] in (self.sure, self.asked)
        assert shown.get("Tags", {}) in ({}, {"a": "b", "c": "d"})
        layers = server.functions.get_paginator("list_layer_versions").paginate(LayerName=self.name)
        found = [layer["Version"] for page in layers for layer in page["LayerVersions"]]
        assert sorted(found) == list(range(1, len(found) + 1)) and len(found) in (self.layers, self.layers + 1)


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def whole(server: Server) -> None:
    """Every function becomes Active and has the code that it says, so have its versions; aliases lead somewhere."""
    pages = server.functions.get_paginator("list_functions").paginate(FunctionVersion="ALL")
    listed = [version for page in pages for version in page["Functions"]]
    numbers = {(version["FunctionName"], version["Version"]) for version in listed}
    for version in listed:
        name = version["FunctionName"]
        shown = server.functions.get_function(FunctionName=name, Qualifier=version["Version"])
        with urllib.request.urlopen(shown["Code"]["Location"], timeout=30) as answer:
            assert digest(answer.read()) == version["CodeSha256"]
        if version["Version"] == "$LATEST":
            server.wait_active(name)
            server.wait_active(name, "function_updated_v2")
            for alias in server.functions.list_aliases(FunctionName=name)["Aliases"]:
                assert (name, alias["FunctionVersion"]) in numbers
            assert server.invoke(name).error is None


@pytest.mark.slow
def test_killed_server_has_done_each_change_or_not_begun_it(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:  # so that no round waits for a runtime to be made
        server.deploy(Function("first", SOURCE.format(number=0)))
    changes = 0
    for turn, after_s in enumerate(KILLS_S):
        server = Server(tmp_path / "data")
        churns = [Churn(server, f"f{turn}-{number}", turn * 100 + number) for number in range(WORKERS)]
        threads = [threading.Thread(target=churn.run) for churn in churns]
        for thread in threads:
            thread.start()
        threads[0].join(after_s)  # it goes on until the kill: this is the time until then
        server.process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(60)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        with running(tmp_path / "data") as server:
            for churn in churns:
                churn.check(server)
            whole(server)
        changes += sum(churn.done for churn in churns)
    assert changes > 20, "the server was killed before much had happened"
