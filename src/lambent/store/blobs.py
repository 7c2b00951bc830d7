"""Files named by the SHA-256 of their content: the zips of functions.

A blob is written to a temporary file, synced, renamed and its directory synced, so that a name that exists always has
its whole content. Equal content is stored once. Rows in SQLite are written after their blobs; a crash in between leaves
a blob that nobody names, which `sweep` removes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection
from pathlib import Path

from lambent.store.references import References

_TEMPORARY = ".tmp-"


class Blobs:
    """A folder of blobs. Its methods block: call them from a thread for more than a few kilobytes.

    `references` says which are needed. Hold a digest there before `put`, for as long as no row names it.
    """

    __slots__ = ("_root", "references")

    def __init__(self, root: Path) -> None:
        self._root = root
        self.references = References()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, sha256: str) -> Path:
        """Where a blob of this hex digest is, or would be."""
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
            raise ValueError(f"{sha256!r} is not a SHA-256 in hex")
        return self._root / sha256[:2] / sha256

    def put(self, content: bytes, digest: str = "") -> str:
        """Store content; returns its hex digest, which a caller may know already. Raises OSError when the disk
        refuses."""
        digest = digest or hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if path.exists():
            return digest
        path.parent.mkdir(exist_ok=True, mode=0o700)
        temporary = path.parent / (_TEMPORARY + secrets.token_hex(8))
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
        return digest

    def read(self, sha256: str) -> bytes:
        """The content. Raises FileNotFoundError when there is no such blob."""
        return self.path(sha256).read_bytes()

    def take_away(self, sha256: str) -> list[Path]:
        """Take a blob that nobody needs out of the folder, by a rename; what is to be unlinked, if it was there."""
        path = self.path(sha256)
        doomed = path.with_name(_TEMPORARY + secrets.token_hex(8))
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return []
        return [doomed]

    def __contains__(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def sweep(self, keep: Collection[str]) -> int:
        """Remove half-written files and every blob that is not in `keep`; returns how many blobs went.

        Only for a time when no `put` can run, such as the start.
        """
        removed = 0
        for folder in self._root.iterdir():
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name.startswith(_TEMPORARY):
                    path.unlink()
                elif path.name not in keep:
                    path.unlink()
                    removed += 1
        return removed


def sync_directory(path: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
