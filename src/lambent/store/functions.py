"""All functions, held in memory and written through to SQLite; what the invoke path asks on every call.

Records are frozen: a change makes a new one. Methods that change give a `Change`, which `Store.change` commits and
then applies. What AWS shows of a function is its `configuration`; what invocations get is `serving`, which trails
behind it while an update is being activated.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from lambent.callers import Caller
from lambent.core.model import FunctionVersion
from lambent.errors import ApiError, conflict, not_found
from lambent.names import LATEST, FunctionName, function_arn, parse_function
from lambent.store.references import References, names_of
from lambent.store.writer import Change, Statement

Key = tuple[str, str, str]
Watcher = Callable[[str, str, FunctionVersion | None], None]

#: Forms of names that are remembered; a client that makes up ever new ones only empties the memory.
ROUTES_KEPT = 65_536


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a function: `$LATEST` or a number."""

    version: str
    code_sha256: str  #: hex digest of the zip that `configuration` speaks of
    configuration: Mapping[str, Any]  #: members of FunctionConfiguration, without FunctionArn, Version and CodeSha256
    generation: str  #: new with every change of code or configuration
    serving: FunctionVersion | None = None  #: None until the first activation has succeeded
    layers: tuple[str, ...] = ()  #: hex digests of the zips of its layers, in the order of /opt
    origin: str = ""  #: of a published version: what `$LATEST` was when it was made (`control/publication.py`)

    @property
    def references(self) -> tuple[str, ...]:
        """The names of what it shows and serves."""
        serving = self.serving
        served = names_of(serving.code_sha256, serving.layers) if serving is not None else ()
        return names_of(self.code_sha256, self.layers) + served


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version, and perhaps for a share of another one."""

    name: str
    version: str
    revision_id: str
    description: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)  #: other version -> share of invocations, 0 to 1

    @property
    def targets(self) -> tuple[str, ...]:
        """Every version that it leads to."""
        return (self.version, *self.weights)


@dataclass(frozen=True, slots=True)
class Function:
    """A function with all its versions and aliases."""

    account: str
    region: str
    name: str
    versions: Mapping[str, Version]
    tags: Mapping[str, str] = field(default_factory=dict)
    next_version: int = 1
    aliases: Mapping[str, Alias] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return (self.account, self.region, self.name)

    @property
    def arn(self) -> str:
        """The unqualified ARN."""
        return function_arn(self.account, self.region, self.name)

    @property
    def latest(self) -> Version:
        return self.versions[LATEST]

    @property
    def code_bytes(self) -> int:
        """The zips of all versions together, each counted for itself."""
        return sum(int(version.configuration.get("CodeSize", 0)) for version in self.versions.values())

    def find(self, qualifier: str | None) -> Version | None:
        """The version that a qualifier means: `$LATEST` (also for None), a number, or the main one of an alias."""
        alias = self.aliases.get(qualifier) if qualifier is not None else None
        return self.versions.get(alias.version if alias is not None else qualifier or LATEST)

    def with_version(self, version: Version) -> Function:
        """The function with one version added or replaced."""
        return replace(self, versions={**self.versions, version.version: version})


class Route(NamedTuple):
    """What a caller's words lead to."""

    function: FunctionVersion
    invoked_arn: str  #: as the caller named it: qualified if there was a qualifier
    #: other versions that an alias leads to, each with its share; `core.routing.choose` takes one for each invocation
    others: tuple[tuple[FunctionVersion, float], ...] = ()


