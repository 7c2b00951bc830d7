"""What this host gives to environments: the memory for all together, descriptors for the server, and how many it holds.

`look` reads the facts, `bounds` is arithmetic over them: for each thing of which there is only so much, how many idle
environments it suffices for. The least of them is this host's ceiling. What an environment takes of each is measured
(docs/benchmarks.md, `density`), with a managed Python runtime and a function that does nothing; others take more.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lambent.sandbox.namespace.layout import Layout, detect_here, read

MIB = 1024 * 1024
#: Connections of clients at most: descriptors that environments do not get.
CONNECTIONS = 4096
#: What one idle environment takes: charged memory (3.9 MB where the function does nothing, 7.6 where it logs),
#: descriptors of the server, processes (process 1 and the runtime).
MEMORY_EACH_BYTES = 6_500_000
DESCRIPTORS_EACH = 6
PROCESSES_EACH = 2
#: Descriptors of the server for itself: its database, logs, pools.
DESCRIPTORS_OWN = 128
#: Loopback addresses with a Runtime API, and user ids of one server (`namespace.users`).
ADDRESSES = 65_536
#: The kernel numbers groups with a memory limit in 16 bits, those that end included.
MEMORY_GROUPS = 65_535
#: The part of the environments' memory that only those may use that work: at most this, and at most an eighth.
MEMORY_HEADROOM_BYTES = 512 * MIB
_CAP_SYS_RESOURCE = 24  # linux/capability.h
#: Of each of which a sandbox has one (sysctl user.max_*).
_NAMESPACES = ("user", "mnt", "pid", "ipc", "uts")


@dataclass(frozen=True, slots=True)
class Host:
    """The facts. None: there is no limit, or this host does not tell."""

    memory_bytes: int  #: for all environments together, before one has to make room
    files: int | None  #: descriptors that the server can have
    tasks: int | None  #: processes and threads that can still be started on this host
    own_tasks: int | None  #: and in the control group that the server itself is in: process 1 of each sandbox is too
    namespaces: int | None  #: of each kind
    memory_groups: bool  #: whether each environment has a group with a memory limit


@dataclass(frozen=True, slots=True)
class Bound:
    """One thing that limits the number of environments. `remedy` is empty where nothing can be done."""

    name: str
    environments: int
    detail: str
    remedy: str = ""


def host_memory() -> int:
    """Bytes of memory of this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_budget(memory_mib: int) -> int:
    """Bytes for all environments together: what was set, or 80 % of the host's memory."""
    return memory_mib * MIB if memory_mib else int(host_memory() * 0.8)


