"""Attempts to get out, or to get at what is not the guest's: refused inside, and successful where the sandbox is weak.

Each probe is a program that prints `done` when the attempt worked. It must not inside a real sandbox, as root and
rootless; and it must inside a sandbox whose plan lacks exactly the defence in question, or the probe would prove
nothing. Where the kernel of the machine refuses anyway, the weak run is skipped with words. Weak plans exist only
here. The list follows records 5c; resource bombs are in `test_namespace`, leftovers in the conformance suite.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from lambent.core.model import ExitStatus
from lambent.sandbox.base import SandboxSpec
from lambent.sandbox.namespace import plan
from sandbox.arena import ARENAS, Arena, Stage, finish, output, python

ROOT, _, ROOTLESS = ARENAS[1:4]
FURNISHED = ARENAS[4]
Weakening = Callable[[list[plan.Step]], list[plan.Step]]

PRELUDE = """
import ctypes, errno, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    return result if result >= 0 else -ctypes.get_errno()
def works(result):
    print("done" if result >= 0 else errno.errorcode.get(-result, result))
def opens(path, flags=os.O_RDONLY):
    try:
        os.close(os.open(path, flags)); print("done")
    except OSError as error: print(errno.errorcode[error.errno])
def mounts(source, target, kind):
    works(-ctypes.get_errno() if libc.mount(source, target, kind, 0, None) else 0)
def shows(path):
    print("done" if open(path).read(10) else "empty")
"""


def without(*names: str) -> Weakening:
    return lambda steps: [step for step in steps if step.name not in names]


def without_namespace(flag: int) -> Weakening:
    """As if the plan had not asked for it."""

    def weaken(steps: list[plan.Step]) -> list[plan.Step]:
        less = {step: replace(step, numbers=(step.numbers[0] & ~flag,)) for step in steps[:1]}
        return [less.get(step, step) for step in steps]

    return weaken


def real_root(steps: list[plan.Step]) -> list[plan.Step]:
    """Guests stay in the host's user namespace, as root, with every capability and call; /proc can be written."""
    kept = []
    for step in without("drop", "seccomp", "ask_map", "readonly")(steps):
        if step.name == "unshare" and step.numbers == (plan.NEW_USER,):
            continue
        if step.name == "identity":
            step = replace(step, numbers=(0, 0))
        elif step.name == "bind":
            step = replace(step, numbers=(step.numbers[0] & ~(plan.RDONLY | plan.NODEV),))
        elif step.name == "proc":
            step = replace(step, numbers=(0,), texts=(b"proc", b"hidepid=0"))
        elif step.name == "tmpfs":
            step = replace(step, numbers=(0,))
        kept.append(step)
    return kept


def unmasked(steps: list[plan.Step]) -> list[plan.Step]:
    def is_mask(step: plan.Step) -> bool:
        return step.name == "bind" and step.texts[0] == b"/dev/null" and step.texts[1].startswith(b"proc/")

    return [step for step in real_root(steps) if not is_mask(step)]


UNFILTERED = without("seccomp")


@dataclass(frozen=True)
class Probe:
    """`weaken` makes it work; None where no plan can (the attempt is refused by the kernel's own rules)."""

    name: str
    program: str
    weaken: Weakening | None
    refusal: tuple[str, ...] = ("EPERM", "ENOSYS", "EACCES", "ENOENT", "EROFS")


