"""Retention: for how many days a log group's events are shown, kept as a file in the group's folder.

An event that is older is not found any more, from the moment on at which it is too old; the segments that hold nothing
younger are removed when the group is described (`logs`). What AWS allows: API reference, PutRetentionPolicy.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

DAYS_ALLOWED = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
DAY_MS = 24 * 3600 * 1000
_FILE = "retention"


def read(folder: str) -> int | None:
    """The days that the group in this folder keeps its events; None: for ever."""
    try:
        days = int(Path(folder, _FILE).read_text("ascii"))
    except (OSError, ValueError):
        return None
    return days if days in DAYS_ALLOWED else None


def write(folder: str, days: int | None) -> None:
    """Keep it for the next server. Raises OSError."""
    path = Path(folder, _FILE)
    if days is None:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix(".new")
    try:
        temporary.write_text(str(days), "ascii")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def oldest_ms(days: int | None, now_ms: int) -> int:
    """The earliest time of an event that is still shown."""
    return 0 if days is None else now_ms - days * DAY_MS
