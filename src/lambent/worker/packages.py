"""Packages of functions and layers: judging the zip that a caller sends, and unpacking it once per hash for `/var/task`
and `/opt`.

A zip is hostile until judged: absolute names, `..`, links, devices, encrypted entries, bombs and broken archives are
refused, with AWS's messages where AWS has one (fact sheet 9.4, 9.5). File modes are kept, made readable for
everybody (the guest runs under a uid of its own) and writable for nobody; the tree is written under a temporary name
and renamed, so a directory that exists is whole. Nothing here looks at what the files are.
"""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from lambent.errors import ApiError, invalid_parameter
from lambent.limits import UNZIPPED_BYTES, ZIPPED_BYTES
from lambent.store.blobs import Blobs
from lambent.store.references import References, opt_name
from lambent.worker.merging import merge

#: Entries of one package. A zip of 50 MB can name 500,000 empty files, each of which costs an inode.
MAX_ENTRIES = 100_000
_MAX_NAME = 255  # NAME_MAX of every file system that matters
_MAX_PATH = 3_000  # leaves room for the data directory before PATH_MAX
_CHUNK = 1 << 20
_TEMPORARY = ".tmp-"
_CODE = ".code"  #: a folder of folders, by name of the package
_UNIX = 3  # zipfile's create_system
_BROKEN = "Could not unzip uploaded file. Please check your file, then try to upload again."
_TOO_BIG = f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes"
#: What zipfile and zlib raise for archives that are not what they claim.
_ZIP_ERRORS = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, ValueError, NotImplementedError,
               RuntimeError, OSError, IndexError, KeyError, UnicodeError, OverflowError, MemoryError)  # fmt: skip


