"""What is isolated, and in which order: a sandbox as a list of steps for process 1.

Pure: the same arguments give the same list, so tests compare lists without being root. Nothing here acts; `init.c`
and `init.py` carry the steps out, `mounts` looks at the host beforehand, `guest_view` writes the generated files.

The order matters and is the security argument. Namespaces first; then the root is put together out of sight, as
the real root (or as root of a first user namespace), from an allow-list, every tree read-only before it is
reachable; then the old root is taken away; then process 1 leaves for a user namespace of its own, which owns none
of those mounts, and everything that the guests are comes after that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from lambent import limits
from lambent.sandbox.base import SandboxSpec

GUEST_UID = 993  #: as on AWS (fact sheet 9.7)
GUEST_GID = 990
API_PORT = 9001

_NAMES = (
    "unshare", "private", "tmpfs", "enter", "folder", "file", "link", "bind", "attach", "proc", "pivot",
    "readonly", "hostname", "loopback", "listen", "write", "ask_map", "groups", "landlock", "identity", "limit",
    "seccomp", "remove", "drop", "prompt",
)  # fmt: skip
#: The first step, `namespaces`, has none: it goes to the launcher.
OPCODES: Mapping[str, int] = {name: number for number, name in enumerate(_NAMES, 1)}

# clone(2)
NEW_NS, NEW_UTS, NEW_IPC, NEW_USER = 0x20000, 0x4000000, 0x8000000, 0x10000000
NEW_PID, NEW_NET = 0x20000000, 0x40000000
# mount(2) and mount_setattr(2), which agree in these
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8

LANDLOCK_SCOPES = 3  #: abstract Unix sockets and signals (landlock ABI 6)

#: getrlimit(2) numbers of Linux on x86-64 and aarch64
RLIMITS: tuple[tuple[int, int], ...] = (
    (3, limits.STACK_BYTES),
    (4, 0),  # core files
    (6, limits.PROCESSES),
    (7, limits.OPEN_FILES),
    (8, limits.LOCKED_BYTES),
    (11, 1024),  # pending signals
    (12, 0),  # POSIX message queues
)

DEVICES = ("null", "zero", "full", "random", "urandom")
MASKED_FILES = (
    "kcore", "keys", "key-users", "kallsyms", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats",
    "sched_debug", "slabinfo", "sysrq-trigger", "timer_list", "timer_stats", "vmallocinfo",
)  # fmt: skip
MASKED_FOLDERS = ("acpi", "asound", "bus", "driver", "dynamic_debug", "fs", "irq", "scsi", "sysvipc", "tty")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that process 1 does; `texts` may hold any bytes without a zero where they are paths."""

    name: str
    numbers: tuple[int, ...] = ()
    texts: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        """For a person who reads why a sandbox could not be made."""
        shown = [text.decode("utf-8", "replace") for text in self.texts if len(text) < 200]
        return " ".join([self.name, *shown])


@dataclass(frozen=True, slots=True)
class Host:
    """What the plan must know of this machine. Paths without a leading slash are below the root."""

    privileged: bool
    stage: str  #: an existing folder over which the new root is put together, in the new namespace only
    uid: int = 0  #: who the platform runs as
    gid: int = 0
    links: tuple[tuple[str, str], ...] = ()  #: symbolic links to repeat, as (`bin`, `usr/bin`)
    trees: tuple[str, ...] = ()  #: folders to show
    files: tuple[str, ...] = ()  #: single files to show
    masks: tuple[str, ...] = MASKED_FILES  #: names below /proc that exist
    masked_folders: tuple[str, ...] = MASKED_FOLDERS
    landlock: bool = False
    seccomp: bytes = b""
    prompt: bytes = b""  #: how a guest is scheduled (`promptness.attributes`)


@dataclass(frozen=True, slots=True)
class Choices:
    """What was decided for one sandbox, apart from its spec."""

    tmp_attached: bool  #: the first descriptor sent with the plan is a mount for /tmp; else a tmpfs is made
    listen_inside: bool  #: process 1 opens the Runtime API socket in the new network namespace
    generated: Mapping[str, bytes] = field(default_factory=dict)  #: content by path; below `proc/` laid over
    lang_files: frozenset[str] = frozenset()  #: those of spec.lang that are files


