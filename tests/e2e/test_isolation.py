"""What a function can see and use of the machine: its own sizes, and nothing of its neighbours (point 10)."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from .harness import Function, Server, at_once, meeting

#: Looks around, with the standard library only.
LOOKS = """
import errno, os, socket, struct, subprocess, threading, time

def handler(event, context):
    return globals()[event.pop("do")](**event)

def sizes():
    space = os.statvfs("/tmp")
    meminfo = dict(line.split(":") for line in open("/proc/meminfo"))
    return {
        "cpus": os.cpu_count(), "online": os.sysconf("SC_NPROCESSORS_ONLN"),
        "cpuinfo": open("/proc/cpuinfo").read().count("processor\\t"),
        "total_kib": int(meminfo["MemTotal"].split()[0]), "available_kib": int(meminfo["MemAvailable"].split()[0]),
        "tmp_free_mib": space.f_bavail * space.f_frsize / 1024**2, "tmp_mib": space.f_blocks * space.f_frsize / 1024**2,
    }

def fill(mib):
    block = os.urandom(1 << 20)
    with open("/tmp/full", "wb") as file:
        for _ in range(mib):
            file.write(block)
    size = os.path.getsize("/tmp/full") >> 20
    os.unlink("/tmp/full")
    return size

def reserve(mib):
    with open("/tmp/reserved", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, mib << 20)
            return "reserved"
        except OSError as error:
            return errno.errorcode[error.errno]
        finally:
            os.unlink("/tmp/reserved")

def spin(seconds):
    begun, used = time.monotonic(), time.process_time()
    while time.monotonic() - begun < seconds:
        pass
    return time.process_time() - used

def spin_at_init():
    return INIT_CPU

BEGUN = time.monotonic()
USED = time.process_time()
if os.environ.get("SPIN"):
    while time.monotonic() - BEGUN < 0.4:
        pass
INIT_CPU = time.process_time() - USED

