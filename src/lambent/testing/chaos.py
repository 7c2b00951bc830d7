"""What a test may provoke: the calls of `lambent chaos`, for functions and environments as the test has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lambent.cli import show
from lambent.client import Client

if TYPE_CHECKING:
    from lambent.testing.facts import Environment
    from lambent.testing.platform import Function


class Chaos:
    """Every call raises ApiError for what is not possible, such as a crash of what does not run."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def recycle(self, what: Environment | Function) -> list[str]:
        """End an environment, or all of a function, and wait until those that are idle are gone; their ids."""
        kind = "environment" if hasattr(what, "id") else "function"
        return _ids(self._client().provoke("recycle", **{kind: _name(what)}))

    def fail_init(self, function: Function | str, failure: str = "exit", *, times: int = 2) -> None:
        """Let the next Inits of a function fail: `exit`, `timeout`, or an error type as `Runtime.ImportModuleError`.

        An Init that failed is run once more inside the invocation: 1 shows an Init that recovers, 2 an invocation that
        fails.
        """
        self._client().provoke("init-failures", function=_name(function), failure=failure, times=times)

    def crash(self, environment: Environment, extension: str | None = None) -> None:
        """Kill the runtime, or an external extension, now."""
        self._client().provoke("crash", environment=_name(environment), participant=extension)

    def advance(self, duration: str | float) -> list[str]:
        """Let platform time pass: seconds, or a text such as `5h`. The ids of the environments which that retired."""
        seconds = show.seconds(duration) if isinstance(duration, str) else duration
        if seconds is None:
            raise ValueError(f"{duration!r} is no duration such as 30s, 10m, 5h, 1d or 1h30m")
        return _ids(self._client().provoke("advance", seconds=seconds))

    def throttle(self, function: Function | str | None = None, *, times: int | None = None,
                 reason: str | None = None) -> None:
        """Answer invocations of a function (None: of all) with 429, so many times or until `clear`."""
        name = None if function is None else _name(function)
        self._client().provoke("throttles", function=name, times=times, reason=reason)

    def armed(self) -> list[dict[str, Any]]:
        """What is armed: `what`, `function`, `how`, `left`."""
        return list(self._client().chaos()["armed"])

    def clear(self) -> None:
        """Disarm everything."""
        self._client().clear_chaos()


def _name(what: Environment | Function | str) -> str:
    return what if isinstance(what, str) else str(getattr(what, "id", None) or getattr(what, "name", ""))


def _ids(answer: dict[str, Any]) -> list[str]:
    return [str(row["id"]) for row in answer["retired"]]
