"""What happened, as a test asks for it: results of invocations and the lives of environments.

Properties say what is so now. An assertion about an environment first waits until it is at rest (idle or gone), and
says, when it fails, what happened instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lambent.client import Client, Invoked
from lambent.errors import ApiError

#: The kernel stops one thread after the other, on a busy machine not at once, and tells nobody when it is done.
FREEZING_S, FREEZING_POLL_S = 5.0, 0.01


class Environment:
    """One execution environment, alive or ended."""

    def __init__(self, environment_id: str, client: Callable[[], Client]) -> None:
        self.id = environment_id
        self._client = client

    def __repr__(self) -> str:
        return f"<environment {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Environment) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def story(self, *, wait: str | None = None) -> dict[str, Any]:
        """Everything that is known, as `lambent story --json` has it; with `wait` once it is `idle` or `gone`."""
        return self._client().story(self.id, wait=wait)

    @property
    def phase(self) -> str:
        """init, idle, invoke, reset, shutdown or gone."""
        return str(self.story()["phase"])

    @property
    def phases(self) -> list[str]:
        """Every phase that it went through, in order, without repetition."""
        return _phases(self.story())

    @property
    def frozen(self) -> bool:
        """As the kernel says it."""
        return any(row["frozen"] for row in self._client().environments() if row["id"] == self.id)

    @property
    def init_type(self) -> str:
        """on-demand or provisioned-concurrency."""
        return str(self.story()["init_type"])

    @property
    def invocations(self) -> list[dict[str, Any]]:
        """Of each: request_id, start (cold or warm), duration_ms, init_ms, billed_ms, status, cost_usd and more."""
        return list(self.story()["invocations"])

    @property
    def provoked(self) -> list[str]:
        """What was provoked in it, in words."""
        steps = [_happened(step) for step in self.story()["steps"]]
        return [words for words in steps if words.endswith("(provoked)")]

    @property
    def log(self) -> str:
        """Everything in its log stream."""
        story = self.story()
        events = self._client().log_events(story["log_group"], 0)
        return "".join(event["message"] for event in events if event.get("logStreamName") == story["log_stream"])

    def wait_idle(self) -> Environment:
        """Return once it is idle or gone."""
        self.story(wait="idle")
        return self

    def assert_frozen(self) -> None:
        """It is idle, and the kernel gives it no CPU."""
        __tracebackhide__ = True
        story = self.story(wait="idle")
        for _ in range(int(FREEZING_S / FREEZING_POLL_S)):
            if self.frozen or self.phase != "idle":
                break
            time.sleep(FREEZING_POLL_S)
        if not self.frozen:
            raise AssertionError(f"environment {self.id} is not frozen but {story['phase']}\n{timeline(story)}")

    def assert_phases(self, *expected: str) -> None:
        """It went through exactly these phases, in this order."""
        __tracebackhide__ = True
        story = self.story(wait="idle")
        if _phases(story) != list(expected):
            raise AssertionError(f"environment {self.id} went through {', '.join(_phases(story))}; expected "
                                 f"{', '.join(expected)}\n{timeline(story)}")  # fmt: skip

    def assert_gone(self, reason: str | None = None) -> None:
        """It has ended; `reason` is part of why it was retired: idle, age, updated, recycled."""
        __tracebackhide__ = True
        story = self.story(wait="idle")
        if story["phase"] != "gone":
            raise AssertionError(f"environment {self.id} is not gone but {story['phase']}\n{timeline(story)}")
        retired = [words for step in story["steps"] if (words := _happened(step)).startswith("retire: ")]
        if reason is not None and not any(reason in words for words in retired):
            told = ", ".join(retired) or "by itself"
            raise AssertionError(f"environment {self.id} ended ({told}), not for {reason!r}\n{timeline(story)}")


@dataclass(frozen=True, slots=True)
class Result:
    """A finished invocation. Durations in milliseconds; `figures` are those of the environment's story."""

    function: str
    request_id: str
    executed_version: str
    raw: bytes  #: the payload as it came
    function_error: str | None  #: Unhandled, or None when the function did well
    log_tail: str  #: the last 4 KB of the log
    start: str  #: cold or warm
    environment: Environment
    init_type: str
    figures: dict[str, Any]

    @property
    def payload(self) -> Any:
        """The payload, decoded."""
        try:
            return json.loads(self.raw)
        except ValueError:
            raise AssertionError(f"the payload is no JSON: {self.raw[:200]!r}\n{self._explained()}") from None

    @property
    def cold(self) -> bool:
        return self.start == "cold"

    @property
    def warm(self) -> bool:
        return self.start == "warm"

    @property
    def error_type(self) -> str | None:
        """errorType of a function error; None when the function did well."""
        payload = self.payload if self.function_error else None
        return str(payload.get("errorType", "")) if isinstance(payload, dict) else None

    @property
    def duration_ms(self) -> float:
        return float(self.figures["duration_ms"])

    @property
    def init_ms(self) -> float | None:
        """Init Duration of the REPORT; None when there was no Init, or it ran inside the invocation."""
        found = self.figures["init_ms"]
        return None if found is None else float(found)

    @property
    def init_repeated(self) -> bool:
        """Init ran inside the invocation: the environment had been reset, or its Init had failed."""
        return bool(self.figures["init_repeated"])

    @property
    def billed_ms(self) -> int:
        return int(self.figures["billed_ms"])

    def assert_succeeded(self) -> None:
        __tracebackhide__ = True
        if self.function_error:
            raise AssertionError(f"the invocation failed\n{self._explained()}")

    def assert_failed(self, error_type: str | None = None) -> None:
        """The caller was told of a function error, of this type."""
        __tracebackhide__ = True
        if not self.function_error:
            raise AssertionError(f"the invocation did not fail\n{self._explained()}")
        if error_type is not None and self.error_type != error_type:
            raise AssertionError(f"the invocation failed with {self.error_type}, not {error_type}\n{self._explained()}")

    def assert_cold(self) -> None:
        __tracebackhide__ = True
        if not self.cold:
            raise AssertionError(f"a {self.start} start, not a cold one\n{self._explained()}")

    def assert_warm(self) -> None:
        __tracebackhide__ = True
        if not self.warm:
            raise AssertionError(f"a {self.start} start, not a warm one\n{self._explained()}")

    def _explained(self) -> str:
        """What a person needs to see why: payload, log, and the life of the environment."""
        return (f"  function     {self.function}, request {self.request_id}\n"
                f"  payload      {self.raw[:2000].decode('utf-8', 'replace')}\n"
                f"  log\n{_indented(self.log_tail)}\n{timeline(self.environment.story())}")  # fmt: skip


