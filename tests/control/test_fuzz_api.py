"""No request that can be built from the model, nor any near it, gives a 500 or a half-made resource."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest
from control_plane import ROLE, GatedPreparer, RecordedCapacity, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambent.clock import Clock
from lambent.control.app import ControlPlane
from lambent.control.context import OPERATIONS
from lambent.control.model import LOGS_OPERATIONS, SHAPES
from lambent.control.model import OPERATIONS as MODELLED
from lambent.control.query import QUERIES
from lambent.control.routes import find
from lambent.http1 import Request
from lambent.http1_connection import Connection
from lambent.store.documents import DocumentTable
from lambent.store.functions import FunctionTable
from lambent.store.store import Store
from lambent.store.urls import UrlTable
from lambent.worker.packages import PackageStore

STATES = {"Pending", "Active", "Failed"}
NAMES = ["f", "g", "h"]
ZIPS = [zipped(), zipped({"b.py": b"2"}), b"no zip", zipped({"../evil": b"1"})]


class Answer:
    """Stands where the connection of a request would be, and keeps what is sent to it."""

    closed = False
    peer = ("127.0.0.1", 1)

    def __init__(self) -> None:
        self.sent: asyncio.Future[tuple[int, bytes, dict[str, str]]] = asyncio.get_running_loop().create_future()

    def send(self, _: Request, status: int, body: bytes, headers: tuple[tuple[str, str], ...], __: str | None) -> None:
        self.sent.set_result((status, body, dict(headers)))


class Target:
    """One control plane that every example talks to; its state grows as the examples go."""

    def __init__(self, data_dir: Path) -> None:
        self.runner = asyncio.Runner()
        self.data_dir = data_dir
        self.answered: Counter[str] = Counter()  #: successes by operation
        self.store = Store.open(data_dir)
        self.packages = PackageStore(data_dir, self.store.blobs)
        preparer = self.runner.run(self._preparer())
        self.app = ControlPlane(self.store, self.packages, preparer, Clock(), account="000000000000",
                                region="us-east-1", endpoint=lambda: "http://127.0.0.1:1",
                                capacity=RecordedCapacity())  # fmt: skip

    @staticmethod
    async def _preparer() -> GatedPreparer:
        return GatedPreparer()

    def ask(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes
            ) -> tuple[int, bytes, dict[str, str]]:
        async def one() -> tuple[int, bytes, dict[str, str]]:
            answer = Answer()
            self.app.handle(Request(cast(Connection, answer), method, path, query, headers, body, True))
            return await asyncio.wait_for(answer.sent, 10)

        found = find(method, path, query)
        result = self.runner.run(one())
        if found is not None and result[0] < 300:
            self.answered[found[0].name] += 1
        return result

    def fill(self) -> None:
        """Make every function that is not there, so that settings have something to hang on."""
        for name in NAMES:
            if self.store.functions.get("000000000000", "us-east-1", name) is None:
                document = {"FunctionName": name, "Role": ROLE, "Runtime": "python3.12", "Handler": "app.handler",
                            "Code": {"ZipFile": base64.b64encode(ZIPS[0]).decode()}}  # fmt: skip
                self.ask("POST", "/2015-03-31/functions", "", {}, json.dumps(document).encode())

    def check(self) -> None:
        """What must hold between any two requests."""
        for function in self.store.functions:
            for version in function.versions.values():
                assert version.configuration["State"] in STATES
                assert version.code_sha256 in self.store.blobs.references
                assert version.code_sha256 in self.store.blobs
                assert version.serving is None or version.serving.code_sha256 in self.store.blobs
                assert all(layer in self.store.blobs for layer in version.layers)
            assert all(target in function.versions for alias in function.aliases.values() for target in alias.targets)
        for layer in self.store.layers:
            assert layer.code_sha256 in self.store.blobs
        for shelf in self.store.documents._shelves:
            assert not shelf.function or self.store.functions.get(*shelf[:3]) is not None
        for url in self.store.urls:
            assert self.store.functions.get(*url.key[:3]) is not None

    def check_disk(self) -> None:
        """The disk says what memory says."""
        connection = sqlite3.connect(self.data_dir / "lambent.sqlite")
        functions, urls, documents = FunctionTable("000000000000", "us-east-1"), UrlTable(), DocumentTable()
        documents.load(connection)
        assert documents._shelves == self.store.documents._shelves
        functions.load(connection)
        urls.load(connection)
        connection.close()
        assert sorted(functions, key=lambda one: one.key) == sorted(self.store.functions, key=lambda one: one.key)
        assert sorted(url.url_id for url in urls) == sorted(url.url_id for url in self.store.urls)

    def close(self) -> None:
        self.runner.run(self.app.stop())
        self.store.close()
        self.runner.close()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target(tmp_path_factory.mktemp("fuzz"))
    yield target
    target.check_disk()
    target.close()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
#: 24 is the wildest; small numbers are likelier to come, since hypothesis likes them.
WILD = st.integers(0, 24)
#: Values that get past the first door, so that what lies behind it is reached too.
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "FunctionName": st.sampled_from(NAMES), "NamespacedFunctionName": st.sampled_from(NAMES),
    "UnqualifiedFunctionName": st.sampled_from(NAMES),
    "FunctionUrlFunctionName": st.sampled_from(NAMES), "RoleArn": st.just(ROLE),
    "Blob": st.sampled_from(ZIPS).map(lambda content: base64.b64encode(content).decode()),
    "Runtime": st.sampled_from(["python3.12", "nodejs22.x", "java8", "cobol"]), "Handler": st.just("app.handler"),
    "FunctionUrlAuthType": st.sampled_from(["NONE", "AWS_IAM"]), "FunctionVersion": st.just("ALL"),
    "EnvironmentVariableName": st.text(string.ascii_letters, min_size=2, max_size=6),
    "NumericLatestPublishedOrAliasQualifier": st.sampled_from(["$LATEST", "1", "prod"]),
    "VersionWithLatestPublished": st.sampled_from(["$LATEST", "1", "2"]), "Alias": st.sampled_from(["prod", "test"]),
    "AdditionalVersion": st.sampled_from(["1", "2"]),
    "LayerName": st.sampled_from(["l", "m"]), "LayerVersionNumber": st.sampled_from([1, 2, 3]),
    "LayerVersionArn": st.sampled_from([f"arn:aws:lambda:us-east-1:000000000000:layer:{name}:1" for name in "lm"]),
    "FunctionUrlQualifier": st.sampled_from(["prod"]),
    "TaggableResource": st.sampled_from([f"arn:aws:lambda:us-east-1:000000000000:function:{name}" for name in NAMES]),
    "TagKey": st.sampled_from(["a", "b", "aws:c"]), "TagValue": st.just("v"),
    "StatementId": st.sampled_from(["s", "t"]), "Action": st.just("lambda:InvokeFunction"),
    "Principal": st.sampled_from(["*", "s3.amazonaws.com", "nobody"]),
    "Arn": st.sampled_from(["arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:kinesis:us-east-1:000000000000:stream/s",
                            "arn:aws:kafka:us-east-1:000000000000:cluster/c"]),
    "DestinationArn": st.sampled_from(["arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:s3:::bucket", ""]),
    "ResourceArn": st.sampled_from(["arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:x:y", ""]),
    "Pattern": st.sampled_from(['{"body": [1]}', "{", '{"a": {"b": []}}']),
}  # fmt: skip


@st.composite
def value(draw: st.DrawFn, name: str) -> Any:
    """A value for a shape: mostly one that it takes, now and then one at its edge, now and then anything."""
    chance = draw(WILD)
    if chance == 24:
        return draw(ANYTHING)
    if name in GOOD and chance < 22:
        return draw(GOOD[name])
    row = SHAPES[name]
    kind = row["type"]
    low, high = row.get("min", 0), row.get("max", 4)
    if kind == "structure":
        return draw(members(name))
    if kind == "list":
        return draw(st.lists(value(row["member"]), max_size=min(high, 3) + (chance == 23)))
    if kind == "map":
        keys = GOOD.get(row["key"], st.text(max_size=4))
        return draw(st.dictionaries(keys, value(row["value"]), max_size=3))
    if kind in ("integer", "long"):
        return draw(st.sampled_from([low, high, low - 1, high + 1]) | st.integers(low, max(low, high)))
    if kind in ("double", "timestamp"):
        return draw(st.floats(allow_nan=False))
    if kind == "boolean":
        return chance % 4 == 1
    if kind == "blob":
        return draw(st.binary(max_size=8).map(lambda content: base64.b64encode(content).decode()))
    if "enum" in row:
        return draw(st.sampled_from(row["enum"]))
    return draw(st.text(max_size=min(high, 12)))


@st.composite
def members(draw: st.DrawFn, name: str) -> dict[str, Any]:
    row = SHAPES[name]
    usual = {*row.get("required", ()), "Runtime", "Handler", "ZipFile", "EventSourceArn"}
    if draw(WILD) == 24:
        usual = set()
    extra = draw(st.lists(st.sampled_from(sorted(row["members"])), max_size=2)) if row["members"] else []
    chosen = [member for member in row["members"] if member in usual or member in extra]
    return {member: draw(value(row["members"][member][0])) for member in chosen}


@st.composite
def requests(draw: st.DrawFn, names: list[str]) -> tuple[str, str, str, dict[str, str], bytes]:
    """Method, path, query, headers and body of a request for one of these operations."""
    method, uri, _, shape, _ = MODELLED[draw(st.sampled_from(names))]
    path, _, query = uri.partition("?")
    headers: dict[str, str] = {}
    document: dict[str, Any] = {}
    pairs = [query] if query else []
    row = SHAPES[shape] if shape else {"members": {}}
    for member, given_value in (draw(members(shape)) if shape else {}).items():
        _, where, wire = row["members"][member]
        text = given_value if isinstance(given_value, str) else str(given_value)
        if where == "uri":
            path = path.replace("{" + wire + "}", quote(text, safe=""))
        elif where == "query":
            pairs.append(f"{wire}={quote(text, safe='')}")
        elif where == "header":
            headers[wire.lower()] = text
        else:
            document[member] = given_value
    body = json.dumps(document).encode() if document else b""
    if draw(WILD) == 24:
        body = draw(st.binary(max_size=30) | st.just(body[:-1]))
    return method, path, "&".join(pairs), headers, body


def judge(answer: tuple[int, bytes, dict[str, str]], request: Any) -> None:
    status, body, headers = answer
    assert status < 500 or status == 501, (request, body)
    if status >= 400:
        error = json.loads(body)
        assert headers["x-amzn-ErrorType"] and ("message" in error or "Message" in error), request
    elif body:
        assert isinstance(json.loads(body), dict)


SETTINGS = ["TagResource", "AddPermission", "PutFunctionEventInvokeConfig", "CreateEventSourceMapping",
            "CreateCodeSigningConfig", "PutFunctionRecursionConfig"]  # fmt: skip
#: What the guard at the end asks for; the first one comes twice as often.
FREQUENT = ["CreateFunction", "CreateFunction", "UpdateFunctionConfiguration", "DeleteFunction",
            "CreateFunctionUrlConfig", "PublishVersion", "PublishLayerVersion"]  # fmt: skip
FUZZED = settings(max_examples=400, deadline=None, derandomize=True,
                  suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


@pytest.mark.slow
@given(request=requests(FREQUENT))
@FUZZED
def test_requests_for_functions(target: Target, request: tuple[str, str, str, dict[str, str], bytes]) -> None:
    judge(target.ask(*request), request)
    target.check()


@pytest.mark.slow
@given(request=requests(SETTINGS))
@FUZZED
def test_requests_for_settings(target: Target, request: tuple[str, str, str, dict[str, str], bytes]) -> None:
    target.fill()
    judge(target.ask(*request), request)
    target.check()


FORM = st.dictionaries(
    st.sampled_from(["RoleName", "PolicyName", "PolicyArn", "AssumeRolePolicyDocument", "PolicyDocument", "RoleArn",
                     "Path", "RoleSessionName", "DurationSeconds", "Tags.member.1.Key", "TagKeys.member.1",
                     "VersionId"]),
    st.sampled_from(["r", "{}", "/", "arn:aws:iam::aws:policy/p", "arn:aws:iam::000000000000:policy/r", "900",
                     "arn:aws:iam::000000000000:role/r", "v1", "\x00<&>"]) | st.text(max_size=8),
)  # fmt: skip


@given(st.sampled_from([*sorted(QUERIES), ("iam", "Nothing"), ("sns", "Publish")]), FORM, st.binary(max_size=20))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_forms_for_sts_and_iam(target: Target, operation: tuple[str, str], form: dict[str, str], noise: bytes) -> None:
    service, action = operation
    versions = {"sts": "2011-06-15", "iam": "2010-05-08"}
    text = urlencode({"Action": action, "Version": versions.get(service, "1"), **form})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for body in (text.encode(), noise + text.encode(), noise):
        status, answer, _ = target.ask("POST", "/", "", headers, body)
        assert status < 500 or status == 501, (operation, form)
        ElementTree.fromstring(answer)


@pytest.mark.slow
@given(request=requests(sorted(OPERATIONS)))
@FUZZED
def test_requests_for_served_operations(target: Target, request: tuple[str, str, str, dict[str, str], bytes]) -> None:
    judge(target.ask(*request), request)
    target.check()


@given(request=requests(sorted(MODELLED)))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_requests_for_any_operation(target: Target, request: tuple[str, str, str, dict[str, str], bytes]) -> None:
    judge(target.ask(*request), request)


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]), st.text(max_size=40), st.text(max_size=20),
       st.binary(max_size=40))  # fmt: skip
@settings(max_examples=100, deadline=None, derandomize=True)
def test_requests_that_are_noise(target: Target, method: str, path: str, query: str, body: bytes) -> None:
    for start in ("/", "/2015-03-31/functions/", "/_code/"):
        judge(target.ask(method, start + path, query, {}, body), (method, start + path))


@given(st.sampled_from([*LOGS_OPERATIONS, "Nothing"]), ANYTHING | st.binary(max_size=20))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_requests_for_logs_without_a_log_store(target: Target, name: str, document: Any) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    status, answer, _ = target.ask("POST", "/", "", {"x-amz-target": f"Logs_20140328.{name}"}, body)
    assert status in (400, 404, 501) and json.loads(answer)["__type"]


def test_examples_reached_what_lies_behind_validation(target: Target) -> None:
    """A guard against a fuzz test that is refused at the door every time. Runs last."""
    assert [name for name in (*FREQUENT, *SETTINGS) if not target.answered[name]] == []
