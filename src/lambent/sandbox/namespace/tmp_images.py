"""/tmp of environments: single-use ext4 images, mounted ahead of need, that leave nothing behind.

Pages of a tmpfs are charged to the memory of whoever writes them, so with a tmpfs of 512 MB a function of 128 MB
dies before /tmp is full. As root each /tmp is therefore a sparse image on the data directory's file system: a file
without a name (O_TMPFILE), on a loop device that detaches itself, mounted without a journal at no path. Only its
descriptor exists until process 1 has put the mount into the sandbox; from then on the sandbox alone holds it. With
the last holder the kernel frees mount, device and file, also when the server is killed. Where this cannot be done
`plan` makes a tmpfs instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lambent import limits, settings
from lambent.sandbox.base import SandboxError
from lambent.sandbox.namespace import mounts
from lambent.sandbox.namespace.plan import NODEV, NOSUID

#: Ready images of the default size. One is made in about 3 ms, so this covers a small burst.
POOL = 4
INODES_PER_MIB = 32
#: Loop devices that are taken away at the same time, when the server stops.
REMOVED_AT_ONCE = 32

_MIB = 1024 * 1024
# linux/loop.h
_LOOP_CTL_GET_FREE, _LOOP_CTL_REMOVE, _LOOP_CONFIGURE, _LO_FLAGS_AUTOCLEAR = 0x4C82, 0x4C81, 0x4C0A, 4
# FS_IOC_SHUTDOWN without writing back: nobody will read these files again
_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2

_NOATIME = 0x10  # mount_setattr(2)

T = TypeVar("T")


class TmpMount:
    """One /tmp. `fd` holds the mount; -1 while only the sandbox does, so that an idle one needs no descriptor."""

    __slots__ = ("_device", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._device = os.fstat(fd).st_dev

    def let_go(self) -> None:
        """It stands in a sandbox now."""
        os.close(self.fd)
        self.fd = -1

    def hold_again(self, path: Path) -> None:
        """Before the sandbox ends, so that `release` can spare the kernel from writing its content back.

        `path` is where it is seen; anything else that may be there is left alone, and so is one that is gone already.
        """
        if self.fd >= 0:
            return
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(fd).st_dev == self._device:
                self.fd = fd
            else:
                os.close(fd)


class TmpImages:
    """A pool of mounts for /tmp. `folder` is on the file system that holds their data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: list[TmpMount] = []
        self._filling: asyncio.Task[None] | None = None
        self._loops_before = _loop_devices()
        self._closed = False

    async def start(self) -> None:
        """Raises SandboxError, saying why images cannot be used here."""
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.mkdir(parents=True, mode=0o700)
            self._ready.append(await _in_thread(lambda: self._make(limits.EPHEMERAL_MIB_DEFAULT)))
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise SandboxError(f"no ext4 images for /tmp: {error}") from error
        self._refill()

    async def take(self, size_mib: int) -> TmpMount:
        """A mount of that size, which `release` ends. Raises SandboxError."""
        if size_mib == limits.EPHEMERAL_MIB_DEFAULT and self._ready:
            mount = self._ready.pop()
            self._refill()
            return mount
        try:
            return await _in_thread(lambda: self._make(size_mib))
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"cannot make a /tmp of {size_mib} MiB: {error}") from error

    async def release(self, mount: TmpMount) -> None:
        """End a mount and everything in it; the last user must be gone. One that is not held has ended with it."""
        if mount.fd >= 0:
            fd, mount.fd = mount.fd, -1
            await _in_thread(lambda: _end(fd))

    async def stop(self) -> None:
        self._closed = True
        if self._filling is not None:
            await asyncio.wait([self._filling])
        for mount in self._ready:
            await self.release(mount)
        self._ready.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        await _in_thread(lambda: _remove_loop_devices(_loop_devices() - self._loops_before))

    def _refill(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        # A host that runs out of loop devices or space: the next `take` says so to whoever needs one.
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            while len(self._ready) < POOL and not self._closed:
                self._ready.append(await _in_thread(lambda: self._make(limits.EPHEMERAL_MIB_DEFAULT)))

    def _make(self, size_mib: int) -> TmpMount:
        template = self._folder / f"{size_mib}.ext4"
        if not template.exists():
            _make_template(template, size_mib)
        fd = os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            with open(template, "rb", buffering=0) as source:
                _copy_sparsely(source.fileno(), fd)
            loop, device = _attach(fd)
        finally:
            os.close(fd)
        try:
            return TmpMount(mounts.mount_fd(device, "ext4", {"noinit_itable": None}, NOSUID | NODEV | _NOATIME))
        finally:
            os.close(loop)


def _make_template(path: Path, size_mib: int) -> None:
    """An empty file system of which `size_mib` can be used; its root is a /tmp."""
    inodes = size_mib * INODES_PER_MIB
    groups = size_mib // 128 + 1
    # Inode tables, the bitmaps of each group, and superblocks with their descriptor blocks.
    overhead = inodes * 256 + groups * 2 * 4096 + 64 * 4096
    # ext4 keeps a fiftieth, at most 4096 blocks, for delayed allocation, and does not count it as available.
    kept = min(size_mib * _MIB // 50, 4096 * 4096)
    size = (size_mib * _MIB + overhead + kept + 4095) // 4096 * 4096
    partial = path.with_suffix(f".{os.getpid()}")
    environment = settings.inherited_environment()
    search = environment.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    options = "^has_journal,^resize_inode,^huge_file,extent,sparse_super"
    commands = [
        ["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-N", str(inodes), "-I", "256", "-O", options,
         "-E", "root_owner=0:0,lazy_itable_init=1,nodiscard", str(partial), str(size // 4096)],
        ["debugfs", "-w", "-R", "rmdir lost+found", str(partial)],
        ["debugfs", "-w", "-R", "set_inode_field <2> mode 041777", str(partial)],
    ]  # fmt: skip
    try:
        for command in commands:
            program = shutil.which(command[0], path=search)
            if program is None:
                raise FileNotFoundError(errno.ENOENT, "install e2fsprogs", command[0])
            subprocess.run([program, *command[1:]], env=environment, check=True, timeout=60, capture_output=True)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _copy_sparsely(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            block = os.pread(source, min(end - at, _MIB), at)
            at += os.pwrite(target, block, at)


def _attach(file: int) -> tuple[int, str]:
    """A loop device over the file, and its path. It detaches itself with its last user."""
    with open("/dev/loop-control", "rb") as control:
        for attempt in range(_ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            try:
                return _configure_loop(device, file), device
            except OSError as error:
                # Somebody else was quicker to use this free device, or to remove it.
                if error.errno not in _LOST_RACE or attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError("every attempt returns or raises")


_ATTEMPTS = 64
_LOST_RACE = (errno.EBUSY, errno.ENOENT, errno.ENXIO, errno.ENODEV)


def _configure_loop(device: str, file: int) -> int:
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        # struct loop_config: file, block size, struct loop_info64 (flags at byte 52), eight reserved words
        info = bytearray(232)
        struct.pack_into("<I", info, 52, _LO_FLAGS_AUTOCLEAR)
        fcntl.ioctl(fd, _LOOP_CONFIGURE, struct.pack("<II", file, 4096) + bytes(info) + bytes(64))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _end(fd: int) -> None:
    try:
        with contextlib.suppress(OSError):
            root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                fcntl.ioctl(root, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
            finally:
                os.close(root)
    finally:
        os.close(fd)


def _loop_devices() -> frozenset[int]:
    with contextlib.suppress(OSError):
        names = os.listdir("/dev")
        return frozenset(int(name[4:]) for name in names if name.startswith("loop") and name[4:].isdecimal())
    return frozenset()


def _remove_loop_devices(numbers: frozenset[int]) -> None:
    """Device nodes that the kernel made for us; those in use stay.

    Each takes the kernel 50 ms (measured), in which it waits for other processors: many at once, or thousands take
    minutes.
    """
    def remove(number: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)

    with (contextlib.suppress(OSError), open("/dev/loop-control", "rb") as control,
          ThreadPoolExecutor(REMOVED_AT_ONCE) as pool):  # fmt: skip
        for number in numbers:
            pool.submit(remove, number)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
