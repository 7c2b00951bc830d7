"""Who else can be measured on this machine, and how each is started; who is missing is named, with the reason."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from bench import ministack, peer
from bench.peer import NoPeer
from lambent.runtimes.catalog import CATALOG
from lambent.runtimes.interpreters import find
from lambent.runtimes.prepared import PreparedRuntime


@dataclass(frozen=True, slots=True)
class Peers:
    """None: not here."""

    emulator: PreparedRuntime | None = None  #: the interpreter and client that it runs functions with
    ministack: Path | None = None  #: the Python that it is installed for
    node_runtime: str = ""  #: the managed Node.js runtime that this machine has the interpreter for
    said: dict[str, str] = field(default_factory=dict)  #: by name: how it is started, or why it is missing


def find_all() -> Peers:
    """Fetches what is not there yet. Raises RuntimeUnavailable when our own side has no interpreter."""
    prepared = peer.runtime()
    said = {}
    emulator: PreparedRuntime | None = prepared
    installed: Path | None = None
    try:
        peer.binary()
        said["emulator"] = f"started as {peer.Emulator.how}; its Node.js client is missing: it has to be compiled"
    except NoPeer as missing:
        emulator = None
        said["emulator"] = f"MISSING: {missing}"
    try:
        installed = ministack.installed(prepared)
        said["ministack"] = f"started as {ministack.MiniStack.how}"
    except NoPeer as missing:
        said["ministack"] = f"MISSING: {missing}"
    node = asyncio.run(_node())
    said["node"] = node or "MISSING: no Node.js that a managed runtime stands for"
    return Peers(emulator, installed, node, said)


async def _node() -> str:
    for entry in reversed(list(CATALOG.values())):
        if entry.family == "nodejs" and entry.unsupported is None and await find(entry, dict(os.environ)):
            return entry.identifier
    return ""
