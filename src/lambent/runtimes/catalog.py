"""The runtimes that Lambda knows, as a table: identifier, family, version, and what we can run.

The identifiers are the Runtime enumeration of the service model (botocore, pinned; fact sheet 18.5), the dates those
of the AWS page "Lambda runtimes" (9.9). This module only knows; `preparation` finds interpreters and builds what
they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Family = Literal["python", "nodejs", "java", "dotnet", "ruby", "go", "provided"]

#: Families whose managed bootstrap we ship, with the oldest version that it runs on.
_OLDEST: Final[dict[str, tuple[int, ...]]] = {"python": (3, 9), "nodejs": (20,)}


class RuntimeUnavailable(Exception):
    """A function cannot run here. The message is one line: what the host lacks and what to install.

    `code` is a StateReasonCode of the service model.
    """

    def __init__(self, message: str, code: str = "InvalidRuntime") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One runtime identifier. `deprecated` is AWS's date (RFC 3339 day), "long ago", or None."""

    identifier: str
    family: Family
    version: str  #: as in `3.12`, `20`, `21`, `al2023`
    deprecated: str | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparing; empty where it is not made of numbers."""
        return tuple(int(part) for part in self.version.split(".") if part.isdecimal())

    @property
    def interpreted(self) -> bool:
        """True where code of one architecture mostly runs on another (native parts of packages aside)."""
        return self.family not in ("provided", "go")

    @property
    def unsupported(self) -> str | None:
        """Why it cannot run here whatever the host has, as a whole sentence; None when it can."""
        if self.family == "provided":
            return None
        oldest = _OLDEST.get(self.family)
        if oldest is None:
            return f"{self.identifier}: {_WORDS[self.family]} functions are not supported yet. {SUPPORTED_WORDS}"
        if self.numbers < oldest:
            return f"{self.identifier} is too old for the runtime client. {SUPPORTED_WORDS}"
        return None


SUPPORTED_WORDS: Final = "Supported are python3.9 and later, nodejs20.x and later, and provided.*"

_WORDS = {"java": "Java", "dotnet": ".NET", "ruby": "Ruby", "go": "go1.x"}
_PAST = "long ago"


def _rows(family: Family, rows: dict[str, tuple[str, str | None]]) -> dict[str, CatalogEntry]:
    return {name: CatalogEntry(name, family, version, date) for name, (version, date) in rows.items()}


CATALOG: Final[dict[str, CatalogEntry]] = {
    **_rows("python", {
        "python2.7": ("2.7", _PAST), "python3.6": ("3.6", _PAST), "python3.7": ("3.7", _PAST),
        "python3.8": ("3.8", _PAST), "python3.9": ("3.9", "2025-12-15"), "python3.10": ("3.10", "2026-06-30"),
        "python3.11": ("3.11", "2026-06-30"), "python3.12": ("3.12", "2028-10-31"),
        "python3.13": ("3.13", "2029-06-30"), "python3.14": ("3.14", "2029-06-30"),
        "python3.15": ("3.15", None),
    }),
    **_rows("nodejs", {
        "nodejs": ("0.10", _PAST), "nodejs4.3": ("4.3", _PAST), "nodejs4.3-edge": ("4.3", _PAST),
        "nodejs6.10": ("6.10", _PAST), "nodejs8.10": ("8.10", _PAST), "nodejs10.x": ("10", _PAST),
        "nodejs12.x": ("12", _PAST), "nodejs14.x": ("14", _PAST), "nodejs16.x": ("16", _PAST),
        "nodejs18.x": ("18", _PAST), "nodejs20.x": ("20", "2026-04-30"), "nodejs22.x": ("22", "2027-04-30"),
        "nodejs24.x": ("24", "2028-04-30"), "nodejs26.x": ("26", None),
    }),
    **_rows("provided", {
        "provided": ("al1", _PAST), "provided.al2": ("al2", "2026-07-31"), "provided.al2023": ("al2023", "2029-06-30"),
    }),
    **_rows("java", {
        "java8": ("8", _PAST), "java8.al2": ("8", "2026-06-30"), "java11": ("11", "2026-06-30"),
        "java8.al2023": ("8", None), "java11.al2023": ("11", None), "java17.al2023": ("17", None),
        "java17": ("17", "2026-06-30"), "java21": ("21", "2029-06-30"), "java25": ("25", "2029-06-30"),
    }),
    **_rows("dotnet", {
        "dotnetcore1.0": ("1.0", _PAST), "dotnetcore2.0": ("2.0", _PAST), "dotnetcore2.1": ("2.1", _PAST),
        "dotnetcore3.1": ("3.1", _PAST), "dotnet6": ("6", _PAST), "dotnet8": ("8", "2026-11-10"),
        "dotnet10": ("10", None),
    }),
    **_rows("ruby", {
        "ruby2.5": ("2.5", _PAST), "ruby2.7": ("2.7", _PAST), "ruby3.2": ("3.2", _PAST),
        "ruby3.3": ("3.3", "2027-03-31"), "ruby3.4": ("3.4", None), "ruby4.0": ("4.0", None),
    }),
    **_rows("go", {"go1.x": ("1", _PAST)}),
}  # fmt: skip


def look_up(identifier: str) -> CatalogEntry:
    """The entry of an identifier that this host may be able to run, or RuntimeUnavailable."""
    entry = CATALOG.get(identifier)
    if entry is None:
        raise RuntimeUnavailable(f"{identifier!r} is not a Lambda runtime. {SUPPORTED_WORDS}")
    if entry.unsupported:
        raise RuntimeUnavailable(entry.unsupported)
    return entry
