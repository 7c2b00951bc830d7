"""A control plane on a real socket for tests: real store, packages and HTTP; only the preparer is a stand-in."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.config
import conforming
import pytest
from botocore.exceptions import ClientError

from lambent.clock import Clock
from lambent.control.app import ControlPlane
from lambent.control.s3_source import S3Source
from lambent.core.model import FunctionVersion
from lambent.http1_connection import Connection
from lambent.limits import CODE_STORAGE_BYTES, CREATE_REQUEST_BYTES
from lambent.store.store import Store
from lambent.worker.base import PreparationFailed
from lambent.worker.packages import PackageStore

T = TypeVar("T")

ROLE = "arn:aws:iam::000000000000:role/r"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


class GatedPreparer:
    """Prepares at once, unless `gate` is cleared; fails for the runtime that `lacks` names."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.lacks = ""
        self.breaks = False

    async def prepare(self, function: FunctionVersion) -> FunctionVersion:
        await self.gate.wait()
        if self.breaks:
            raise RuntimeError("the preparer is broken")
        if function.runtime == self.lacks:
            raise PreparationFailed("InvalidRuntime", f"{function.runtime} is not installed")
        return function


class RecordedCapacity:
    """Stands for the dispatcher: remembers what it was told, and says that everything wanted is there."""

    account_limit = 1000

    def __init__(self) -> None:
        self.reserved: dict[str, int | None] = {}
        self.wanted: dict[tuple[str, str, str], int] = {}
        self.environment_watchers: list[Callable[[str, str, int, bool], None]] = []

    def watch_environments(self, callback: Callable[[str, str, int, bool], None]) -> None:
        self.environment_watchers.append(callback)

    def reserve(self, function_arn: str, concurrency: int | None) -> None:
        self.reserved[function_arn] = concurrency

    def provision(self, function: FunctionVersion, wanted: int) -> None:
        self.wanted[function.fleet] = wanted

    def provision_status(self, function: FunctionVersion) -> tuple[int, int, int, str]:
        wanted = self.wanted.get(function.fleet, 0)
        return wanted, wanted, wanted, ""


class Plane:
    """What a test talks to."""

    def __init__(self, store: Store, packages: PackageStore, preparer: GatedPreparer, clock: Clock,
                 app: ControlPlane, capacity: RecordedCapacity) -> None:
        self.capacity = capacity
        self.store = store
        self.packages = packages
        self.preparer = preparer
        self.clock = clock
        self.app = app
        self.port = 0
        self._threads = ThreadPoolExecutor(8)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str = "lambda", region: str = "us-east-1", key: str = "test",
               keys: Mapping[str, str] | None = None) -> Any:
        """A client with this access key id, or with `keys` as STS gives them."""
        keys = keys or {"AccessKeyId": key, "SecretAccessKey": "test"}
        config = botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=2,
                                        parameter_validation=False, read_timeout=30)  # fmt: skip
        client = boto3.client(
            service, endpoint_url=self.endpoint, region_name=region, aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys.get("SessionToken"),
            config=config)  # fmt: skip
        conforming.watch(client)
        return client

    def close(self) -> None:
        self._threads.shutdown()

    async def drive(self, script: Callable[[Any], T], service: str = "lambda") -> T:
        """Run a test's blocking boto3 calls in a thread while the loop serves them."""

        def run() -> T:
            client = self.client(service)
            try:
                return script(client)
            finally:
                client.close()

        # Not the loop's own pool: the server's work for these very calls runs there.
        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


@asynccontextmanager
async def running(data_dir: Path, preparer: GatedPreparer | None = None, s3: S3Source | None = None,
                  inactive_after_s: float = 0.0, code_storage_bytes: int = CODE_STORAGE_BYTES) -> AsyncIterator[Plane]:
    loop = asyncio.get_running_loop()
    clock = Clock()
    store = Store.open(data_dir)
    packages = PackageStore(data_dir, store.blobs)
    preparer = preparer or GatedPreparer()
    capacity = RecordedCapacity()
    app = ControlPlane(store, packages, preparer, clock, account="000000000000", region="us-east-1",
                       endpoint=lambda: plane.endpoint, capacity=capacity, s3=s3,
                       inactive_after_s=inactive_after_s, url_policies=True,
                       code_storage_bytes=code_storage_bytes)  # fmt: skip
    plane = Plane(store, packages, preparer, clock, app, capacity)
    connections: set[Connection] = set()

    def connect() -> Connection:
        connection = Connection(app.handle, loop, CREATE_REQUEST_BYTES, connections.discard)
        connections.add(connection)
        return connection

    await app.start()
    server = await loop.create_server(connect, "127.0.0.1", 0)
    plane.port = server.sockets[0].getsockname()[1]
    try:
        yield plane
    finally:
        plane.close()
        server.close()
        for connection in list(connections):
            connection.abort()
        await app.stop()
        await server.wait_closed()
        store.close()


def zipped(files: dict[str, bytes] | None = None, mode: int = 0o644) -> bytes:
    """A package with these files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in (files or {"app.py": b"def handler(event, context):\n    return event\n"}).items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content)
    return target.getvalue()


def function(name: str = "f", **changes: Any) -> dict[str, Any]:
    """Parameters of CreateFunction for a function that can be created, with these changes; None leaves one out."""
    params = {"FunctionName": name, "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler",
              "Code": {"ZipFile": zipped()}, **changes}  # fmt: skip
    return {member: value for member, value in params.items() if value is not None}


def settled(client: Any, name: str = "f") -> dict[str, Any]:
    """The configuration once no activation is under way (boto3's waiters pause for a second)."""
    for _ in range(1000):
        shown: dict[str, Any] = client.get_function_configuration(FunctionName=name)
        if shown["State"] != "Pending" and shown["LastUpdateStatus"] != "InProgress":
            return shown
    raise AssertionError(f"{name} did not settle")


def refused(call: Any, **params: Any) -> tuple[str, int, str]:
    """Code, status and message of the error that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]