PROBES = (
    # masked and generated files
    Probe("read-kernel-symbols", "shows('/proc/kallsyms')", unmasked, ("empty",)),
    Probe("read-kernel-timers", "shows('/proc/timer_list')", unmasked, ("empty",)),
    Probe("write-core-pattern", "opens('/proc/sys/kernel/core_pattern', os.O_WRONLY)", real_root),
    Probe("trigger-sysrq", "opens('/proc/sysrq-trigger', os.O_WRONLY)", unmasked),
    Probe("read-process-1-memory", "opens('/proc/1/mem')", real_root),
    Probe("find-process-1-program", "opens('/proc/1/exe')", real_root),
    Probe("overwrite-own-program", "opens('/proc/self/exe', os.O_WRONLY)", None, ("EROFS", "ETXTBSY", "EACCES")),
    Probe("read-host-shadow", "opens('/etc/shadow')", lambda steps: _show(steps, "/etc/shadow", "etc/shadow")),
    Probe("use-memory-device", "opens('/dev/mem')", None),
    Probe("use-kvm", "opens('/dev/kvm')", lambda steps: _show(steps, "/dev/zero", "dev/kvm")),
    # mounts
    Probe("mount-tmpfs", "mounts(b't', b'/tmp', b'tmpfs')", real_root),
    Probe("mount-proc", "mounts(b'p', b'/tmp', b'proc')", real_root),
    Probe("mount-cgroup-v2", "mounts(b'c', b'/tmp', b'cgroup2')", real_root),
    Probe("mount-cgroup-v1-and-raise-the-own-limit", """
if libc.mount(b'c', b'/tmp', b'cgroup', 0, b'memory'): works(-ctypes.get_errno())
else: opens('/tmp/memory.limit_in_bytes', os.O_WRONLY)
""", real_root),
    Probe("remount-the-root-writable",
          "works(-ctypes.get_errno() if libc.mount(None, b'/', None, 0x1020, None) else 0)", real_root),
    Probe("take-a-mask-away", "works(-ctypes.get_errno() if libc.umount2(b'/proc/meminfo', 2) else 0)", real_root),
    Probe("new-mount-api", "works(call(430, b'tmpfs', 0))", real_root),
    Probe("clone-a-mount", "works(call(428, -100, b'/usr', 1))", real_root),
    Probe("chroot", "works(-ctypes.get_errno() if libc.chroot(b'/tmp') else 0)", real_root),
    Probe("open-by-handle", """
handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); mount = ctypes.c_int()
if libc.name_to_handle_at(-100, b'/tmp', handle, ctypes.byref(mount), 0): works(-ctypes.get_errno())
else: fd = libc.open_by_handle_at(os.open('/tmp', 0), handle, 0); works(fd if fd >= 0 else -ctypes.get_errno())
""", real_root),
    Probe("make-a-block-device", """
try: os.mknod('/tmp/disk', 0o60600, os.makedev(7, 0)); print('done')
except OSError as error: print(errno.errorcode[error.errno])
""", real_root),
    # namespaces and the ways around the filter
    Probe("new-user-namespace", "works(-ctypes.get_errno() if libc.unshare(0x10000000) else 0)", UNFILTERED),
    Probe("clone-with-a-new-user-namespace", """
pid = call(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0: os._exit(0)
works(pid)
""", UNFILTERED),
    Probe("clone3", "works(0 if call(435, None, 0) == -errno.EINVAL else -errno.ENOSYS)", UNFILTERED, ("ENOSYS",)),
    Probe("join-a-namespace", "works(-ctypes.get_errno() if libc.setns(os.open('/proc/self/ns/uts', 0), 0) else 0)",
          real_root),
    Probe("another-personality", "works(call(135 if os.uname().machine == 'x86_64' else 92, 0x40000))", UNFILTERED),
    # kernel interfaces of the risky kind
    Probe("io-uring", "works(call(425, 4, bytes(120)))", UNFILTERED),
    Probe("userfaultfd", "works(call(323 if os.uname().machine == 'x86_64' else 282, 1))", UNFILTERED),
    Probe("add-a-key", "works(call(248 if os.uname().machine == 'x86_64' else 217, b'user', b'k', b'v', 1, -2))",
          UNFILTERED),
    Probe("load-bpf", "works(call(321 if os.uname().machine == 'x86_64' else 280, 0, "
          "struct.pack('4I', 2, 4, 4, 1) + bytes(56), 72))", real_root),
    Probe("perf-events", "works(call(298 if os.uname().machine == 'x86_64' else 241, "
          "struct.pack('IIQ', 1, 112, 0) + bytes(24) + bytes([1]) + bytes(71), 0, -1, -1, 0))", real_root),
    Probe("nf-tables", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12); print('done')",
          UNFILTERED, ("EAFNOSUPPORT",)),
    Probe("vsock", "socket.socket(40, socket.SOCK_STREAM); print('done')", UNFILTERED, ("EAFNOSUPPORT",)),
    Probe("crypto-sockets", "socket.socket(38, 5); print('done')", UNFILTERED, ("EAFNOSUPPORT",)),
    Probe("packet-sockets", "socket.socket(17, socket.SOCK_RAW); print('done')", real_root, ("EAFNOSUPPORT",)),
    Probe("raw-sockets", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print('done')", real_root),
    Probe("set-the-clock", "import time; time.clock_settime(0, time.time()); print('done')", None),
    Probe("ask-for-the-kernel-log", "works(0 if libc.klogctl(10, None, 0) >= 0 else -ctypes.get_errno())", real_root),
    # other processes
    Probe("be-traced", "works(-ctypes.get_errno() if libc.ptrace(0, 0, 0, 0) else 0)", UNFILTERED),
    Probe("read-another-process", """
buffer = ctypes.create_string_buffer(8)
vector = struct.pack('QQ', ctypes.addressof(buffer), 8)
works(call(310 if os.uname().machine == 'x86_64' else 270, os.getpid(), vector, 1, vector, 1, 0))
""", UNFILTERED),
    Probe("take-a-descriptor", "works(call(438, os.pidfd_open(os.getpid()), 0, 0))", UNFILTERED),
    Probe("push-into-a-terminal", """
import fcntl
try: fcntl.ioctl(0, 0x5412, b'x')
except OSError as error: print('done' if error.errno == errno.ENOTTY else errno.errorcode[error.errno])
""", UNFILTERED, ("EPERM",)),
)  # fmt: skip


