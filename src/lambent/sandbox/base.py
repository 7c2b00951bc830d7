"""The contract of a sandbox: the isolation around one execution environment.

A backend creates sandboxes; a sandbox is created once and then runs processes many times (a reset kills the
processes and keeps the sandbox with its /tmp). Implementations: `process` (none) and `namespace` (Linux). The
conformance suite in `tests/conformance/test_sandbox.py` runs over every one.

After `destroy` began, or once the sandbox died by itself, `run` raises SandboxError, `freeze`, `thaw`,
`limit_cpu` and `kill` do nothing, `usage` returns the last known figures, `destroy` returns.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lambent.core.model import ExitStatus
from lambent.sandbox import proctable


class SandboxError(Exception):
    """The host could not do what was asked (no memory, a mount failed). One line, fit for a person."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What to isolate. Host paths must exist; they are shown read-only."""

    id: str  #: the environment's id; letters, digits and dashes; unique on this host for this instance
    task: Path | None  #: unpacked code, shown at /var/task; None for one that `furnish` completes
    memory_mib: int
    tmp_mib: int
    opt: Path | None = None  #: merged layers, shown at /opt; None shows an empty folder
    runtime: Path | None = None  #: bootstrap and SDK, shown at /var/runtime
    #: files shown over the empty ones `.task` and `.opt` of `runtime`, where `SandboxBackend.shows_code`
    task_code: Path | None = None
    opt_code: Path | None = None
    #: the interpreter: (host path, path below /var/lang) in the order in which they are bound
    lang: tuple[tuple[Path, str], ...] = ()
    network: str = "host"  #: or "isolated": loopback and the Runtime API only
    hostname: str = "169-254-100-1"
    background: bool = False  #: gets the processor when no other sandbox wants it


@dataclass(frozen=True, slots=True)
class Places:
    """Where a guest finds things: AWS's paths in an isolating backend, host paths in `process`."""

    task: str = "/var/task"
    opt: str = "/opt"
    runtime: str = "/var/runtime"
    lang: str = "/var/lang"
    tmp: str = "/tmp"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run. argv[0] is an absolute path as the guest sees it; `environment` is all it gets."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/var/task"


