"""Whose a socket is: whether it belongs to an environment, and to which.

The kernel names the user of the peer's socket, and where each environment has a user of its own that is the answer.
Where guests are the same user as the server (rootless, `process`) it is asked who has the socket open: soon told of one
environment, while a look at every process of hundreds of them takes a thread, or the server would stand still.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterable
from functools import partial

from lambent.runtimeapi.peer import PeerLookup, holds_socket
from lambent.sandbox.base import Sandbox, Seen
from lambent.sandbox.proctable import Table

Tell = Callable[[bool], None]
Look = Callable[[Table], Seen]


def is_of(sandbox: Sandbox, owner: tuple[int, int] | None) -> bool:
    """Whether a socket is this environment's. `owner` is what `PeerLookup` says of it."""
    if owner is None:
        return False
    uid, inode = owner
    if sandbox.guest_uid is not None:
        return uid == sandbox.guest_uid
    return any(holds_socket(pid, inode) for pid in sandbox.usage().pids)


class Guests:
    """Who of those that connect to the server's port is a guest. `sandboxes` gives those that there are now."""

    def __init__(self, peers: PeerLookup | None, sandboxes: Callable[[], Iterable[Sandbox]]) -> None:
        self._peers = peers
        self._sandboxes = sandboxes

    def ask(self, peer: tuple[str, int], own: tuple[str, int], tell: Tell) -> None:
        """Tell whether the socket at `peer`, which talks to ours at `own`, is a guest's: at once, or a little later."""
        owner = self._peers.owner(peer, own) if self._peers is not None else None
        if owner is None:
            tell(False)
            return
        uid, inode = owner
        sandboxes = list(self._sandboxes())
        if any(sandbox.guest_uid == uid for sandbox in sandboxes):
            tell(True)
            return
        looks = [sandbox.look() for sandbox in sandboxes if sandbox.guest_uid is None]
        if not looks:
            tell(False)
            return
        searching = asyncio.get_running_loop().run_in_executor(None, _is_held, looks, inode)
        searching.add_done_callback(partial(_found, tell))


def _is_held(looks: list[Look], inode: int) -> bool:
    table = Table()
    return any(holds_socket(pid, inode) for look in looks for pid in look(table).usage.pids)


def _found(tell: Tell, searching: asyncio.Future[bool]) -> None:
    if searching.cancelled():  # with the event loop
        return
    error = searching.exception()
    if error is not None:
        traceback.print_exception(error)
    tell(error is not None or searching.result())
