"""The machine that was measured on, the table, and the files in `bench/results/`. No name of a host stands in them."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import CHECKOUT, MEMORY_MIB
from bench.measure import Line
from lambent.runtimes.prepared import PreparedRuntime

RESULTS = CHECKOUT / "bench" / "results"


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures depend on, and nothing that names the machine."""

    cores: int
    memory_gib: int
    cpu: str
    virtual: bool
    kernel: str  #: the version without what its builder added
    load: float  #: of the last minute, before measuring; above a half of the cores the figures are doubtful

    @classmethod
    def here(cls) -> Machine:
        about = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        model = re.search(r"^model name\s*: (.*)$", about, re.MULTILINE)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(os.cpu_count() or 1, round(memory / 2**30), model[1] if model else platform.machine(),
                   " hypervisor" in about, platform.release().partition("-")[0], os.getloadavg()[0])  # fmt: skip

    @property
    def name(self) -> str:
        """Fit for a file name: cores, memory, processor."""
        cpu = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)|@.*|processor", "", self.cpu.lower())).strip("-")
        return f"{self.cores}core-{self.memory_gib}gib-{cpu}"

    def text(self) -> str:
        kind = "virtual machine" if self.virtual else "bare machine"
        return f"{kind}, {self.cores} cores of {self.cpu}, {self.memory_gib} GiB, Linux {self.kernel}, " \
               f"load {self.load:.1f} before"  # fmt: skip


def versions(runtime: PreparedRuntime, peers: dict[str, str]) -> dict[str, str]:
    """Of everything that takes part. `peers` says how each was started, or why it is missing."""
    assert runtime.runtime_dir is not None
    client = next(iter(runtime.runtime_dir.glob("awslambdaric-*.dist-info")), Path("?"))
    guest = subprocess.run([f"{runtime.host_lang}/bin/python{runtime.line}", "-V"], stdout=subprocess.PIPE, text=True)
    commit = subprocess.run(["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    return {
        "lambent": f"{version('lambent')} {commit.stdout.strip()}".strip(),
        "server": f"Python {sys.version.split()[0]} ({loop_ms():.1f} ms for a fixed loop), uvloop {version('uvloop')}",
        "function": f"{guest.stdout.strip()}, {client.name.removesuffix('.dist-info').replace('-', ' ')}",
        **peers,
        "memory_size": f"{MEMORY_MIB} MB",
    }


def loop_ms() -> float:
    """How fast this interpreter runs plain Python: builds of one version differ by a quarter (see the docs)."""
    taken = []
    for _ in range(7):
        begun = time.perf_counter_ns()
        kept: dict[int, tuple[int, int]] = {}
        total = 0
        for number in range(30_000):
            kept[number & 255] = (number, total)
            total += len(str(number))
            if number % 3:
                total ^= number
        taken.append((time.perf_counter_ns() - begun) / 1e6)
    return min(taken)


def table(lines: Iterable[Line]) -> str:
    """What people read, as Markdown that also reads well in a terminal."""
    rows = [("what", "Lambent (5 to 95 %)", "emulator", "ratio (rounds)", "MiniStack", "wanted", "met")]
    for line in lines:
        spread = f" ({line.spread[0]:.2f} to {line.spread[1]:.2f})" if line.spread else ""
        own = f" ({line.around[0]:,.1f} to {line.around[1]:,.1f})" if line.around else ""
        rows.append((
            line.what, _figure(line.lambent, line.unit) + own,
            "" if line.emulator is None else _figure(line.emulator, line.unit),
            "" if line.ratio is None else f"{line.ratio:.2f}{spread}",
            "" if line.ministack is None else _figure(line.ministack, line.unit), line.wanted, line.verdict,
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in rows]  # fmt: skip
    shown.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(shown)


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"


def notes(lines: Iterable[Line]) -> str:
    """What else was seen, and of how many samples."""
    said = []
    for line in lines:
        parts = [f"{line.samples} samples"] if line.samples else []
        if line.more:
            parts.append(line.more)
        if parts:
            said.append(f"- {line.what}: {'; '.join(parts)}")
    return "\n".join(said)


def save(machine: Machine, parts: dict[str, str], lines: list[Line], name: str = "") -> Path:
    """Both files of a run; an earlier one of the same day, machine class and `name` is replaced.

    `name` tells a run of some parts from one of all. Returns the table's path.
    """
    day = datetime.now(UTC).date().isoformat()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{day}-{machine.name}{'-' if name else ''}{name}.md"
    about = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in parts.items())
    path.write_text(f"# {day}, {machine.text()}\n\n{table(lines)}\n\n{notes(lines)}\n\n{about}\n", "utf-8")
    record: dict[str, Any] = {"date": day, "machine": asdict(machine), "versions": parts,
                              "lines": [asdict(line) for line in lines]}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return path
