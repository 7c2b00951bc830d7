"""The `process` backend: plain child processes and a private folder for /tmp. No isolation whatsoever.

For hosts without namespaces and for constrained CI, only when asked for by name. Guests run as the server's
own user, see the host's files and network, and have no limit on memory or CPU. What it keeps of the contract:
own session per process, exit statuses, freeze by SIGSTOP, kill, a Runtime API socket.

What it cannot promise: a guest that calls setsid and outlives its parent is lost from sight, neither frozen
nor killed; a guest with the server's rights can resume a stopped one; processes of a server that was killed
live on until the next start. Counterpart with isolation: `namespace`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lambent.core.model import ExitStatus
from lambent.sandbox import proctable
from lambent.sandbox.base import Places, Process, ProcessSpec, Sandbox, SandboxError, SandboxSpec, Seen, Usage

#: Longest wait for killed processes in `destroy`; a process in uninterruptible sleep may take that long.
DESTROY_WAIT_S = 5.0
#: SIGSTOP reaches a fork that happened during the scan only in the next round.
STOP_ROUNDS = 8


class ProcessSandbox:
    """See `base.Sandbox`. `folder` holds `tmp/` and `pids`, the record that a later server cleans up by."""

    guest_uid: int | None = None

    def __init__(self, spec: SandboxSpec, folder: Path) -> None:
        self.id = spec.id
        self.dead = False
        self.places = Places(
            task=str(spec.task),
            opt=str(spec.opt or folder / "opt"),
            runtime=str(spec.runtime or folder / "runtime"),
            lang=str(_lang_root(spec, folder)),
            tmp=str(folder / "tmp"),
        )
        self._folder = folder
        self._running: dict[int, tuple[subprocess.Popen[bytes], Callable[[ExitStatus], None]]] = {}
        self._sessions: set[int] = set()  #: every session that `run` opened and that may still have members
        #: how many forks this host had seen, and who was there then, or later
        self._known: tuple[int, list[proctable.Entry]] | None = None
        self._counting = True  #: whether forks are counted here, as far as our own show it
        self._frozen = False
        self._spent_us = 0  #: CPU time of processes that are gone
        self._last_usage = Usage(None, None, None)
        self._empty = asyncio.Event()
        self._empty.set()
        self.api_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self.api_socket.setblocking(False)
            self.api_socket.bind(("127.0.0.1", 0))
            self.api_socket.listen(128)
        except OSError:
            self.api_socket.close()
            raise
        self.api_address = f"127.0.0.1:{self.api_socket.getsockname()[1]}"

    async def run(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> Process:
        if self.dead:
            raise SandboxError(f"sandbox {self.id} has ended")
        if self._frozen:
            raise SandboxError(f"sandbox {self.id} is frozen")
        forks = proctable.forks()
        try:
            child, output = _start_with_pipe(spec)
        except OSError as error:
            raise SandboxError(f"cannot start {spec.argv[0]}: {error.strerror}") from error
        self._counting &= forks is not None and forks < (proctable.forks() or 0)
        self._running[child.pid] = (child, on_exit)
        self._sessions.add(child.pid)
        self._empty.clear()
        self._record(child.pid)
        _watch(child, self._reaped)
        return Process(child.pid, output)

    async def park(self, spec: ProcessSpec, on_exit: Callable[[ExitStatus], None]) -> None:
        raise SandboxError("a sandbox of this kind is not made ahead of need")

    def _record(self, pid: int) -> None:
        row = proctable.read(pid)
        if row is not None:
            with open(self._folder / "pids", "a", encoding="ascii") as file:
                file.write(f"{pid} {row.started} {proctable.boot_id()}\n")

    def _reaped(self, pid: int, status: int, cpu_us: int) -> None:
        self._spent_us += cpu_us
        child, on_exit = self._running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        child.returncode = code
        if not self._running:
            self._empty.set()
        on_exit(ExitStatus(signal=-code) if code < 0 else ExitStatus(code=code))

    def _members(self) -> list[proctable.Entry]:
        """Everybody in this sandbox. To read the whole process table takes milliseconds, so it is left out while nobody
        on this host has made a process: then those who were there are all who can be.
        """
        forks = proctable.forks() if self._counting else None
        if self._known is not None and self._known[0] == forks:
            members = [now for row in self._known[1] if (now := proctable.read(row.pid)) is not None
                       and now.started == row.started and now.state not in "ZX"]  # fmt: skip
        else:
            members = proctable.descendants(self._sessions)
        self._known = None if forks is None else (forks, members)
        found = {row.session for row in members}
        self._sessions = (self._sessions & (found | self._running.keys())) | found
        return members

    def freeze(self) -> None:
        if self.dead:
            return
        self._frozen = True
        stopped: set[int] = set()
        for _ in range(STOP_ROUNDS):
            fresh = [row.pid for row in self._members() if row.pid not in stopped] or [
                pid for pid in self._running if pid not in stopped
            ]
            if not fresh:
                return
            for pid in fresh:
                _send(pid, signal.SIGSTOP)
            stopped.update(fresh)

    def thaw(self) -> None:
        if self.dead:
            return
        self._frozen = False
        for pid in [row.pid for row in self._members()] or list(self._running):
            _send(pid, signal.SIGCONT)

    def is_frozen(self) -> bool:
        members = self._members()
        return all(row.state == "T" for row in members) if members else self._frozen

    def limit_cpu(self, limited: bool) -> None:
        """There is no CPU limit here."""

    def give_way(self, giving: bool) -> None:
        """There are no groups to divide processor time among."""

    def expendable(self, expendable: bool) -> None:
        """There is no limit of memory here, and so nobody to be ended first."""

    def signal(self, pid: int, signum: int) -> None:
        if pid in self._running and not self.dead:
            _send_to_first_thread(pid, signum)

    def usage(self) -> Usage:
        members = [] if self.dead else self._members()
        if members or not self._running:
            self._last_usage = _usage(members, self._last_usage, self._spent_us)
        return self._last_usage

    def look(self) -> Callable[[proctable.Table], Seen]:
        sessions = frozenset() if self.dead else frozenset(self._sessions)
        running, frozen, last, spent_us = bool(self._running), self._frozen, self._last_usage, self._spent_us

        def look(table: proctable.Table) -> Seen:
            members = table.descendants(sessions)
            usage = _usage(members, last, spent_us) if members or not running else last
            return Seen(usage, all(row.state == "T" for row in members) if members else frozen)

        return look

    def memory_peak(self) -> int | None:
        return self.usage().memory_peak_bytes

    async def kill(self) -> None:
        if self.dead:
            return
        await self._kill()

    async def _kill(self) -> None:
        gone = [_kill_and_wait(row) for row in self._members()]
        for pid in list(self._running):
            _send(pid, signal.SIGKILL)
        await asyncio.gather(*gone)
        await self._empty.wait()
        self._frozen = False

    async def destroy(self, reason: str) -> None:
        if not self.dead:
            self.usage()
            self.dead = True
            self.api_socket.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DESTROY_WAIT_S):
                await self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class ProcessBackend:
    """See `base.SandboxBackend`. Everything lies under `work_dir`, one folder per sandbox."""

    name = "process"
    shows_code = False

    def __init__(self, instance: str, work_dir: Path) -> None:
        self._root = work_dir / f"process-{instance}"

    async def start(self) -> None:
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in self._root.iterdir():
                await _kill_recorded(_sessions_in(folder / "pids"))
                shutil.rmtree(folder)
        except OSError as error:
            raise SandboxError(f"cannot prepare {self._root}: {error.strerror}") from error

    async def create(self, spec: SandboxSpec, on_death: Callable[[str], None]) -> ProcessSandbox:
        """`on_death` is never called: there is nothing here that could die apart from the guests."""
        folder = self._root / spec.id
        if spec.task is None:
            raise SandboxError("a sandbox of this kind is not made ahead of need")
        try:
            folder.mkdir()
        except OSError as error:
            raise SandboxError(f"cannot create sandbox {spec.id}: {error.strerror}") from error
        try:
            for path in [spec.task, spec.opt, spec.runtime]:
                if path is not None and not path.is_dir():
                    raise SandboxError(f"cannot create sandbox {spec.id}: {path} is not a folder")
            for name in ("tmp", "opt", "runtime"):
                (folder / name).mkdir()
            (folder / "tmp").chmod(0o1777)
            return ProcessSandbox(spec, folder)
        except (OSError, SandboxError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, SandboxError):
                raise
            raise SandboxError(f"cannot create sandbox {spec.id}: {error.strerror}") from error

    def can_furnish(self, spec: SandboxSpec) -> bool:
        return False  # places are host paths here: there is nothing to lay over another

    async def furnish(self, sandbox: Sandbox, spec: SandboxSpec) -> None:
        raise SandboxError("a sandbox of this kind is not made ahead of need")

    def memory_events(self) -> int | None:
        return None

    def memory_bytes(self) -> int | None:
        return None

    def watch_memory(self, marks: Sequence[int], on_grown: Callable[[], None]) -> None:
        """Memory is not counted here."""

    async def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._root.rmdir()


def _usage(members: list[proctable.Entry], last: Usage, spent_us: int) -> Usage:
    """Of these and of those that are gone. Peak and time never fall."""
    peak = max(last.memory_peak_bytes or 0, sum(proctable.peak_bytes(row.pid) for row in members))
    # A grandchild that ended takes its time with it unless it was waited for.
    cpu_us = max(last.cpu_us or 0, spent_us + sum(row.cpu_us for row in members))
    return Usage(sum(row.rss_bytes for row in members), peak, cpu_us, tuple(row.pid for row in members))


def _lang_root(spec: SandboxSpec, folder: Path) -> Path:
    """The interpreter's own folder on the host when it is one piece, else links that compose it."""
    whole = [host for host, below in spec.lang if below in ("", ".")]
    if whole:
        return whole[0]
    root = folder / "lang"
    linked: list[str] = []
    for host, below in spec.lang:
        if any(below.startswith(earlier + "/") for earlier in linked):
            continue  # it would be made inside the host's own folder
        linked.append(below)
        link = root / below
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(host)
    root.mkdir(exist_ok=True)
    return root


