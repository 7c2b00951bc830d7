"""Layers and their versions, held in memory and written through to SQLite.

A layer version is never changed. Deleting one takes it from the lists; functions that have it keep its content, since
they name the zip themselves.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lambent.names import layer_arn
from lambent.store.functions import Key
from lambent.store.references import References
from lambent.store.writer import Change


@dataclass(frozen=True, slots=True)
class LayerVersion:
    """One published version."""

    account: str
    region: str
    name: str
    version: int
    code_sha256: str  #: hex digest of the zip
    shown: Mapping[str, Any]  #: CodeSize and the members of LayerVersionsListItem that the publisher gave

    @property
    def key(self) -> Key:
        return (self.account, self.region, self.name)

    @property
    def arn(self) -> str:
        """With the version."""
        return f"{layer_arn(*self.key)}:{self.version}"


@dataclass(frozen=True, slots=True)
class Layer:
    """Every version of a layer that was not deleted; there may be none left."""

    versions: Mapping[int, LayerVersion]
    next_version: int


class LayerTable:
    """Every layer by (account, region, name). Holds the zips of all versions in `references`."""

    __slots__ = ("_layers", "_names", "_references", "code_bytes")

    def __init__(self, references: References | None = None) -> None:
        self._references = references if references is not None else References()
        self._layers: dict[Key, Layer] = {}
        #: what all versions of an account take in a region
        self.code_bytes: Counter[tuple[str, str]] = Counter()
        self._names: list[Key] = []  #: the keys of `_layers`, sorted

    def __iter__(self) -> Iterator[LayerVersion]:
        return (version for layer in self._layers.values() for version in layer.versions.values())

    def get(self, account: str, region: str, name: str) -> Layer:
        """A layer; one that was never published has no versions and begins with 1."""
        return self._layers.get((account, region, name), _NEW)

    def names(self, account: str, region: str) -> list[str]:
        """The names of all layers there, sorted."""
        start, end = (bisect_left(self._names, (account, place, "")) for place in (region, region + "\0"))
        return [name for _, _, name in self._names[start:end]]

    def add(self, version: LayerVersion) -> Change[LayerVersion]:
        """Publish a version whose number is the layer's next one."""
        row = (*version.key, version.version, version.code_sha256, msgspec.json.encode(dict(version.shown)).decode())
        statements = [(_SAVE_LAYER, (*version.key, version.version + 1)), (_SAVE_VERSION, row)]
        return Change(statements, lambda: self._put(version, version.version + 1))

    def remove(self, version: LayerVersion) -> Change[None]:
        """Delete a version; its number is not used again."""
        return Change([(_DELETE_VERSION, (*version.key, version.version))], lambda: self._drop(version))

    def load(self, connection: sqlite3.Connection) -> None:
        for account, region, name, next_version in connection.execute(_LOAD_LAYERS):
            self._layers[(account, region, name)] = Layer({}, next_version)
        for account, region, name, number, sha256, document in connection.execute(_LOAD_VERSIONS):
            version = LayerVersion(account, region, name, number, sha256, msgspec.json.decode(document))
            self._put(version, self._layers[version.key].next_version)
        self._names = sorted(self._layers)

    def _put(self, version: LayerVersion, next_version: int) -> LayerVersion:
        present = self._layers.get(version.key)
        if present is None:
            insort(self._names, version.key)
        versions = present.versions if present is not None else {}
        self._references.hold([version.code_sha256])
        self.code_bytes[version.key[:2]] += int(version.shown.get("CodeSize", 0))
        self._layers[version.key] = Layer({**versions, version.version: version}, next_version)
        return version

    def _drop(self, version: LayerVersion) -> None:
        layer = self._layers[version.key]
        left = {number: other for number, other in layer.versions.items() if number != version.version}
        self._layers[version.key] = replace(layer, versions=left)
        self._references.release([version.code_sha256])
        self.code_bytes[version.key[:2]] -= int(version.shown.get("CodeSize", 0))


_NEW = Layer({}, 1)
_SAVE_LAYER = """
    INSERT INTO layers (account, region, name, next_version) VALUES (?, ?, ?, ?)
    ON CONFLICT (account, region, name) DO UPDATE SET next_version = excluded.next_version
"""
_SAVE_VERSION = """
    INSERT INTO layer_versions (account, region, layer, version, code_sha256, document) VALUES (?, ?, ?, ?, ?, ?)
"""
_DELETE_VERSION = "DELETE FROM layer_versions WHERE account = ? AND region = ? AND layer = ? AND version = ?"
_LOAD_LAYERS = "SELECT account, region, name, next_version FROM layers"
_LOAD_VERSIONS = "SELECT account, region, layer, version, code_sha256, document FROM layer_versions"
