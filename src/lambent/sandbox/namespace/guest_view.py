"""What a guest reads about its own size and identity: the content of generated files.

Pure text in, text out. `plan` lays the files into the sandbox. Programs size their heaps and thread pools by these
(psutil, `os.cpu_count`, Node.js, the JVM), so they show the environment's memory and cores, not the host's. They are
written once: figures of a moment, such as free memory or CPU times, stand still.
"""

from __future__ import annotations

import re
from functools import lru_cache

from lambent.sandbox.namespace.plan import GUEST_GID, GUEST_UID

USER = "sbx_user1051"  #: fact sheet 9.7


def visible_cores(memory_mib: int, host_cores: int) -> int:
    """Cores that a function of this size sees (measured on AWS, records 4c), at most the host's."""
    steps = (3008, 5307, 7076, 8845)
    return max(1, min(host_cores, 2 + sum(memory_mib > step for step in steps)))


def files(memory_mib: int, host_cores: int, hostname: str, resolv_conf: str, proc: dict[str, str],
          own_address: str = "127.0.0.1") -> dict[str, bytes]:
    """Path below the root -> content. `proc` holds the host's /proc/cpuinfo and /proc/stat under these names.

    `own_address` is a loopback address that no other environment uses: extensions listen there for telemetry.
    """
    texts = {
        "etc/passwd": _passwd(),
        "etc/group": f"root:x:0:\n{USER}:x:{GUEST_GID}:\nnobody:x:65534:\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{own_address} sandbox.localdomain sandbox\n"
        f"127.0.0.1 {hostname}\n",
        "etc/hostname": hostname + "\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
        "etc/resolv.conf": resolv_conf,
    }
    return {path: text.encode() for path, text in texts.items()} | sizes(memory_mib, host_cores, proc)


def sizes(memory_mib: int, host_cores: int, proc: dict[str, str]) -> dict[str, bytes]:
    """The files among them that tell the size."""
    cores = visible_cores(memory_mib, host_cores)
    texts = {
        "proc/meminfo": meminfo(memory_mib),
        "proc/cpuinfo": cpuinfo(proc.get("cpuinfo", ""), cores),
        "proc/stat": stat(proc.get("stat", ""), cores),
    }
    for name in ("online", "possible", "present"):
        texts[f"sys/devices/system/cpu/{name}"] = f"0-{cores - 1}\n" if cores > 1 else "0\n"
    return {path: text.encode() for path, text in texts.items()}


def _passwd() -> str:
    return (
        "root:x:0:0:root:/root:/sbin/nologin\n"
        f"{USER}:x:{GUEST_UID}:{GUEST_GID}::/home/{USER}:/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/:/sbin/nologin\n"
    )


@lru_cache(64)
def meminfo(memory_mib: int) -> str:
    """All of the environment's memory, all of it free at the moment of writing; no swap."""
    total = memory_mib * 1024
    figures = {"MemTotal": total, "MemFree": total, "MemAvailable": total, "Buffers": 0, "Cached": 0,
               "SwapCached": 0, "Active": 0, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0, "Dirty": 0,
               "Shmem": 0, "Slab": 0, "SReclaimable": 0, "CommitLimit": total, "Committed_AS": 0}  # fmt: skip
    return "".join(f"{name + ':':<16}{kib:8d} kB\n" for name, kib in figures.items())


@lru_cache(64)
def cpuinfo(host_text: str, cores: int) -> str:
    """The host's first processors, renumbered, with sibling and core counts that fit."""
    blocks = [block for block in host_text.strip().split("\n\n") if block.startswith("processor")]
    shown = []
    for number, block in enumerate(blocks[:cores]):
        block = re.sub(r"(?m)^(processor\s*:).*", rf"\1 {number}", block)
        block = re.sub(r"(?m)^((?:siblings|cpu cores)\s*:).*", rf"\1 {cores}", block)
        block = re.sub(r"(?m)^((?:core id|apicid|initial apicid)\s*:).*", rf"\1 {number}", block)
        shown.append(block + "\n\n")
    return "".join(shown)


@lru_cache(64)
def stat(host_text: str, cores: int) -> str:
    """The boot time, and CPU times of zero for as many processors as there are to see."""
    zeros = " ".join(["0"] * 10)
    lines = [f"cpu  {zeros}", *(f"cpu{number} {zeros}" for number in range(cores))]
    boot = re.search(r"(?m)^btime \d+$", host_text)
    lines += ["intr 0", "ctxt 0", boot.group() if boot else "btime 0"]
    lines += ["processes 1", "procs_running 1", "procs_blocked 0"]
    return "\n".join(lines) + "\n"
