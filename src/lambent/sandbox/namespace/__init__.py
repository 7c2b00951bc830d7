"""The `namespace` backend: Linux namespaces, a read-only root, control groups, a system call filter.

The package by file: `plan` (what is isolated, pure), `init.c` and `init.py` (process 1, which carries it out),
`launcher` and `first` (the platform's ends of them), `sandbox` (the contract), `mounts` and `guest_view` (what of
the host is shown, and what is shown instead), `seccomp` and `syscalls` (the filter), `layout`, `cgroup`,
`cgroup_files`, `parent_groups`, `memory_watch` and `server_group` (limits, freezer, figures, precedence), `tmp_images`
(/tmp), `users` (host ids), `build` (compiles process 1). This file puts a sandbox together, all or nothing, and says
which limits this host cannot give.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import shutil
import socket
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from lambent import limits
from lambent.sandbox.base import Sandbox, SandboxError, SandboxSpec
from lambent.sandbox.namespace import build, cgroup, guest_view, mounts, plan
from lambent.sandbox.namespace.launcher import Launcher
from lambent.sandbox.namespace.sandbox import Holdings, NamespaceSandbox
from lambent.sandbox.namespace.tmp_images import TmpImages, TmpMount
from lambent.sandbox.namespace.users import UserIds

__all__ = ["BLANK_MEMORY_MIB", "OLDEST_KERNEL", "NamespaceBackend"]

#: What a sandbox is made with that `furnish` makes into another: the least, since limits can only grow.
BLANK_MEMORY_MIB = limits.MEMORY_MIB_MIN
#: Connections to one Runtime API that wait to be accepted. Other environments connect too, and with 128 a few hundred
#: of their connections kept the runtime's own out.
BACKLOG = 1024
#: mount_setattr, which makes a whole tree read-only at once
OLDEST_KERNEL = (5, 12)

PlanBuilder = Callable[[SandboxSpec, plan.Host, plan.Choices], list[plan.Step]]


class NamespaceBackend:
    """See `base.SandboxBackend`. `tmp` is auto, ext4 or tmpfs.

    `limits_said` holds, after `start`, a clear line for each thing that this host cannot limit. The arguments after
    `cache_dir` replace parts in tests: the layout of control groups, the plan, the choice of process 1.
    """

    name = "namespace"
    shows_code = True

    def __init__(
        self, instance: str, work_dir: Path, memory_cap_bytes: int, tmp: str = "auto", cache_dir: Path | None = None,
        *, layout: cgroup.Layout | None = None, build_plan: PlanBuilder = plan.build, python_init: bool = False,
    ) -> None:  # fmt: skip
        self.limits_said: list[str] = []
        self._instance = instance
        self._root = work_dir / f"namespace-{instance}"
        self._cache = cache_dir or work_dir / "cache"
        self._cap_bytes = memory_cap_bytes
        self._tmp = tmp
        self._layout = layout
        self._build_plan = build_plan
        self._python_init = python_init
        self._cores = os.cpu_count() or 1
        self._launcher = Launcher(())
        self._groups: cgroup.Groups | None = None
        self._images: TmpImages | None = None
        self._ids = UserIds(instance)
        self._next_address = zlib.crc32(instance.encode()) & 0xFFFF
        self._sandboxes: dict[str, NamespaceSandbox] = {}  #: by id, those that are being made or ended included
        self._view_files: dict[int, dict[str, str]] = {}  #: by memory size: host file by path below the root

    async def start(self) -> None:
        if mounts.kernel_release() < OLDEST_KERNEL:
            raise SandboxError("the namespace sandbox needs Linux 5.12 or newer")
        try:
            shutil.rmtree(self._root, ignore_errors=True)
            (self._root / "stage").mkdir(parents=True, mode=0o700)
            (self._root / "empty").mkdir(mode=0o755)
        except OSError as error:
            raise SandboxError(f"cannot prepare {self._root}: {error.strerror}") from error
        compile_or_fall_back = functools.partial(build.argv, self._cache, fallback=self._python_init)
        self._launcher = Launcher(await asyncio.get_running_loop().run_in_executor(None, compile_or_fall_back))
        self._host = mounts.look(self._root / "stage")
        # What guests are shown of these does not change while the machine runs.
        self._proc = {name: mounts.read_text(f"/proc/{name}") for name in ("cpuinfo", "stat")}
        groups = cgroup.Groups(self._instance, self._layout or cgroup.detect_here(), self._cap_bytes)
        groups.prepare()
        self._groups = groups
        self.limits_said = groups.layout.missing()
        if not self._host.seccomp:
            self.limits_said.append("no system call filter: this processor architecture has no table of calls")
        try:
            await self._start_images()
            await self._try_out()
        except BaseException:
            await self.stop()
            raise

    async def _start_images(self) -> None:
        if self._tmp == "tmpfs":
            return
        if not self._host.privileged:
            reason = "ext4 images for /tmp need root"
        else:
            images = TmpImages(self._root / "images")
            try:
                await images.start()
                self._images = images
                return
            except SandboxError as error:
                reason = str(error)
        if self._tmp == "ext4":
            raise SandboxError(reason)
        self.limits_said.append(f"/tmp is a tmpfs and counts against memory: {reason}")

    async def _try_out(self) -> None:
        """One sandbox made and destroyed, so that a host that cannot do it says so at start, not at first use."""
        trial = SandboxSpec(id="trial", task=self._root / "stage", memory_mib=128, tmp_mib=512)
        try:
            sandbox = await self.create(trial, lambda reason: None)
        except SandboxError as error:
            hint = "`lambent doctor` says what is missing; --sandbox process runs functions without isolation"
            raise SandboxError(f"this host cannot isolate environments: {error}; {hint}") from error
        await sandbox.destroy("trial")

    async def create(self, spec: SandboxSpec, on_death: Callable[[str], None]) -> NamespaceSandbox:
        if spec.id in self._sandboxes:
            raise SandboxError(f"there is a sandbox {spec.id} already")
        sandbox = NamespaceSandbox(spec.id)
        self._sandboxes[spec.id] = sandbox
        try:
            await self._put_together(sandbox, spec)
            sandbox.is_made(on_death)
        except BaseException as error:
            await sandbox.destroy("creation failed")
            self._sandboxes.pop(spec.id, None)
            if isinstance(error, (OSError, SandboxError, ValueError)):
                raise SandboxError(f"cannot create sandbox {spec.id}: {_text(error)}") from error
            raise
        sandbox.holdings.releases.append(functools.partial(self._forget, sandbox))
        return sandbox

    async def _forget(self, sandbox: NamespaceSandbox) -> None:
        self._sandboxes.pop(sandbox.id, None)

    def can_furnish(self, spec: SandboxSpec) -> bool:
        # Only root may lay mounts into another mount namespace; and a tmpfs would count what it hides.
        return self._host.privileged and self._images is not None and spec.memory_mib >= limits.MEMORY_MIB_MIN

    async def furnish(self, sandbox: Sandbox, spec: SandboxSpec) -> None:
        assert isinstance(sandbox, NamespaceSandbox)
        if sandbox.first.has_ended():
            raise SandboxError(f"sandbox {sandbox.id} has ended")
        group, holdings = sandbox.holdings.group, sandbox.holdings
        fds = []
        try:
            fds.append(os.open(f"/proc/{sandbox.first.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
            if group is not None:
                group.grow(spec.memory_mib)
            tmp = await self._other_tmp(holdings, spec.tmp_mib)
            steps = plan.furnish(spec, str(self._root / "empty"), self._views(spec), 1 if tmp is not None else None)
            await self._launcher.furnish(steps, [*fds, *([tmp.fd] if tmp is not None else [])])
            if tmp is not None:
                tmp.let_go()
                holdings.tmp = tmp
        except OSError as error:
            raise SandboxError(f"cannot furnish sandbox {sandbox.id}: {_text(error)}") from error
        finally:
            for fd in fds:
                os.close(fd)

    async def _other_tmp(self, holdings: Holdings, size_mib: int) -> TmpMount | None:
        """A mount for /tmp, unless the sandbox has one of this size already."""
        assert self._images is not None
        if size_mib == limits.EPHEMERAL_MIB_DEFAULT:
            return None
        mount = await self._images.take(size_mib)
        holdings.releases.append(functools.partial(self._images.release, mount))
        return mount

    def _views(self, spec: SandboxSpec) -> dict[str, str]:
        """Files of what a guest of this size sees and a blank does not; written once per size."""
        known = self._view_files.get(spec.memory_mib)
        if known is None:
            folder = self._root / "views" / str(spec.memory_mib)
            folder.mkdir(parents=True, exist_ok=True)
            ours = guest_view.sizes(spec.memory_mib, self._cores, self._proc)
            blank = guest_view.sizes(BLANK_MEMORY_MIB, self._cores, self._proc)
            known = {}
            for number, (path, content) in enumerate(ours.items()):
                if path.startswith("proc/") or content != blank[path]:
                    (folder / str(number)).write_bytes(content)
                    known[path] = str(folder / str(number))
            self._view_files[spec.memory_mib] = known
        return known

    async def _put_together(self, sandbox: NamespaceSandbox, spec: SandboxSpec) -> None:
        first, holdings = sandbox.first, sandbox.holdings
        early = self._build_plan is plan.build  # another plan may name other namespaces
        if early:
            first.launch(self._launcher, plan.namespaces(spec, self._host))
        host_uid = self._take_user(sandbox)
        isolated = spec.network == "isolated"
        if not isolated:
            self._open_socket(sandbox)
        fds = []
        if self._images is not None:
            holdings.tmp = await self._images.take(spec.tmp_mib)
            holdings.releases.append(functools.partial(self._images.release, holdings.tmp))
            fds.append(holdings.tmp.fd)
        choices = plan.Choices(
            tmp_attached=bool(fds),
            listen_inside=isolated,
            generated=self._generated(spec, "127.0.0.1" if isolated else sandbox.api_address.rpartition(":")[0]),
            lang_files=_files(spec.lang),
        )
        steps = self._build_plan(spec, self._host, choices)
        if not early:
            first.launch(self._launcher, steps[0].numbers[0])
        on_map = functools.partial(_map_ids, host_uid)
        carried_out = asyncio.ensure_future(first.carry_out(steps, fds, on_map))
        try:
            # While process 1 mounts, the groups are made here.
            await asyncio.sleep(0)
            self._make_group(sandbox, spec)
        finally:
            await carried_out
        self._enter_group(sandbox)
        if holdings.tmp is not None:
            holdings.tmp.let_go()
        if isolated:
            if first.listening is None:
                raise SandboxError("process 1 opened no Runtime API socket")
            sandbox.api_socket = holdings.socket = first.listening
            sandbox.api_address = f"127.0.0.1:{plan.API_PORT}"

    def _take_user(self, sandbox: NamespaceSandbox) -> int:
        if not self._host.privileged:
            return self._host.uid
        uid = self._ids.take()

        async def give_back() -> None:
            self._ids.give_back(uid)

        sandbox.holdings.releases.append(give_back)
        sandbox.guest_uid = uid
        return uid

    def _open_socket(self, sandbox: NamespaceSandbox) -> None:
        """The Runtime API at a loopback address of the environment's own, as clients expect at port 9001."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sandbox.holdings.socket = listening
        listening.setblocking(False)
        for _ in range(0x10000):
            number = self._next_address
            self._next_address = (number + 1) & 0xFFFF
            address = f"127.{64 + (number >> 14)}.{(number >> 7) & 0x7F}.{(number & 0x7F) + 1}"
            try:
                listening.bind((address, plan.API_PORT))
                listening.listen(BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            sandbox.api_socket = listening
            sandbox.api_address = f"{address}:{plan.API_PORT}"
            return
        raise SandboxError(f"no loopback address is free at port {plan.API_PORT}")

    def _generated(self, spec: SandboxSpec, own_address: str) -> dict[str, bytes]:
        resolv_conf = "" if spec.network == "isolated" else mounts.read_text("/etc/resolv.conf")
        files = guest_view.files(spec.memory_mib, self._cores, spec.hostname, resolv_conf, self._proc, own_address)
        if spec.task is None:  # nothing can be laid over what was laid over /proc and removed where it came from
            return {path: content for path, content in files.items() if not path.startswith("proc/")}
        return files

    def _make_group(self, sandbox: NamespaceSandbox, spec: SandboxSpec) -> None:
        assert self._groups is not None
        if not self._groups.folders():
            return
        group = cgroup.Group(self._groups, spec.id, spec.memory_mib, self._cores)
        sandbox.holdings.group = group
        if spec.background:
            group.weigh(cgroup.LEAST)

        async def remove() -> None:
            group.remove()

        sandbox.holdings.releases.append(remove)

    def _enter_group(self, sandbox: NamespaceSandbox) -> None:
        group = sandbox.holdings.group
        if group is None:
            return
        entrances = group.entrances()
        try:
            sandbox.first.send_groups(entrances)
        finally:
            for _, fd in entrances:
                os.close(fd)

    def memory_events(self) -> int | None:
        return self._groups.refusals() if self._groups else None

    def watch_memory(self, marks: Sequence[int], on_grown: Callable[[], None]) -> None:
        if self._groups is not None and self._groups.watch is not None:
            self._groups.watch.call_at(marks, on_grown)

    def memory_bytes(self) -> int | None:
        return self._groups.memory_bytes() if self._groups else None

    async def stop(self) -> None:
        for sandbox in list(self._sandboxes.values()):
            await sandbox.destroy("the server stops")
        self._launcher.stop()
        if self._images is not None:
            await self._images.stop()
            self._images = None
        if self._groups is not None:
            self._groups.remove_leftovers()
            self._groups.remove()
            self._groups = None
        shutil.rmtree(self._root, ignore_errors=True)


@functools.lru_cache(64)
def _files(lang: tuple[tuple[Path, str], ...]) -> frozenset[str]:
    """Those of an interpreter's parts that are files. They do not turn into folders while the server runs."""
    return frozenset(str(path) for path, _ in lang if path.is_file())


def _map_ids(host_uid: int, pid: int) -> None:
    """One host id becomes the guests' id; nobody else exists in their user namespace."""
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{plan.GUEST_UID} {host_uid} 1"),
        ("gid_map", f"{plan.GUEST_GID} {host_uid} 1"),
    ):
        with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
            file.write(line)


def _text(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error)
