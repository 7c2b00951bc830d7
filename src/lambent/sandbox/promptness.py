"""How soon the kernel lets the server run: it does little at a time, and everybody waits for it.

A guest that computes may use a processor for a whole slice (some milliseconds) before others get it. A task that asks
for a shorter slice (sched_setattr(2), Linux 6.12) gets the processor as soon as it wakes, and no more of it. Where the
kernel does not know this, nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import struct

#: The kernel's least.
SLICE_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_RESET_ON_FORK = 1  #: what the server starts is not meant
_ATTRIBUTES = struct.Struct("<IIQiIQQQII")  #: struct sched_attr up to util_max


def ask() -> bool:
    """For the calling thread, which is to be the loop's. Whether the kernel took it."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None or os.uname().sysname != "Linux":
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, _RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, attributes, 0) == 0)
