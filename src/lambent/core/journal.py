"""The story of a machine: its last steps, kept as tuples in a ring and rendered only when somebody reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

STEPS_KEPT = 256


class IllegalEvent(Exception):
    """An event that the machine's tables do not allow: our fault, never the guest's. Carries the story."""


class InvariantBroken(Exception):
    """A promise of a machine does not hold. Carries the story."""


class Journal:
    """A bounded record of (event, phase before, phase after, effects)."""

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: deque[tuple[Any, Enum | None, Enum | None, tuple[Any, ...]]] = deque(maxlen=STEPS_KEPT)

    def add(self, event: Any, before: Enum | None, after: Enum | None, effects: tuple[Any, ...]) -> None:
        self._steps.append((event, before, after, effects))

    def steps(self) -> Iterator[dict[str, Any]]:
        """Each step as plain data: `at` in seconds, `event`, `phase` before, `next`, `effects`."""
        for event, before, after, effects in self._steps:
            yield {
                "at": event.at,
                "event": describe(event),
                "phase": before.value if before is not None else "",
                "next": after.value if after is not None else "",
                "effects": [describe(effect) for effect in effects],
            }

    def __str__(self) -> str:
        return "\n".join(
            f"{step['at']:.4f} {step['phase']} -> {step['next']}: {step['event']} => {', '.join(step['effects'])}"
            for step in self.steps()
        )


def describe(item: Any) -> str:
    """`Name(field=value)` without times, payloads and defaults that say nothing."""
    if not is_dataclass(item):
        return str(item)
    shown = []
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name == "at" or value is None or value == "" or value is False:
            continue
        shown.append(f"{field.name}={_short(value)}")
    return f"{type(item).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    request_id = getattr(value, "request_id", None)
    if request_id is not None:
        return str(request_id)
    kind = getattr(value, "kind", None)
    if kind is not None:
        return str(kind.value)
    text = getattr(value, "name", None) or str(value)
    return text if len(text) <= 80 else text[:77] + "..."
