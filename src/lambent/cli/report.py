"""The figures of an invocation, read from the REPORT line of its log tail (Text and JSON log format)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from lambent.cli import show
from lambent.price import invocation_usd

_LINE = re.compile(
    r"^REPORT RequestId: \S+\tDuration: (?P<duration>[\d.]+) ms\tBilled Duration: (?P<billed>\d+) ms\t"
    r"Memory Size: (?P<memory>\d+) MB\tMax Memory Used: (?P<used>\d+) MB\t?"
    r"(?:Init Duration: (?P<init>[\d.]+) ms\t?)?(?:Status: (?P<status>\w+))?",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Durations in milliseconds, memory in MiB; `cost_usd` is what AWS would charge."""

    duration_ms: float
    billed_ms: int
    init_ms: float | None
    memory_mib: int
    max_memory_mib: int
    cost_usd: float

    def line(self, start: str, environment: str, *, init_repeated: bool = False) -> str:
        """One line for a person. `start` is cold or warm; empty is told from the Init duration.

        `init_repeated`: Init ran inside the invocation, and AWS says nothing of it.
        """
        parts = [
            start or ("cold" if self.init_ms is not None else "warm"),
            f"duration {show.milliseconds(self.duration_ms)}{', with Init again' if init_repeated else ''}",
            f"billed {self.billed_ms} ms",
            f"init {show.milliseconds(self.init_ms)}" if self.init_ms is not None else "",
            f"memory {self.max_memory_mib} of {self.memory_mib} MB",
            f"cost {show.dollars(self.cost_usd)}",
            f"environment {environment}" if environment else "",
        ]
        return "  ".join(part for part in parts if part)


def figures(log_tail: str, configuration: dict[str, Any], *, provisioned: bool = False) -> Figures | None:
    """What the tail's last REPORT says, priced by the function's architecture and /tmp size; None without one.

    `provisioned`: an environment of provisioned concurrency served.
    """
    found = _from_text(log_tail) or _from_json(log_tail)
    if found is None:
        return None
    duration, billed, init, memory, used = found
    architecture = (configuration.get("Architectures") or ["x86_64"])[0]
    tmp = (configuration.get("EphemeralStorage") or {}).get("Size", 512)
    cost = invocation_usd(billed, memory, architecture=architecture, ephemeral_mib=tmp, provisioned=provisioned)
    return Figures(duration, billed, init, memory, used, cost)


def _from_text(log_tail: str) -> tuple[float, int, float | None, int, int] | None:
    found = list(_LINE.finditer(log_tail))
    if not found:
        return None
    last = found[-1]
    init = float(last["init"]) if last["init"] else None
    return float(last["duration"]), int(last["billed"]), init, int(last["memory"]), int(last["used"])


def _from_json(log_tail: str) -> tuple[float, int, float | None, int, int] | None:
    for line in reversed(log_tail.splitlines()):
        if '"platform.report"' not in line:
            continue
        try:
            metrics = json.loads(line)["record"]["metrics"]
            return (float(metrics["durationMs"]), int(metrics["billedDurationMs"]), metrics.get("initDurationMs"),
                    int(metrics["memorySizeMB"]), int(metrics["maxMemoryUsedMB"]))  # fmt: skip
        except (ValueError, KeyError, TypeError):
            continue
    return None
