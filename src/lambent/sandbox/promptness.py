"""How soon the kernel lets the server run, and a guest that was woken: both do little at a time, and somebody waits.

A guest that computes may use a processor for a whole slice (some milliseconds) before others get it. A task that asks
for a shorter slice (sched_setattr(2), Linux 6.12) gets the processor as soon as it wakes, and no more of it. What it
starts has the usual slice, so the children of a fork bomb do not get it from a neighbour's runtime. Where the kernel
does not know this, nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import struct

#: The kernel's least.
SLICE_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_RESET_ON_FORK = 1  #: what it starts is not meant
_ATTRIBUTES = struct.Struct("<IIQiIQQQII")  #: struct sched_attr up to util_max


def ask() -> bool:
    """For the calling thread, which is to be the loop's. Whether the kernel took it."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None or os.uname().sysname != "Linux":
        return False
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes(), 0) == 0)


def attributes() -> bytes:
    """The kernel's `struct sched_attr` for a task with the niceness of this process."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, _RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0, 0, 0)
