"""Putting things on the terminal: tables for people, JSON for programs, figures with their units.

What a function printed may hold terminal control sequences; `plain` makes them visible instead of obeyed.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

#: Control characters but tab and newline, and colours, which do no harm.
_CONTROLS = re.compile(r"(\x1b\[[0-9;]*m)|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def plain(text: str) -> str:
    """Text that cannot move the cursor, set a title or hide what follows."""
    return _CONTROLS.sub(lambda found: found[1] or repr(found[0])[1:-1], text)


def data(value: Any) -> None:
    """JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Aligned columns on stdout; `right` names those with figures. Nothing is cut off or broken inside a cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Never stdout itself: what Rich does when nobody reads there is not ours.
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=sys.stdout.isatty(), highlight=False, width=1000)
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    console.print(shown)
    for line in drawn.getvalue().splitlines():
        print(line.rstrip())


def note(text: str) -> None:
    """A remark for the person, on stderr: never in the way of a pipe."""
    print(plain(text), file=sys.stderr)


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """A spinner on stderr while the block runs; nothing when stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def milliseconds(value: float) -> str:
    return f"{value:.2f} ms" if value < 10_000 else f"{value / 1000:.2f} s"


def file_size(value: int) -> str:
    """Bytes for a person, in KB, or in MB from a million bytes on."""
    return f"{value / 1024 / 1024:.1f} MB" if value >= 1_000_000 else f"{value / 1024:.1f} KB"


def mebibytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1024 / 1024:.1f} MB"


def dollars(value: float) -> str:
    return f"${value:.10f}"


def duration(seconds: float) -> str:
    """Rounded to what a person reads at a glance: 42s, 3m12s, 2h05m, 3d04h."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def seconds(text: str) -> float | None:
    """The length of `30s`, `10m`, `5h`, `1d` or `1h30m`; None for anything else."""
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text, re.ASCII):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", text))


def epoch(rfc3339: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0.0 for text that is none."""
    try:
        moment = datetime.fromisoformat(rfc3339)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
