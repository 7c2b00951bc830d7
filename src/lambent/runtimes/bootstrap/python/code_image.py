"""Byte code of the function's package and of its layers, compiled before anybody called (`compile_code.py`).

/var/task and /opt are as they were deployed, without byte code in them, so an interpreter would compile all that it
imports at every start. `install` lets it take the code from an image where there is one. In everything else a module
comes from its own file, found by the interpreter's own finder; what the image lacks is compiled as ever.

An image is: offset and length of the index (8 bytes each), code of all modules, the index: a marshalled dictionary from
folder to the marshalled dictionary of its files, from name to offset and length. Folders of folders with code in them
are there, too, empty. `worker/codes.py` writes it.
"""

import _frozen_importlib_external as machinery  # what `importlib.machinery` is made of, without a start's most imports
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

#: Mount points in the runtime folder: empty files where there is no image.
IMAGES = (".task", ".opt")
#: Each image with its index.
_indexes: "list[tuple[str, dict[str, bytes]]]" = []
#: By folder, as far as anybody asked: the image, and the folder's files as they stand in the index.
_folders: "dict[str, tuple[str, dict[str, tuple[int, int]]]]" = {}


class Loader(machinery.SourceFileLoader):
    """Like its parent, but for where the code comes from."""

    def get_code(self, fullname: str) -> "CodeType | None":
        folder, _, name = self.get_filename(fullname).rpartition("/")
        image, files = _look_up(folder)
        place = files.get(name)
        if place is not None:
            try:
                code: CodeType = marshal.loads(_read(image, *place))
                if type(code) is type(_read.__code__):
                    return code
            except Exception:  # whatever is wrong with an image, the source is there
                pass
        return super().get_code(fullname)


# Programs may print the loader, or look at its name.
Loader.__name__ = Loader.__qualname__ = machinery.SourceFileLoader.__name__
Loader.__module__ = machinery.SourceFileLoader.__module__


def install(runtime: str) -> None:
    """From now on take code from the images in the runtime folder. To be called once."""
    if sys.flags.optimize or sys.pycache_prefix or os.environ.get("PYTHONNODEBUGRANGES") or sys._xoptions:
        return  # other code is wanted than there is
    for name in IMAGES:
        image = f"{runtime}/{name}"
        try:
            head = _read(image, 0, 16)
            if head:
                begin, length = int.from_bytes(head[:8], "little"), int.from_bytes(head[8:], "little")
                _indexes.append((image, marshal.loads(_read(image, begin, length))))
        except Exception:
            continue
    # In front of the interpreter's own; whoever put a hook of theirs in front of that one comes first here, too.
    names = [getattr(hook, "__name__", "") for hook in sys.path_hooks]
    if not _indexes or "path_hook_for_FileFinder" not in names:
        return
    sys.path_hooks.insert(names.index("path_hook_for_FileFinder"), _hook())
    for folder in list(sys.path_importer_cache):
        if any(folder in index for _, index in _indexes):
            del sys.path_importer_cache[folder]


def _look_up(folder: str) -> "tuple[str, dict[str, tuple[int, int]]]":
    found = _folders.get(folder)
    if found is None:
        found = ("", {})
        for image, index in _indexes:
            if folder in index:
                try:
                    found = (image, marshal.loads(index[folder]))
                except Exception:
                    break
        _folders[folder] = found
    return found


def _hook() -> "Any":
    known = machinery._get_supported_file_loaders()  # type: ignore[attr-defined]
    kinds = [(Loader if loader is machinery.SourceFileLoader else loader, suffixes) for loader, suffixes in known]

    def path_hook_for_FileFinder(path: str) -> "Any":
        if any(path in index for _, index in _indexes):
            return machinery.FileFinder(path, *kinds)
        raise ImportError("no code was compiled for this folder", path=path)

    return path_hook_for_FileFinder


def _read(image: str, begin: int, length: int) -> bytes:
    """Opened anew each time: functions see no descriptor that is not theirs."""
    file = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(file, length, begin)
    finally:
        os.close(file)
