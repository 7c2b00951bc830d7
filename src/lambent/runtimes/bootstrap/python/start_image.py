"""The start image: what the official client and we import, in one file, and who is told of it.

In it are the byte code of every module that a start may import (to find, open and read some seventy files takes a tenth
of a cold start with all of them), and what these modules' regular expressions compile to (another tenth). The image is
written once, by the interpreter that will use it.

Of these modules only a few are imported before the function's own (`lambent_loop`). On AWS all of them are, so nothing
in a package can take their names; nor can it here: what is in the image comes from it, or, where the runtime does not
stand where it says, from the search path without the function's code.
"""

import _frozen_importlib_external as machinery  # what `importlib.machinery` is made of, without a start's most imports
import _sre  # type: ignore[import-not-found]
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any

NAME = ".start-image"
RUNTIME = "/var/runtime"
LIBRARY = f"/var/lang/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
COMPILER = "re._compiler" if sys.version_info >= (3, 11) else "sre_compile"  #: whose `compile` is behind `re.compile`
CLIENT = "awslambdaric."
#: Parts of packages that AWS's client imports, and so programs use them with no import of their own.
LATER = {
    "collections": ("abc",),
    "awslambdaric": ("bootstrap", "lambda_runtime_client", "lambda_runtime_exception", "lambda_runtime_log_utils",
                     "lambda_runtime_marshaller"),
}  # fmt: skip
TOLD = ("logging", "threading")
#: Functions and classes of the official client that serve alone (`lambent_loop`), by the module that they are from.
FUNCTIONS = {
    "awslambdaric.__main__": ("main",),
    "awslambdaric.bootstrap": ("run", "_get_handler", "update_xray_env_variable", "create_lambda_context",
                               "handle_event_request", "Unbuffered", "StandardLogSink"),
}  # fmt: skip
#: Names among the modules.
_PATTERNS = ""
_FUNCTIONS = "/functions"


class Loader(machinery.SourceFileLoader):
    """A module of the image. Its source, its path and all else are those of its file."""

    def __init__(self, name: str, path: str, image: "Image", code: bytes = b"") -> None:
        super().__init__(name, path)
        self._image = image
        self._code = code

    def create_module(self, spec: "Any") -> "ModuleType | None":
        return self._image.made.pop(spec.name, None)

    def get_code(self, fullname: str) -> "CodeType | None":
        code, self._code = self._code, b""
        return marshal.loads(code) if code else super().get_code(fullname)

    def exec_module(self, module: "ModuleType") -> None:
        self._image.execute(module, super().exec_module)


# Programs may print the loader, or look at its name.
Loader.__name__ = Loader.__qualname__ = machinery.SourceFileLoader.__name__
Loader.__module__ = machinery.SourceFileLoader.__module__


def hook(folder: str, image: "Image") -> None:
    """Have the interpreter's own finder of this folder take our loader for what is in the image.

    Programs take finders that they do not know out of `sys.meta_path`, and must be told of imports all the same.
    """
    finder = sys.path_importer_cache.get(folder)
    if type(finder) is not machinery.FileFinder:
        finder = sys.path_importer_cache[folder] = machinery.FileFinder(
            folder, *machinery._get_supported_file_loaders())  # type: ignore[attr-defined]
    own = machinery.SourceFileLoader

    def load(name: str, path: str) -> machinery.SourceFileLoader:
        return Loader(name, path, image) if name in image else own(name, path)

    kinds = finder._loaders  # type: ignore[attr-defined]
    finder._loaders = [(suffix, load if kind is own else kind) for suffix, kind in kinds]  # type: ignore[attr-defined]


class Later:
    """Stands for a module until somebody wants something of it."""

    __spec__ = None  # which the import itself asks for

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> "Any":
        import importlib

        return getattr(importlib.import_module(self.__name__), name)


