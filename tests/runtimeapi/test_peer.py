"""Who is at the other end: asked of the kernel, about real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lambent.runtimeapi.peer import PeerLookup, holds_socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux (sock_diag)")


@pytest.fixture
def lookup() -> Iterator[PeerLookup]:
    made = PeerLookup()
    yield made
    made.close()


@contextmanager
def connection(server: str, client: str | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the client's socket, the server's end of it)."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        listening = socket.create_server((server, 0), family=family)
    except OSError:
        pytest.skip("needs IPv6 on loopback")
    with listening, socket.socket(socket.AF_INET6 if client and ":" in client else family) as theirs:
        theirs.connect((client or server, listening.getsockname()[1]))
        ours, _ = listening.accept()
        with ours:
            yield theirs, ours


def addresses(ours: socket.socket) -> tuple[tuple[str, int], tuple[str, int]]:
    """The peer's and our own, as a connection of the server knows them."""
    return ours.getpeername()[:2], ours.getsockname()[:2]


def uid(lookup: PeerLookup, *addresses: tuple[str, int]) -> int | None:
    found = lookup.owner(*addresses)
    return found[0] if found is not None else None


@pytest.mark.parametrize(("server", "client"), [
    ("127.0.0.1", None), ("127.7.7.7", None), ("::1", None), ("127.0.0.1", "::ffff:127.0.0.1")])  # fmt: skip
def test_own_connection_is_found_with_uid_and_inode(lookup: PeerLookup, server: str, client: str | None) -> None:
    with connection(server, client) as (theirs, ours):
        peer, own = addresses(ours)
        assert uid(lookup, peer, own) == os.getuid()
        assert lookup.owner(peer, own) == (os.getuid(), os.fstat(theirs.fileno()).st_ino)
        assert holds_socket(os.getpid(), os.fstat(theirs.fileno()).st_ino)
        assert not holds_socket(os.getpid(), 1)
        assert not holds_socket(2**22 + 1, 1)


def test_address_of_version_4_is_recognised_in_the_clothes_of_version_6(lookup: PeerLookup) -> None:
    with connection("127.0.0.1") as (_, ours):
        peer, own = addresses(ours)
        assert uid(lookup, ("::ffff:" + peer[0], peer[1]), ("::ffff:" + own[0], own[1])) == os.getuid()


def test_connection_that_the_kernel_does_not_know_is_nobodys(lookup: PeerLookup) -> None:
    with connection("127.0.0.1") as (_, ours):
        peer, own = addresses(ours)
    for strange in [
        (peer, own), (("203.0.113.1", 1), own), (("", 0), own), (peer, ("::1", own[1])), (("x", 1), ("y", 2)),
        (("fe80::1%lo", 1), ("fe80::2%lo", 2)),
    ]:  # fmt: skip
        assert uid(lookup, *strange) in (None, 0)  # 0: what the kernel says of a socket without a process


def test_connection_of_another_user_shows_that_user(lookup: PeerLookup) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to run a process as another user")
    program = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = ["/usr/bin/env", "python3", "-c", program, str(listening.getsockname()[1])]
        child = subprocess.Popen(command, user=65534, group=65534, extra_groups=[], cwd="/", stdin=subprocess.PIPE,
                                 env={"PATH": "/usr/bin:/bin"})  # fmt: skip
        try:
            listening.settimeout(10)
            ours, _ = listening.accept()
            with ours:
                assert uid(lookup, *addresses(ours)) == 65534
        finally:
            child.communicate(timeout=10)
