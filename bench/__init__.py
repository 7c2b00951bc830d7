"""What is measured, one file each; `python -m bench` (or `make bench`) runs all and prints one table.

Every figure that is compared comes from one run on one machine, the two sides taking turns: absolute times of another
day or host say nothing. `docs/benchmarks.md` tells what each one means and where the wanted values come from.
"""

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