def _start_with_pipe(spec: ProcessSpec) -> tuple[subprocess.Popen[bytes], int]:
    """The child and the read end of its output."""
    ours, theirs = os.pipe()
    try:
        child = _start(spec, theirs)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    os.set_blocking(ours, False)
    return child, ours


def _start(spec: ProcessSpec, output: int) -> subprocess.Popen[bytes]:
    """The program, or in its place one that says why not and exits with 126 or 127, as a shell does."""
    try:
        return _popen(spec.argv, spec.cwd, spec.environment, output)
    except (FileNotFoundError, NotADirectoryError) as error:
        code, reason = 127, error.strerror
    except (PermissionError, IsADirectoryError) as error:
        code, reason = 126, error.strerror
    except OSError as error:
        if error.errno not in (errno.ENOEXEC, errno.E2BIG, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        code, reason = 126, error.strerror
    script = ("/bin/sh", "-c", 'echo "$1" >&2; exit "$2"', "sh", f"{spec.argv[0]}: {reason}", str(code))
    return _popen(script, "/", {}, output)


def _popen(argv: tuple[str, ...], cwd: str, environment: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv, cwd=cwd, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True, close_fds=True,
    )  # fmt: skip


def _watch(child: subprocess.Popen[bytes], reaped: Callable[[int, int, int], None]) -> None:
    """Once the child has ended, call `reaped(pid, wait status, CPU us)` from the event loop."""
    loop = asyncio.get_running_loop()

    def reap() -> None:
        pid, status, used = os.wait4(child.pid, 0)
        loop.call_soon_threadsafe(reaped, pid, status, round((used.ru_utime + used.ru_stime) * 1_000_000))

    if not hasattr(os, "pidfd_open"):
        threading.Thread(target=reap, daemon=True).start()
        return
    pidfd = os.pidfd_open(child.pid)

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        reap()

    loop.add_reader(pidfd, ended)


async def _kill_and_wait(row: proctable.Entry) -> None:
    """SIGKILL exactly this process, not a later one with its pid, and wait until it has ended."""
    try:
        pidfd = os.pidfd_open(row.pid)
    except OSError:
        return
    loop = asyncio.get_running_loop()
    try:
        now = proctable.read(row.pid)
        if now is None or now.started != row.started:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = asyncio.Event()
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
    finally:
        os.close(pidfd)


async def _kill_recorded(sessions: set[int]) -> None:
    await asyncio.gather(*map(_kill_and_wait, proctable.descendants(sessions) if sessions else []))


def _sessions_in(record: Path) -> set[int]:
    """Sessions that a dead server left running, as far as its record names them beyond doubt."""
    try:
        lines = record.read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    sessions = set()
    for line in lines:
        pid, started, boot = (*line.split(" "), "", "")[:3]
        row = proctable.read(int(pid)) if pid.isdecimal() else None
        if row is not None and str(row.started) == started and boot == proctable.boot_id():
            sessions.add(row.pid)
    return sessions


def _send_to_first_thread(pid: int, signum: int) -> None:
    """For the reason in `init.c`, where the C library can. SIGKILL is for all of them: a first thread that has ended
    before the others would not take it.
    """
    if signum == signal.SIGKILL or _tgkill is None:
        _send(pid, signum)
    else:
        _tgkill(pid, pid, signum)  # fails when it has ended, which is as well


_tgkill = getattr(ctypes.CDLL(None), "tgkill", None)  # glibc 2.30


def _send(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