def result_of(function: str, invoked: Invoked, client: Callable[[], Client]) -> Result:
    """An answer to Invoke with its figures."""
    environment = Environment(invoked.environment, client)
    story = environment.story()
    figures = [row for row in story["invocations"] if row["request_id"] == invoked.request_id]
    if not figures:
        raise ApiError("ServiceException", f"the story of {environment.id} does not know {invoked.request_id}")
    return Result(function, invoked.request_id, invoked.executed_version, invoked.payload,
                  invoked.function_error or None, invoked.log_tail, invoked.start, environment, story["init_type"],
                  figures[0])  # fmt: skip


def timeline(story: dict[str, Any]) -> str:
    """The story as `lambent story` tells it, for a failure message."""
    from lambent.cli.story import EFFECTS, words

    lines = [f"  environment  {story['id']} of {story['function_name']}:{story['version']}, now {story['phase']}"]
    for step in story["steps"]:
        done = ", ".join(text for effect in step["effects"] if (text := words(effect, EFFECTS)))
        moved = step["phase"] if step["phase"] == step["next"] else f"{step['phase']} -> {step['next']}"
        lines.append(f"  {step['offset_ms']:>11.2f} ms  {moved:<18} {_happened(step):<40} {done}".rstrip())
    return "\n".join(lines)


def _happened(step: dict[str, Any]) -> str:
    from lambent.cli.story import EVENTS, words

    return words(step["event"], EVENTS)


def _phases(story: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for step in story["steps"]:
        for phase in (step["phase"], step["next"]):
            if not found or found[-1] != phase:
                found.append(phase)
    return found


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines()) or "    (nothing)"
