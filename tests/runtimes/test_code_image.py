"""Code that was compiled ahead: a program finds every module as without it, but for the time that compiling takes."""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fake_runtime_api import prepared

from lambent.runtimes import PreparedRuntime
from lambent.worker.codes import write_image

PACKAGE = {
    "plain.py": "import inspect, traceback\nclass C:\n    def method(self):\n        return 'of plain'\n"
                "def fails():\n    assert False, 'told'\n",
    "pkg/__init__.py": "from . import inner\n",
    "deep/pkg/__init__.py": "",
    "pkg/inner.py": "'a docstring'\nVALUE = 2\n",
    "pkg/data.txt": "a resource",
    "spread/part.py": "HERE = __file__\n",
    "more/extra.py": "EXTRA = __file__\n",
    "more/package.pth": "import os\n",
    "bad.py": "def broken(:\n",
    "says.py": "VALUE = '\\d'\n",
    "odd.py": "# coding: latin-1\nVALUE = '\u00e9'\n",
    "started.py": "import sys\nNAME = __name__\n",
}  # fmt: skip

PROBE = """
import json, os, sys
root, images = sys.argv[1], sys.argv[2]
sys.path.append(os.path.dirname(sys.argv[3]))
import code_image
sys.path.pop()
import importlib, importlib.resources, inspect, pkgutil, runpy, site, tokenize, traceback, zipimport
compiled = []
sys.addaudithook(lambda event, found: event == "compile" and str(found[1]).startswith(root)
                 and compiled.append(os.path.basename(str(found[1]))))
sys.path[:0] = [root, root + "/inside.zip"]
if images:
    code_image.install(images)
site.addsitedir(root + "/more")
seen = {}

def look(name):
    module = importlib.import_module(name)
    spec = module.__spec__
    code = spec.loader.get_code(name) if spec.loader else None
    seen[name] = [getattr(module, "__file__", None), getattr(module, "__cached__", None), module.__package__,
                  repr(type(spec.loader)), spec.origin, spec.has_location, list(spec.submodule_search_locations or ()),
                  module.__doc__, sorted(name for name in vars(module) if name != "__builtins__"),
                  code.co_filename if code else None, isinstance(spec.loader, importlib.machinery.SourceFileLoader)]
    return module

for name in ("pkg", "pkg.inner", "deep.pkg", "spread", "spread.part", "extra", "brought", "zipped", "odd"):
    look(name)
plain = look("plain")
seen["source"] = [inspect.getsource(plain.C), inspect.getsourcefile(plain.C.method),
                  plain.__loader__.get_source("plain")]
try:
    plain.fails()
except AssertionError:
    seen["trace"] = traceback.format_exc()
try:
    import bad
except SyntaxError:
    seen["bad"] = traceback.format_exc(0)
seen["warned"] = look("says").VALUE
seen["values"] = [sys.modules["brought"].WHOSE, sys.modules["odd"].VALUE, sys.modules["extra"].EXTRA]
seen["found"] = sorted([module.name, module.ispkg, type(module.module_finder).__name__]
                       for module in pkgutil.walk_packages([root]))
seen["resource"] = importlib.resources.read_text("pkg", "data.txt") if sys.version_info < (3, 11) else (
    importlib.resources.files("pkg") / "data.txt").read_text()
plain.stays = 1
again = importlib.reload(plain)
seen["reload"] = [again is plain, again.stays, again.__spec__.origin]
seen["run"] = runpy.run_module("started", run_name="other")["NAME"]
seen["descriptors"] = len(os.listdir("/proc/self/fd"))
print(json.dumps([seen, sorted(compiled)]))
"""


@pytest.fixture(params=range(9, 16), ids=lambda minor: f"3.{minor}")
def runtime(request: pytest.FixtureRequest) -> PreparedRuntime:
    return prepared(f"python3.{request.param}")


def program(runtime: PreparedRuntime) -> str:
    return f"{runtime.host_lang}/bin/python{runtime.line}"


def deployed(runtime: PreparedRuntime, root: Path) -> Path:
    """A package with one of everything."""
    for name, text in PACKAGE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="latin-1" if name == "odd.py" else "utf-8")
    with zipfile.ZipFile(root / "inside.zip", "w") as archive:
        archive.writestr("zipped.py", "VALUE = 1\n")
    (root / "brought.py").write_text("WHOSE = 'the byte code that came along'\n")
    subprocess.run([program(runtime), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
                    root / "brought.py"], check=True)
    (root / "brought.py").write_text("WHOSE = 'the source'\n")
    return root


def compiled(runtime: PreparedRuntime, root: Path, images: Path) -> Path:
    """A folder with the image of `root`."""
    assert runtime.runtime_dir is not None
    images.mkdir()
    output, theirs = os.pipe()
    with subprocess.Popen([program(runtime), "-I", "-S", runtime.runtime_dir / "compile_code.py", root],
                          stdout=theirs) as process:
        os.close(theirs)
        write_image(output, images / ".task")
    assert process.returncode == 0
    return images


