"""Where the lines of `lambent logs` are: which log groups, and which of their streams.

A stream's name says its version (`YYYY/MM/DD/[VERSION]...`, in a group of one's own `YYYY/MM/DD/NAME[VERSION]...`),
and a search can only ask for how a name begins, so versions are told apart here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lambent.cli.exits import API_ERROR, Stop
from lambent.client import Client
from lambent.errors import ApiError
from lambent.names import is_alias, split_qualifier


class Source(NamedTuple):
    """Streams of one log group."""

    group: str
    function: str = ""
    versions: frozenset[str] | None = None  #: None: all streams, whoever writes them
    stream: str | None = None  #: this one alone

    def has(self, stream: str) -> bool:
        if self.versions is None:
            return True
        named = "" if self.group == f"/aws/lambda/{self.function}" else self.function
        last = stream.rpartition("/")[2]
        return any(last.startswith(f"{named}[{version}]") for version in self.versions)


class Sources:
    """What a name means: all of a function, one of its versions, or an alias.

    An alias may be led elsewhere while its logs are followed: every version counts to which it has led since.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name, self._qualifier = split_qualifier(name)
        self._is_alias = self._qualifier is not None and is_alias(self._qualifier)
        self._found: list[Source] = []

    def now(self) -> list[Source]:
        """Raises Stop or ApiError when there is no such function, version or alias, and never was one."""
        if not self._found:
            self._found = self._find()
        elif self._is_alias:
            try:
                self._found = _united([*self._found, *self._find()])
            except (ApiError, Stop) as error:
                if isinstance(error, ApiError) and error.status != 404:
                    raise
        return self._found

    def _find(self) -> list[Source]:
        try:
            if self._qualifier is None:
                configuration = self._client.configuration(self._name)
                return [Source(_group(configuration), configuration["FunctionName"])]
            versions = self._client.versions(self._name, self._qualifier)
            return _united([self._of_version(version) for version in versions])
        except ApiError as error:
            if error.status != 404:
                raise
            return [self._of_the_past(error)]

    def _of_version(self, version: str) -> Source:
        configuration = self._client.configuration(f"{self._name}:{version}")
        return Source(_group(configuration), configuration["FunctionName"], frozenset((configuration["Version"],)))

    def _of_the_past(self, error: ApiError) -> Source:
        """A deleted function's logs are found by its name, with a version's number if one is wanted."""
        if self._qualifier is not None and self._exists():
            what = "alias" if self._is_alias else "version"
            raise Stop(f"{self._name} has no {what} {self._qualifier}", API_ERROR) from None
        group = f"/aws/lambda/{self._name}"
        if self._is_alias or re.fullmatch(r"[A-Za-z0-9_-]+", self._name) is None or not self._has_logs(group):
            raise error
        return Source(group, self._name, None if self._qualifier is None else frozenset((self._qualifier,)))

    def _exists(self) -> bool:
        try:
            self._client.configuration(self._name)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def _has_logs(self, group: str) -> bool:
        try:
            next(self._client.log_events(group, 0, pages=1), None)
        except ApiError:
            return False
        return True


def _group(configuration: Mapping[str, Any]) -> str:
    logging = configuration.get("LoggingConfig") or {}
    return str(logging.get("LogGroup") or f"/aws/lambda/{configuration['FunctionName']}")


def _united(sources: list[Source]) -> list[Source]:
    """One for each group, so that none is searched twice."""
    groups: dict[str, Source] = {}
    for source in sources:
        before = groups.get(source.group, source)
        versions = (before.versions or frozenset()) | (source.versions or frozenset())
        groups[source.group] = source._replace(versions=versions)
    return list(groups.values())
