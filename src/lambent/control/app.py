"""The control plane at the edge: finds the operation, validates, runs it, and renders answers and errors.

Everything that the hot routes leave over comes here: the Lambda API, CloudWatch Logs calls (recognised by
`X-Amz-Target`), the few calls of STS and IAM (forms; see `query`), and downloads of code. Operations live in
`control/operations`, one file per resource; a module there is enough to serve one. `handle` never raises: what nobody
expected becomes a ServiceException and a line in the log.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from lambent.callers import KEPT, Caller, Callers, service_of, session_of
from lambent.clock import Clock
from lambent.control import live_tail, operations, query, routes, validate
from lambent.control.activation import Activation, Preparer
from lambent.control.answers import Answers, report
from lambent.control.capacity import Capacity
from lambent.control.code import PREFIX, CodeLinks
from lambent.control.collector import Collector
from lambent.control.context import LOGS, OPERATIONS, Answer, Context, Handler, not_served
from lambent.control.function_policies import may_invoke, may_use_url
from lambent.control.inactivity import Inactivity
from lambent.control.operations import concurrency
from lambent.control.provisioning import Provisioning
from lambent.control.s3_source import S3Source
from lambent.core.model import FunctionVersion
from lambent.errors import ApiError
from lambent.http1 import Request
from lambent.limits import CODE_STORAGE_BYTES, CREATE_REQUEST_BYTES
from lambent.store.store import Store
from lambent.telemetry.logstores import LogStores
from lambent.worker.packages import PackageStore

for _module in pkgutil.iter_modules(operations.__path__):
    importlib.import_module(f"{operations.__name__}.{_module.name}")

#: Bodies above this are decoded in a thread: 50 MB of base64 would hold the event loop for a tenth of a second.
_THREAD_BYTES = 256 * 1024
#: Services whose requests come with paths and whose answers are XML; the others' are JSON.
_SPEAK_XML = frozenset({"cloudfront", "route53", "s3"})
_LOGS_TARGET = "Logs_20140328."


class ControlPlane:
    """Answers control-plane requests. `endpoint` gives the base URL of the server, once it listens."""

    def __init__(self, store: Store, packages: PackageStore, preparer: Preparer, clock: Clock, *, account: str,
                 region: str, endpoint: Callable[[], str], capacity: Capacity, logs: LogStores | None = None,
                 s3: S3Source | None = None, inactive_after_s: float = 0.0, url_policies: bool = False,
                 code_storage_bytes: int = CODE_STORAGE_BYTES) -> None:
        self._store = store
        self._packages = packages
        self._url_policies = url_policies
        self._activation = Activation(store, packages, preparer, report)
        self._collector = Collector(store.blobs, packages, report)
        self._inactivity = Inactivity(store, self._activation, capacity, clock, inactive_after_s, report)
        self._links = CodeLinks(clock, endpoint)
        provisioning = Provisioning(store, capacity)
        self._context = Context(store, packages, self._activation, self._links, clock, account, region, endpoint,
                                capacity, provisioning, logs, code_storage_bytes, s3)  # fmt: skip
        self._callers = Callers(account, region)
        self._answers = Answers(clock)
        self._contexts: dict[Caller, Context] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._live_tails = live_tail.LiveTails()

    async def start(self) -> None:
        """Drop code that no function names, and take up activations that an earlier server left."""
        await self._collector.start()
        self._activation.resume()
        concurrency.restore_reservations(self._context)
        self._context.provisioning.restore()
        self._store.functions.watch(self._refresh_provisioning)
        self._inactivity.start()
        self._store.functions.when_another_account_calls(partial(may_invoke, self._store.documents))
        if self._url_policies:
            self._store.urls.when_anybody_calls(partial(may_use_url, self._store.documents))

    def _refresh_provisioning(self, arn: str, version: str, serving: FunctionVersion | None) -> None:
        _, _, _, region, account, _, name = arn.split(":")
        self._context.provisioning.refresh((account, region, name))

    async def stop(self) -> None:
        """End requests and activations under way. Changes that were begun are finished by the store."""
        self._live_tails.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._inactivity.stop()
        await self._activation.stop()
        await self._collector.stop()
        await self._packages.close()

    def handle(self, request: Request) -> None:
        """Answer now or in a task that this object owns. Never raises."""
        try:
            if "x-amz-target" in request.headers:
                self._handle_target(request)
            elif request.path == "/" and _is_query(request):
                self._handle_query(request)
            elif request.path.startswith(PREFIX):
                self._own(request, self._download(request), self._answers.fail)
            else:
                self._handle_operation(request)
        except Exception as error:
            self._answers.fail(request, error)

    def _handle_operation(self, request: Request) -> None:
        found = routes.find(request.method, request.path, request.query)
        if found is None:
            service = service_of(request.headers, request.query)
            if service in _SPEAK_XML:
                self._answers.fail_query(request, query.not_here(service))
                return
            if service not in ("", "lambda"):
                raise query.not_here(service)
            raise ApiError("UnknownOperationException", f"There is no operation at {request.method} {request.path}")
        operation, labels = found
        if request.oversize or len(request.body) > CREATE_REQUEST_BYTES:
            raise ApiError("RequestEntityTooLargeException", f"Request must be smaller than {CREATE_REQUEST_BYTES} "
                           f"bytes for the {operation.name} operation")  # fmt: skip
        handler = OPERATIONS.get(operation.name)
        if handler is None:
            raise not_served(f"The operation {operation.name}")
        if len(request.body) > _THREAD_BYTES:
            self._own(request, self._decode_large(request, operation, labels, handler), self._answers.fail)
            return
        params = validate.decode(operation, labels, request.query, request.headers, request.body)
        self._run(request, handler, params, lambda answer: self._answers.succeed(request, operation.status, answer),
                  self._answers.fail)  # fmt: skip

    async def _decode_large(self, request: Request, operation: routes.Operation, labels: dict[str, str],
                            handler: Handler) -> None:
        params = await asyncio.to_thread(validate.decode, operation, labels, request.query, request.headers,
                                         request.body)  # fmt: skip
        answer = handler(self._context_of(request), params)
        self._answers.succeed(request, operation.status, await answer if isinstance(answer, Coroutine) else answer)

    def _handle_target(self, request: Request) -> None:
        try:
            target = request.headers["x-amz-target"]
            name = target.removeprefix(_LOGS_TARGET)
            if not target.startswith(_LOGS_TARGET):
                raise query.not_here(service_of(request.headers, request.query) or target.partition("_")[0],
                                     target.rpartition(".")[2])  # fmt: skip
            if request.oversize:
                raise ApiError("RequestEntityTooLargeException", "The request is too large")
            if name == live_tail.OPERATION:  # the only one whose answer is a stream
                self._live_tails.start(request, self._context_of(request), validate.decode_logs(name, request.body))
                return
            handler = LOGS.get(name)
            if handler is None:
                raise query.not_here("logs", name[:100])
            params = validate.decode_logs(name, request.body)
        except Exception as error:
            self._answers.fail_target(request, error)
            return
        self._run(request, handler, params, lambda answer: self._answers.succeed_target(request, answer),
                  self._answers.fail_target)  # fmt: skip

    def _handle_query(self, request: Request) -> None:
        try:
            if request.oversize:
                raise ApiError("RequestEntityTooLargeException", "The request is too large")
            form = query.read_form(request.body, request.query)
            service, action, handler = query.find_query(form, service_of(request.headers, request.query))
        except Exception as error:
            self._answers.fail_query(request, error)
            return
        context = replace(self._context_of(request), session=session_of(request.headers, request.query))
        self._run(request, handler, form,
                  lambda answer: self._answers.succeed_query(request, service, action, answer),
                  self._answers.fail_query, context)  # fmt: skip

    def _run(self, request: Request, handler: Handler, params: Any, succeed: Callable[[Answer], None],
             fail: Callable[[Request, BaseException], None], context: Context | None = None) -> None:
        try:
            answer = handler(context or self._context_of(request), params)
            if not isinstance(answer, Coroutine):
                succeed(answer)
                return
        except Exception as error:
            fail(request, error)
            return
        pending = answer

        async def finish() -> None:
            succeed(await pending)

        self._own(request, finish(), fail)

    def _context_of(self, request: Request) -> Context:
        """What an operation works with, in the caller's account and region."""
        caller = self._callers.of(request.headers, request.query)
        context = self._contexts.get(caller)
        if context is None:
            context = replace(self._context, account=caller.account, region=caller.region)
            if len(self._contexts) >= KEPT:
                self._contexts.clear()
            self._contexts[caller] = context
        return context

    def _own(self, request: Request, work: Coroutine[Any, Any, None],
             fail: Callable[[Request, BaseException], None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except asyncio.CancelledError:
                fail(request, ApiError("ServiceException", "The server is stopping."))
                raise
            except Exception as error:
                fail(request, error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _download(self, request: Request) -> None:
        if request.method not in ("GET", "HEAD"):
            raise ApiError("UnknownOperationException", f"There is no operation at {request.method} {request.path}")
        sha256 = self._links.judge(request.path, request.query)
        try:
            content = await asyncio.to_thread(self._store.blobs.read, sha256)
        except FileNotFoundError:
            raise ApiError("ResourceNotFoundException", "The code is no longer there.") from None
        request.respond(200, content, (("ETag", f'"{sha256}"'),), "application/zip")


def _is_query(request: Request) -> bool:
    """Whether a request for the root speaks the query protocol."""
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return form or "Action=" in request.query
