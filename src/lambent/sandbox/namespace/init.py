"""The launcher of sandboxes and process 1 of each, for hosts without a C compiler.

The same program as `init.c`, step by step and message by message, which is where the reasons stand; the conformance
suite runs over both. It is started as a file of its own with `python -I -S`, so it imports the standard library only,
and everything at once: after the pivot the library's files are gone. That is also why it is longer than 400 lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
from typing import Any, NoReturn

OPEN_TREE, MOVE_MOUNT, CLONE3, CLOSE_RANGE, MOUNT_SETATTR = 428, 429, 435, 436, 442
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
#: clone, pivot_root, capset, seccomp, rt_sigaction, tgkill, sched_setattr: the few that differ by architecture
CLONE, PIVOT_ROOT, CAPSET, SECCOMP, SIGACTION, TGKILL, SCHED_SETATTR = {
    "x86_64": (56, 155, 126, 317, 13, 234, 314),
    "aarch64": (220, 41, 91, 277, 134, 131, 274),
}[os.uname().machine]

AT_FDCWD, CLONE_PARENT, CLONE_INTO_CGROUP, CLONE_NEWCGROUP = -100, 0x8000, 0x200000000, 0x2000000
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 0x40000, 2
PR_SET_DUMPABLE, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 4, 23, 24, 28, 38
#: NOROOT, NO_SETUID_FIXUP, KEEP_CAPS and NO_CAP_AMBIENT_RAISE, locked; see `init.c`
SECUREBITS = 1 | 2 | 8 | 32 | 64 | 128
MESSAGE_BYTES, MAX_FDS, MAX_RUNNING = 256 * 1024, 16, 64

libc = ctypes.CDLL(None, use_errno=True)
control: socket.socket  # descriptor 0
host_proc = -1
host = (-1, -1)  # mount namespace and root, of the launcher alone
wakeup = (-1, -1)  # a pipe that the arrival of SIGCHLD writes to


def check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def call(number: int, *arguments: Any) -> int:
    """A system call; integers travel as 64 bits, as the registers they are."""
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return check(libc.syscall(ctypes.c_long(number), *words))


def prctl(option: int, value: int) -> int:
    return check(libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


class Guests:
    """What the steps leave for the programs to be run, and who of them runs."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}  # pid -> token
        self.limits: list[tuple[int, int]] = []
        self.tasks: list[int] = []
        self.group = -1
        self.freezer = -1
        self.uid = self.gid = 0
        self.filter = self.attributes = b""
        self.null = -1
        self.ending = False
        self.dropping = False


guests = Guests()


def die() -> NoReturn:
    if guests.freezer >= 0:
        with contextlib.suppress(OSError):  # then the next server thaws it
            os.write(guests.freezer, b"THAWED")
    os._exit(1)


def tell(kind: bytes, first: int = 0, second: int = 0, fds: tuple[int, ...] = ()) -> None:
    try:
        socket.send_fds(control, [struct.pack("<cII", kind, first, second)], list(fds), socket.MSG_NOSIGNAL)
    except OSError:
        die()


def hear() -> tuple[bytes, list[int]]:
    try:
        # Not recv_fds, which drops the flag, so that guests would inherit what we receive.
        room = socket.CMSG_LEN(4 * MAX_FDS)
        body, ancillary, flags, _ = control.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        die()
    if not body or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        die()
    fds = [fd for _, kind, data in ancillary if kind == socket.SCM_RIGHTS for (fd,) in struct.iter_unpack("i", data)]
    return body, fds


def decode(plan: bytes) -> list[tuple[int, list[int], list[bytes]]]:
    steps = []
    at = 1
    while at < len(plan):
        opcode, number_count, text_count = plan[at], plan[at + 1], plan[at + 2]
        numbers = list(struct.unpack_from(f"<{number_count}Q", plan, at + 3))
        at += 3 + 8 * number_count
        texts = []
        for _ in range(text_count):
            (length,) = struct.unpack_from("<I", plan, at)
            texts.append(plan[at + 4 : at + 4 + length])
            at += 5 + length
        steps.append((opcode, numbers, texts))
    return steps


def mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    check(libc.mount(source, target, kind, ctypes.c_ulong(flags), data))


def set_attributes(fd: int, path: bytes, flags: int, attributes: int) -> None:
    call(MOUNT_SETATTR, fd, path, flags, struct.pack("<4Q", attributes, 0, 0, 0), 32)


def attach(tree: int, target: bytes) -> None:
    call(MOVE_MOUNT, tree, b"", AT_FDCWD, target, 4)


def copy_tree(source: bytes, attributes: int) -> int:
    tree = call(OPEN_TREE, AT_FDCWD, source, 1 | os.O_CLOEXEC | 0x8000)
    try:
        set_attributes(tree, b"", 0x1000 | 0x8000, attributes)
    except OSError:
        os.close(tree)
        raise
    return tree


def bind_tree(source: bytes, target: bytes, attributes: int) -> None:
    tree = copy_tree(source, attributes)
    try:
        attach(tree, target)
    finally:
        os.close(tree)


def write_file(path: bytes, flags: int, mode: int, content: bytes, folder: int | None = None) -> None:
    fd = os.open(path, flags | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        if os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, "")
    finally:
        os.close(fd)


def make_folder(path: bytes, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)


def pivot() -> None:
    call(PIVOT_ROOT, b".", b".")
    check(libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP


def listen_at(address: int, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind((socket.inet_ntoa(struct.pack(">I", address)), port))
        listening.listen(128)
        listening.setblocking(False)
        tell(b"L", fds=(listening.fileno(),))


def ask_map() -> None:
    tell(b"M")
    if hear()[0][:1] != b"m":
        raise OSError(errno.EPROTO, "")


def landlock(scoped: int) -> None:
    rules = call(LANDLOCK_CREATE_RULESET, struct.pack("<3Q", 0, 0, scoped), 24, 0)
    try:
        call(LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def keep_identity(uid: int, gid: int) -> None:
    guests.uid, guests.gid = uid, gid


def start_dropping() -> None:
    guests.dropping = True


def keep_filter(program: bytes) -> None:
    guests.filter = program
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def carry_out(name: str, number: list[int], text: list[bytes], fds: list[int]) -> None:
    simple: dict[str, Any] = {
        "unshare": lambda: check(libc.unshare(number[0])),
        "private": lambda: mount(None, b"/", None, MS_REC | MS_PRIVATE, None),
        "tmpfs": lambda: mount(b"tmpfs", text[0], b"tmpfs", number[0], text[1]),
        "enter": lambda: os.chdir(text[0]),
        "folder": lambda: make_folder(text[0], number[0]),
        "file": lambda: write_file(text[0], os.O_CREAT | os.O_TRUNC, number[0], text[1]),
        "link": lambda: os.symlink(text[1], text[0]),
        "bind": lambda: bind_tree(text[0], text[1], number[0]),
        "attach": lambda: attach(fds[number[0]], text[0]),
        "proc": lambda: mount(b"proc", text[0], b"proc", number[0], text[1]),
        "pivot": pivot,
        "readonly": lambda: set_attributes(AT_FDCWD, text[0], 0, number[0]),
        "hostname": lambda: socket.sethostname(text[0].decode()),
        "loopback": loopback_up,
        "listen": lambda: listen_at(number[0], number[1]),
        "write": lambda: write_file(text[0], 0, 0, text[1], host_proc),
        "ask_map": ask_map,
        "groups": lambda: os.setgroups([]),
        "landlock": lambda: landlock(number[0]),
        "identity": lambda: keep_identity(number[0], number[1]),
        "limit": lambda: guests.limits.append((number[0], number[1])),
        "seccomp": lambda: keep_filter(text[0]),
        "remove": lambda: os.unlink(text[0]),
        "drop": start_dropping,
        "prompt": lambda: setattr(guests, "attributes", text[0]),
    }
    simple[name]()


#: By opcode; a test compares this list with `plan.OPCODES`.
NAMES = (
    "unshare", "private", "tmpfs", "enter", "folder", "file", "link", "bind", "attach", "proc", "pivot",
    "readonly", "hostname", "loopback", "listen", "write", "ask_map", "groups", "landlock", "identity", "limit",
    "seccomp", "remove", "drop", "prompt",
)  # fmt: skip


def carry_out_plan(plan: bytes, fds: list[int]) -> None:
    index = 0
    try:
        for opcode, numbers, texts in decode(plan):
            carry_out(NAMES[opcode - 1], numbers, texts, fds)
            index += 1
        for fd in fds:
            os.close(fd)
        index = 0xFFFFFFFF
        guests.null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        os.close(host_proc)
        prctl(PR_SET_DUMPABLE, 0)
    except OSError as error:
        tell(b"E", index, error.errno or errno.EIO)
        os._exit(1)
    tell(b"Y")


def launch(flags: int, end: int) -> None:
    try:
        pid = call(CLONE, flags | CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    except OSError as error:
        with socket.socket(fileno=os.dup(end)) as asking, contextlib.suppress(OSError):
            asking.send(struct.pack("<cII", b"E", 0xFFFFFFFE, error.errno or errno.EIO))
        pid = -1
    if pid == 0:
        os.dup2(end, 0)
        for fd in wakeup:
            os.close(fd)
        open_wakeup()
    os.close(end)
    if pid == 0:
        for fd in host:
            os.close(fd)
        tell(b"I")
        if os.getpid() != 1:
            tell(b"E", 0xFFFFFFFE, errno.EPERM)
            os._exit(1)


def furnish(steps: bytes, fds: list[int]) -> None:
    trees: list[tuple[int, bytes]] = []
    done = error = 0
    try:
        for opcode, number, text in decode(steps):
            if NAMES[opcode - 1] == "bind":
                trees.append((copy_tree(text[0], number[0]), text[1]))
            else:
                trees.append((os.dup(fds[number[0]]), text[0]))
        check(libc.setns(fds[0], CLONE_NEWNS))
        try:
            for tree, target in trees:
                attach(tree, target)
                done += 1
        finally:
            if libc.setns(host[0], CLONE_NEWNS) < 0:
                die()
            os.fchdir(host[1])
            os.chroot(".")
    except OSError as failure:
        error = failure.errno or errno.EIO
    for fd in [tree for tree, _ in trees] + fds:
        os.close(fd)
    tell(b"E" if error else b"Y", done if error else len(trees), error)


def take_groups(letters: bytes, fds: list[int]) -> None:
    for letter, fd in zip(letters, fds, strict=False):
        if letter == ord("t"):
            guests.tasks.append(fd)
        elif letter == ord("d"):
            guests.group = fd
        elif letter == ord("f"):
            guests.freezer = fd


def enter_limits() -> None:
    for kind, value in guests.limits:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def drop_privileges() -> None:
    prctl(PR_SET_SECUREBITS, SECUREBITS)
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            break
        prctl(PR_CAPBSET_DROP, capability)
    call(CAPSET, struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", 0, 0, 0, 0, 0, 0))
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def enter_filter() -> None:
    if guests.filter:
        program = ctypes.create_string_buffer(guests.filter, len(guests.filter))
        call(SECCOMP, 1, 0, struct.pack("<H6xQ", len(guests.filter) // 8, ctypes.addressof(program)))


def become_guest(token: int, cwd: bytes, argv: list[bytes], environment: dict[bytes, bytes], fds: list[int]) -> None:
    try:
        for fd in guests.tasks:
            os.write(fd, b"0")
        os.umask(0o022)
        os.setsid()
        os.dup2(fds[0], 1)
        os.dup2(fds[0], 2)
        if libc.unshare(CLONE_NEWCGROUP) < 0 and ctypes.get_errno() != errno.EINVAL:
            check(-1)
        if guests.attributes:  # a kernel that does not know them refuses, or takes no notice
            libc.syscall(ctypes.c_long(SCHED_SETATTR), 0, guests.attributes, 0)
        enter_limits()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        signal.set_wakeup_fd(-1)
        for signum in range(1, 65):
            libc.syscall(ctypes.c_long(SIGACTION), signum, bytes(32), None, ctypes.c_size_t(8))
        os.setresgid(guests.gid, guests.gid, guests.gid)
        os.setresuid(guests.uid, guests.uid, guests.uid)
        if guests.dropping:
            drop_privileges()
        enter_filter()
    except (OSError, ValueError) as error:
        tell(b"F", token, getattr(error, "errno", None) or errno.EPERM)
        os._exit(1)
    tell(b"S", token)
    status, failed = 126, cwd
    try:
        os.dup2(fds[1] if len(fds) > 1 else guests.null, 0)
        libc.syscall(ctypes.c_long(CLOSE_RANGE), 3, 0xFFFFFFFF, 0)
        os.chdir(cwd)
        failed = argv[0]
        os.execve(argv[0], argv, environment)
    except OSError as error:
        if failed == argv[0] and error.errno in (errno.ENOENT, errno.ENOTDIR):
            status = 127
        os.write(2, failed + b": " + os.strerror(error.errno or 0).encode() + b"\n")
    os._exit(status)


def fork_into_group(token: int) -> int:
    if guests.group < 0:
        return os.fork()
    arguments = struct.pack("<11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, guests.group)
    try:
        return call(CLONE3, ctypes.create_string_buffer(arguments, len(arguments)), len(arguments))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    pid = os.fork()
    if pid == 0:
        try:
            write_file(b"cgroup.procs", 0, 0, b"0", guests.group)
        except OSError as error:
            tell(b"F", token, error.errno or errno.EIO)
            os._exit(1)
    return pid


def run(body: bytes, fds: list[int]) -> None:
    token, argument_count, variable_count = struct.unpack_from("<III", body, 1)
    cwd, *texts = body[13:].split(b"\0")[: 1 + argument_count + variable_count]
    variables = dict(text.split(b"=", 1) for text in texts[argument_count:])
    try:
        if len(guests.running) == MAX_RUNNING:
            raise OSError(errno.EAGAIN, "")
        pid = fork_into_group(token)
        if pid == 0:
            become_guest(token, cwd, texts[:argument_count], variables, fds)
        guests.running[pid] = token
    except OSError as error:
        tell(b"F", token, error.errno or errno.EIO)
    for fd in fds:
        os.close(fd)


def reap() -> None:
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            token = guests.running.pop(pid, None)
            if token is not None:
                tell(b"X", token, status)
    except ChildProcessError:
        if guests.ending:
            guests.ending = False
            tell(b"Z")


def signal_everybody(signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signum)


def serve(body: bytes, fds: list[int]) -> None:
    kind = body[:1]
    if kind in (b"K", b"F", b"T") and os.getpid() != 1:
        die()
    if kind == b"N":
        launch(struct.unpack_from("<Q", body, 1)[0], fds[0])
    elif kind == b"A":
        furnish(body, fds)
    elif kind == b"P":
        carry_out_plan(body, fds)
    elif kind == b"C":
        take_groups(body[1:], fds)
    elif kind == b"R":
        run(body, fds)
    elif kind == b"G":
        token, signum = struct.unpack_from("<II", body, 1)
        for pid in [pid for pid, owner in guests.running.items() if owner == token]:
            if signum == signal.SIGKILL:
                os.kill(pid, signum)
            else:
                call(TGKILL, pid, pid, signum)  # to its first thread, see `init.c`
    elif kind == b"K":
        signal_everybody(signal.SIGKILL)
        tell(b"k")
        guests.ending = True
        reap()
    elif kind in (b"F", b"T"):
        signal_everybody(signal.SIGSTOP if kind == b"F" else signal.SIGCONT)
    else:
        die()


def open_wakeup() -> None:
    global wakeup
    wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup[1], warn_on_full_buffer=False)


def main() -> NoReturn:
    global control, host_proc, host
    control = socket.socket(fileno=0)
    os.umask(0)
    call(CLOSE_RANGE, 3, 0xFFFFFFFF, 0)
    host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    host = (os.open("/proc/self/ns/mnt", os.O_RDONLY), os.open("/", os.O_PATH | os.O_DIRECTORY))
    open_wakeup()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # else a guest could interrupt us
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([0, wakeup[0]], [], [])[0]
        if wakeup[0] in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(wakeup[0], 4096):
                    pass
            reap()
        if 0 in ready:
            serve(*hear())


if __name__ == "__main__":
    main()
