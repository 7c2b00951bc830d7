"""Which interpreters the host has, and how each one's tree is shown at /var/lang.

Looks where people and tools put them: /usr, /usr/local, pyenv, uv, nvm, the PATH. Every candidate is asked where it
really lives, because what is on a PATH may be a shell shim in a home directory that guests cannot enter. It does not
install interpreters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lambent.runtimes.catalog import CatalogEntry
from lambent.runtimes.hosttools import run_tool

PROBE_TIMEOUT_S: Final = 20.0
SYSTEM_FOLDERS: Final = (Path("/usr/local/bin"), Path("/usr/bin"))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter that answered. Paths are the host's, with every link resolved up to the prefix."""

    family: str
    version: str  #: in full, as in `3.12.1`
    program: Path
    prefix: Path
    abi: str  #: packages built for the same text may be shared
    lang: tuple[tuple[Path, str], ...]

    @property
    def line(self) -> str:
        """The part of the version that a runtime identifier names: `3.12`, `20`."""
        parts = self.version.split(".")
        return ".".join(parts[:2]) if self.family == "python" else parts[0]

    def state(self) -> tuple[str, ...]:
        """Texts that change when another build takes its place, as with an update of the host. Raises OSError."""
        status = self.program.stat()
        return (self.version, str(self.prefix), str(status.st_size), str(status.st_mtime_ns))


async def find(entry: CatalogEntry, environ: Mapping[str, str], *, any_version: bool = False,
               passed_over: list[str] | None = None) -> list[Interpreter]:
    """Working interpreters of the entry's family, best first; without `any_version` the first of its version.

    Candidates that are broken are passed over; the reasons are appended to `passed_over`.
    """
    found: list[Interpreter] = []
    seen: set[Path] = set()
    complaints = passed_over if passed_over is not None else []
    ask = _ask_python if entry.family == "python" else _ask_node
    for candidate in _candidates(entry, environ, any_version):
        resolved = candidate.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        answer = await ask(candidate, environ)
        if isinstance(answer, str):
            complaints.append(answer)
        elif answer.line == entry.version or (any_version and _new_enough(answer, entry)):
            if answer.program not in {known.program for known in found}:
                found.append(answer)
            if not any_version:
                break
    return found


def nearest(entry: CatalogEntry, found: list[Interpreter]) -> Interpreter | None:
    """The closest version; of two equally close ones the newer."""

    def distance(interpreter: Interpreter) -> tuple[int, int]:
        last = int(interpreter.line.split(".")[-1])
        return (abs(last - entry.numbers[-1]), -last)

    same_major = [one for one in found if entry.family != "python" or one.line.startswith(f"{entry.numbers[0]}.")]
    return min(same_major, key=distance, default=None)


def _new_enough(interpreter: Interpreter, entry: CatalogEntry) -> bool:
    numbers = tuple(int(part) for part in interpreter.line.split("."))
    return CatalogEntry("", entry.family, ".".join(map(str, numbers))).unsupported is None


# Where to look


def _candidates(entry: CatalogEntry, environ: Mapping[str, str], any_version: bool) -> Iterator[Path]:
    """Files that may be the wanted interpreter, likely ones first. Nothing is known about them yet."""
    python = entry.family == "python"
    names = ["python" + ("3*" if any_version else entry.version)] if python else ["node", "nodejs"]
    folders = [*SYSTEM_FOLDERS]
    folders += _version_folders(entry, environ, any_version)
    folders += [Path(part) for part in environ.get("PATH", "").split(":") if part.startswith("/")]
    for folder in folders:
        for name in [*names, "python3"] if python and not any_version else names:
            matches = folder.glob(name) if "*" in name else [folder / name]
            for path in sorted(matches):
                if (not python or re.fullmatch(r"python3(\.\d+)?", path.name)) and _is_program(path):
                    yield path


def _version_folders(entry: CatalogEntry, environ: Mapping[str, str], any_version: bool) -> list[Path]:
    """The `bin` folders of version managers, newest version first."""
    home = Path(environ.get("HOME") or "/root")
    wanted = "*" if any_version else entry.version + ("*" if entry.family != "python" else "")
    if entry.family == "python":
        pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv")
        uv = Path(environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
        patterns = [(pyenv / "versions", wanted if any_version else wanted + ".*"), (pyenv / "versions", wanted),
                    (uv, "cpython-*" if any_version else f"cpython-{wanted}*")]
    else:
        nvm = Path(environ.get("NVM_DIR") or home / ".nvm")
        patterns = [(nvm / "versions/node", "v" + wanted)]
    folders: list[Path] = []
    for root, pattern in patterns:
        try:
            folders += [path / "bin" for path in sorted(root.glob(pattern), key=_version_key, reverse=True)]
        except OSError:
            continue
    return folders


def _version_key(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.name)[:3])


