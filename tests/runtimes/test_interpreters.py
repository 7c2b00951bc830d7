"""Finding interpreters: real ones on this host, and made-up ones that lie, fail or are of another version."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambent.runtimes import interpreters
from lambent.runtimes.catalog import CATALOG
from lambent.runtimes.interpreters import Interpreter, find, nearest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, with no interpreters elsewhere."""
    monkeypatch.setattr(interpreters, "SYSTEM_FOLDERS", ())
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def made_up_python(prefix: Path, version: str, **changes: object) -> Path:
    """A prefix whose interpreter only answers our question."""
    line = ".".join(version.split(".")[:2])
    library = prefix / "lib" / f"python{line}"
    library.mkdir(parents=True)
    answer = {
        "implementation": "cpython", "version": version, "program": str(prefix / "bin" / f"python{line}"),
        "prefix": str(prefix), "stdlib": str(library), "platstdlib": str(library), "library": "libpython.a",
        "library_folder": str(prefix / "lib"), "abi": "made-up", "lacks": [], **changes,
    }  # fmt: skip
    return program(prefix / "bin" / f"python{line}", f"echo '{json.dumps(answer)}'")


async def found(identifier: str, home: Path, path: str = "") -> tuple[list[Interpreter], list[str]]:
    passed_over: list[str] = []
    result = await find(CATALOG[identifier], {"HOME": str(home), "PATH": path}, passed_over=passed_over)
    return result, passed_over


@pytest.mark.parametrize("place", [".pyenv/versions/3.14.2", ".local/share/uv/python/cpython-3.14.2-linux-x86_64-gnu"])
async def test_version_managers_are_searched(home: Path, place: str) -> None:
    made_up_python(home / place, "3.14.2")
    (interpreter,), _ = await found("python3.14", home)
    assert (interpreter.version, interpreter.line, interpreter.prefix) == ("3.14.2", "3.14", home / place)
    assert (home / place / "lib/python3.14", "lib/python3.14") in interpreter.lang


@pytest.mark.parametrize("place", [".pyenv/versions/3.14.2", ".local/share/uv/python/cpython-3.14.2-linux-x86_64-gnu"])
async def test_version_managers_are_searched_for_any_version_too(home: Path, place: str) -> None:
    made_up_python(home / place, "3.14.2")
    (interpreter,) = await find(CATALOG["python3.13"], {"HOME": str(home)}, any_version=True)
    assert interpreter.version == "3.14.2"


async def test_the_newest_patch_version_is_taken(home: Path) -> None:
    for version in ("3.14.2", "3.14.10", "3.14.9"):
        made_up_python(home / ".pyenv/versions" / version, version)
    (interpreter,), _ = await found("python3.14", home)
    assert interpreter.version == "3.14.10"


async def test_a_shim_on_the_path_is_asked_where_it_lives(home: Path) -> None:
    real = made_up_python(home / "real", "3.14.2")
    program(home / "shims" / "python3.14", f'exec {real} "$@"')
    (interpreter,), _ = await found("python3.14", home, str(home / "shims"))
    assert interpreter.program == real


async def test_broken_and_other_interpreters_are_passed_over(home: Path) -> None:
    folders = [home / name for name in ("fails", "lies", "silent", "pypy", "bare", "works")]
    program(folders[0] / "python3.14", "echo broken library >&2; exit 1")
    made_up_python(home / "other", "3.13.1")
    program(folders[1] / "python3.14", f'exec {home}/other/bin/python3.13 "$@"')
    program(folders[2] / "python3.14", "exit 0")
    program(folders[3] / "python3.14", f'exec {made_up_python(home / "p", "3.14.1", implementation="pypy")} "$@"')
    program(folders[4] / "python3.14", f'exec {made_up_python(home / "b", "3.14.1", lacks=["ssl", "zlib"])} "$@"')
    program(folders[5] / "python3.14", f'exec {made_up_python(home / "w", "3.14.7")} "$@"')
    (interpreter,), passed_over = await found("python3.14", home, ":".join(map(str, folders)))
    assert interpreter.version == "3.14.7"
    assert [text.split(" ", 1)[1] for text in passed_over] == [
        "does not work: broken library", "gave no sensible answer", "is pypy, not CPython",
        "was built without ssl, zlib",
    ]  # fmt: skip


