"""Who is at the other end of a loopback connection: the uid that owns the peer's socket, asked of the kernel.

Loopback is shared by all environments on the host's network, so an address proves nothing. One `sock_diag` request
(netlink, linux/inet_diag.h) names the exact four-tuple and returns one socket. Linux only.
"""

from __future__ import annotations

import os
import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_MAPPED = b"\0" * 10 + b"\xff\xff"
_ANY_COOKIE = b"\xff" * 8
_HEADER = struct.Struct("=LHHLL")
_ALL_STATES = 0xFFFFFFFF
#: offset of idiag_uid in the answer: netlink header, four bytes, socket id, expires, rqueue, wqueue
_UID_AT = 16 + 4 + 48 + 12


class PeerLookup:
    """A netlink socket for repeated questions."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._socket.settimeout(1.0)

    def owner(self, peer: tuple[str, int], own: tuple[str, int]) -> tuple[int, int] | None:
        """uid and inode number of the socket at `peer` that talks to `own`; None when the kernel knows none."""
        try:
            theirs, ours = _packed(peer[0]), _packed(own[0])
        except OSError:
            return None  # not an address: the connection was gone before anybody asked who it is
        if len(theirs) != len(ours):
            return None
        sockid = struct.pack(">HH", peer[1], own[1]) + theirs.ljust(16, b"\0") + ours.ljust(16, b"\0")
        sockid += struct.pack("=L", 0) + _ANY_COOKIE
        family = socket.AF_INET if len(ours) == 4 else socket.AF_INET6
        request = struct.pack("=BBBBL", family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + sockid
        head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
        try:
            self._socket.send(head + request)
            answer = self._socket.recv(4096)
        except OSError:
            return None
        kind = _HEADER.unpack_from(answer)[1]
        if kind == _NLMSG_ERROR or len(answer) < _UID_AT + 8:
            return None
        uid, inode = struct.unpack_from("=LL", answer, _UID_AT)
        return int(uid), int(inode)

    def close(self) -> None:
        self._socket.close()


def _packed(address: str) -> bytes:
    """An IP address as bytes; one of version 4 in the clothes of version 6 as what it is. Raises OSError."""
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed


def holds_socket(pid: int, inode: int) -> bool:
    """Whether a process has this socket open, as far as we may see its descriptors."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_link(entry.path) == f"socket:[{inode}]" for entry in entries)
    except OSError:
        return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