def _is_program(path: Path) -> bool:
    try:
        return path.is_file() and bool(path.stat().st_mode & 0o111)
    except OSError:
        return False


# Asking

_PYTHON_QUESTION = """
import json, sys, sysconfig
lacks = []
for name in ("ssl", "zlib", "ctypes", "hashlib"):
    try:
        __import__(name)
    except ImportError:
        lacks.append(name)
v = sysconfig.get_config_vars()
print(json.dumps({
    "implementation": sys.implementation.name, "version": "%d.%d.%d" % sys.version_info[:3],
    "program": getattr(sys, "_base_executable", None) or sys.executable,
    "prefix": sys.base_prefix, "stdlib": sysconfig.get_path("stdlib"),
    "platstdlib": sysconfig.get_path("platstdlib"), "library": v.get("INSTSONAME"), "library_folder": v.get("LIBDIR"),
    "abi": "%s-%s" % (sys.implementation.cache_tag, v.get("SOABI")), "lacks": lacks}))
"""


async def _ask_python(path: Path, environ: Mapping[str, str]) -> Interpreter | str:
    answer = await _answer([path, "-I", "-c", _PYTHON_QUESTION], path, environ)
    return answer if isinstance(answer, str) else _read_python(path, answer)


def _read_python(path: Path, answer: dict[str, Any]) -> Interpreter | str:
    if answer["implementation"] != "cpython":
        return f"{path} is {answer['implementation']}, not CPython"
    if answer["lacks"]:
        return f"{path} was built without {', '.join(answer['lacks'])}"
    prefix = Path(answer["prefix"])
    minor = ".".join(answer["version"].split(".")[:2])
    program = prefix / "bin" / f"python{minor}"
    if not _is_program(program):
        return f"{path} has no {program}"
    lang = [(program.resolve(), f"bin/python{minor}"), (program.resolve(), "bin/python3")]
    for folder in dict.fromkeys((answer["stdlib"], answer["platstdlib"])):
        # A sysconfig scheme may name a folder under another prefix (venv); only what is below ours can be shown.
        if not Path(folder).is_relative_to(answer["prefix"]) or not Path(folder).is_dir():
            return f"{path} keeps its library outside of its prefix, in {folder}"
        lang.append((Path(folder).resolve(), str(Path(folder).relative_to(prefix))))
    library = Path(answer["library_folder"] or "/nonexistent", answer["library"] or "")
    if (answer["library"] or "").startswith("libpython") and ".so" in library.name and library.is_file():
        lang.append((library.resolve(), f"lib/{library.name}"))
    return Interpreter("python", answer["version"], program, prefix, answer["abi"], tuple(lang))


_NODE_QUESTION = """
console.log(JSON.stringify({version: process.versions.node, program: process.execPath,
  abi: [process.versions.modules, process.arch].join("-")}))
"""


async def _ask_node(path: Path, environ: Mapping[str, str]) -> Interpreter | str:
    answer = await _answer([path, "-e", _NODE_QUESTION], path, environ)
    return answer if isinstance(answer, str) else _read_node(path, answer)


def _read_node(path: Path, answer: dict[str, Any]) -> Interpreter | str:
    program = Path(answer["program"])
    if program.name != "node" or program.parent.name != "bin":
        return f"{path} lives at {program}, which is not a bin folder"
    lang = ((program.resolve(), "bin/node"),)
    return Interpreter("nodejs", answer["version"], program, program.parent.parent, answer["abi"], lang)


async def _answer(argv: list[str | Path], path: Path, environ: Mapping[str, str]) -> dict[str, Any] | str:
    """What the interpreter printed, or why it is of no use."""
    clean = {name: value for name, value in environ.items() if name not in ("NODE_OPTIONS", "PYTHONHOME", "PYTHONPATH")}
    outcome = await run_tool(argv, clean, timeout_s=PROBE_TIMEOUT_S)
    if outcome.code != 0:
        return f"{path} does not work: {outcome.complaint}"
    try:
        answer = json.loads(outcome.stdout)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else f"{path} gave no sensible answer"