def _show(steps: list[plan.Step], source: str, target: str) -> list[plan.Step]:
    """One more file of the host, readable by everybody's root."""
    weak = real_root(steps)
    place = next(index for index, step in enumerate(weak) if step.name == "pivot")
    file = plan.Step("file", (0o600,), (target.encode(), b""))
    bind = plan.Step("bind", (0,), (source.encode(), target.encode()))
    return [*weak[:place], file, bind, *weak[place:]]


def _program(probe: Probe) -> str:
    """The probe with the errors that Python raises told by name."""
    body = "".join(f"    {line}\n" for line in probe.program.strip().splitlines())
    return f"{PRELUDE}try:\n{body}except OSError as error: print(errno.errorcode[error.errno])\n"


@pytest.fixture(params=(ROOT, ROOTLESS, FURNISHED), ids=lambda arena: arena.name)
def arena(request: pytest.FixtureRequest) -> Arena:
    chosen: Arena = request.param
    return chosen


def test_probes_are_refused(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        got = {probe.name: (await python(sandbox, _program(probe)))[1].strip() for probe in PROBES}
        worked = {name: answer for name, answer in got.items() if answer == "done"}
        assert worked == {}
        surprising = {probe.name: got[probe.name] for probe in PROBES if got[probe.name] not in probe.refusal}
        assert surprising == {}
        assert await output(sandbox, "echo still here") == "still here\n"
        await sandbox.destroy("test")

    arena.play(scenario)


@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe.weaken], ids=lambda probe: probe.name)
def test_a_probe_works_where_its_defence_is_missing(probe: Probe) -> None:
    weaken = probe.weaken
    assert weaken is not None
    answer = ""

    async def scenario(stage: Stage) -> None:
        nonlocal answer
        sandbox = await stage.create()
        answer = (await python(sandbox, _program(probe)))[1].strip()
        await sandbox.destroy("test")

    ROOT.play(scenario, build_plan=_weak(weaken), tmp="tmpfs")
    if answer in ("ENOSYS", "EAFNOSUPPORT", "ESOCKTNOSUPPORT", "EPROTONOSUPPORT", "ENODEV", "ENOENT", "EINVAL"):
        pytest.skip(f"needs a kernel with this interface ({answer})")
    assert answer == "done"


