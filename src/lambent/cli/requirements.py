"""requirements.txt as installed packages, kept between deployments.

An installed set lies in the cache folder under a name made of the requirements, of what they refer to and of the
interpreter, so that deploying again asks no registry. Requirements that name a folder, a file or a repository are
installed each time, since what is behind the name may have changed.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lambent.cli import kept
from lambent.cli.exits import Stop
from lambent.cli.kept import INSTALL_TIMEOUT_S, Installed, judge
from lambent.runtimes import build
from lambent.runtimes.catalog import CatalogEntry
from lambent.runtimes.hosttools import run_tool
from lambent.runtimes.interpreters import Interpreter, find

NAME = "requirements.txt"
_OTHER_FILE = re.compile(r"(?:-r|-c|--requirement|--constraint)[ =]*(\S+)")
#: What makes a line mean something that is not a release in a registry: a path, a URL, a place to look.
_ELSEWHERE = re.compile(r"(?<!\S)(\.|/|~)|/|\\|@|^-(e|f)|^--(editable|find-links)|\.(whl|zip|tar\.gz)\b|\$\{")


def install(folder: Path, entry: CatalogEntry, scratch: Path, cache_dir: Path, environ: Mapping[str, str], *,
            anew: bool = False) -> Installed:
    """The packages that `folder`'s requirements.txt asks for. `anew` installs them even if they are kept.

    They are below `cache_dir`, or below `scratch` when they cannot be kept. Raises Stop with the reason in one line.
    """
    interpreters = asyncio.run(find(entry, environ))
    if not interpreters:
        raise Stop(f"{NAME} needs Python {entry.version} to be installed, and this machine has none")
    place = _place(folder, interpreters[0], cache_dir, environ)
    return kept.installed(place, scratch / "package",
                          lambda made: _install(folder, interpreters[0], scratch, made, environ), anew=anew)


def _place(folder: Path, interpreter: Interpreter, cache_dir: Path, environ: Mapping[str, str]) -> Path | None:
    """Where the set is kept; None where it is not."""
    texts = _texts(folder / NAME, frozenset())
    root = kept.root(cache_dir, "requirements")
    if texts is None or root is None:
        return None
    asked = [f"{name}={value}" for name, value in sorted(environ.items()) if name.startswith("PIP_")]
    name = build.fingerprint(interpreter.abi, interpreter.version, *texts, "", *asked)
    return root / f"python{interpreter.line}-{name[:32]}"


def _texts(file: Path, above: frozenset[Path]) -> list[str] | None:
    """The file's content and that of the files that it names; None when something is named that may change."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None  # pip says what is wrong with it
    texts = [text]
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        other = _OTHER_FILE.fullmatch(line)
        if other is not None:
            path = file.parent / other[1]
            more = None if path in above or "://" in other[1] else _texts(path, above | {file})
            if more is None:
                return None
            texts += more
        elif _ELSEWHERE.search(_without_index(line)):
            return None
    return texts


def _without_index(line: str) -> str:
    """A line without the address of a registry, which is no package."""
    return "" if re.match(r"(-i|--index-url|--extra-index-url|--trusted-host)\b", line) else line


async def _install(folder: Path, interpreter: Interpreter, scratch: Path, target: Path,
                   environ: Mapping[str, str]) -> None:
    pip = await _find_pip(interpreter, scratch, environ)
    outcome = await run_tool(
        [*pip, "install", "--quiet", "--no-input", "--disable-pip-version-check", "--root-user-action=ignore",
         "--no-compile", "--target", target, "--requirement", NAME],
        environ, timeout_s=INSTALL_TIMEOUT_S, cwd=folder)  # fmt: skip
    judge(outcome, f"pip could not install {NAME}")


async def _find_pip(interpreter: Interpreter, scratch: Path, environ: Mapping[str, str]) -> Sequence[str | Path]:
    """A pip that can work for the interpreter: its own, one that it makes for itself, or else ours.

    Ours comes last since a pip fails under an interpreter that is newer than it. All are isolated (-I): `-m` would
    otherwise look for modules in the function's folder first.
    """
    own: list[str | Path] = [interpreter.program, "-I", "-m", "pip"]
    if (await run_tool([*own, "--version"], environ, timeout_s=60)).code == 0:
        return own
    made = scratch / "venv"
    if (await run_tool([interpreter.program, "-I", "-m", "venv", made], environ, timeout_s=120)).code == 0:
        return [made / "bin" / "python", "-I", "-m", "pip"]
    return [sys.executable, "-I", "-m", "pip", "--python", interpreter.program]