def run(runtime: PreparedRuntime, root: Path, images: Path | str, *flags: str,
        **variables: str) -> tuple[Any, Any, str]:
    """What the probe saw, what it had to compile, and what it said to standard error."""
    assert runtime.runtime_dir is not None
    answer = subprocess.run([program(runtime), *flags, "-c", PROBE, root, images, runtime.runtime_dir / "bootstrap.py"],
                            capture_output=True, text=True, env={"PYTHONDONTWRITEBYTECODE": "1", **variables})
    assert answer.returncode == 0, answer.stderr
    seen, names = json.loads(answer.stdout)
    return seen, names, answer.stderr


def test_everything_is_found_as_without_and_is_not_compiled(runtime: PreparedRuntime, tmp_path: Path) -> None:
    root = deployed(runtime, tmp_path / "task")
    plain, compiles, said = run(runtime, root, "")
    images = compiled(runtime, root, tmp_path / "images")
    seen, still, said_then = run(runtime, root, images)
    assert seen == plain and said_then == said
    assert plain["values"][0] == "the byte code that came along"
    assert {"plain.py", "inner.py", "extra.py", "part.py"} < set(compiles)
    # Those that fail or warn do so again; what is in a zip is none of ours.
    warns = {"says.py"} if runtime.line in ("3.12", "3.13", "3.14", "3.15") else set(still) & {"says.py"}
    assert set(still) == {"bad.py", "zipped.py"} | warns


def test_code_of_another_kind_is_compiled_as_ever(python: PreparedRuntime, tmp_path: Path) -> None:
    root = deployed(python, tmp_path / "task")
    images = compiled(python, root, tmp_path / "images")
    for flags, variables in ((("-X", "no_debug_ranges"), {}), ((), {"PYTHONNODEBUGRANGES": "1"})):
        assert "plain.py" in run(python, root, images, *flags, **variables)[1]
    seen, compiles, _ = run(python, root, images, "-O")
    assert "plain.py" in compiles and "trace" not in seen  # what the package asserts is gone


@pytest.mark.parametrize("spoilt", [b"", b"\0" * 16, b"\xff" * 16, b"\x10" + b"\0" * 7 + b"\xff" * 20, b"short"])
def test_an_image_that_is_none_costs_nothing_but_time(python: PreparedRuntime, tmp_path: Path, spoilt: bytes) -> None:
    root = deployed(python, tmp_path / "task")
    (tmp_path / ".task").write_bytes(spoilt)
    plain, compiles, _ = run(python, root, "")
    assert run(python, root, tmp_path)[:2] == (plain, compiles)


def test_code_in_an_image_that_is_none_is_compiled(python: PreparedRuntime, tmp_path: Path) -> None:
    root = deployed(python, tmp_path / "task")
    image = compiled(python, root, tmp_path / "images") / ".task"
    content = image.read_bytes()
    begin = int.from_bytes(content[:8], "little")
    image.write_bytes(content[:16] + b"\xee" * (begin - 16) + content[begin:])
    plain, compiles, _ = run(python, root, "")
    assert run(python, root, image.parent)[:2] == (plain, compiles)


def test_what_would_crash_or_fill_the_compiler_keeps_nothing_else_from_being_compiled(
        runtime: PreparedRuntime, tmp_path: Path) -> None:
    root = tmp_path / "task"
    root.mkdir()
    (root / "a_large.py").write_text("X = 1\n" * 300_000)
    (root / "b_deep.py").write_text("X = " + "(" * 5000 + ")" * 5000 + "\n")
    (root / "c_zero.py").write_bytes(b"X = 1\0\n")
    (root / "d_encoding.py").write_bytes(b"# coding: nonsense\n\xff\n")
    (root / "e_folder.py").mkdir()
    with open(os.fsencode(root) + b"/f_\xff.py", "w") as file:
        file.write("X = 1\n")
    (root / "g_brought.py").write_text("X = 1\n")
    (root / "__pycache__").mkdir()
    name = f"g_brought.cpython-{runtime.line.replace('.', '')}.pyc"
    magic = subprocess.run([program(runtime), "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"],
                           capture_output=True, text=True, check=True).stdout
    (root / "__pycache__" / name).write_bytes(bytes.fromhex(magic) + b"\1\0\0\0" + b"\0" * 8 + b"not code")
    (root / "z_good.py").write_text("X = 1\n")
    image = compiled(runtime, root, tmp_path / "images") / ".task"
    assert modules(image) == {str(root / "z_good.py")}


def modules(image: Path) -> set[str]:
    content = image.read_bytes()
    begin = int.from_bytes(content[:8], "little")
    index = marshal.loads(content[begin:])
    return {f"{folder}/{name}" for folder, files in index.items() for name in marshal.loads(files)}
