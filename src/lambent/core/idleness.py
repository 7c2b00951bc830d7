"""When a version that nobody uses loses the resources that were made for it elsewhere: AWS's state Inactive.

AWS tells it of functions in a VPC: after 14 days without use it takes their network interfaces back, the next
invocation fails and has them made again (its pages "Lambda function states" and "Giving Lambda functions access to
resources in an Amazon VPC"). Which versions have such resources is the driver's to say, `control/inactivity.py`. A
version is in use for as long as it has an environment, so that an invocation costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

VersionKey = tuple[str, str]  #: function ARN, version

# Events


@dataclass(slots=True, eq=False)
class Kept:
    """The version is Active, and resources elsewhere are kept for it."""

    at: float
    version: VersionKey


@dataclass(slots=True, eq=False)
class Dropped:
    """No resources are kept for the version (any more): it is another configuration, not Active, or deleted."""

    version: VersionKey


@dataclass(slots=True, eq=False)
class EnvironmentMade:
    version: VersionKey
    number: int


@dataclass(slots=True, eq=False)
class EnvironmentGone:
    at: float
    version: VersionKey
    number: int


@dataclass(slots=True, eq=False)
class TimePassed:
    at: float


# Effects


@dataclass(slots=True, eq=False)
class Deactivate:
    """The version is Inactive from now on. It is forgotten here until it is `Kept` again."""

    version: VersionKey


@dataclass(slots=True, eq=False)
class SetTimer:
    """Feed TimePassed at that time. Replaces the one before."""

    at: float


Event = Kept | Dropped | EnvironmentMade | EnvironmentGone | TimePassed
Effect = Deactivate | SetTimer


class Idleness:
    """Every version's last use. `handle` is the only method that changes it."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        #: since when nobody has used it; of a version in use, a time that is too early
        self._since: dict[VersionKey, float] = {}
        #: environments of every version, kept or not
        self._environments: dict[VersionKey, set[int]] = {}
        self._timer_at = float("inf")
        self._effects: list[Effect] = []

    def handle(self, event: Event) -> list[Effect]:
        """Apply one event and say what to do."""
        effects: list[Effect] = []
        self._effects = effects
        _RULES[type(event)](self, event)
        return effects

    def is_used(self, version: VersionKey) -> bool:
        """Whether it has an environment."""
        return version in self._environments

    def _kept(self, event: Kept) -> None:
        self._since[event.version] = event.at
        self._wait_for(event.version)

    def _dropped(self, event: Dropped) -> None:
        self._since.pop(event.version, None)

    def _made(self, event: EnvironmentMade) -> None:
        self._environments.setdefault(event.version, set()).add(event.number)

    def _gone(self, event: EnvironmentGone) -> None:
        numbers = self._environments.get(event.version, set())
        numbers.discard(event.number)
        if not numbers:
            self._environments.pop(event.version, None)
        if event.version in self._since:
            self._since[event.version] = event.at
            self._wait_for(event.version)

    def _passed(self, event: TimePassed) -> None:
        self._timer_at = float("inf")
        for version, since in list(self._since.items()):
            if since + self.after_s <= event.at and not self.is_used(version):
                del self._since[version]
                self._effects.append(Deactivate(version))
        idle = [since for version, since in self._since.items() if not self.is_used(version)]
        if idle:
            self._set_timer(min(idle) + self.after_s)

    def _wait_for(self, version: VersionKey) -> None:
        if not self.is_used(version):
            self._set_timer(self._since[version] + self.after_s)

    def _set_timer(self, due: float) -> None:
        if due < self._timer_at:
            self._timer_at = due
            self._effects.append(SetTimer(due))

    def invariants(self) -> Iterator[str]:
        """Broken promises, as sentences; none when all is well."""
        for version, since in self._since.items():
            if not self.is_used(version) and since + self.after_s < self._timer_at:
                yield f"{version} is idle, and nobody will look at it in time"
        if not all(self._environments.values()):
            yield "a version in use has no environment"


_RULES: dict[type, Callable[[Idleness, Any], None]] = {
    Kept: Idleness._kept,
    Dropped: Idleness._dropped,
    EnvironmentMade: Idleness._made,
    EnvironmentGone: Idleness._gone,
    TimePassed: Idleness._passed,
}
