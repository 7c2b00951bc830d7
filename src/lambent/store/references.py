"""Who still needs which code: a count for every name, and word when nobody needs one any more.

Names are the hex digests of zips, and of the folders that layers are merged into. Stored versions hold them, and so do,
for a while, requests that have put a blob which no row names yet, activations, and living environments. What is to be
done about a name that is free is the collector's (`control/collector.py`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


def opt_name(layers: Sequence[str]) -> str:
    """The name of /opt for these layers, by digest and in order: a single layer is its own."""
    return layers[0] if len(layers) == 1 else "opt-" + hashlib.sha256(" ".join(layers).encode()).hexdigest()


def names_of(code_sha256: str, layers: Sequence[str]) -> tuple[str, ...]:
    """Everything that a version with this code and these layers needs."""
    return (code_sha256, *layers, opt_name(layers)) if layers else (code_sha256,)


class References:
    """Counts of names. Belongs to the event loop. `freed` is told of each name that nobody holds any more."""

    __slots__ = ("_counts", "freed")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self.freed: Callable[[str], None] = _nobody

    def __contains__(self, name: object) -> bool:
        return name in self._counts

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def hold(self, names: Iterable[str]) -> None:
        self._counts.update(names)

    def release(self, names: Iterable[str]) -> None:
        """Undo one `hold` of the same names."""
        for name in names:
            left = self._counts[name] - 1
            assert left >= 0, f"{name} is released more often than it is held"
            if left:
                self._counts[name] = left
            else:
                del self._counts[name]
                self.freed(name)

    @contextmanager
    def held(self, names: Sequence[str]) -> Iterator[None]:
        self.hold(names)
        try:
            yield
        finally:
            self.release(names)


def _nobody(_: str) -> None:
    """Without a collector, what is free stays until the next start sweeps it."""
