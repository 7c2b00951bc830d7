"""What is measured, one file each; `python -m bench` (or `make bench`) runs all and prints one table.

Every figure that is compared comes from one run on one machine, the two sides taking turns: absolute times of another
day or host say nothing. `docs/benchmarks.md` tells what each one means and where the wanted values come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
#: What may be kept between runs; `make clean` removes it.
CACHE = CHECKOUT / ".cache"
#: Both sides run this: a function that does nothing, so that only the way to it is measured.
CODE = b'def handler(event, context):\n    return {"ok": True}\n'
HANDLER = "app.handler"
RESULT = b'{"ok": true}'
#: The size that buys one whole CPU (fact sheet 5.4), so that no quota is part of what is measured.
MEMORY_MIB = 1769


@dataclass(frozen=True, slots=True)
class Function:
    """What is deployed on every side. `runtime` empty: the Python that the server runs on."""

    name: str
    files: tuple[tuple[str, bytes], ...] = (("app.py", CODE),)
    runtime: str = ""
    handler: str = HANDLER
    result: bytes = RESULT


TRIVIAL = Function("trivial")


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured; the defaults are what the table of wanted figures asks for."""

    samples: int = 200  #: of each row of cold starts
    burst: int = 100  #: calls at once
    environments: int = 2000  #: frozen at the same time
    functions: int = 10_000  #: stored beside them
    tmp: str = "tmpfs"  #: of environments in the density part: tmpfs or ext4
    memory_mib: int = 0  #: of all environments in the density part; 0: what the server takes by itself