class FunctionTable:
    """Every function by (account, region, name). Holds in `references` what their versions need."""

    __slots__ = ("_default", "_functions", "_inactive_called", "_names", "_references", "_routes", "_shared",
                 "_watchers", "code_bytes")  # fmt: skip

    def __init__(self, account: str, region: str, references: References | None = None) -> None:
        self._references = references if references is not None else References()
        self._default = Caller(account, region)
        self._functions: dict[Key, Function] = {}
        #: what all functions of an account take in a region; kept, since to count ten thousand takes milliseconds
        self.code_bytes: Counter[tuple[str, str]] = Counter()
        self._names: list[Key] = []  #: the keys of `_functions`, sorted
        self._routes: dict[tuple[str, str | None, Caller | None], Route] = {}
        self._watchers: list[Watcher] = []
        self._inactive_called: Callable[[Key, str], None] = lambda _key, _version: None
        self._shared: Callable[[FunctionName, str], bool] = lambda _named, _account: False

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def get(self, account: str, region: str, name: str) -> Function | None:
        return self._functions.get((account, region, name))

    def page(self, account: str, region: str, after: str, limit: int) -> list[Function]:
        """Up to `limit` functions whose names sort after `after`, by name."""
        start = bisect_right(self._names, (account, region, after))
        end = bisect_left(self._names, (account, region + "\0", ""))
        return [self._functions[key] for key in self._names[start : min(end, start + limit)]]

    def resolve(self, raw_name: str, qualifier: str | None = None, caller: Caller | None = None) -> FunctionVersion:
        """What an invocation of this name runs now. Microseconds when the same words were used before.

        Raises ApiError: 404 for a function that is not there, 409 for one that is Pending or Failed, 502 for one that
        is Inactive, and what `parse_function` raises. While an update runs, the version before it is returned.
        """
        return self.route(raw_name, qualifier, caller).function

    def route(self, raw_name: str, qualifier: str | None = None, caller: Caller | None = None) -> Route:
        """As `resolve`, with the ARN that the function gets to see. `raw_name` may still be percent-encoded."""
        route = self._routes.get((raw_name, qualifier, caller))
        if route is None:
            account, region = caller or self._default
            named = parse_function(unquote(raw_name), qualifier, account=account, region=region,
                                   shared=lambda named: self._shared(named, account))  # fmt: skip
            route = self._route(named)
            if len(self._routes) >= ROUTES_KEPT:
                self._routes.clear()
            self._routes[(raw_name, qualifier, caller)] = route
        return route

    def _route(self, named: FunctionName) -> Route:
        function = self._functions.get(named.key)
        version = function.find(named.qualifier) if function is not None else None
        if function is None or version is None:
            raise not_found(f"Function not found: {named.arn}:{named.qualifier or LATEST}")
        self._wake_inactive(function, version, named.qualifier)
        state = version.configuration["State"]
        if version.serving is None or state != "Active":
            raise conflict("The operation cannot be performed at this time. "
                           f"The function is currently in the following state: {state}")  # fmt: skip
        return Route(version.serving, named.qualified_arn, _others(function, named.qualifier))

    def _wake_inactive(self, function: Function, version: Version, qualifier: str | None) -> None:
        """Say that what was called is Inactive; ApiError when it is the version itself, and not just one of an
        alias's others."""
        alias = function.aliases.get(qualifier) if qualifier is not None else None
        for number in (version.version, *(alias.weights if alias is not None else ())):
            if function.versions[number].configuration["State"] == "Inactive":
                self.wake(function.key, number)
        if version.configuration["State"] == "Inactive":
            # In the model's words for this error: nothing else of it was recorded.
            raise ApiError("ResourceNotReadyException", "The function is inactive and its VPC connection is no longer "
                           "available. Wait for the VPC connection to reestablish and try again.")  # fmt: skip

    def when_another_account_calls(self, callback: Callable[[FunctionName, str], bool]) -> None:
        """Ask `callback(named, account)` whether a caller of this account may invoke another one's function. An answer
        counts until a function is saved again, as it is with its policy."""
        self._shared = callback

    def wake(self, key: Key, version: str) -> None:
        """Have a version made Active again that is Inactive, if it is."""
        self._inactive_called(key, version)

    def when_inactive_is_called(self, callback: Callable[[Key, str], None]) -> None:
        """Call `callback(key, version)` when somebody asks for a version in the state Inactive."""
        self._inactive_called = callback

    def watch(self, callback: Watcher) -> None:
        """Call `callback(function_arn, version, serving)` on the event loop when invocations of a version get something
        else; `serving` is None once the version is deleted."""
        self._watchers.append(callback)

    def save(self, function: Function) -> Change[Function]:
        """Insert or replace a function with all its versions and aliases."""
        account, region, name = function.key
        before = self._functions.get(function.key)
        known = before.versions if before is not None else {}
        statements: list[Statement] = [
            (_SAVE_FUNCTION, (account, region, name, function.next_version, _json(function.tags)))
        ]
        for number, version in function.versions.items():
            if known.get(number) is not version:
                statements.append((_SAVE_VERSION, _version_row(function.key, version)))
        for number in known:
            if number not in function.versions:
                statements.append((_DELETE_VERSION, (account, region, name, number)))
        named = before.aliases if before is not None else {}
        for alias in function.aliases.values():
            if named.get(alias.name) is not alias:
                statements.append((_SAVE_ALIAS, (account, region, name, alias.name, _json(alias))))
        for gone in named:
            if gone not in function.aliases:
                statements.append((_DELETE_ALIAS, (account, region, name, gone)))
        return Change(statements, lambda: self._put(function))

    def remove(self, function: Function) -> Change[None]:
        """Delete a function, its versions and what else hangs on it."""
        return Change([(_DELETE_FUNCTION, function.key)], lambda: self._drop(function.key))

    def load(self, connection: sqlite3.Connection) -> None:
        """Fill the empty table from the database. Raises what broken rows raise."""
        versions: dict[Key, dict[str, Version]] = {}
        for account, region, name, *row in connection.execute(_LOAD_VERSIONS):
            version = _version(*row)
            versions.setdefault((account, region, name), {})[version.version] = version
            self._references.hold(version.references)
        aliases: dict[Key, dict[str, Alias]] = {}
        for account, region, name, alias, document in connection.execute(_LOAD_ALIASES):
            aliases.setdefault((account, region, name), {})[alias] = msgspec.json.decode(document, type=Alias)
        for account, region, name, next_version, tags in connection.execute(_LOAD_FUNCTIONS):
            key = (account, region, name)
            self._functions[key] = Function(*key, versions[key], msgspec.json.decode(tags), next_version,
                                            aliases.get(key, {}))  # fmt: skip
            self.code_bytes[account, region] += self._functions[key].code_bytes
        self._names = sorted(self._functions)

    def _put(self, function: Function) -> Function:
        before = self._functions.get(function.key)
        if before is None:
            insort(self._names, function.key)
        self._functions[function.key] = function
        self.code_bytes[function.key[:2]] += function.code_bytes - (before.code_bytes if before is not None else 0)
        self._routes.clear()
        known = before.versions if before is not None else {}
        for number, version in function.versions.items():
            earlier = known.get(number)
            if earlier is version:
                continue
            self._references.hold(version.references)
            if earlier is not None:
                self._references.release(earlier.references)
            if version.serving is not None and (earlier is None or earlier.serving != version.serving):
                self._tell(function.arn, number, version.serving)
        for number, gone in known.items():
            if number not in function.versions:
                self._references.release(gone.references)
                self._tell(function.arn, number, None)
        return function

    def _drop(self, key: Key) -> None:
        function = self._functions.pop(key)
        self.code_bytes[key[:2]] -= function.code_bytes
        del self._names[bisect_left(self._names, key)]
        self._routes.clear()
        for number, version in function.versions.items():
            self._references.release(version.references)
            self._tell(function.arn, number, None)

    def _tell(self, arn: str, version: str, serving: FunctionVersion | None) -> None:
        for watcher in self._watchers:
            watcher(arn, version, serving)


