"""The trace header of an invocation: the caller's, completed, or one of ours (fact sheet 2.2).

Nobody samples here: what the caller has decided stays, and without a decision nothing is sampled.
"""

from __future__ import annotations

import random
import re

#: Longest trace header that is handed on. AWS's own have about 150 characters.
MAX_BYTES = 1024
_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
_PARENT = re.compile(r"[0-9a-f]{16}")


def made(wall_s: float) -> str:
    """A header that begins a trace."""
    noise = f"{random.getrandbits(192):048x}"
    return (f"Root=1-{int(wall_s):08x}-{noise[:24]};Parent={noise[24:40]};Sampled=0;"
            f"Lineage=1:{noise[40:48]}:0")  # fmt: skip


def completed(given: str, wall_s: float) -> str:
    """The caller's header with what is missing, or a new one when it names no trace.

    A runtime reads it from a header line, which a long or odd one would end.
    """
    if not given or len(given) > MAX_BYTES or not (given.isascii() and given.isprintable()):
        return made(wall_s)
    fields: dict[str, str] = {}
    for field in given.split(";"):
        name, _, value = field.strip().partition("=")
        fields.setdefault(name, value)
    root = fields.pop("Root", "")
    if not _ROOT.fullmatch(root):
        return made(wall_s)
    parent, sampled = fields.pop("Parent", ""), fields.pop("Sampled", "")
    if not _PARENT.fullmatch(parent):
        parent = f"{random.getrandbits(64):016x}"
    fields.setdefault("Lineage", f"1:{random.getrandbits(32):08x}:0")
    rest = "".join(f";{name}={value}" for name, value in fields.items() if name and value)
    return f"Root={root};Parent={parent};Sampled={1 if sampled == '1' else 0}{rest}"