async def test_node_is_found_under_nvm(home: Path) -> None:
    for version in ("22.3.0", "22.11.0", "20.1.0"):
        place = home / ".nvm/versions/node" / f"v{version}" / "bin" / "node"
        answer = {"version": version, "program": str(place), "abi": "127-x64"}
        program(place, f"echo '{json.dumps(answer)}'")
    (interpreter,), _ = await found("nodejs22.x", home)
    assert (interpreter.version, interpreter.line) == ("22.11.0", "22")


def test_the_nearest_version_is_the_closest_and_then_the_newer() -> None:
    def python(version: str) -> Interpreter:
        return Interpreter("python", version, Path("/p"), Path("/"), "", ())

    choices = [python("3.9.1"), python("3.11.2"), python("3.13.0")]
    assert nearest(CATALOG["python3.12"], choices) is choices[2]
    assert nearest(CATALOG["python3.10"], choices) is choices[1]
    assert nearest(CATALOG["python3.14"], choices) is choices[2]
    assert nearest(CATALOG["python3.14"], []) is None


# Real interpreters

INSIDE = """
import ctypes, json, sqlite3, ssl, sys, zoneinfo
print(json.dumps([sys.prefix, sys.executable, [p for p in sys.path if not p.startswith("/var/lang/")]]))
"""

#: A root with the host's /usr and a tree at /var/lang, as an isolating sandbox would have it; $1 is the root.
ROOT = """
set -e; PATH=$PATH:/usr/sbin:/sbin
mount --make-rprivate / && mount -t tmpfs none "$1" && mkdir -p "$1/usr" "$1/var/lang" && mount --bind /usr "$1/usr"
for link in bin lib lib64 sbin; do [ -L /$link ] && ln -s usr/$link "$1/$link"; done
root=$1; shift
while [ "$1" != -- ]; do
  target=$root/var/lang/$2; mkdir -p "$(dirname "$target")"
  if [ -d "$1" ]; then mkdir -p "$target"; else touch "$target"; fi
  mount --bind "$1" "$target"; shift 2
done
shift; exec chroot "$root" /usr/bin/env -i LD_LIBRARY_PATH=/var/lang/lib "$@"
"""


def run_in_root(root: Path, lang: tuple[tuple[Path, str], ...], *argv: str) -> str:
    """Output of a program in a root of its own."""
    root.mkdir()
    binds = [str(part) for bind in lang for part in bind]
    outcome = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ROOT, "sh", str(root),
                              *binds, "--", *argv], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


@pytest.fixture
def own_mounts() -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if not shutil.which("unshare") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs user and mount namespaces")


@pytest.mark.usefixtures("own_mounts")
@pytest.mark.parametrize("where", ["system", "version manager"])
async def test_a_composed_tree_works_without_the_home_of_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    from lambent import settings

    environ = {**settings.inherited_environment(), "PATH": ""}
    if where == "system":
        environ["HOME"] = str(tmp_path)
    else:
        monkeypatch.setattr(interpreters, "SYSTEM_FOLDERS", ())
    for minor in (12, 13, 11, 14, 10):
        results = await find(CATALOG[f"python3.{minor}"], environ)
        if results:
            break
    else:
        pytest.skip(f"needs a Python of the {where}")
    line = results[0].line
    printed = json.loads(run_in_root(tmp_path / "root", results[0].lang, f"/var/lang/bin/python{line}", "-c", INSIDE))
    assert printed == ["/var/lang", f"/var/lang/bin/python{line}", [""]]


@pytest.mark.usefixtures("own_mounts")
async def test_node_works_from_a_composed_tree(tmp_path: Path) -> None:
    from lambent import settings

    for major in (20, 22, 24):
        results = await find(CATALOG[f"nodejs{major}.x"], settings.inherited_environment())
        if results:
            break
    else:
        pytest.skip("needs Node.js")
    script = "console.log(process.execPath + ' ' + (1n + 1n))"
    printed = run_in_root(tmp_path / "root", results[0].lang, "/var/lang/bin/node", "-e", script)
    assert printed == "/var/lang/bin/node 2\n"


async def test_the_interpreter_of_a_virtual_environment_is_its_base() -> None:
    if sys.prefix == sys.base_prefix:
        pytest.skip("needs a virtual environment")
    identifier = f"python3.{sys.version_info.minor}"
    results = await find(CATALOG[identifier], {"HOME": "/nonexistent", "PATH": str(Path(sys.prefix) / "bin")})
    assert not any(one.prefix == Path(sys.prefix) for one in results)
