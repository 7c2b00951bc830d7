"""A folder as a deployment package: the same files always make the same bytes.

Dependencies that the folder declares (`requirements`, `node_packages`) are installed into another folder, never into
the person's own. Times are fixed and modes are kept, except that every file becomes readable to all, since the guest is
another user than the one who deploys. What uploads it is `deploy`.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lambent.cli import node_packages, requirements
from lambent.cli.exits import Stop
from lambent.limits import UNZIPPED_BYTES, ZIPPED_BYTES
from lambent.runtimes.catalog import CATALOG

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can hold
_LEFT_OUT = frozenset({
    ".git", ".hg", ".svn", ".DS_Store", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis",
    ".tox", ".nox",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """A zip as Lambda takes it. `installed` tells what was put in besides the folder, in words."""

    content: bytes
    files: int
    installed: tuple[str, ...] = ()


def build(folder: Path, runtime: str, scratch: Path, environ: Mapping[str, str], *, cache_dir: Path,
          reinstall: bool = False) -> Package:
    """The package of `folder` for a runtime. `scratch` is an empty folder that the caller removes.

    What requirements.txt or package.json asks for is kept below `cache_dir`, and installed anew with `reinstall`.

    Raises Stop for a folder that is none, a file that cannot be packed, dependencies that cannot be installed, and a
    package over Lambda's limits.
    """
    if not folder.is_dir():
        raise Stop(f"{folder} is not a folder")
    entry = CATALOG.get(runtime)
    files = dict(collect(folder))
    leavings = scratch / "tmp"
    leavings.mkdir(parents=True, exist_ok=True)
    # An interrupted pip or npm leaves its temporary files behind: here they go with the rest.
    environ = {**environ, "TMPDIR": str(leavings)}
    installed: list[str] = []
    if entry is not None and entry.family == "python" and "requirements.txt" in files:
        packages = requirements.install(folder, entry, scratch, cache_dir, environ, anew=reinstall)
        files = dict(collect(packages.folder)) | files  # the folder's own file wins
        installed.append("requirements.txt as installed before" if packages.kept else "requirements.txt installed")
    elif entry is not None and entry.family == "nodejs" and node_packages.are_asked_for(files):
        own = {name: path for name, path in files.items() if not name.startswith("node_modules/")}
        packages = node_packages.install(own, scratch, cache_dir, environ, anew=reinstall)
        files = dict(collect(packages.folder)) | own
        installed.append("package.json as installed before" if packages.kept else "package.json installed")
    if not files:
        raise Stop(f"{folder} is empty; there is nothing to deploy")
    content = pack(files)
    if len(content) > ZIPPED_BYTES:
        raise Stop(f"the package is {len(content) / 1e6:.1f} MB zipped; Lambda takes {ZIPPED_BYTES / 1e6:.1f} MB")
    return Package(content, len(files), tuple(installed))


def collect(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name inside the package and path of each file, links followed. Raises Stop for what cannot be packed."""
    yield from _walk(folder, "", (folder.resolve(),))


def _walk(folder: Path, prefix: str, ancestors: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    try:
        children = sorted(folder.iterdir())
    except OSError as error:
        raise Stop(f"cannot read {folder}: {error.strerror}") from None
    for child in children:
        if child.name in _LEFT_OUT or child.name.endswith(".pyc"):
            continue
        if child.is_dir():
            if (child / "pyvenv.cfg").exists():
                continue  # a virtual environment belongs to the host
            real = child.resolve()
            if real in ancestors:
                raise Stop(f"{child} is a link to a folder that contains it")
            yield from _walk(child, f"{prefix}{child.name}/", (*ancestors, real))
        elif child.is_file():
            yield prefix + child.name, child
        elif child.is_symlink():
            raise Stop(f"{child} is a link to nothing")
        else:
            raise Stop(f"{child} is neither a file nor a folder")


def pack(files: Mapping[str, Path]) -> bytes:
    """A reproducible zip. Raises Stop for unreadable files and for more than Lambda unpacks."""
    buffer = io.BytesIO()
    total = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            try:
                content = files[name].read_bytes()
                mode = files[name].stat().st_mode
            except OSError as error:
                raise Stop(f"cannot read {files[name]}: {error.strerror}") from None
            total += len(content)
            if total > UNZIPPED_BYTES:
                raise Stop(f"the package is over {UNZIPPED_BYTES / 1e6:.1f} MB unpacked, which Lambda does not take")
            info = zipfile.ZipInfo(name, _MOMENT)
            info.create_system = 3  # Unix: the upper half of external_attr is a mode
            info.external_attr = (stat.S_IFREG | _readable(stat.S_IMODE(mode))) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return buffer.getvalue()


def _readable(mode: int) -> int:
    return mode & 0o777 | 0o444 | (0o111 if mode & 0o100 else 0)
