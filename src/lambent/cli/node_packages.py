"""package.json's dependencies as node_modules, kept between deployments.

An installed set lies in the cache folder under a name made of package.json, of what else tells npm what to install, and
of npm and Node.js, so that deploying again asks no registry. It is not kept where more than that decides what comes of
it: dependencies on a folder, an archive or a repository, workspaces, and scripts of the function's own. Then npm runs
each time, in a copy of the whole folder, where all of these find what they refer to.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lambent.cli import kept
from lambent.cli.exits import Stop
from lambent.cli.kept import INSTALL_TIMEOUT_S, Installed, judge
from lambent.runtimes import build
from lambent.runtimes.hosttools import run_tool

NAME = "package.json"
#: What besides it tells npm what to install and from where.
_BESIDE = ("package-lock.json", "npm-shrinkwrap.json", ".npmrc")
_DEPENDENCIES = ("dependencies", "optionalDependencies", "peerDependencies", "devDependencies", "overrides")
#: Scripts of the function's own package that npm runs when it installs (npm's page "Scripts").
_SCRIPTS = frozenset({"preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare",
                      "dependencies"})  # fmt: skip
#: A release in a registry, perhaps under another name; anything else is a path, an archive, an address or a repository
#: (npm's page "package.json", dependencies).
_RELEASE = re.compile(r"(?i)(npm:(@[^/@]+/)?[^/@]+(@|$))?(?!\.|~/)[^/\\:]*(?<!\.tgz)(?<!\.tar)(?<!\.tar\.gz)")


def are_asked_for(files: Mapping[str, Path]) -> bool:
    """Whether package.json, if there is one, has dependencies. Raises Stop when it is no package description."""
    return NAME in files and bool(
        (declared := _read(files[NAME])).get("dependencies") or declared.get("optionalDependencies"))


def install(files: Mapping[str, Path], scratch: Path, cache_dir: Path, environ: Mapping[str, str], *,
            anew: bool = False) -> Installed:
    """A folder with node_modules for these files, by their names in the function's folder. `anew` installs them even if
    they are kept.

    It is below `cache_dir`, or below `scratch` when it cannot be kept. Raises Stop with the reason in one line.
    """
    npm = shutil.which("npm", path=environ.get("PATH"))
    if npm is None:
        raise Stop(f"{NAME} has dependencies, and this machine has no npm to install them")
    place = _place(files, npm, cache_dir, environ)
    wanted = files if place is None else {name: files[name] for name in (NAME, *_BESIDE) if name in files}

    async def fill(target: Path) -> None:
        for name, path in wanted.items():
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        await _install(npm, target, environ, locked="package-lock.json" in wanted)
        for name in wanted if place is not None else ():
            (target / name).unlink(missing_ok=True)  # the function's own are packed; and .npmrc may hold a secret

    return kept.installed(place, scratch / "package", fill, anew=anew)


def _read(package_json: Path) -> dict[str, Any]:
    try:
        declared = json.loads(package_json.read_bytes())
        if not isinstance(declared, dict):
            raise ValueError("it is no object")
        return declared
    except (OSError, ValueError) as error:
        raise Stop(f"{package_json} is no package description: {error}") from None


def _place(files: Mapping[str, Path], npm: str, cache_dir: Path, environ: Mapping[str, str]) -> Path | None:
    """Where the set is kept; None where it is not."""
    if not _is_told_by_itself(_read(files[NAME])) or "binding.gyp" in files:  # npm would compile that
        return None
    root = kept.root(cache_dir, "node_modules")
    if root is None:
        return None
    asked = [f"{name}={value}" for name, value in sorted(environ.items())
             if name.lower().startswith("npm_config_") or name == "NODE_ENV"]  # fmt: skip
    try:
        texts = [f"{name}\n{files[name].read_text('utf-8')}" for name in (NAME, *_BESIDE) if name in files]
        tools = [*_state(npm), *_state(shutil.which("node", path=environ.get("PATH")) or npm)]
    except (OSError, UnicodeDecodeError):
        return None  # npm says what is wrong with it
    return root / build.fingerprint(platform.machine(), *tools, *texts, "", *asked)[:32]


def _is_told_by_itself(declared: Mapping[str, Any]) -> bool:
    scripts = declared.get("scripts")
    if declared.get("workspaces") or (isinstance(scripts, dict) and not _SCRIPTS.isdisjoint(scripts)):
        return False
    return all(_RELEASE.fullmatch(text.strip()) for name in _DEPENDENCIES for text in _texts(declared.get(name)))


def _texts(value: Any) -> Iterator[str]:
    """Every text below a member, names apart."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for below in value.values():
            yield from _texts(below)


def _state(program: str) -> Iterator[str]:
    """What tells this version of a program from another one: npm's own files have the same times in all of them."""
    path = Path(program).resolve()
    found = path.stat()
    yield from (str(path), str(found.st_size), str(found.st_mtime_ns))
    description = path.parent.parent / "package.json"
    if description.is_file():
        yield description.read_text("utf-8")


async def _install(npm: str, target: Path, environ: Mapping[str, str], *, locked: bool) -> None:
    argv = [npm, "ci" if locked else "install", "--omit=dev", "--no-audit", "--no-fund", "--install-links",
            "--loglevel=error"] + ([] if locked else ["--no-package-lock"])  # fmt: skip
    outcome = await run_tool(argv, environ, timeout_s=INSTALL_TIMEOUT_S, cwd=target)
    judge(outcome, f"npm could not install {NAME}")
    hidden = target / "node_modules" / ".package-lock.json"  # npm's notes, with times in them
    hidden.unlink(missing_ok=True)
