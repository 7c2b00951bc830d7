"""Deployment packages: the same bytes for the same files, dependencies installed, everything odd refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from lambent import limits, settings
from lambent.cli import package
from lambent.cli.exits import Stop
from lambent.cli.package import build

OURS = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hello"
    made.mkdir()
    (made / "app.py").write_text("def handler(event, context):\n    return event\n")
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    made = tmp_path / "scratch"
    made.mkdir()
    return made


def entries(content: bytes) -> dict[str, zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {info.filename: info for info in archive.infolist()}


def built(folder: Path, scratch: Path, runtime: str = OURS) -> dict[str, zipfile.ZipInfo]:
    environ = settings.inherited_environment()
    return entries(build(folder, runtime, scratch, environ, cache_dir=scratch / "cache").content)


def test_the_same_files_make_the_same_bytes(folder: Path, tmp_path: Path, scratch: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "data.bin").write_bytes(b"\x00\x01")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    os.utime(copy / "app.py", (0, 0))
    first, second = (build(each, OURS, scratch, {}, cache_dir=scratch).content for each in (folder, copy))
    assert first == second
    assert list(entries(first)) == ["app.py", "b/data.bin"]


def test_modes_are_kept_and_everything_is_readable(folder: Path, scratch: Path) -> None:
    (folder / "bootstrap").write_text("#!/bin/sh\n")
    (folder / "bootstrap").chmod(0o700)
    (folder / "app.py").chmod(0o600)
    modes = {name: info.external_attr >> 16 for name, info in built(folder, scratch).items()}
    assert modes == {"app.py": stat.S_IFREG | 0o644, "bootstrap": stat.S_IFREG | 0o755}


def test_what_belongs_to_the_developer_is_left_out(folder: Path, scratch: Path) -> None:
    for left_out in (".git/config", "__pycache__/app.pyc", ".venv/pyvenv.cfg", ".venv/bin/python", ".mypy_cache/x"):
        (folder / left_out).parent.mkdir(parents=True, exist_ok=True)
        (folder / left_out).write_text("")
    (folder / "stray.pyc").write_text("")
    (folder / ".hidden").write_text("kept")
    assert list(built(folder, scratch)) == [".hidden", "app.py"]


def test_links_are_followed(folder: Path, tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "util.py").write_text("X = 1\n")
    (folder / "shared").symlink_to(tmp_path / "shared")
    (folder / "alias.py").symlink_to("app.py")
    assert list(built(folder, scratch)) == ["alias.py", "app.py", "shared/util.py"]


def test_a_link_in_a_circle_is_refused(folder: Path, scratch: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "up").symlink_to(folder)
    with pytest.raises(Stop, match="sub/up is a link to a folder that contains it"):
        built(folder, scratch)


def test_a_link_to_nothing_is_refused(folder: Path, scratch: Path) -> None:
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(Stop, match="gone is a link to nothing"):
        built(folder, scratch)


def test_a_pipe_is_refused(folder: Path, scratch: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(Stop, match="pipe is neither a file nor a folder"):
        built(folder, scratch)


def test_no_folder_and_an_empty_one(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(Stop, match="absent is not a folder"):
        built(tmp_path / "absent", scratch)
    with pytest.raises(Stop, match="is empty"):
        built(scratch, scratch)


def test_limits_are_told_before_anything_is_sent(folder: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "noise").write_bytes(os.urandom(4096))
    monkeypatch.setattr(package, "ZIPPED_BYTES", 2000)
    with pytest.raises(Stop, match=r"the package is 0\.0 MB zipped; Lambda takes"):
        built(folder, scratch)
    monkeypatch.setattr(package, "UNZIPPED_BYTES", 1000)
    with pytest.raises(Stop, match="unpacked, which Lambda does not take"):
        built(folder, scratch)
    assert limits.ZIPPED_BYTES == 52_428_800


# Python: installing is in test_requirements


@pytest.mark.parametrize("runtime", ["nodejs20.x", "provided.al2023", "unheard-of"])
def test_other_runtimes_leave_requirements_alone(folder: Path, scratch: Path, runtime: str) -> None:
    (folder / "requirements.txt").write_text("no-such-package-anywhere\n")
    assert list(built(folder, scratch, runtime)) == ["app.py", "requirements.txt"]


# Node.js


@pytest.fixture
def node_folder(folder: Path) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    (folder / "lib").mkdir()
    (folder / "lib" / "package.json").write_text('{"name": "lib", "version": "1.0.0", "main": "index.js"}')
    (folder / "lib" / "index.js").write_text("module.exports = 1;\n")
    declared = {"name": "f", "version": "1.0.0", "dependencies": {"lib": "file:./lib"}}
    (folder / "package.json").write_text(json.dumps(declared))
    return folder


@pytest.mark.slow
def test_package_json_is_installed_into_the_package_and_not_into_the_folder(node_folder: Path, scratch: Path) -> None:
    before = sorted(node_folder.iterdir())
    names = built(node_folder, scratch, "nodejs20.x")
    assert {"app.py", "package.json", "node_modules/lib/index.js"} <= set(names)
    assert sorted(node_folder.iterdir()) == before


@pytest.mark.slow
def test_installing_twice_makes_the_same_bytes(node_folder: Path, tmp_path: Path) -> None:
    packages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        packages.append(build(node_folder, "nodejs20.x", tmp_path / name, settings.inherited_environment(),
                              cache_dir=tmp_path).content)
    assert packages[0] == packages[1]


def test_without_dependencies_npm_is_not_asked(folder: Path, scratch: Path) -> None:
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "own.js").write_text("")
    made = build(folder, "nodejs20.x", scratch, {"PATH": ""}, cache_dir=scratch)
    assert list(entries(made.content)) == ["app.py", "node_modules/own.js", "package.json"]
    assert made.installed == ()


def test_dependencies_without_npm(folder: Path, scratch: Path) -> None:
    (folder / "package.json").write_text('{"dependencies": {"x": "1"}}')
    with pytest.raises(Stop, match="this machine has no npm"):
        build(folder, "nodejs20.x", scratch, {"PATH": ""}, cache_dir=scratch)


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_a_package_json_that_is_none(folder: Path, scratch: Path, text: str) -> None:
    (folder / "package.json").write_text(text)
    with pytest.raises(Stop, match=r"package\.json is no package description"):
        built(folder, scratch, "nodejs20.x")


@pytest.mark.slow
def test_a_dependency_that_cannot_be_installed(node_folder: Path, scratch: Path) -> None:
    (node_folder / "package.json").write_text('{"dependencies": {"lib": "file:./absent.tgz"}}')
    with pytest.raises(Stop, match=r"npm could not install package\.json: npm"):
        built(node_folder, scratch, "nodejs20.x")
