"""Why a program could not be executed, from what its file says: the exit code alone cannot tell it from a program that
ran and ended with that code."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_MACHINES = {"x86_64": 62, "aarch64": 183}  #: e_machine of elf(5)
_INTERPRETER = 3  #: p_type of the segment that names the program's loader
#: Seen inside only: what a first line names there is not looked for on the host.
_INSIDE = ("/var/", "/opt/", "/tmp/")


def launch_problem(file: Path) -> str:
    """The C library's words for the error of execve(2), empty where nothing seems to be wrong with this file.

    What it needs is looked for on the host, whose /usr, /bin and /lib guests are shown.
    """
    if not os.access(file, os.X_OK):
        return "permission denied"
    try:
        with open(file, "rb") as program:
            head = program.read(4096)
    except OSError:
        return ""
    if head.startswith(b"#!"):
        needed = head[2:].partition(b"\n")[0].strip(b" \t").split(b" ")[0]
        return _missing(needed) if needed else "exec format error"
    if not head.startswith(b"\x7fELF"):
        return "exec format error"
    try:
        return _elf_problem(head)
    except struct.error:
        return "exec format error"


def _elf_problem(head: bytes) -> str:
    (machine,) = struct.unpack_from("<H", head, 18)
    if machine != _MACHINES.get(os.uname().machine, machine):
        return "exec format error"
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for number in range(count):
        kind, _, offset = struct.unpack_from("<IIQ", head, table + number * size)
        if kind == _INTERPRETER:
            return _missing(head[offset:].partition(b"\0")[0])
    return ""


def _missing(needed: bytes) -> str:
    path = os.fsdecode(needed)
    if path.startswith(_INSIDE) or os.access(path, os.X_OK):
        return ""
    return "permission denied" if os.path.exists(path) else "no such file or directory"