@dataclass(frozen=True, slots=True)
class Process:
    """A started process. `pid` is the host's; 0 of one that somebody killed before it was known.

    `output` is the read end (non-blocking) of one pipe that is its standard output and its standard error, so that
    what it writes to both keeps its order, as in AWS's log. The caller owns and closes it.
    """

    pid: int
    output: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Figures of the guest processes together. None where the backend cannot tell."""

    memory_bytes: int | None  #: charged now
    memory_peak_bytes: int | None  #: high-water mark since creation
    cpu_us: int | None  #: CPU time used since creation
    pids: tuple[int, ...] = ()  #: the guest's processes, host pids


@dataclass(frozen=True, slots=True)
class Seen:
    """A sandbox at one moment, as the kernel tells."""

    usage: Usage
    frozen: bool
    beside: tuple[int, ...] = ()  #: host pids of what the platform runs for it beside the guests


class Sandbox(Protocol):
    id: str
    places: Places
    #: Listening TCP socket, non-blocking, where the guest's Runtime API calls arrive.
    api_socket: socket.socket
    #: `host:port` of that socket as the guest reaches it.
    api_address: str
    #: The host's uid of guest processes, which the Runtime API checks on accept; None: cannot be told apart.
    guest_uid: int | None
    #: True once the sandbox can run nothing any more (its process 1 died, or it was destroyed).
    dead: bool

    async def run(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> Process:
        """Start a process. `on_exit` is called once from the event loop, after the process was reaped.

        Raises SandboxError when it cannot be started because of the host. A program that is missing or not
        executable inside the sandbox is the guest's fault and exits with status 127 or 126.
        """
        ...

    async def park(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> None:
        """Start a process that waits at its standard input. The next `run` with the same argv lets it go on instead of
        starting another: it reads that environment, as `NAME=value` with zero bytes between, up to the end of the
        input. From then on it is that `run`'s process; until then its end is told to `on_exit`. Raises as `run`, or
        where `SandboxBackend.can_furnish` is not.
        """
        ...

    def freeze(self) -> None:
        """Stop scheduling every guest process. One synchronous write; idempotent. Raises SandboxError."""
        ...

    def thaw(self) -> None:
        """Undo `freeze`; idempotent. Raises SandboxError."""
        ...

    def is_frozen(self) -> bool:
        """Read back from the kernel."""
        ...

    def limit_cpu(self, limited: bool) -> None:
        """True: the share that the memory size buys; False (at first): the host's cores, as in Init."""
        ...

    def give_way(self, giving: bool) -> None:
        """True: while others want the processors, these guests get a quarter of what those of another environment get;
        False (at first): as much. Where processor time is not divided by environments, nothing happens.
        """
        ...

    def expendable(self, expendable: bool) -> None:
        """True: when all environments together are out of memory, the kernel ends these guests before others."""
        ...

    def signal(self, pid: int, signum: int) -> None:
        """Signal one process that `run` started, by its host pid. Nothing happens if it is gone."""
        ...

    def usage(self) -> Usage: ...

    def look(self) -> Callable[[proctable.Table], Seen]:
        """What reads `usage` and `is_frozen`, and may be called in any thread, since for thousands it takes the kernel
        most of a second. The table is one for all of them. It raises nothing.
        """
        ...

    def memory_peak(self) -> int | None:
        """The figure `memory_peak_bytes` of `usage` alone: asked at the end of every invocation, for REPORT."""
        ...

    async def kill(self) -> None:
        """End every guest process, frozen or not, with SIGKILL, and return when all are reaped.

        The sandbox, /tmp and the Runtime API socket stay. Each `on_exit` has been called when this returns.
        Afterwards the sandbox is not frozen.
        """
        ...

    async def destroy(self, reason: str) -> None:
        """End everything; leave no process, mount, cgroup or file. Idempotent, bounded, never raises."""
        ...


class SandboxBackend(Protocol):
    name: str
    #: Whether guests find things at AWS's places, and byte code of `task` and `opt` below the runtime.
    shows_code: bool

    async def start(self) -> None:
        """Prepare pools and parent cgroups, and remove what a dead server of the same instance left.

        Raises SandboxError, in one line, when this host cannot do it.
        """
        ...

    async def create(self, spec: SandboxSpec, on_death: Callable[[str], None]) -> Sandbox:
        """All or nothing: a SandboxError leaves nothing behind.

        `on_death` is called at most once, from the event loop, with a reason, if the sandbox dies by itself.
        """
        ...

    def can_furnish(self, spec: SandboxSpec) -> bool:
        """Whether `furnish` can make this of a sandbox that was created without a task."""
        ...

    async def furnish(self, sandbox: Sandbox, spec: SandboxSpec) -> None:
        """Make a sandbox that was created without a task into that of `spec`, but for its id: code, layers, /tmp,
        sizes. What runs inside sees them from then on. Raises SandboxError; then it is to be destroyed.
        """
        ...

    def memory_events(self) -> int | None:
        """How many allocations the parent memory cgroup has refused so far; None when it cannot be told."""
        ...

    def memory_bytes(self) -> int | None:
        """What all environments together use now, without what the kernel takes back first; None: unknown."""
        ...

    def watch_memory(self, marks: Sequence[int], on_grown: Callable[[], None]) -> None:
        """Call `on_grown` from the event loop as soon as use passes one of these numbers of bytes, if the kernel tells,
        or memory was refused. To be called once, before the first `create`. It may also be called when use falls.
        """
        ...

    async def stop(self) -> None:
        """Release pools and parent cgroups. All sandboxes have been destroyed before."""
        ...