def _others(function: Function, qualifier: str | None) -> tuple[tuple[FunctionVersion, float], ...]:
    """The other versions of an alias. One that cannot serve yet leaves its share to the main one until it can."""
    alias = function.aliases.get(qualifier) if qualifier is not None else None
    shares = []
    for number, weight in alias.weights.items() if alias is not None else ():
        version = function.versions[number]
        if version.serving is not None and version.configuration["State"] == "Active" and weight > 0:
            shares.append((version.serving, weight))
    return tuple(shares)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _version_row(key: Key, version: Version) -> tuple[Any, ...]:
    serving = None if version.serving is None else _json(version.serving)
    return (*key, version.version, version.code_sha256, _json(version.configuration), version.generation, serving,
            _json(version.layers), version.origin)  # fmt: skip


def _version(number: str, sha256: str, configuration: str, generation: str, serving: str | None, layers: str,
             origin: str) -> Version:
    served = None if serving is None else msgspec.json.decode(serving, type=FunctionVersion)
    digests = msgspec.json.decode(layers, type=tuple[str, ...])
    return Version(number, sha256, msgspec.json.decode(configuration), generation, served, digests, origin)


_SAVE_FUNCTION = """
    INSERT INTO functions (account, region, name, next_version, tags) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (account, region, name) DO UPDATE SET next_version = excluded.next_version, tags = excluded.tags
"""
_SAVE_VERSION = """
    INSERT INTO versions (account, region, function, version, code_sha256, configuration, generation, serving, layers,
        origin)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (account, region, function, version) DO UPDATE SET code_sha256 = excluded.code_sha256,
        configuration = excluded.configuration, generation = excluded.generation, serving = excluded.serving,
        layers = excluded.layers, origin = excluded.origin
"""
_SAVE_ALIAS = """
    INSERT INTO aliases (account, region, function, name, document) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (account, region, function, name) DO UPDATE SET document = excluded.document
"""
_DELETE_ALIAS = "DELETE FROM aliases WHERE account = ? AND region = ? AND function = ? AND name = ?"
_DELETE_VERSION = "DELETE FROM versions WHERE account = ? AND region = ? AND function = ? AND version = ?"
_DELETE_FUNCTION = "DELETE FROM functions WHERE account = ? AND region = ? AND name = ?"
_LOAD_FUNCTIONS = "SELECT account, region, name, next_version, tags FROM functions"
_LOAD_VERSIONS = """
    SELECT account, region, function, version, code_sha256, configuration, generation, serving, layers, origin
    FROM versions
"""
_LOAD_ALIASES = "SELECT account, region, function, name, document FROM aliases"
