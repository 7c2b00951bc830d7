"""Looks at the host's root before a plan is made: which parts of it a sandbox may show.

An allow-list: /usr with its links, /lib*, and named files of /etc that programs need to find libraries, certificates
and services. What is not named here is absent inside. Nothing is mounted here; `plan` says how, process 1 does.
"""

from __future__ import annotations

import ctypes
import glob
import os
import platform
from pathlib import Path

from lambent.sandbox import promptness
from lambent.sandbox.namespace import plan, seccomp
from lambent.sandbox.namespace.layout import is_privileged

_TOP = ("bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr")
_ETC = (
    "alternatives", "ca-certificates", "crypto-policies", "debian_version", "gai.conf", "host.conf", "java-*",
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "magic", "mime.types", "os-release", "pki/ca-trust/extracted",
    "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "protocols", "services", "ssl/cert.pem",
    "ssl/certs", "ssl/openssl.cnf", "system-release",
)  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def look(stage: Path) -> plan.Host:
    """This host as the plan sees it. `stage` is an existing folder of the platform's own."""
    links: list[tuple[str, str]] = []
    trees: list[str] = []
    files: list[str] = []
    for name in [*_TOP, *_etc_names()]:
        path = Path("/") / name
        if path.is_symlink():
            links.append((name, os.readlink(path)))
        elif path.is_dir():
            trees.append(name)
        elif path.is_file():
            files.append(name)
    return plan.Host(
        privileged=is_privileged(),
        stage=str(stage),
        uid=os.geteuid(),
        gid=os.getegid(),
        links=tuple(links),
        trees=tuple(trees),
        files=tuple(files),
        masks=tuple(name for name in plan.MASKED_FILES if os.path.exists(f"/proc/{name}")),
        masked_folders=tuple(name for name in plan.MASKED_FOLDERS if os.path.isdir(f"/proc/{name}")),
        landlock=landlock_abi() >= 6,
        seccomp=seccomp.compile_filter(platform.machine()),
        prompt=promptness.attributes(),
    )


def _etc_names() -> list[str]:
    found = []
    for pattern in _ETC:
        matches = sorted(glob.glob("/etc/" + pattern)) if "*" in pattern else ["/etc/" + pattern]
        found += [match[1:] for match in matches]
    return found


def landlock_abi() -> int:
    """The version of Landlock that the kernel has, 0 without. Scopes (abstract sockets, signals) came with 6."""
    version = _libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1))
    return max(0, int(version))


def read_text(path: str) -> str:
    """A small file of the host, empty when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def mount_fd(source: str, kind: str, options: dict[str, str | None], attributes: int) -> int:
    """A mount of `source` that is attached nowhere; closing the descriptor undoes it. Raises OSError."""
    context = _call(430, kind.encode(), ctypes.c_uint(1))  # fsopen, close-on-exec
    try:
        _configure(context, 1, "source", source)
        for name, value in options.items():
            _configure(context, 0 if value is None else 1, name, value)
        _configure(context, 6, None, None)  # create
        return _call(432, ctypes.c_int(context), ctypes.c_uint(1), ctypes.c_uint(attributes))  # fsmount
    finally:
        os.close(context)


def _configure(context: int, command: int, name: str | None, value: str | None) -> None:
    _call(431, ctypes.c_int(context), ctypes.c_uint(command), name and name.encode(), value and value.encode(),
          ctypes.c_int(0))  # fmt: skip


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def kernel_release() -> tuple[int, int]:
    major, minor = (*platform.release().split("."), "0")[:2]
    return int(major), int("".join(filter(str.isdecimal, minor)) or 0)
