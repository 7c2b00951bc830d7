"""Connections from the platform to a guest's own listener, for telemetry. Never to anybody else's.

A guest chooses the port; everything else is ours. On the host's network the kernel is asked who owns the socket that
listens there, before and after connecting, and anybody but this environment is refused: first at the environment's own
loopback address, then at 127.0.0.1. In an isolated network nobody else listens, and the socket is made inside: a
thread enters the network of a process of the guest, makes one socket, and ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading

from lambent.runtimeapi.peer import PeerLookup
from lambent.sandbox.base import Sandbox
from lambent.worker.guests import is_of

_CLONE_NEWNET = 0x40000000
_ANYBODY = ("0.0.0.0", 0)


def can_reach(network: str, peers: PeerLookup | None) -> bool:
    """Whether this host lets the platform deliver anything to its guests."""
    return os.geteuid() == 0 if network == "isolated" else peers is not None


async def connect(port: int, sandbox: Sandbox, pid: int, network: str, peers: PeerLookup | None) -> socket.socket:
    """A connection to what the guest has listening at `port`; `pid` is one of its processes. Raises OSError."""
    if network == "isolated":
        made = await _inside(pid)
        return await _connected(made, "127.0.0.1", port)
    if peers is None:
        raise ConnectionRefusedError("this host cannot tell whose a socket is")
    own = sandbox.api_address.rpartition(":")[0]
    for address in dict.fromkeys((own, "127.0.0.1")):
        if not is_of(sandbox, peers.owner((address, port), _ANYBODY)):
            continue
        made = await _connected(socket.socket(socket.AF_INET, socket.SOCK_STREAM), address, port)
        if is_of(sandbox, peers.owner((address, port), _ANYBODY)):
            return made
        made.close()
    raise ConnectionRefusedError(f"no socket of this environment listens at port {port}")


async def _connected(made: socket.socket, address: str, port: int) -> socket.socket:
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (address, port))
    except BaseException:
        made.close()
        raise
    return made


async def _inside(pid: int) -> socket.socket:
    """A TCP socket of the network that this process is in. Raises OSError."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[socket.socket] = loop.create_future()

    def settle(result: socket.socket | OSError) -> None:
        if isinstance(result, OSError):
            if not made.done():
                made.set_exception(result)
        elif made.done():
            result.close()  # whoever waited has gone
        else:
            made.set_result(result)

    def work() -> None:
        result: socket.socket | OSError
        try:
            result = _enter_and_make(pid)
        except OSError as error:
            result = error
        loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=work, name="telemetry-socket", daemon=True).start()
    return await made


def _enter_and_make(pid: int) -> socket.socket:
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot enter the environment's network")
    finally:
        os.close(fd)
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
