"""The start image: byte code of every module that a start of the runtime imports, in one file.

To find, open and read some fifty files takes a tenth of a cold start. The image is written once, by the interpreter
that will use it; `Finder` serves from it, and only where everything stands where the image says.
"""

import _frozen_importlib_external as machinery  # what `importlib.machinery` is made of, without a start's most imports
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

NAME = ".start-image"
RUNTIME = "/var/runtime"
LIBRARY = f"/var/lang/lib/python{sys.version_info[0]}.{sys.version_info[1]}"


class Loader(machinery.SourceFileLoader):
    """A module of the image. Its source, its path and all else are those of its file."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> "CodeType | None":
        code, self._code = self._code, b""
        return marshal.loads(code) if code else super().get_code(fullname)


class Finder:
    """An entry of `sys.meta_path`, of use until `close`. Raises OSError where there is no image for this place."""

    def __init__(self, runtime: str) -> None:
        if runtime != RUNTIME or LIBRARY not in sys.path:
            raise FileNotFoundError(NAME)
        self._file = os.open(f"{runtime}/{NAME}", os.O_RDONLY | os.O_CLOEXEC)
        length = int.from_bytes(os.read(self._file, 8), "little")
        self._modules = marshal.loads(os.read(self._file, length))
        self._begin = 8 + length

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        found = self._modules.get(name)
        if found is None:
            return None
        file, folder, size, offset = found
        loader = Loader(name, file, os.pread(self._file, size, self._begin + offset))
        folders = [folder] if folder else None
        return machinery.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folders)

    def close(self) -> None:
        os.close(self._file)


def write(folder: str) -> None:
    """Write the image into this folder, which will stand at /var/runtime."""
    import _imp

    before = set(sys.modules)  # which the interpreter itself needs
    sys.path.append(folder)
    import site  # noqa: F401

    import code_image  # type: ignore[import-not-found]  # noqa: F401
    import lambent_client  # type: ignore[import-not-found]  # noqa: F401

    from awslambdaric import bootstrap  # type: ignore[import-not-found]  # noqa: F401 # isort: skip

    library = os.path.dirname(os.path.realpath(os.__file__))
    codes = {}
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        loader = getattr(spec, "loader", None)
        if spec is None or name in before or type(loader) is not machinery.SourceFileLoader or spec.name != name:
            continue
        file = os.path.realpath(loader.path)
        for here, there in ((os.path.realpath(folder), RUNTIME), (library, LIBRARY)):
            if file.startswith(here + "/"):
                guest = there + file[len(here):]
                code = loader.get_code(name)
                _imp._fix_co_filename(code, guest)  # type: ignore[attr-defined]
                packages = os.path.dirname(guest) if hasattr(module, "__path__") else ""
                codes[name] = (guest, packages, marshal.dumps(code))
                break
    offset, rows = 0, {}
    for name, (file, packages, content) in codes.items():
        rows[name] = (file, packages, len(content), offset)
        offset += len(content)
    index = marshal.dumps(rows)
    with open(f"{folder}/{NAME}", "wb") as image:
        image.write(len(index).to_bytes(8, "little") + index)
        for _, _, content in codes.values():
            image.write(content)


if __name__ == "__main__":
    write(sys.argv[1])
