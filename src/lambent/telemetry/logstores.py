"""The logs of every account and region of one server, each in a `LogStore` of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lambent.clock import Clock
from lambent.telemetry.logs import LogStore


class LogStores:
    """Log stores by account and region, made when first asked for."""

    __slots__ = ("_clock", "_data_dir", "_stores", "before_reading")

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._data_dir = data_dir
        self._clock = clock
        clock.watch(self._expire)
        self._stores: dict[tuple[str, str], LogStore] = {}
        #: called before anybody is given a store, so that it holds what has happened
        self.before_reading: Callable[[], None] | None = None

    def of(self, account: str, region: str) -> LogStore:
        """The logs of this account in this region. On the event loop; OSError when its folder cannot be read."""
        if self.before_reading is not None:
            self.before_reading()
        store = self._stores.get((account, region))
        if store is None:
            store = LogStore(self._data_dir, self._clock, account, region)
            store.begin()
            self._stores[account, region] = store
        return store

    def _expire(self, _: float) -> None:
        """Platform time was moved on: what is too old now goes now."""
        for store in self._stores.values():
            store.expire()

    async def stop(self) -> None:
        """Write what is left of all of them."""
        if self.before_reading is not None:
            self.before_reading()
        for store in self._stores.values():
            await store.stop()