def threads(count):
    stop = threading.Event()
    started = 0
    try:
        for _ in range(count):
            threading.Thread(target=stop.wait, daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    stop.set()
    return started

def files():
    opened = []
    try:
        while True:
            opened.append(open("/dev/null"))
    except OSError as error:
        number = error.errno
    count = len(opened)
    for file in opened:
        file.close()
    return [errno.errorcode[number], count]

def look():
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    return {"root": sorted(os.listdir("/")), "pids": pids, "host": socket.gethostname(), "uid": os.getuid(),
            "fds": sorted(int(name) for name in os.listdir("/proc/self/fd")), "home": os.path.exists("/root"),
            "interfaces": sorted(name for _, name in socket.if_nameindex()),
            "status": dict(line.split(":", 1) for line in open("/proc/self/status"))}

def write(path):
    try:
        with open(path, "ab"):
            return "written"
    except OSError as error:
        return errno.errorcode[error.errno]

def read(path):
    try:
        with open(path, "rb") as file:
            return len(file.read(16))
    except OSError as error:
        return errno.errorcode[error.errno]

def run(argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    return [done.returncode, done.stdout.strip(), done.stderr.strip()]

def api():
    return os.environ["AWS_LAMBDA_RUNTIME_API"]

def ask(address, meet=None):
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=3) as peer:
            peer.sendall(b"GET /2018-06-01/ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            return peer.recv(4096).decode()[-4:]
    except OSError as error:
        return type(error).__name__

def wait(meet):
    with socket.create_connection(("127.0.0.1", meet)) as peer:
        peer.recv(1)

def kill(pid):
    try:
        os.kill(pid, 9)
        return "sent"
    except OSError as error:
        return errno.errorcode[error.errno]
"""

FUNCTIONS = (
    *(Function(f"size-{memory}", LOOKS, memory=memory, timeout=30) for memory in (128, 512, 1769, 3009, 10240)),
    Function("looks", LOOKS, timeout=30),
    Function("other", LOOKS, timeout=30),
    Function("large-tmp", LOOKS, more={"EphemeralStorage": {"Size": 1024}}),
    Function("spins", LOOKS, memory=177, more={"Environment": {"Variables": {"SPIN": "1"}}}),
)  # fmt: skip


def do(server: Server, name: str, what: str, **arguments: Any) -> Any:
    call = server.invoke(name, {"do": what, **arguments})
    assert call.error is None, call
    return call.payload


@pytest.mark.parametrize(
    ("memory", "cores"), [(128, 2), (512, 2), (1769, 2), (3009, 3), (10240, 6)])
def test_a_guest_sees_its_own_sizes(server: Server, memory: int, cores: int) -> None:
    seen = do(server, f"size-{memory}", "sizes")
    cores = min(cores, os.cpu_count() or 1)
    assert (seen["cpus"], seen["online"], seen["cpuinfo"]) == (cores, cores, cores)
    assert seen["total_kib"] == memory * 1024
    assert 0 < seen["available_kib"] <= memory * 1024
    assert 511 <= seen["tmp_free_mib"] < 530
    assert seen["tmp_mib"] < 560


def test_tmp_has_its_size_and_is_not_memory(server: Server) -> None:
    """More of /tmp than there is memory."""
    assert do(server, "size-128", "fill", mib=150) == 150
    assert 1023 <= do(server, "large-tmp", "sizes")["tmp_free_mib"] < 1060
    assert do(server, "size-1769", "reserve", mib=510) == "reserved"
    assert do(server, "size-1769", "reserve", mib=530) == "ENOSPC"


def test_cpu_is_proportional_to_memory_and_not_limited_during_init(server: Server) -> None:
    """177 MB buy a tenth of a core."""
    call = server.invoke("spins", {"do": "spin_at_init"})
    assert call.payload > 0.15  # of 0.4 s; others use this machine too
    used = do(server, "spins", "spin", seconds=1.0)
    assert 0.03 < used < 0.2


def test_threads_and_files_are_limited(server: Server) -> None:
    assert 500 < do(server, "size-3009", "threads", count=2000) < 1024
    kind, count = do(server, "looks", "files")
    assert kind == "EMFILE" and 900 < count < 1024


def test_a_guest_sees_nothing_of_the_host_and_of_others(server: Server) -> None:
    server.invoke("other", {"do": "api"})
    seen = do(server, "looks", "look")
    assert set(seen["root"]) <= {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "sys",
                                 "tmp", "usr", "var"}  # fmt: skip
    assert len(seen["pids"]) <= 2  # itself, and process 1 where that can be seen
    assert seen["host"] == "169-254-100-1"
    assert seen["home"] is False
    assert max(seen["fds"]) < 10
    status = {name: value.strip() for name, value in seen["status"].items()}
    assert {status["CapInh"], status["CapPrm"], status["CapEff"], status["CapAmb"]} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize(
    "path", ["/var/task/x", "/var/runtime/x", "/var/lang/x", "/opt/x", "/etc/x", "/usr/x", "/x", "/var/x", "/dev/x",
             "/sys/x", "/proc/sys/kernel/hostname"])  # fmt: skip
def test_only_tmp_can_be_written(server: Server, path: str) -> None:
    assert do(server, "looks", "write", path="/tmp/x") == "written"
    assert do(server, "looks", "write", path=path) in ("EROFS", "EACCES", "EPERM")


def test_what_is_the_hosts_cannot_be_read(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    for path in (str(secret), str(server.data_dir / "token"), "/etc/shadow", "/root/.bashrc", "/proc/1/environ",
                 "/proc/kcore", "/dev/mem", "/dev/sda", "/home"):  # fmt: skip
        assert do(server, "looks", "read", path=path) in ("ENOENT", "EACCES", "EPERM", "EISDIR", 0), path
    assert do(server, "looks", "read", path=str(secret)) == "ENOENT"


def test_processes_of_others_cannot_be_signalled(server: Server) -> None:
    call = server.invoke("other", {"do": "api"})
    [pid, *_] = server.idle(call.environment)["pids"]
    for target in (pid, server.process.pid, os.getpid()):
        assert do(server, "looks", "kill", pid=target) == "ESRCH"
    assert server.idle(call.environment)["pids"][0] == pid


def test_tmp_is_not_shared(server: Server) -> None:
    """Two environments of one function at the same time."""
    with meeting(2) as (port, _, go):
        go.set()
        calls = at_once([lambda: server.invoke("other", {"do": "wait", "meet": port})] * 2)
    assert len({call.environment for call in calls}) == 2
    addresses = {row["id"]: row for row in server.environments("other")}
    assert len(addresses) >= 2
    assert do(server, "other", "write", path="/tmp/mine") == "written"
    with meeting(1) as (port, met, go):
        busy = server.background("other", {"do": "wait", "meet": port})
        assert met.wait(10)
        assert do(server, "other", "read", path="/tmp/mine") == "ENOENT"  # the other one, while the first is busy
        go.set()
        busy.result()


def test_the_runtime_api_of_another_environment_is_closed(server: Server) -> None:
    """Loopback is shared on the host's network: the kernel is asked whose the connection is."""
    own = do(server, "looks", "api")
    assert do(server, "looks", "ask", address=own) == "pong"
    theirs = do(server, "other", "api")
    assert theirs != own
    assert do(server, "looks", "ask", address=theirs) in ("ConnectionResetError", "")
    host, port = theirs.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as peer:  # nor is it open to people on the host
        try:
            peer.sendall(b"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n")
            heard = peer.recv(100)
        except ConnectionError:
            heard = b""
    assert heard == b""
    assert server.invoke("other", {"do": "api"}).payload == theirs  # and it still works


def test_a_guest_reaches_the_hosts_network(server: Server) -> None:
    with meeting(1) as (port, met, go):
        go.set()
        do(server, "looks", "wait", meet=port)
        assert met.is_set()


def test_a_guest_starts_programs_of_the_host(server: Server) -> None:
    assert do(server, "looks", "run", argv=["/bin/sh", "-c", "id -u; pwd"]) == [0, "993\n/var/task", ""]
    code, _, _ = do(server, "looks", "run", argv=["/bin/sh", "-c", "mount -t tmpfs x /tmp || unshare -r true"])
    assert code != 0
