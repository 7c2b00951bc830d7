"""The composition root: wires every part from Settings, starts them in order, and stops them in reverse."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from lambent import __version__, limits
from lambent.callers import Callers
from lambent.clock import Clock, rfc3339
from lambent.control.app import ControlPlane
from lambent.control.s3_source import S3Source
from lambent.core.headroom import Headroom
from lambent.core.keepalive.fixed import Fixed
from lambent.core.scheduler import Scheduler
from lambent.dispatcher import Dispatcher
from lambent.frontend.app import Edge
from lambent.frontend.chaos import ChaosApi
from lambent.frontend.invoke import Invoke
from lambent.frontend.management import Management
from lambent.frontend.streaming import StreamingInvoke
from lambent.frontend.url_requests import FunctionUrls
from lambent.http1_connection import Connection
from lambent.http1_parse import Budget
from lambent.runtimes.preparation import Runtimes
from lambent.sandbox import promptness
from lambent.sandbox.base import SandboxBackend
from lambent.sandbox.capacity import CONNECTIONS, connections, host_memory, memory_budget, memory_marks, take_files
from lambent.sandbox.detect import choose_backend
from lambent.settings import Settings, s3_keys
from lambent.store.store import Store
from lambent.telemetry.logstores import LogStores
from lambent.worker.local import LocalWorker
from lambent.worker.packages import PackageStore

#: What their requests and answers may make us hold together at most: a share of the memory that environments leave to
#: us, but room for several of the largest requests, which have 70 MB.
BODIES_BYTES = 1024 * 1024 * 1024
BODIES_BYTES_AT_LEAST = 256 * 1024 * 1024


def serve(settings: Settings) -> int:
    """Run the server in the foreground until SIGTERM or SIGINT; returns the exit code.

    Raises SandboxError, StoreError or OSError, each fit for one line, when it cannot start.
    """
    take_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        url = await start(settings, stack)
        gc.freeze()  # what is loaded by now stays, and need not be looked at again
        print(f"Lambent {__version__} is ready at {url}", flush=True)
        await stop.wait()
        print("Lambent is stopping", flush=True)
    return 0


async def start(settings: Settings, stack: AsyncExitStack) -> str:
    """Start every part and leave its end on the stack. Returns the base URL, once requests are answered."""
    loop = asyncio.get_running_loop()
    promptness.ask()
    clock = Clock()
    server = Listener(loop)
    # The port first: a server that is already there is the most likely mistake, and nothing is to be undone yet.
    url = await server.bind(settings.host, settings.port)
    stack.callback(server.close)

    store = Store.open(settings.data_dir, account=settings.account, region=settings.region)
    stack.callback(store.close)
    logs = LogStores(settings.data_dir, clock)
    logs.of(settings.account, settings.region)
    stack.push_async_callback(logs.stop)
    backend = choose_backend(settings.sandbox, store.instance, settings.data_dir / "run",
                             memory_budget(settings.memory_mib), settings.tmp)
    await backend.start()
    stack.push_async_callback(backend.stop)
    for line in said_at_start(backend, url):
        print(f"lambent: {line}", file=sys.stderr, flush=True)
    runtimes = Runtimes(settings.cache_dir, nearest=settings.nearest_runtime)
    stack.push_async_callback(runtimes.stop)
    packages = PackageStore(settings.data_dir, store.blobs)

    dispatcher, worker = _dispatching(settings, clock, backend, runtimes, packages, logs)
    store.functions.watch(dispatcher.function_changed)
    stack.push_async_callback(dispatcher.stop, settings.drain_s)

    control = ControlPlane(store, packages, worker, clock, account=settings.account, region=settings.region,
                           endpoint=lambda: url, capacity=dispatcher, logs=logs, s3=s3_source(settings, clock),
                           inactive_after_s=settings.inactive_after_days * 86_400,
                           url_policies=settings.public_urls == "policy",
                           code_storage_bytes=settings.code_storage_mib * 1024 * 1024)
    await control.start()
    stack.push_async_callback(control.stop)

    await server.serve(_edge(settings, url, clock, store, backend, dispatcher, worker, control))
    worker.expect(version.serving for function in store.functions for version in function.versions.values()
                  if version.serving is not None)  # fmt: skip
    return url


def _dispatching(settings: Settings, clock: Clock, backend: SandboxBackend, runtimes: Runtimes, packages: PackageStore,
                 logs: LogStores) -> tuple[Dispatcher, LocalWorker]:
    """Who decides which environment serves, and who has them."""
    budget, marks = memory_marks(memory_budget(settings.memory_mib))
    scheduler = Scheduler(account_limit=settings.concurrency, keep_alive=Fixed(settings.keep_alive_s),
                          max_age_s=settings.max_age_s, memory_budget_bytes=budget,
                          headroom=Headroom() if settings.proactive_init else None)
    dispatcher = Dispatcher(scheduler, clock)
    worker = LocalWorker(clock=clock, backend=backend, runtimes=runtimes, packages=packages, logs=logs,
                         owner=dispatcher, network=settings.network,
                         limit_bandwidth=settings.stream_bandwidth == "aws", most_blanks=settings.blanks,
                         memory_budget_bytes=memory_budget(settings.memory_mib))
    dispatcher.use(worker)
    backend.watch_memory(marks, dispatcher.memory_grew)
    return dispatcher, worker


def _edge(settings: Settings, url: str, clock: Clock, store: Store, backend: SandboxBackend, dispatcher: Dispatcher,
          worker: LocalWorker, control: ControlPlane) -> Edge:
    """Everybody who answers requests."""
    invoking = Invoke(store.functions, dispatcher, clock, Callers(settings.account, settings.region))
    port = int(url.rpartition(":")[2])
    urls = FunctionUrls(store.urls, store.functions, invoking, dispatcher, clock, port)
    about = {"version": __version__, "sandbox": backend.name, "instance": store.instance,
             "account": settings.account, "region": settings.region, "pid": os.getpid()}  # fmt: skip
    provoking = ChaosApi(dispatcher, store.functions, clock, settings.account, settings.region)
    managing = Management(dispatcher, make_token(settings.data_dir),
                          lambda: about | {"time": rfc3339(clock.wall()), "blanks": worker.blanks()},
                          worker.guests.ask, provoking)  # fmt: skip
    streaming = StreamingInvoke(invoking, dispatcher)
    return Edge(invoking, streaming, urls, managing, control.handle, frozenset({settings.host}))


def s3_source(settings: Settings, clock: Clock) -> S3Source | None:
    """Where code in buckets is read, if anywhere."""
    return S3Source(settings.s3_endpoint, *s3_keys(), clock.host_wall) if settings.s3_endpoint else None


class Listener:
    """The server's socket and its connections: so many that the rest of the server keeps descriptors for itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int | None = None) -> None:
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._edge: Edge | None = None
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = limit or (CONNECTIONS if files == resource.RLIM_INFINITY else connections(files))
        self._budget = Budget(max(BODIES_BYTES_AT_LEAST, min(BODIES_BYTES, host_memory() // 10)))
        self._connections: dict[Connection, None] = {}

    async def bind(self, host: str, port: int) -> str:
        """Take the port. Connections are refused until `serve`. Raises OSError."""
        self._server = await self._loop.create_server(self._connect, host, port, backlog=1024, start_serving=False)
        taken = self._server.sockets[0].getsockname()
        shown = f"[{taken[0]}]" if ":" in taken[0] else taken[0]
        return f"http://{shown}:{taken[1]}"

    async def serve(self, edge: Edge) -> None:
        self._edge = edge
        assert self._server is not None
        await self._server.start_serving()

    def _connect(self) -> Connection:
        assert self._edge is not None
        connection = Connection(self._edge.handle, self._loop, limits.CREATE_REQUEST_BYTES, self._closed,
                                self._one_too_many, budget=self._budget)  # fmt: skip
        self._connections[connection] = None
        return connection

    def _closed(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    def _one_too_many(self, connection: Connection) -> str | None:
        """Over the limit the oldest idle connection goes, so that nobody keeps others out by holding on to theirs."""
        if len(self._connections) <= self._limit:
            return None
        for other in self._connections:
            if other.idle and not other.closed and other is not connection:
                other.abort()
                return None
        return "too many connections"

    def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.abort()


def said_at_start(backend: SandboxBackend, url: str) -> list[str]:
    """What the operator must know about this backend on this host and about the address, a line each."""
    host = urlsplit(url).hostname or ""
    exposed = [] if ip_address(host).is_loopback else [
        f"NO AUTHENTICATION: whoever reaches {host} can run code on this machine (--host)"]  # fmt: skip
    if backend.name == "process":
        return [*exposed, "NO ISOLATION: functions run as this user, with this machine's files and network "
                          "(--sandbox process)"]  # fmt: skip
    said: Any = getattr(backend, "limits_said", [])
    return [*exposed, *said]


def make_token(data_dir: Path) -> str:
    """The token for changing calls of the management API, made once, readable only by the server's user."""
    path = data_dir / "token"
    if not path.exists():
        # Whole or not at all: a kill between must not leave an empty token, which everybody would know.
        fresh = data_dir / "token.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        fresh.rename(path)
    return path.read_text("ascii").strip()