class _Tree:
    """Steps that fill the new root, each missing parent folder once."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._folders: set[str] = set()
        self._bound: set[str] = set()

    def folder(self, path: str) -> None:
        if path and path not in self._folders and not self._is_bound(path):
            self.folder(path.rpartition("/")[0])
            self._folders.add(path)
            self.steps.append(Step("folder", (0o755,), (path.encode(),)))

    def file(self, path: str, content: bytes = b"", mode: int = 0o644) -> None:
        if not self._is_bound(path):
            self.folder(path.rpartition("/")[0])
            self.steps.append(Step("file", (mode,), (path.encode(), content)))

    def link(self, path: str, target: str) -> None:
        self.folder(path.rpartition("/")[0])
        self.steps.append(Step("link", (), (path.encode(), target.encode())))

    def bind(self, source: str, path: str, *, is_file: bool = False, attributes: int = RDONLY | NOSUID | NODEV) -> None:
        if is_file:
            self.file(path)
        else:
            self.folder(path)
        self.cover(source, path, attributes)
        self._bound.add(path)

    def cover(self, source: str, path: str, attributes: int = RDONLY | NOSUID | NODEV) -> None:
        """Bind over something that is already there."""
        self.steps.append(Step("bind", (attributes,), (source.encode(), path.encode())))

    def _is_bound(self, path: str) -> bool:
        """Below a bound tree nothing can be made; what is named there must exist."""
        while path and path not in self._bound:
            path = path.rpartition("/")[0]
        return bool(path)


def build(spec: SandboxSpec, host: Host, choices: Choices) -> list[Step]:
    """The steps in order, the first being `namespaces`.

    Raises ValueError for a spec that cannot be shown (a path that leaves its place).
    """
    return [
        *_namespaces(spec, host),
        Step("tmpfs", (NOSUID | NODEV,), (host.stage.encode(), b"size=4m,nr_inodes=1k,mode=755")),
        Step("enter", (), (host.stage.encode(),)),
        *_root(spec, host, choices),
        Step("pivot"),
        Step("readonly", (RDONLY | NOSUID | NODEV,), (b"/",)),
        Step("hostname", (), (spec.hostname.encode(),)),
        *_network(spec, choices),
        *_leave_for_own_user_namespace(host),
        *_guests(host),
    ]


def namespaces(spec: SandboxSpec, host: Host) -> int:
    """The flags of clone(2) for process 1, which the first step of the plan repeats."""
    flags = NEW_NS | NEW_UTS | NEW_IPC | NEW_PID | (NEW_NET if spec.network == "isolated" else 0)
    return flags if host.privileged else flags | NEW_USER


def _namespaces(spec: SandboxSpec, host: Host) -> list[Step]:
    steps = [Step("namespaces", (namespaces(spec, host),))]
    if not host.privileged:
        steps += _map_own(inside=(0, 0), outside=(host.uid, host.gid))
    # Of all processes of this host the guests are the first to go when memory runs out.
    return [*steps, Step("write", (), (b"self/oom_score_adj", b"800")), Step("private")]


def _map_own(inside: tuple[int, int], outside: tuple[int, int]) -> list[Step]:
    """A process may map its own ids, once, after giving up setgroups."""
    return [
        Step("write", (), (b"self/setgroups", b"deny")),
        Step("write", (), (b"self/uid_map", b"%d %d 1" % (inside[0], outside[0]))),
        Step("write", (), (b"self/gid_map", b"%d %d 1" % (inside[1], outside[1]))),
    ]


def _root(spec: SandboxSpec, host: Host, choices: Choices) -> list[Step]:
    tree = _Tree()
    for name, target in host.links:
        tree.link(name, target)
    for name in host.trees:
        tree.bind("/" + name, name)
    for name in host.files:
        tree.bind("/" + name, name, is_file=True)
    for name, content in choices.generated.items():
        if not name.startswith("proc/"):
            tree.file(name, content)
    _devices(tree)
    _functions(tree, spec, choices.lang_files)
    tree.folder("tmp")
    if choices.tmp_attached:
        tree.steps.append(Step("attach", (0,), (b"tmp",)))
    else:
        options = b"size=%dm,nr_inodes=%d,mode=1777" % (spec.tmp_mib, spec.tmp_mib * 64)
        tree.steps.append(Step("tmpfs", (NOSUID | NODEV,), (b"tmp", options)))
    _proc(tree, host, choices.generated)
    return tree.steps


def _devices(tree: _Tree) -> None:
    for name in DEVICES:
        tree.bind(f"/dev/{name}", f"dev/{name}", is_file=True, attributes=NOSUID | NOEXEC)
    tree.link("dev/fd", "/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        tree.link(f"dev/{name}", f"/proc/self/fd/{number}")


def _functions(tree: _Tree, spec: SandboxSpec, lang_files: frozenset[str]) -> None:
    for source, path in ((spec.task, "var/task"), (spec.opt, "opt"), (spec.runtime, "var/runtime")):
        if source is None:
            # With `lib` in it, which is in the loader's search path: where a folder was missing once, a process that
            # runs before the sandbox is furnished would never look again.
            tree.folder(path + "/lib" if spec.task is None else path)
        else:
            tree.bind(str(source), path)
    for code, path in _codes(spec):
        tree.cover(code, path)
    tree.folder("var/lang")
    for source, below in spec.lang:
        if below.startswith("/") or ".." in below.split("/"):
            raise ValueError(f"{below!r} is not a path below /var/lang")
        path = "var/lang/" + below if below not in ("", ".") else "var/lang"
        tree.bind(str(source), path, is_file=str(source) in lang_files)


def _codes(spec: SandboxSpec) -> list[tuple[str, str]]:
    """Byte code that lies over files of the runtime folder, which waits with empty ones."""
    found = ((spec.task_code, "var/runtime/.task"), (spec.opt_code, "var/runtime/.opt"))
    return [(str(source), path) for source, path in found if source is not None and spec.runtime is not None]


def _proc(tree: _Tree, host: Host, generated: Mapping[str, bytes]) -> None:
    tree.folder("proc")
    tree.folder("var/empty")
    tree.steps.append(Step("proc", (RDONLY | NOSUID | NODEV | NOEXEC,), (b"proc", b"hidepid=2")))
    for name, content in generated.items():
        if name.startswith("proc/"):
            tree.file("var/empty/view", content, mode=0o444)
            tree.cover("var/empty/view", name)
            tree.steps.append(Step("remove", (), (b"var/empty/view",)))
    for name in host.masks:
        tree.cover("/dev/null", f"proc/{name}", NOSUID | NOEXEC)
    for name in host.masked_folders:
        tree.cover("var/empty", f"proc/{name}")


def _network(spec: SandboxSpec, choices: Choices) -> list[Step]:
    steps = [Step("loopback")] if spec.network == "isolated" else []
    if choices.listen_inside:
        steps.append(Step("listen", (0x7F000001, API_PORT)))
    return steps


def _leave_for_own_user_namespace(host: Host) -> list[Step]:
    if not host.privileged:
        inside, outside = (GUEST_UID, GUEST_GID), (0, 0)
        return [Step("unshare", (NEW_USER,)), *_map_own(inside, outside)]
    # Only somebody in the parent user namespace may map another id than one's own: the platform.
    return [Step("groups"), Step("unshare", (NEW_USER,)), Step("ask_map")]


def _guests(host: Host) -> list[Step]:
    steps = [Step("landlock", (LANDLOCK_SCOPES,))] if host.landlock else []
    steps += [Step("identity", (GUEST_UID, GUEST_GID)), Step("drop")]
    steps += [Step("limit", pair) for pair in RLIMITS]
    if host.prompt:
        steps.append(Step("prompt", (), (host.prompt,)))
    if host.seccomp:
        steps.append(Step("seccomp", (), (host.seccomp,)))
    return steps


def furnish(spec: SandboxSpec, empty: str, views: Mapping[str, str], tmp: int | None) -> list[Step]:
    """The steps of `Launcher.furnish` for a sandbox that was made without a task.

    `empty` is an empty folder of the host, `views` are files of it that are to lie over generated ones, by path below
    the root; `tmp` is the place of the mount for /tmp among the descriptors, None when the one that is there will do.
    """
    shown = [(str(spec.task), "var/task"), (str(spec.opt or empty), "opt"), *_codes(spec),
             *((source, path) for path, source in views.items())]  # fmt: skip
    steps = [Step("bind", (RDONLY | NOSUID | NODEV,), (source.encode(), path.encode())) for source, path in shown]
    return steps if tmp is None else [*steps, Step("attach", (tmp,), (b"tmp",))]


def encode(steps: Iterable[Step]) -> bytes:
    """As `init.c` reads it: opcode, counts, 64-bit numbers, then length, bytes and a zero for each text."""
    return b"".join([(_encode if step.name == "file" else _encode_once)(step.name, step.numbers, step.texts)
                     for step in steps])  # fmt: skip


@lru_cache(1024)
def _encode_once(name: str, numbers: tuple[int, ...], texts: tuple[bytes, ...]) -> bytes:
    """Most steps of most sandboxes are the same, but for what is in their files."""
    return _encode(name, numbers, texts)


def _encode(name: str, numbers: tuple[int, ...], texts: tuple[bytes, ...]) -> bytes:
    head = struct.pack(f"<BBB{len(numbers)}Q", OPCODES[name], len(numbers), len(texts), *numbers)
    return head + b"".join([struct.pack("<I", len(text)) + text + b"\0" for text in texts])