def memory_marks(cap_bytes: int) -> tuple[int, list[int]]:
    """From which use on idle environments go, and where on the way to the cap it is measured at once.

    What lies between is what working ones can take while idle ones end. One core fills a GiB in a second (measured), so
    this can be too little; then the kernel ends somebody, an idle one if there is any (`Worker.expect_shortage`).
    """
    headroom = min(cap_bytes // 8, MEMORY_HEADROOM_BYTES)
    budget = cap_bytes - headroom
    return budget, [budget * 3 // 4, budget, budget + headroom // 2]


def most_files() -> int | None:
    """Descriptors that this process can have: the hard limit, or with the right to raise it what the kernel allows."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _number("/proc/sys/fs/nr_open")
    if most is not None and (hard == resource.RLIM_INFINITY or _may_raise_limits()):
        return most
    return None if hard == resource.RLIM_INFINITY else hard


def _may_raise_limits() -> bool:
    """CAP_SYS_RESOURCE, which root of a container or a service often lacks."""
    for line in read(Path("/proc/self/status")).splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def take_files() -> None:
    """Raise this process's limit of descriptors as far as it goes; a shell's is often 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (most_files() or hard, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return
        except (ValueError, OSError):  # something else forbids it
            continue


def connections(files: int) -> int:
    """Clients' connections at most, when the server can have so many descriptors."""
    return min(CONNECTIONS, files // 2)


def look(memory_mib: int) -> Host:
    """The facts of this host, with the setting for the memory of all environments."""
    layout = detect_here()
    limits = [_number(f"/proc/sys/kernel/{name}") for name in ("pid_max", "threads-max")]
    running = _running()
    tasks = None if running is None or None in limits else min(filter(None, limits)) - running
    kinds = [_number(f"/proc/sys/user/max_{kind}_namespaces") for kind in _NAMESPACES]
    known = [number for number in kinds if number is not None]
    return Host(memory_marks(memory_budget(memory_mib))[0], most_files(), tasks, _left_in_own_group(),
                min(known) if known else None, _has_memory_groups(layout))  # fmt: skip


def bounds(host: Host) -> list[Bound]:
    """Each with the number of idle Python environments that it suffices for, the tightest first."""
    each_mb = MEMORY_EACH_BYTES / 1e6
    found = [
        Bound("memory", host.memory_bytes // MEMORY_EACH_BYTES,
              f"{host.memory_bytes / 1e9:.1f} GB for all, about {each_mb:.1f} MB each",
              "a larger --memory-mib, where the host has more to give"),
        Bound("loopback addresses and user ids", ADDRESSES, "one of each for every environment"),
    ]  # fmt: skip
    if host.files is not None:
        clients = connections(host.files)
        found.append(Bound("descriptors of the server",
                           max(0, host.files - clients - DESCRIPTORS_OWN) // DESCRIPTORS_EACH,
                           f"{host.files:,}, of which {clients:,} are for clients; {DESCRIPTORS_EACH} each",
                           "a higher hard limit (ulimit -Hn, LimitNOFILE=)"))  # fmt: skip
    if host.tasks is not None:
        found.append(Bound("processes of this host", max(0, host.tasks) // PROCESSES_EACH,
                           f"{host.tasks:,} more can be started; {PROCESSES_EACH} each",
                           "sysctl kernel.pid_max=4194304"))  # fmt: skip
    if host.own_tasks is not None:
        found.append(Bound("processes of the server's own control group", max(0, host.own_tasks),
                           f"{host.own_tasks:,} more can be started; process 1 of each environment",
                           "TasksMax=infinity for the server's unit, or a higher pids.max"))  # fmt: skip
    if host.namespaces is not None:
        found.append(Bound("namespaces", host.namespaces, f"{host.namespaces:,} of each kind",
                           "higher sysctl user.max_*_namespaces"))  # fmt: skip
    if host.memory_groups:
        found.append(Bound("control groups", MEMORY_GROUPS, "the kernel numbers memory groups in 16 bits"))
    return sorted(found, key=lambda bound: bound.environments)


def _has_memory_groups(layout: Layout) -> bool:
    return "memory" in layout.v1 or (layout.unified is not None and "memory" in layout.unified_controllers)


def _running() -> int | None:
    """Processes and threads of this host now."""
    fields = read(Path("/proc/loadavg")).split()
    return int(fields[3].partition("/")[2]) if len(fields) > 3 else None


def _left_in_own_group() -> int | None:
    """How many more tasks the groups that this process is in may have."""
    return least_left(read(Path("/proc/self/cgroup")), read(Path("/proc/self/mountinfo")))


def least_left(own: str, mountinfo: str) -> int | None:
    """From the texts of /proc/self/cgroup and mountinfo; None where no group on the way to the top has a limit."""
    left = []
    for folder in _pids_folders(own, mountinfo):
        limit, current = read(folder / "pids.max").strip(), read(folder / "pids.current").strip()
        if limit.isdecimal() and current.isdecimal():
            left.append(int(limit) - int(current))
    return min(left) if left else None


def _pids_folders(own: str, mountinfo: str) -> Iterable[Path]:
    """Of the hierarchy that counts processes: the group of this process and those above it."""
    for line in own.splitlines():
        number, controllers, path = line.split(":", 2)
        if "pids" not in controllers.split(",") and number != "0":
            continue
        wanted = "cgroup2" if number == "0" else "cgroup"
        for mounted in mountinfo.splitlines():
            before, _, after = mounted.partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind == wanted and (kind == "cgroup2" or "pids" in options.split(" ")[-1].split(",")):
                top = Path(before.split(" ")[4])
                folder = top / path.lstrip("/")
                yield from (folder, *(above for above in folder.parents if above.is_relative_to(top)))
                break


def _number(path: str) -> int | None:
    text = read(Path(path)).strip()
    return int(text) if text.isdecimal() else None
