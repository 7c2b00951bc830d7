"""Sets of installed packages, kept between deployments below the cache folder: each in a folder of its own, by a name
that is made of all that it depends on. What is in them is `requirements`' and `node_packages`' part.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambent.cli.exits import Stop
from lambent.runtimes import build
from lambent.runtimes.hosttools import ToolOutcome

INSTALL_TIMEOUT_S = 600.0
#: Sets of one kind that are kept; the ones that were not used for longest go first.
KEPT = 20

Fill = Callable[[Path], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Installed:
    """Packages in a folder. `kept`: from an earlier deployment."""

    folder: Path
    kept: bool = False


def root(cache_dir: Path, kind: str) -> Path | None:
    """Where sets of this kind are kept; None where nothing can be."""
    folder = cache_dir / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def installed(place: Path | None, target: Path, fill: Fill, *, anew: bool) -> Installed:
    """The set of `place`, which `fill` makes if it is not there or is wanted anew; in `target` if there is no place."""
    if place is None:
        target.mkdir(exist_ok=True)
        asyncio.run(fill(target))
        return Installed(target)
    if place.is_dir() and not anew:
        with contextlib.suppress(OSError):  # a cache of somebody else
            os.utime(place)
        return Installed(place, kept=True)
    _fill_and_keep(place, fill)
    _forget(place.parent)
    return Installed(place)


def _fill_and_keep(place: Path, fill: Fill) -> None:
    before = place.parent / f".making-{os.getpid()}-before-{place.name}"
    with contextlib.suppress(FileNotFoundError):
        place.rename(before)
    try:
        asyncio.run(build.make(place, fill))
    except OSError as error:
        raise Stop(f"cannot keep packages in {place.parent}: {error.strerror}") from None
    finally:
        if before.is_dir() and not place.is_dir():
            before.rename(place)
        shutil.rmtree(before, ignore_errors=True)


def _forget(folder: Path) -> None:
    """Remove the sets that were not used for longest."""
    with contextlib.suppress(OSError):
        kept = sorted((path for path in folder.iterdir() if not path.name.startswith(".")),
                      key=lambda path: path.stat().st_mtime)  # fmt: skip
        for path in kept[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def judge(outcome: ToolOutcome, complaint: str) -> None:
    """Raise Stop with one line of what the tool said, after the others, unless it ended well."""
    if outcome.code == 0:
        return
    lines = outcome.stderr.rstrip().splitlines()
    told = next((at for at, line in enumerate(lines) if line.strip() == outcome.complaint), None)
    if told is not None:
        del lines[told]
    if lines:
        print("\n".join(lines), file=sys.stderr)
    raise Stop(f"{complaint}: {outcome.complaint}")
