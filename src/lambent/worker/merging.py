"""Several layers as one folder for /opt: later ones over earlier ones, as they are listed.

The files are hard links to the unpacked layers, so a merged folder costs inodes and no content. Like a package it is
made under a temporary name and renamed, so one that exists is whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def merge(layers: Sequence[Path], folder: Path) -> None:
    """Fill `folder`, which is there and empty, with what these unpacked layers hold. Blocks. Raises OSError."""
    for layer in layers:
        for source, folders, files in os.walk(layer, onerror=_raise):
            target = folder / os.path.relpath(source, layer)
            for name in folders:
                _make_folder(target / name)
            for name in files:
                _put(Path(source, name), target / name)
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o555)


def _raise(error: OSError) -> None:
    """A folder that cannot be read must not be left out in silence, which is what `os.walk` does."""
    raise error


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)  # an earlier layer has a file of this name
        path.mkdir(mode=0o755)


def _put(source: Path, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)  # an earlier layer has a folder of this name; all of it is still writable for us
    else:
        path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except OSError:  # a file system without links, or one file with too many of them
        shutil.copy2(source, path)
