"""The start image: what every start of the runtime would find out anew, in one file.

That is the byte code of every module that a start imports (to find, open and read some seventy files takes a tenth of a
cold start), and what these modules' regular expressions compile to (another tenth). The image is written once, by the
interpreter that will use it; it serves only where everything stands where it says.
"""

import _frozen_importlib_external as machinery  # what `importlib.machinery` is made of, without a start's most imports
import _sre  # type: ignore[import-not-found]
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

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


class Image:
    """An entry of `sys.meta_path` between `install` and `remove`. Raises OSError where there is none for this place."""

    def __init__(self, runtime: str) -> None:
        if runtime != RUNTIME or LIBRARY not in sys.path:
            raise FileNotFoundError(NAME)
        self._file = os.open(f"{runtime}/{NAME}", os.O_RDONLY | os.O_CLOEXEC)
        length = int.from_bytes(os.read(self._file, 8), "little")
        self._modules, self._patterns = marshal.loads(os.read(self._file, length))
        self._begin = 8 + length

    def install(self) -> None:
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]
        self._compiler = pattern_compiler()
        self._compile = self._compiler.compile
        self._compiler.compile = self.compile

    def remove(self) -> None:
        self._compiler.compile = self._compile
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        os.close(self._file)

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        found = self._modules.get(name)
        if found is None:
            return None
        file, folder, size, offset = found
        loader = Loader(name, file, os.pread(self._file, size, self._begin + offset))
        folders = [folder] if folder else None
        return machinery.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folders)

    def compile(self, pattern: "Any", flags: int = 0) -> "Any":
        """In place of the one that `re` uses."""
        known = self._patterns.get((pattern, flags)) if type(pattern) is str or type(pattern) is bytes else None
        return self._compile(pattern, flags) if known is None else _sre.compile(pattern, *known)


def pattern_compiler() -> "Any":
    """The module whose `compile` is behind `re.compile`."""
    import re  # noqa: F401

    return sys.modules["re._compiler" if sys.version_info >= (3, 11) else "sre_compile"]


def patterns_compiled() -> "dict[tuple[str | bytes, int], tuple[Any, ...]]":
    """What is compiled from now on, by pattern and flags: the other arguments of `_sre.compile`."""
    compiler = pattern_compiler()
    compile, compiled = compiler.compile, {}
    arguments: list[tuple[Any, ...]] = []

    class Recording:
        def __getattr__(self, name: str) -> object:
            return getattr(_sre, name)

        def compile(self, pattern: "Any", flags: int, code: "list[int]", groups: int, *names: "Any") -> object:
            # As plain numbers, which a file can hold.
            arguments.append((int(flags), list(map(int, code)), groups, *names))
            return _sre.compile(pattern, flags, code, groups, *names)

    def recorded(pattern: "Any", flags: int = 0) -> object:
        result = compile(pattern, flags)
        if type(pattern) is str or type(pattern) is bytes:
            compiled[(pattern, int(flags))] = arguments[-1]
        return result

    compiler._sre, compiler.compile = Recording(), recorded
    return compiled


def modules_imported(before: "set[str]", places: "list[tuple[str, str]]") -> "dict[str, tuple[str, str, bytes]]":
    """File as the guest sees it, folder if it is a package, and code, by name, of what has been imported since."""
    import _imp

    found = {}
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        loader = getattr(spec, "loader", None)
        if spec is None or name in before or type(loader) is not machinery.SourceFileLoader or spec.name != name:
            continue
        file = os.path.realpath(loader.path)
        for here, there in places:
            if file.startswith(here + "/"):
                guest = there + file[len(here) :]
                code = loader.get_code(name)
                _imp._fix_co_filename(code, guest)  # type: ignore[attr-defined]
                package = os.path.dirname(guest) if hasattr(module, "__path__") else ""
                found[name] = (guest, package, marshal.dumps(code))
                break
    return found


def write(folder: str) -> None:
    """Write the image into this folder, which will stand at /var/runtime."""
    before = set(sys.modules)  # which the interpreter itself needs
    sys.path.append(folder)
    patterns = patterns_compiled()
    import_what_a_start_imports()
    places = [(os.path.realpath(folder), RUNTIME), (os.path.dirname(os.path.realpath(os.__file__)), LIBRARY)]
    modules = modules_imported(before, places)
    offset, rows = 0, {}
    for name, (file, package, code) in modules.items():
        rows[name] = (file, package, len(code), offset)
        offset += len(code)
    index = marshal.dumps((rows, patterns))
    with open(f"{folder}/{NAME}", "wb") as image:
        image.write(len(index).to_bytes(8, "little") + index)
        for _, _, code in modules.values():
            image.write(code)


def import_what_a_start_imports() -> "ModuleType":
    import site  # noqa: F401

    import code_image  # type: ignore[import-not-found]  # noqa: F401
    import lambent_client  # type: ignore[import-not-found]  # noqa: F401

    from awslambdaric import bootstrap  # type: ignore[import-not-found]  # isort: skip

    return bootstrap  # type: ignore[no-any-return]


if __name__ == "__main__":
    write(sys.argv[1])
