"""What an operation gets to work with, the registry of operations, and the words for what is not served."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from lambent.callers import Session
from lambent.clock import Clock
from lambent.control.activation import Activation
from lambent.control.capacity import Capacity
from lambent.control.code import CodeLinks
from lambent.control.provisioning import Provisioning
from lambent.control.s3_source import S3Source
from lambent.errors import ApiError
from lambent.limits import CODE_STORAGE_BYTES
from lambent.names import FunctionName, parse_function
from lambent.store.store import Store
from lambent.telemetry.logstores import LogStores
from lambent.worker.packages import PackageStore


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the server that operations use, and whose account and region the caller is in."""

    store: Store
    packages: PackageStore
    activation: Activation
    links: CodeLinks
    clock: Clock
    account: str
    region: str
    endpoint: Callable[[], str]  #: base URL of this server, without a slash at the end
    capacity: Capacity
    provisioning: Provisioning
    logs: LogStores | None = None
    code_storage_bytes: int = CODE_STORAGE_BYTES  #: of each account, in each region
    s3: S3Source | None = None  #: where code in buckets is fetched; None when there is no such place
    session: Session | None = None  #: of a call of STS or IAM: the role that the caller is in

    def function(self, text: str, qualifier: str | None = None, *, action: str) -> FunctionName:
        """The function that a caller named; ApiError as told in `names.parse_function`."""
        return parse_function(text, qualifier, account=self.account, region=self.region, action=action)


#: An operation gets the validated parameters and gives the members of its answer (None: an empty body). One that must
#: wait is a coroutine function.
Params = Mapping[str, Any]
Answer = dict[str, Any] | None
Handler = Callable[[Context, Any], Answer | Coroutine[Any, Any, Answer]]

#: Lambda operations by name, filled by the modules in `control/operations`.
OPERATIONS: dict[str, Handler] = {}
#: CloudWatch Logs operations by name.
LOGS: dict[str, Handler] = {}


def operation(name: str) -> Callable[[Handler], Handler]:
    """Register a function as the Lambda operation of this name."""
    return _registrar(OPERATIONS, name)


def logs_operation(name: str) -> Callable[[Handler], Handler]:
    """Register a function as the CloudWatch Logs operation of this name."""
    return _registrar(LOGS, name)


def _registrar(table: dict[str, Handler], name: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        assert name not in table, f"{name} is registered twice"
        table[name] = handler
        return handler

    return register


def not_served(what: str) -> ApiError:
    """The answer for what AWS has and this server does not: nothing was done, and trying again does not help."""
    return ApiError("NotImplementedException", f"{what} is not served by this version of Lambent; nothing was changed.")
