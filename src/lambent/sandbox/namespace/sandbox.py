"""One sandbox of the `namespace` backend: the contract of `base.Sandbox` on top of process 1 and its groups.

It owns what one environment holds on this host (process 1, control groups, the mount for /tmp, the Runtime API
socket, a user id) and gives all of it back, in reverse. How a sandbox comes to be stands in the package itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from lambent.core.model import ExitStatus
from lambent.sandbox import proctable
from lambent.sandbox.base import Places, Process, ProcessSpec, SandboxError, Seen, Usage
from lambent.sandbox.namespace import cgroup
from lambent.sandbox.namespace.first import FirstProcess
from lambent.sandbox.namespace.tmp_images import TmpMount

#: `destroy` returns after this; what still hangs in the kernel goes on being cleared away in the background.
DESTROY_WAIT_S = 5.0


@dataclass(slots=True)
class Holdings:
    """What a sandbox has taken from the host so far. Filled during creation, emptied by `give_back`."""

    group: cgroup.Group | None = None
    tmp: TmpMount | None = None
    socket: socket.socket | None = None
    guest_uid: int | None = None
    releases: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def give_back(self) -> None:
        """Once process 1 is gone. Never raises: one failing release must not keep the others from happening."""
        if self.socket is not None:
            self.socket.close()
        for release in reversed(self.releases):
            with contextlib.suppress(OSError, SandboxError):
                await release()
        self.releases.clear()


class _Parked:
    """A process that waits at its standard input for the environment that it is to have."""

    def __init__(self, argv: tuple[str, ...], orders: int, on_exit: Callable[[ExitStatus], None]) -> None:
        self.argv = argv
        self.on_exit = on_exit
        self.pid = 0
        self.output = -1
        self._orders = orders

    def give(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> bool:
        """Let it go on as this process. False: it cannot; what it has is closed, and its end says nothing any more."""
        row = proctable.read(self.pid)
        ended = row is None or row.state in "ZX"
        order = b"\0".join(os.fsencode(f"{name}={value}") for name, value in spec.environment.items())
        try:
            os.set_blocking(self._orders, False)
            given = not ended and os.write(self._orders, order) == len(order)
        except OSError:  # it has ended, or would read too late
            given = False
        if not given:
            self.on_exit = _nothing
            self.close()
            return False
        self.on_exit = on_exit
        os.close(self._orders)
        return True

    def close(self) -> None:
        os.close(self._orders)
        os.close(self.output)


def _nothing(_: ExitStatus) -> None:
    pass


def _measure(group: cgroup.Group | None, first_pid: int, before: Usage, table: proctable.Table) -> Usage:
    """From the groups where there are any, from the process table otherwise. Peak and time never fall."""
    peak_before, cpu_before = before.memory_peak_bytes or 0, before.cpu_us or 0
    now = group.memory_now() if group else None
    if group is not None and now is not None:
        return Usage(now, max(peak_before, group.memory_peak() or now), group.cpu_us(), group.pids())
    guests = table.descendants(parents=[first_pid])
    first = table.rows.get(first_pid)
    # Process 1 has waited for all that ended, so their time is in its own row.
    cpu_us = sum(row.cpu_us for row in guests) + (first.cpu_us if first else 0)
    peak = sum(proctable.peak_bytes(row.pid) for row in guests)
    memory = sum(row.rss_bytes for row in guests)
    return Usage(memory, max(peak_before, peak), max(cpu_before, cpu_us), tuple(row.pid for row in guests))


class NamespaceSandbox:
    """See `base.Sandbox`. Made by `NamespaceBackend.create`, which also sets the sockets."""

    places = Places()
    api_socket: socket.socket
    api_address: str

    def __init__(self, sandbox_id: str) -> None:
        self.id = sandbox_id
        self.dead = False
        self.guest_uid: int | None = None
        self.holdings = Holdings()
        self.first = FirstProcess(self._gone, self._thaw_dying)
        self._on_death: Callable[[str], None] | None = None
        self._frozen = False
        self._killing = False
        self._oom_kills = 0
        self._peak_bytes = 0
        self._cpu_us = 0
        self._last_usage = Usage(None, None, None)
        self._cleared = asyncio.get_running_loop().create_future()
        self._clearing: asyncio.Task[None] | None = None
        self._parked: _Parked | None = None

    def is_made(self, on_death: Callable[[str], None]) -> None:
        """Creation is over: from now on the sandbox's own death is told. Raises SandboxError if it came before."""
        if self.dead:
            raise SandboxError("process 1 of the sandbox ended")
        self._on_death = on_death

    async def run(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> Process:
        self._check_alive()
        if self._parked is not None and self._parked.argv == spec.argv:
            parked, self._parked = self._parked, None
            if parked.give(spec, on_exit):
                return Process(parked.pid, parked.output)
            self.first.signal(parked.pid, signal.SIGKILL)
        return await self._start(spec, -1, on_exit)

    async def park(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> None:
        self._check_alive()
        orders, theirs = os.pipe()
        try:
            parked = _Parked(spec.argv, theirs, on_exit)
            process = await self._start(spec, orders, lambda exit: parked.on_exit(exit))
        except BaseException:
            os.close(theirs)
            raise
        finally:
            os.close(orders)
        parked.pid, parked.output = process.pid, process.output
        if self.dead:
            parked.close()
            raise SandboxError(f"sandbox {self.id} has ended")
        self._parked = parked

    def _check_alive(self) -> None:
        if self.dead:
            raise SandboxError(f"sandbox {self.id} has ended")
        if self._frozen:
            raise SandboxError(f"sandbox {self.id} is frozen")

    async def _start(self, spec: ProcessSpec, orders: int, on_exit: Callable[[ExitStatus], None]) -> Process:
        ours = theirs = -1
        try:
            ours, theirs = os.pipe()
            if self.guest_uid is not None:  # else the guest could not open its own /dev/stdout
                os.fchown(theirs, self.guest_uid, self.guest_uid)
            os.set_blocking(ours, False)
            pid = await self.first.run(spec, theirs, lambda status: on_exit(self._exit_status(status)), orders)
        except BaseException as error:
            if ours >= 0:
                os.close(ours)
            if isinstance(error, OSError):
                raise SandboxError(f"cannot start {spec.argv[0]}: {error.strerror}") from error
            raise
        finally:
            if theirs >= 0:
                os.close(theirs)
        return Process(pid, ours)

    def _exit_status(self, status: int) -> ExitStatus:
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return ExitStatus(code=code)
        if code != -signal.SIGKILL or self.holdings.group is None or self._killing:
            return ExitStatus(signal=-code)
        before, self._oom_kills = self._oom_kills, self.holdings.group.oom_kills()
        return ExitStatus(signal=-code, oom=self._oom_kills > before)

    def freeze(self) -> None:
        self._set_frozen(True)

    def thaw(self) -> None:
        self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> None:
        if self.dead:
            return
        group = self.holdings.group
        try:
            if group is not None and group.can_freeze():
                group.freeze(frozen)
            else:
                self.first.stop_all(frozen)
        except OSError as error:
            raise SandboxError(f"cannot {'freeze' if frozen else 'thaw'} {self.id}: {error.strerror}") from error
        self._frozen = frozen

    def _thaw_dying(self) -> None:
        group = self.holdings.group
        if group is not None:
            with contextlib.suppress(OSError):
                group.freeze(False)
        self._frozen = False

    def is_frozen(self) -> bool:
        if self.dead:
            return False
        return self.look()(proctable.Table()).frozen

    def limit_cpu(self, limited: bool) -> None:
        if not self.dead and self.holdings.group is not None:
            try:
                self.holdings.group.limit_cpu(limited)
            except OSError as error:
                raise SandboxError(f"cannot limit the CPU of {self.id}: {error.strerror}") from error

    def give_way(self, giving: bool) -> None:
        if not self.dead and self.holdings.group is not None:
            with contextlib.suppress(OSError):  # then others only wait longer
                self.holdings.group.weigh(cgroup.LESS if giving else cgroup.FULL)

    def expendable(self, expendable: bool) -> None:
        group = self.holdings.group
        if self.dead or group is None:
            return
        for pid in group.pids():
            with contextlib.suppress(OSError):  # it has just ended
                cgroup.write(Path(f"/proc/{pid}/oom_score_adj"), "1000" if expendable else "0")

    def signal(self, pid: int, signum: int) -> None:
        if not self.dead:
            with contextlib.suppress(SandboxError):
                self.first.signal(pid, signum)

    def usage(self) -> Usage:
        if not self.dead:
            self._last_usage = self._measure()
        return self._last_usage

    def look(self) -> Callable[[proctable.Table], Seen]:
        if self.dead:
            seen = Seen(self._last_usage, False)
            return lambda _: seen
        group, first, frozen = self.holdings.group, self.first.pid, self._frozen
        freezer = group if group is not None and group.can_freeze() else None
        before = Usage(None, self._peak_bytes, self._cpu_us)

        def look(table: proctable.Table) -> Seen:
            usage = _measure(group, first, before, table)
            if freezer is not None:
                return Seen(usage, freezer.is_frozen(), (first,))
            guests = table.descendants(parents=[first])
            return Seen(usage, all(row.state == "T" for row in guests) if guests else frozen, (first,))

        return look

    def memory_peak(self) -> int | None:
        group = self.holdings.group
        peak = None if self.dead or group is None else group.memory_peak(kept=True)
        if peak is None:
            return self.usage().memory_peak_bytes
        self._peak_bytes = max(self._peak_bytes, peak)
        return self._peak_bytes

    def _measure(self) -> Usage:
        before = Usage(None, self._peak_bytes, self._cpu_us)
        usage = _measure(self.holdings.group, self.first.pid, before, proctable.Table())
        self._peak_bytes, self._cpu_us = usage.memory_peak_bytes or 0, max(self._cpu_us, usage.cpu_us or 0)
        return usage

    async def kill(self) -> None:
        if self.dead:
            return
        self._killing = True
        self._unpark()
        try:
            await self.first.end_guests()
        except SandboxError:
            return  # process 1 is gone and everything with it; `on_death` says so
        finally:
            self._killing = False
        if not self.dead:
            self._set_frozen(False)
            if self.holdings.group is not None:
                self._oom_kills = self.holdings.group.oom_kills()

    async def destroy(self, reason: str) -> None:
        self._on_death = None
        self.usage()
        self.dead = True
        self._unpark()
        if self._clearing is None:
            self._killing = True
            if self.holdings.tmp is not None and self.first.pid and not self.first.gone:
                self.holdings.tmp.hold_again(Path(f"/proc/{self.first.pid}/root/tmp"))
            self.first.kill()
            self._clearing = asyncio.get_running_loop().create_task(self._clear())
        await asyncio.wait([self._clearing], timeout=DESTROY_WAIT_S)

    def _unpark(self) -> None:
        if self._parked is not None:
            self._parked.on_exit = _nothing  # it was not needed: its end means nothing for who has the sandbox
            self._parked.close()
            self._parked = None

    async def _clear(self) -> None:
        await self._cleared
        await self.holdings.give_back()

    def _gone(self) -> None:
        if not self.dead:
            self.usage()
        self.dead = True
        self._unpark()
        if not self._cleared.done():
            self._cleared.set_result(None)
        if self._on_death is not None:
            on_death, self._on_death = self._on_death, None
            on_death("process 1 of the sandbox ended")
