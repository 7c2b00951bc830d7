"""What this host can isolate, freeze, limit and snapshot, and which backend follows from a choice.

`probe` looks and tries in processes of its own; it changes nothing, and needs no server. The server does not go by
it: a backend's `start` tries a whole sandbox. What is missing comes with a remedy, for `lambent doctor`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lambent import settings
from lambent.sandbox.base import SandboxBackend, SandboxError
from lambent.sandbox.namespace import OLDEST_KERNEL, NamespaceBackend, cgroup, mounts, plan, seccomp
from lambent.sandbox.namespace.layout import is_privileged
from lambent.sandbox.process import ProcessBackend


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a sandbox wants of the host. `remedy` is empty where nothing can be done."""

    name: str
    available: bool
    detail: str
    remedy: str = ""


def choose_backend(choice: str, instance: str, work_dir: Path, memory_cap_bytes: int, tmp: str) -> SandboxBackend:
    """The backend for `auto`, `namespace` or `process`, not started yet. `process` only ever on request.

    Raises SandboxError, in one line, where there is no isolation to be had.
    """
    if choice == "process":
        return ProcessBackend(instance, work_dir)
    if sys.platform != "linux":
        raise SandboxError("isolation needs Linux; --sandbox process runs functions without any")
    return NamespaceBackend(instance, work_dir, memory_cap_bytes, tmp)


def probe() -> list[Capability]:
    """Everything, in the order of a table."""
    if sys.platform != "linux":
        return [Capability("namespaces", False, f"this is {sys.platform}", "run on Linux, or use --sandbox process")]
    layout = cgroup.detect_here()
    return [
        _kernel(),
        *_namespaces(),
        _filter(),
        _landlock(),
        *(_controller(layout, name) for name in ("memory", "cpu", "pids")),
        _freeze(layout),
        _tmp(),
        _first_process(),
        _snapshot(),
    ]


def _kernel() -> Capability:
    enough = mounts.kernel_release() >= OLDEST_KERNEL
    wanted = ".".join(map(str, OLDEST_KERNEL))
    return Capability("kernel", enough, platform.release(), f"the namespace sandbox needs Linux {wanted} or newer")


#: Which clone flag each namespace needs; the user namespace comes first, as without root it opens the others.
_NAMESPACES = (
    ("user namespace", plan.NEW_USER),
    ("mount namespace", plan.NEW_NS),
    ("process id namespace", plan.NEW_PID),
    ("ipc namespace", plan.NEW_IPC),
    ("host name namespace", plan.NEW_UTS),
    ("network namespace", plan.NEW_NET),
)

_TRIAL = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(libc.unshare(int(sys.argv[1])) and ctypes.get_errno())
"""


def _namespaces() -> list[Capability]:
    privileged = is_privileged()
    found = []
    for name, flag in _NAMESPACES:
        error = _unshare(flag if privileged else flag | plan.NEW_USER)
        detail = ("as root" if privileged else "without root") if error == 0 else os.strerror(error)
        found.append(Capability(name, error == 0, detail, _userns_remedy()))
    return found


def _unshare(flags: int) -> int:
    """0, or the error number of unshare(2) in a process of its own."""
    try:
        command = [sys.executable, "-I", "-S", "-c", _TRIAL, str(flags)]
        return subprocess.run(command, env={}, timeout=20, check=False, capture_output=True).returncode
    except (OSError, subprocess.TimeoutExpired):
        return 1


def _userns_remedy() -> str:
    """Which of the known switches forbids it."""
    for path, value, remedy in (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0",
         "sysctl kernel.unprivileged_userns_clone=1, or run as root"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
         "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run as root"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ):  # fmt: skip
        if mounts.read_text(path).strip() == value:
            return remedy
    return "in a container: give it CAP_SYS_ADMIN and a seccomp profile that allows unshare and mount"


def _filter() -> Capability:
    known = platform.machine() in seccomp.ARCHITECTURES
    built = "Seccomp:" in mounts.read_text("/proc/self/status")
    detail = f"allow-list for {platform.machine()}" if known and built else "no filter for this machine"
    return Capability("system call filter", known and built, detail, "use an x86-64 or aarch64 kernel with seccomp")


def _landlock() -> Capability:
    abi = mounts.landlock_abi()
    detail = f"version {abi}" if abi else "not in this kernel"
    remedy = "Linux 6.12 or newer; without it abstract sockets of the host are in reach on network host"
    return Capability("landlock scopes", abi >= 6, detail, remedy)


def _controller(layout: cgroup.Layout, name: str) -> Capability:
    if name in layout.v1:
        return Capability(f"{name} limit", True, f"cgroup v1 at {layout.v1[name]}")
    if layout.unified is not None and name in layout.unified_controllers:
        return Capability(f"{name} limit", True, f"cgroup v2 at {layout.unified}")
    if is_privileged():
        return Capability(f"{name} limit", False, "no such controller", "mount the controller, or boot with cgroup v2")
    remedy = "run as root, or delegate: systemd-run --user --scope -p Delegate=yes lambent up"
    return Capability(f"{name} limit", False, "not delegated to this user", remedy)


def _freeze(layout: cgroup.Layout) -> Capability:
    if layout.unified is not None:
        return Capability("freeze", True, f"cgroup.freeze below {layout.unified}")
    if "freezer" in layout.v1:
        return Capability("freeze", True, f"v1 freezer at {layout.v1['freezer']}")
    return Capability("freeze", True, "SIGSTOP, which other processes of the function can see")


def _tmp() -> Capability:
    search = settings.inherited_environment().get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    lacking = []
    if not is_privileged():
        lacking.append("root")
    if not os.access("/dev/loop-control", os.R_OK):
        lacking.append("loop devices")
    if shutil.which("mkfs.ext4", path=search) is None:
        lacking.append("mkfs.ext4")
    if "ext4" not in mounts.read_text("/proc/filesystems").split():
        lacking.append("ext4 in the kernel")
    if not lacking:
        return Capability("/tmp apart from memory", True, "ext4 images on loop devices")
    detail = "a tmpfs, which counts against memory"
    return Capability("/tmp apart from memory", False, detail, "needs " + ", ".join(lacking))


def _first_process() -> Capability:
    search = settings.inherited_environment().get("PATH", os.defpath)
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name, path=search))), None)
    if compiler:
        return Capability("process 1 in C", True, f"built with {compiler}")
    return Capability("process 1 in C", False, "runs in Python instead: about 25 ms slower to start", "install gcc")


def _snapshot() -> Capability:
    search = settings.inherited_environment().get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    ways = [name for name, there in (
        ("criu", shutil.which("criu", path=search) is not None),
        ("KVM", os.access("/dev/kvm", os.R_OK | os.W_OK)),
    ) if there]  # fmt: skip
    detail = f"{' and '.join(ways)} found; not used yet" if ways else "neither criu nor KVM"
    return Capability("snapshot", bool(ways), detail, "install criu 4 or newer")