def validate_zip(content: bytes, largest: int = ZIPPED_BYTES) -> None:
    """Judge a package of at most `largest` bytes by its directory; raises ApiError with AWS's words. Blocks for
    milliseconds.

    What only unpacking can show (a checksum, a stream that breaks off) is found by `PackageStore.unpack`.
    """
    if len(content) > largest:
        raise ApiError("RequestEntityTooLargeException", f"Zipped size must be smaller than {largest} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _judge(archive)
    except _ZIP_ERRORS:
        raise invalid_parameter(_BROKEN) from None


def _judge(archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    """Every entry with the parts of its path; ApiError for an archive that must not be unpacked."""
    entries = archive.infolist()
    if not entries:
        raise invalid_parameter("Uploaded file must be a non-empty zip")
    if len(entries) > MAX_ENTRIES:
        raise invalid_parameter(f"The zip has {len(entries)} entries; at most {MAX_ENTRIES} are allowed.")
    if sum(entry.file_size for entry in entries) >= UNZIPPED_BYTES:
        raise invalid_parameter(_TOO_BIG)
    judged = []
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for entry in entries:
        parts = _parts(entry)
        (folders if entry.is_dir() else files).add(parts)
        folders.update(parts[:depth] for depth in range(1, len(parts)))
        judged.append((entry, parts))
    if files & folders:
        raise _refused(min("/".join(parts) for parts in files & folders), "is a file and a directory")
    return judged


def _parts(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    name = entry.filename
    if entry.flag_bits & 0x1:
        raise _refused(name, "is encrypted")
    kind = stat.S_IFMT(entry.external_attr >> 16) if entry.create_system == _UNIX else 0
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(name, "is a link or a special file")
    if name.startswith("/") or "\\" in name or (len(name) > 1 and name[1] == ":" and name[0].isalpha()):
        raise _refused(name, "has an absolute name or a backslash in it")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise _refused(name, "leads out of the package")
    encoded = [len(os.fsencode(part)) for part in parts]
    if sum(encoded) + len(encoded) > _MAX_PATH or max(encoded, default=0) > _MAX_NAME:
        raise _refused(name[:80], "has too long a name")
    if not parts and not entry.is_dir():
        raise _refused(name, "has no name")
    return parts


def _refused(name: str, why: str) -> ApiError:
    shown = name.encode("utf-8", "replace").decode()
    return invalid_parameter(f"{_BROKEN} The entry '{shown}' {why}.")


class PackageStore:
    """Unpacked packages in `<data_dir>/packages/<sha256>`, made from blobs when first asked for; beside them, under
    names of their own, folders that several of them are merged into."""

    __slots__ = ("_blobs", "_root", "_running")

    def __init__(self, data_dir: Path, blobs: Blobs) -> None:
        self._blobs = blobs
        self._root = data_dir / "packages"
        #: unpackings under way, so that callers of one hash share one
        self._running: dict[str, asyncio.Task[Path]] = {}
        self._root.mkdir(parents=True, exist_ok=True, mode=0o755)
        self._discard_leftovers()

    async def unpack(self, sha256: str, content: bytes | None = None) -> Path:
        """The directory with the package's files, read-only. Unpacks in a thread if nobody has yet; from `content`, if
        the caller has it at hand, and else from the blob.

        Raises ApiError when the archive is refused, FileNotFoundError when the blob is gone, OSError when the disk
        refuses; nothing is left behind then.
        """
        source = self._blobs.path(sha256) if content is None else io.BytesIO(content)
        return await self._made(sha256, partial(_unpack, source))

    async def opt(self, layers: Sequence[str]) -> Path | None:
        """What /opt shows for these layers, by digest and in order, read-only; None without any. Raises as `unpack`."""
        unpacked = [await self.unpack(layer) for layer in layers]
        if len(unpacked) < 2:
            return unpacked[0] if unpacked else None
        return await self._made(opt_name(layers), partial(merge, unpacked))

    async def _made(self, name: str, fill: Callable[[Path], None]) -> Path:
        """A folder of this name; `fill`, in a thread, puts into it what belongs there if nobody has yet."""
        target = self._root / name
        task = self._running.get(name)
        if task is None:
            if target.is_dir():
                return target
            task = asyncio.create_task(asyncio.to_thread(_make, target, fill))
            self._running[name] = task
            task.add_done_callback(lambda done: self._done(name, done))
        # Shielded: a caller that gives up does not take the package from the others.
        return await asyncio.shield(task)

    def path(self, sha256: str) -> Path:
        """Where `unpack` put this package, or will."""
        return self._root / sha256

    def code_path(self, name: str, label: str) -> Path:
        """Where `keep_code` puts what was compiled of the folder `name`."""
        return self._root / _CODE / name / label

    def temporary(self) -> Path:
        """A new path in the store; what is there when the server ends is removed by the next."""
        return self._root / (_TEMPORARY + secrets.token_hex(8))

    def keep_code(self, temporary: Path, name: str, label: str) -> None:
        """Give a file at a `temporary` path its place beside the folder `name`, which somebody holds. What has a label
        that differs after the last dash only is out of date, and goes. Blocks.
        """
        place = self.code_path(name, label)
        temporary.chmod(0o444)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        os.replace(temporary, place)
        for other in place.parent.iterdir():
            if other != place and other.name.rpartition("-")[0] == label.rpartition("-")[0]:
                other.unlink()

    def opt_path(self, layers: Sequence[str]) -> Path | None:
        """Where `opt` put these layers, or will."""
        return self._root / opt_name(layers) if layers else None

    async def unzipped_bytes(self, sha256s: Collection[str]) -> int:
        """The size of all these packages' files together. Raises FileNotFoundError."""
        return sum([await asyncio.to_thread(_unzipped_bytes, self._blobs.path(sha256)) for sha256 in sha256s])

    @property
    def references(self) -> References:
        """Who still needs which package; living environments hold theirs."""
        return self._blobs.references

    def _discard_leftovers(self) -> None:
        """Remove half-made directories, and everything when the machine was started anew: unpacked files are not
        synced one by one, so a power cut may have left them empty."""
        note = self._root / ".boot"
        boot = _boot_id()
        stale = not note.exists() or note.read_text("ascii", "replace") != boot
        for path in self._root.iterdir():
            if stale or path.name.startswith(_TEMPORARY):
                _delete(path)
        if stale:
            note.write_text(boot, "ascii")

    def _done(self, sha256: str, task: asyncio.Task[Path]) -> None:
        del self._running[sha256]
        if not task.cancelled():
            task.exception()  # seen here, so that a failure nobody waits for any more is not reported as lost

    async def close(self) -> None:
        """Wait for unpackings under way (a thread cannot be stopped)."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def collect(self, in_use: Collection[str]) -> int:
        """Delete, in a thread, every unpacked package whose hash is not in `in_use`; returns how many.

        `in_use` must hold what stored functions name and what living environments have mounted.
        """
        there = [*self._root.iterdir(), *((self._root / _CODE).iterdir() if (self._root / _CODE).is_dir() else ())]
        unused = {path.name for path in there if path.name not in in_use and not path.name.startswith(".")}
        doomed = [path for name in unused for path in self.take_away(name)]
        await asyncio.to_thread(delete_all, doomed)
        return len(doomed)

    def take_away(self, name: str) -> list[Path]:
        """Take a folder that nobody needs out of the store, by a rename; what is to be deleted, if it was there.

        An `unpack` that comes now makes a new one. One that is under way is left alone. What was compiled of it goes
        with it.
        """
        if name in self._running:
            return []
        doomed = []
        for path in (self._root / name, self._root / _CODE / name):
            away = self.temporary()
            try:
                path.rename(away)
            except FileNotFoundError:
                continue
            doomed.append(away)
        return doomed


def _make(target: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that is whole as soon as it has its name."""
    temporary = target.with_name(_TEMPORARY + secrets.token_hex(8))
    try:
        temporary.mkdir(mode=0o755)
        fill(temporary)
        os.replace(temporary, target)
    except BaseException:
        if temporary.exists():
            _delete(temporary)
        raise
    return target


def _unpack(source: Path | IO[bytes], folder: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            _extract(archive, folder)
    except zipfile.BadZipFile:
        raise invalid_parameter(_BROKEN) from None
    except OSError:
        raise
    except _ZIP_ERRORS:
        raise invalid_parameter(_BROKEN) from None


def _unzipped_bytes(blob: Path) -> int:
    with zipfile.ZipFile(blob) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _extract(archive: zipfile.ZipFile, root: Path) -> None:
    left = UNZIPPED_BYTES
    folders = {root}
    for entry, parts in _judge(archive):
        path = root.joinpath(*parts)
        folder = path if entry.is_dir() else path.parent
        if folder not in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            folders.update(parent for parent in (folder, *folder.parents) if parent.is_relative_to(root))
        if entry.is_dir():
            continue
        # A name that comes twice: the later entry counts, as with every unzip.
        path.unlink(missing_ok=True)
        with archive.open(entry) as source, open(path, "xb") as sink:
            left -= _copy(source, sink, left)
            os.fchmod(sink.fileno(), _mode(entry))
    for folder in folders:
        folder.chmod(0o555)


def _mode(entry: zipfile.ZipInfo) -> int:
    mode = (entry.external_attr >> 16) & 0o777 if entry.create_system == _UNIX else 0
    return 0o555 if mode & 0o111 else 0o444


def _copy(source: IO[bytes], sink: IO[bytes], limit: int) -> int:
    """Copy all; raises ApiError once more than `limit` bytes came (the archive's directory lied)."""
    copied = 0
    while chunk := source.read(_CHUNK):
        copied += len(chunk)
        if copied > limit:
            raise invalid_parameter(_TOO_BIG)
        sink.write(chunk)
    return copied


def delete_all(paths: Collection[Path]) -> None:
    """Remove what `take_away` gave. Blocks."""
    for path in paths:
        _delete(path)


def _delete(path: Path) -> None:
    """Remove a tree of ours, whatever it is; what cannot be removed now is tried again at the next start."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)  # ours are read-only, and removing a file needs a writable directory
    shutil.rmtree(path, ignore_errors=True)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