def provide(module: "ModuleType", parts: "dict[str, str]") -> None:
    """Import the modules in `parts` when somebody asks `module` for the attribute: not before, and holding no lock."""
    own = module.__dict__.get("__getattr__")

    def __getattr__(name: str) -> "Any":
        if name in parts:
            import importlib

            return importlib.import_module(parts[name])
        if own is not None:
            return own(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    module.__getattr__ = __getattr__  # type: ignore[method-assign]


class Image:
    """An entry of `sys.meta_path`. Raises OSError where there is none; `path` is what the modules are found in."""

    #: What a module finds in place of others while it is executed: the context needs logging for its `log` alone, and
    #: the client's C extension would do what our connection does.
    STAND_INS: "dict[str, tuple[str, Callable[[], Any]]]" = {  # noqa: RUF012
        "awslambdaric.lambda_context": ("logging", lambda: Later("logging")),
        "awslambdaric.lambda_runtime_client": ("runtime_client", lambda: None),
    }

    def __init__(self, runtime: str, path: "list[str]") -> None:
        self._path = path
        self._place = f"{runtime}/{NAME}"
        self._exact = runtime == RUNTIME and LIBRARY in path
        self._file = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
        length = int.from_bytes(os.read(self._file, 8), "little")
        self._modules = marshal.loads(os.read(self._file, length))
        self._begin = 8 + length
        self._patterns: dict[Any, Any] = {}
        self.made: dict[str, ModuleType] = {}  #: before their import, which fills them
        self.executing = 0  #: modules of the official client
        self.on_executed: Callable[[str], None] | None = None  #: told their names, and those in TOLD

    def close(self) -> None:
        """Functions see no descriptor that is not theirs; it is opened again for what is imported later."""
        os.close(self._file)
        self._file = -1
        self._modules.pop("code_image", None)

    def functions(self) -> "dict[str, dict[str, CodeType]]":
        """The code of FUNCTIONS."""
        found: dict[str, dict[str, CodeType]] = marshal.loads(self._read(*self._modules[_FUNCTIONS][2:]))
        if not self._exact:
            import _imp

            folder = os.path.dirname(self._place)
            for codes in found.values():
                for code in codes.values():
                    _imp._fix_co_filename(code, folder + code.co_filename[len(RUNTIME) :])  # type: ignore[attr-defined]
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        found = self._modules.get(name)
        if found is None:
            return None
        file, folder, size, offset = found
        if not self._exact:
            return self._spec_of_file(name, path)
        if not size:
            return machinery.spec_from_file_location(name, file, loader=machinery.ExtensionFileLoader(name, file))
        loader = Loader(name, file, self, self._read(size, offset))
        folders = [folder] if folder else None
        return machinery.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folders)

    def _spec_of_file(self, name: str, path: "Any") -> object:
        spec = machinery.PathFinder.find_spec(name, self._path if path is None else path)
        if spec is not None and type(spec.loader) is machinery.SourceFileLoader:
            spec.loader = Loader(name, spec.loader.path, self)
        return spec

    def _read(self, size: int, offset: int) -> bytes:
        if self._file >= 0:
            return os.pread(self._file, size, self._begin + offset)
        file = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, size, self._begin + offset)
        finally:
            os.close(file)

    def execute(self, module: "ModuleType", run: "Callable[[ModuleType], None]") -> None:
        name = module.__name__
        clients = name.startswith(CLIENT)
        stood_in, stand_in = self.STAND_INS.get(name, ("", None))
        put = stand_in is not None and stood_in not in sys.modules
        if put:
            sys.modules[stood_in] = stand_in()  # type: ignore[misc]
        self.executing += clients
        try:
            run(module)
        finally:
            self.executing -= clients
            if put:
                del sys.modules[stood_in]
        if name in LATER:
            provide(module, {part: f"{name}.{part}" for part in LATER[name]})
        if name == COMPILER and self._exact:
            self._patterns = marshal.loads(self._read(*self._modules[_PATTERNS][2:]))
            self._compile = module.compile
            module.compile = self.compile  # type: ignore[attr-defined]
        if self.on_executed is not None and (clients or name in TOLD):
            self.on_executed(name)

    def compile(self, pattern: "Any", flags: int = 0) -> "Any":
        """In place of the one that `re` uses."""
        known = self._patterns.get((pattern, flags)) if type(pattern) is str or type(pattern) is bytes else None
        return self._compile(pattern, flags) if known is None else _sre.compile(pattern, *known)


def install(runtime: str, path: "list[str]") -> "Image | None":
    """What the next imports come from; None where there is no image."""
    try:
        image = Image(runtime, path)
    except OSError:
        return None
    # What the interpreter itself brings along comes first, as ever.
    sys.meta_path.insert(max(0, len(sys.meta_path) - 1), image)  # type: ignore[arg-type]
    for folder in (os.path.dirname(os.__file__), f"{runtime}/{CLIENT[:-1]}"):
        hook(folder, image)
    return image


def patterns_compiled() -> "dict[tuple[str | bytes, int], tuple[Any, ...]]":
    """What is compiled from now on, by pattern and flags: the other arguments of `_sre.compile`."""
    import re  # noqa: F401

    compiler: Any = sys.modules[COMPILER]
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
    """File as the guest sees it, folder if it is a package, and code, by name, of what has been imported since.

    Of extension modules the file only: their names cannot be taken, either.
    """
    import _imp

    found = {}
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        loader: Any = getattr(spec, "loader", None)
        if spec is None or name in before or spec.name != name or type(loader) not in (
            machinery.SourceFileLoader, machinery.ExtensionFileLoader
        ):  # fmt: skip
            continue
        file = os.path.realpath(loader.path)
        for here, there in places:
            if file.startswith(here + "/"):
                guest = there + file[len(here) :]
                code = loader.get_code(name)
                if code is None:
                    found[name] = (guest, "", b"")
                    break
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
    more = {_PATTERNS: marshal.dumps(patterns), _FUNCTIONS: marshal.dumps(code_of_functions(folder))}
    for name, data in more.items():
        rows[name] = ("", "", len(data), offset)
        offset += len(data)
    index = marshal.dumps(rows)
    with open(f"{folder}/{NAME}", "wb") as image:
        image.write(len(index).to_bytes(8, "little") + index)
        for _, _, code in modules.values():
            image.write(code)
        for data in more.values():
            image.write(data)


def code_of_functions(folder: str) -> "dict[str, dict[str, CodeType]]":
    """Of FUNCTIONS, as the guest sees it."""
    import _imp
    import importlib.util

    found = {}
    for name, functions in FUNCTIONS.items():
        loader: Any = importlib.util.find_spec(name).loader  # type: ignore[union-attr]
        code = loader.get_code(name)
        guest = RUNTIME + os.path.realpath(loader.path)[len(os.path.realpath(folder)) :]
        _imp._fix_co_filename(code, guest)  # type: ignore[attr-defined]
        codes = {part.co_name: part for part in code.co_consts if type(part) is type(code)}
        found[name] = {function: codes[function] for function in functions}
    return found


def import_what_a_start_imports() -> None:
    import importlib
    import site  # noqa: F401

    sys.modules["runtime_client"] = None  # type: ignore[assignment]
    for name in ("code_image", "lambent_client", "lambent_loop", "awslambdaric.bootstrap"):
        importlib.import_module(name)


if __name__ == "__main__":
    write(sys.argv[1])