def _weak(weaken: Weakening) -> Callable[[SandboxSpec, plan.Host, plan.Choices], list[plan.Step]]:
    def build(spec: SandboxSpec, host: plan.Host, choices: plan.Choices) -> list[plan.Step]:
        return weaken(plan.build(spec, host, choices))

    return build


MACHINE_CODE = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex({code!r}))
entry = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print("done" if entry() > 0 else "refused", flush=True)
"""
#: getpid by the 32-bit entry, and by the x32 bit of the 64-bit one
INT_0X80, X32 = "b814000000cd80c3", "b827000040 0f05c3"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64")
def test_other_entries_to_the_kernel_are_closed(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        status, out = await python(sandbox, MACHINE_CODE.format(code=INT_0X80))
        assert (status, out) == (ExitStatus(signal=31), "")
        status, out = await python(sandbox, MACHINE_CODE.format(code=X32))
        assert (status, out) == (ExitStatus(code=0), "refused\n")
        await sandbox.destroy("test")

    arena.play(scenario)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64")
def test_the_32_bit_entry_is_open_without_the_filter() -> None:
    status = ExitStatus()

    async def scenario(stage: Stage) -> None:
        nonlocal status
        sandbox = await stage.create()
        status, out = await python(sandbox, MACHINE_CODE.format(code=INT_0X80))
        assert status == ExitStatus(signal=11) or out == "done\n"
        await sandbox.destroy("test")

    ROOT.play(scenario, build_plan=_weak(UNFILTERED))
    if status == ExitStatus(signal=11):
        pytest.skip("needs a kernel with 32-bit emulation")


def test_a_working_folder_cannot_lead_out_of_the_root(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        for fd in range(3, 16):
            status, out = await finish(sandbox, "/bin/ls", cwd=f"/proc/self/fd/{fd}")
            assert status.code == 126 and out.startswith(f"/proc/self/fd/{fd}: ") and out.count("\n") == 1
        await sandbox.destroy("test")

    arena.play(scenario)


def test_links_in_the_code_end_inside(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        secret = stage.folder / "secret"
        secret.write_text("secret")
        (stage.task / "absolute").symlink_to(secret)
        (stage.task / "relative").symlink_to("../" * 20 + str(secret)[1:])
        sandbox = await stage.create()
        status, out = await finish(sandbox, "/bin/cat", "/var/task/absolute", "/var/task/relative")
        assert status == ExitStatus(code=1) and "secret" not in out.replace(str(secret), "")
        await sandbox.destroy("test")

    arena.play(scenario)


def test_code_stays_as_it_was_after_splicing_into_its_pages(arena: Arena) -> None:
    program = """
import os
fd = os.open("/var/task/code", os.O_RDONLY)
reading, writing = os.pipe()
os.write(writing, bytes(65536)); os.read(reading, 65536)
os.splice(fd, writing, 1, offset_src=0)
os.write(writing, b"changed")
"""

    async def scenario(stage: Stage) -> None:
        (stage.task / "code").write_text("original text")
        sandbox = await stage.create()
        # os.splice came with Python 3.10
        status, out = await python(sandbox, program)
        assert status == ExitStatus(code=0), out
        assert (stage.task / "code").read_text() == "original text"
        await sandbox.destroy("test")

    arena.play(scenario)


SIGNALS = """
import os, signal
for pid in (1, {pid}):
    try: os.kill(pid, signal.SIGKILL); print("sent", pid)
    except OSError as error: print(type(error).__name__)
