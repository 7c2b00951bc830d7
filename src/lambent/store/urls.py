"""Function URLs, held in memory and written through to SQLite; found by the id in their host name."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lambent.names import function_arn
from lambent.store.functions import Key
from lambent.store.writer import Change


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """One URL of a function or of one of its aliases."""

    account: str
    region: str
    function: str
    qualifier: str  #: empty for the function itself
    url_id: str
    configuration: Mapping[str, Any]  #: members of FunctionUrlConfig, without FunctionUrl and FunctionArn

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.account, self.region, self.function, self.qualifier)

    @property
    def function_arn(self) -> str:
        """The ARN that it invokes, with the alias if it is one's."""
        arn = function_arn(self.account, self.region, self.function)
        return f"{arn}:{self.qualifier}" if self.qualifier else arn


class UrlTable:
    """Every function URL, by id and by target."""

    __slots__ = ("_by_id", "_by_target", "_is_public")

    def __init__(self) -> None:
        self._by_id: dict[str, FunctionUrl] = {}
        self._by_target: dict[tuple[str, str, str, str], FunctionUrl] = {}
        self._is_public: Callable[[FunctionUrl], bool] = lambda _url: True

    def __iter__(self) -> Iterator[FunctionUrl]:
        return iter(self._by_id.values())

    def by_id(self, url_id: str) -> FunctionUrl | None:
        return self._by_id.get(url_id)

    def of(self, account: str, region: str, function: str, qualifier: str = "") -> FunctionUrl | None:
        """The URL of a function, or of its alias."""
        return self._by_target.get((account, region, function, qualifier))

    def of_function(self, function: Key) -> list[FunctionUrl]:
        """The URLs of a function and of its aliases."""
        return [url for url in self._by_id.values() if url.key[:3] == function]

    def is_public(self, url: FunctionUrl) -> bool:
        """Whether anybody may call over this URL, when its auth type is NONE."""
        return self._is_public(url)

    def when_anybody_calls(self, callback: Callable[[FunctionUrl], bool]) -> None:
        """Ask `callback(url)` instead of letting everybody in."""
        self._is_public = callback

    def save(self, url: FunctionUrl) -> Change[FunctionUrl]:
        """Insert a URL, or replace the configuration of the one with its target and id."""
        values = (*url.key, url.url_id, msgspec.json.encode(dict(url.configuration)).decode())
        return Change([(_SAVE, values)], lambda: self._put(url))

    def remove(self, url: FunctionUrl) -> Change[None]:
        return Change([(_DELETE, url.key)], lambda: self._drop(url))

    def forget(self, function: Key) -> None:
        """Drop from memory the URLs of a function whose rows are gone."""
        for url in self.of_function(function):
            self._drop(url)

    def load(self, connection: sqlite3.Connection) -> None:
        for account, region, function, qualifier, url_id, configuration in connection.execute(_LOAD):
            self._put(FunctionUrl(account, region, function, qualifier, url_id, msgspec.json.decode(configuration)))

    def _put(self, url: FunctionUrl) -> FunctionUrl:
        self._by_id[url.url_id] = url
        self._by_target[url.key] = url
        return url

    def _drop(self, url: FunctionUrl) -> None:
        del self._by_id[url.url_id]
        del self._by_target[url.key]


_SAVE = """
    INSERT INTO urls (account, region, function, qualifier, url_id, configuration) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (account, region, function, qualifier) DO UPDATE SET configuration = excluded.configuration
"""
_DELETE = "DELETE FROM urls WHERE account = ? AND region = ? AND function = ? AND qualifier = ?"
_LOAD = "SELECT account, region, function, qualifier, url_id, configuration FROM urls"
