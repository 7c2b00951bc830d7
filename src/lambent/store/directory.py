"""The data directory: one server at a time, an id of its own, and a database of a schema that this code knows.

Everything that can be wrong with a directory is told in one line, before anything in it is changed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import sqlite3
from importlib import resources
from pathlib import Path

from lambent.store.writer import connect


class StoreError(Exception):
    """The data directory cannot be used; the message is one line for the person who started the server."""


#: What a disk says that is full, or fails.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_DISK_ERRORS_OF_SQLITE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})


def disk_trouble(error: BaseException) -> str | None:
    """What the disk says, in words, if it is what failed; None for every other error."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return error.strerror
    # The lower byte is the kind; what is above it says more.
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_ERRORS_OF_SQLITE:
        return str(error)
    return None


def prepare(data_dir: Path) -> Path:
    """Make the directory if it is not there, and see that it can be written to. Returns it as an absolute path."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        absolute = data_dir.resolve()
        probe = absolute / f".probe-{secrets.token_hex(4)}"
        probe.touch(mode=0o600)
        probe.unlink()
    except FileExistsError:
        raise StoreError(f"data directory {data_dir} is not a folder") from None
    except OSError as error:
        raise StoreError(f"data directory {data_dir}: {error.strerror or error}") from None
    return absolute


def lock(data_dir: Path) -> int:
    """Hold the directory for this process; returns the descriptor whose closing (or whose process's death) frees it."""
    path = data_dir / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"data directory {data_dir}: {path.name}: {error.strerror or error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreError(f"data directory {data_dir} is in use by another server"
                         + (f" (process {holder})" if holder.isdecimal() else "")) from None  # fmt: skip
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def instance(data_dir: Path) -> str:
    """The directory's own short id, made once: it is in the names of cgroups and mounts that its server makes."""
    path = data_dir / "instance"
    try:
        if path.exists():
            text = path.read_text("ascii").strip()
            if len(text) == 8 and set(text) <= set("0123456789abcdef"):
                return text
            raise StoreError(f"data directory {data_dir}: the file instance does not hold an id of 8 hex digits")
        text = secrets.token_hex(4)
        temporary = path.with_name(".tmp-instance")
        with open(temporary, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"data directory {data_dir}: {path.name}: {error}") from None
    return text


def migrations() -> list[tuple[int, str]]:
    """The numbered SQL files, in order. A file is never changed once it has been released."""
    folder = resources.files("lambent.store") / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    numbered = sorted((int(file.name.split("_", 1)[0]), file.read_text("utf-8")) for file in files)
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1)), "a migration is missing"
    return numbered


def database(data_dir: Path) -> sqlite3.Connection:
    """The database, brought to this code's schema: each missing migration in a transaction of its own."""
    path = data_dir / "lambent.sqlite"
    steps = migrations()
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path)
        (present,) = connection.execute("PRAGMA user_version").fetchone()
        known = steps[-1][0]
        if present > known:
            raise StoreError(f"data directory {data_dir} was written by a newer Lambent "
                             f"(schema {present}; this one knows up to {known})")  # fmt: skip
        for number, script in steps:
            if number <= present:
                continue
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    except sqlite3.Error as error:
        _close(connection)
        raise StoreError(f"data directory {data_dir}: {path.name}: {error}") from None
    except StoreError:
        _close(connection)
        raise
    return connection


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()
