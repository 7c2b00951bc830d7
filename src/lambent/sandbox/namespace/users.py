"""Host user ids for environments: each gets one of its own while it lives, when the platform is root.

The ids lie far above those of people, services and the ranges that container tools hand out (systemd's end at
1,879,048,191). An instance has a block of its own, chosen by its name, so that two servers on a host hardly ever
meet; inside a sandbox the id is always that of `plan.GUEST_UID`.
"""

from __future__ import annotations

import zlib

FIRST = 1_900_000_000
BLOCK = 65_536
BLOCKS = (2_147_000_000 - FIRST) // BLOCK


class UserIds:
    """Hands out ids in turn, so that one is not reused until the block went round."""

    def __init__(self, instance: str) -> None:
        self._base = FIRST + BLOCK * (zlib.crc32(instance.encode()) % BLOCKS)
        self._next = 0
        self._taken: set[int] = set()

    def take(self) -> int:
        if len(self._taken) == BLOCK:
            raise RuntimeError("every user id of this instance is in use")
        while True:
            uid = self._base + self._next
            self._next = (self._next + 1) % BLOCK
            if uid not in self._taken:
                self._taken.add(uid)
                return uid

    def give_back(self, uid: int) -> None:
        self._taken.discard(uid)