"""


def test_processes_outside_are_neither_seen_nor_signalled(arena: Arena) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox, other = await stage.create(), await stage.create()
        answers = (await python(sandbox, SIGNALS.format(pid=other.first.pid)))[1].splitlines()
        assert answers[0] in ("PermissionError", "sent 1")  # process 1 ignores what comes from below
        assert answers[1] == "ProcessLookupError"
        shown = (await output(sandbox, "ls /proc | grep -E '^[0-9]+$' | wc -l")).strip()
        assert int(shown) <= 5
        assert await output(sandbox, "echo alive") == await output(other, "echo alive") == "alive\n"
        await sandbox.destroy("test")
        await other.destroy("test")
        assert stage.deaths == []

    arena.play(scenario)


ABSTRACT = """
import socket, sys
try: socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1]); print("done")
except OSError as error: print(type(error).__name__)
"""


@pytest.mark.parametrize("landlock", [True, False])
def test_abstract_sockets_of_the_host_are_out_of_reach(landlock: bool) -> None:
    answer = ""

    async def scenario(stage: Stage) -> None:
        nonlocal answer
        if not stage.backend._host.landlock:
            answer = "absent"
            return
        sandbox = await stage.create()
        answer = (await python(sandbox, ABSTRACT, name))[1].strip()
        await sandbox.destroy("test")

    name = f"lambent-probe-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + name)
        listening.listen()
        ROOT.play(scenario, **({} if landlock else {"build_plan": _weak(without("landlock"))}))
    if answer == "absent":
        pytest.skip("needs Landlock version 6")
    assert answer == ("PermissionError" if landlock else "done")


CONNECT = """
import socket, sys
try: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2); print("done")
except OSError as error: print(type(error).__name__)
"""


@pytest.mark.parametrize("network", ["isolated", "host"])
def test_the_hosts_loopback_is_out_of_reach_of_an_isolated_sandbox(network: str) -> None:
    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create(network=network)
        answer = (await python(sandbox, CONNECT, str(listening.getsockname()[1])))[1].strip()
        assert answer == ("done" if network == "host" else "ConnectionRefusedError")
        await sandbox.destroy("test")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        ROOT.play(scenario)


SHARED_MEMORY = """
import ctypes, sys
libc = ctypes.CDLL(None)
flags = 0o1600 if sys.argv[2] == "make" else 0
found = libc.shmget(int(sys.argv[1]), 4096, flags | (0o666 if flags else 0))
print("done" if found >= 0 else "absent")
if sys.argv[2] == "take" and found >= 0: libc.shmctl(found, 0, None)
"""


@pytest.mark.parametrize("own_namespace", [True, False])
def test_shared_memory_of_one_sandbox_is_absent_in_another(own_namespace: bool) -> None:
    key = str(0x4C000000 + os.getpid())

    async def scenario(stage: Stage) -> None:
        first, second = await stage.create(), await stage.create()
        assert (await python(first, SHARED_MEMORY, key, "make"))[1] == "done\n"
        answer = (await python(second, SHARED_MEMORY, key, "take"))[1].strip()
        assert answer == ("absent" if own_namespace else "done")
        await first.destroy("test")
        await second.destroy("test")

    weak = _weak(lambda steps: without_namespace(plan.NEW_IPC)(real_root(steps)))
    ROOT.play(scenario, **({} if own_namespace else {"build_plan": weak}))


def test_a_storm_of_stops_and_zombies_does_not_keep_others_waiting(arena: Arena) -> None:
    program = """
import os, signal, time
for _ in range(200):
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    try: os.kill(pid, signal.SIGSTOP); os.kill(pid, signal.SIGCONT)
    except OSError: pass
print("stormed", flush=True)
"""

    async def scenario(stage: Stage) -> None:
        sandbox = await stage.create()
        assert (await python(sandbox, program))[1] == "stormed\n"
        other = await stage.create()
        assert await output(other, "echo prompt") == "prompt\n"
        await sandbox.kill()
        assert sandbox.usage().pids == ()
        await sandbox.destroy("test")
        await other.destroy("test")

    arena.play(scenario)
