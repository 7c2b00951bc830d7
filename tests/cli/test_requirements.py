"""requirements.txt: installed into the package, kept for the next deployment, and installed again when it has to be."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lambent import settings
from lambent.cli import kept, requirements
from lambent.cli.exits import Stop
from lambent.cli.package import Package, build
from lambent.runtimes.catalog import CATALOG
from lambent.runtimes.hosttools import ToolOutcome
from lambent.runtimes.interpreters import Interpreter

OURS = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hello"
    made.mkdir()
    (made / "app.py").write_text("def handler(event, context):\n    return event\n")
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def wheel(target: Path, name: str = "greeting", body: str = "HELLO = 'hello'\n") -> str:
    """A wheel with one module, made by hand. Returns its file name."""
    files = {
        f"{name}/__init__.py": body,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    path = target / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{file},sha256={digest},{len(text)}\n"
            archive.writestr(file, text)
        archive.writestr(f"{name}-1.0.dist-info/RECORD", record + f"{name}-1.0.dist-info/RECORD,,\n")
    return path.name


def built(folder: Path, cache: Path, runtime: str = OURS, *, reinstall: bool = False) -> Package:
    scratch = cache.parent / f"scratch-{len(list(cache.parent.iterdir()))}"
    scratch.mkdir()
    return build(folder, runtime, scratch, settings.inherited_environment(), cache_dir=cache, reinstall=reinstall)


def names(package: Package, tmp_path: Path) -> set[str]:
    (tmp_path / "package.zip").write_bytes(package.content)
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        return set(archive.namelist())


@pytest.mark.slow
def test_they_are_installed_into_the_package_and_not_into_the_folder(folder: Path, cache: Path, tmp_path: Path) -> None:
    (folder / "requirements.txt").write_text(f"--no-index\n./{wheel(folder)}\n")
    before = sorted(folder.iterdir())
    made = built(folder, cache)
    found = names(made, tmp_path)
    assert {"app.py", "greeting/__init__.py", "greeting-1.0.dist-info/METADATA", "requirements.txt"} <= found
    assert not any("__pycache__" in name for name in found)
    assert made.installed == ("requirements.txt installed",)
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_the_folders_own_file_wins_over_an_installed_one(folder: Path, cache: Path, tmp_path: Path) -> None:
    (folder / "requirements.txt").write_text(f"--no-index\n./{wheel(folder)}\n")
    (folder / "greeting").mkdir()
    (folder / "greeting" / "__init__.py").write_text("HELLO = 'mine'\n")
    (tmp_path / "package.zip").write_bytes(built(folder, cache).content)
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:
        assert archive.read("greeting/__init__.py") == b"HELLO = 'mine'\n"


@pytest.mark.slow
def test_what_cannot_be_met(folder: Path, cache: Path) -> None:
    (folder / "requirements.txt").write_text("--no-index\nno-such-package-anywhere\n")
    with pytest.raises(Stop, match=r"pip could not install requirements\.txt: ERROR: .*no-such-package-anywhere"):
        built(folder, cache)
    assert list((cache / "requirements").iterdir()) == []


@pytest.mark.slow
def test_modules_of_the_function_with_names_of_the_standard_library_do_not_disturb_pip(
    folder: Path, cache: Path, tmp_path: Path
) -> None:
    (folder / "requirements.txt").write_text(f"--no-index\n./{wheel(folder)}\n")
    for name in ("logging", "json", "secrets"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    assert "greeting/__init__.py" in names(built(folder, cache), tmp_path)


# What is kept, by a pip that notes what it was asked


class Pip:
    """Stands in for tools: it answers as `pip` does and puts one module into its target."""

    def __init__(self) -> None:
        self.installs: list[list[str]] = []
        self.environ: Mapping[str, str] = {}
        self.has_pip = True
        self.has_venv = True

    async def __call__(self, argv: list[str | Path], environ: Mapping[str, str], **_: Any) -> ToolOutcome:
        words = list(map(str, argv))
        if words[-1] == "--version":
            return ToolOutcome(0 if self.has_pip else 1, "", "")
        if "venv" in words:
            return ToolOutcome(0 if self.has_venv else 1, "", "")
        self.installs.append(words)
        self.environ = environ
        self.fill(Path(words[words.index("--target") + 1]))
        return ToolOutcome(0, "", "")

    def fill(self, target: Path) -> None:
        target.mkdir(exist_ok=True)
        (target / "greeting.py").write_text(f"NUMBER = {len(self.installs)}\n")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Pip:
    made = Pip()

    async def find(entry: Any, environ: object) -> list[Interpreter]:
        return [Interpreter("python", f"{entry.version}.1", Path("/opt/python"), Path("/opt"), entry.version, ())]

    monkeypatch.setattr(requirements, "run_tool", made)
    monkeypatch.setattr(requirements, "find", find)
    return made


def test_the_same_requirements_are_installed_once(folder: Path, cache: Path, pip: Pip) -> None:
    (folder / "requirements.txt").write_text("greeting==1.0  # as tested\n-i https://registry.example/simple\n")
    first, second = built(folder, cache), built(folder, cache)
    assert first.content == second.content
    assert first.installed == ("requirements.txt installed",)
    assert second.installed == ("requirements.txt as installed before",)
    assert len(pip.installs) == 1


def test_others_are_installed_anew(folder: Path, cache: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "requirements.txt").write_text("greeting==1.0\n-c limits.txt\n")
    (folder / "limits.txt").write_text("other<2\n")
    built(folder, cache)
    (folder / "limits.txt").write_text("other<3\n")
    built(folder, cache)
    (folder / "requirements.txt").write_text("greeting==1.1\n-c limits.txt\n")
    built(folder, cache)
    built(folder, cache, "python3.10")
    monkeypatch.setenv("PIP_INDEX_URL", "https://registry.example/simple")
    built(folder, cache)
    assert len(pip.installs) == 5
    built(folder, cache)
    assert len(pip.installs) == 5


@pytest.mark.parametrize("line", ["./greeting", "-e .", "greeting @ file:///x", "git+https://host/greeting", "x.whl",
                                  "-f wheels", "--find-links=wheels", "/srv/greeting", "-r absent.txt",
                                  "-r requirements.txt", "greeting @ https://${TOKEN}@host/x"])  # fmt: skip
def test_what_may_change_behind_its_name_is_installed_each_time(
    folder: Path, cache: Path, pip: Pip, line: str
) -> None:
    (folder / "requirements.txt").write_text(f"six==1.17.0\n{line}\n")
    assert [built(folder, cache).installed for _ in range(2)] == [("requirements.txt installed",)] * 2
    assert len(pip.installs) == 2


def test_reinstalling_replaces_what_is_kept(folder: Path, cache: Path, pip: Pip) -> None:
    (folder / "requirements.txt").write_text("greeting\n")
    built(folder, cache)
    again = built(folder, cache, reinstall=True)
    assert again.content == built(folder, cache).content
    assert len(pip.installs) == 2
    assert len(list((cache / "requirements").iterdir())) == 1


def test_a_failed_reinstallation_leaves_what_is_kept(
    folder: Path, cache: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "requirements.txt").write_text("greeting\n")
    before = built(folder, cache)

    async def offline(argv: list[str | Path], *_: object, **__: object) -> ToolOutcome:
        return ToolOutcome(0 if argv[-1] == "--version" else 1, "", "ERROR: no network")

    monkeypatch.setattr(requirements, "run_tool", offline)
    with pytest.raises(Stop, match="ERROR: no network"):
        built(folder, cache, reinstall=True)
    assert built(folder, cache).content == before.content


@pytest.mark.parametrize(("stderr", "printed", "line"), [
    ("ERROR: no such package\n", "", "ERROR: no such package"),
    ("WARNING: slow\nERROR: no x (from y)\nERROR: None found\n", "WARNING: slow\nERROR: None found\n",
     "ERROR: no x (from y)"),
    (f"ERROR: {'x' * 400}\n", f"ERROR: {'x' * 400}\n", f"ERROR: {'x' * 293}"),
    ("", "", "exit status 1"),
], ids=["one line", "several", "a long one", "nothing"])  # fmt: skip
def test_what_pip_says_is_told_once(
    folder: Path, cache: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    stderr: str, printed: str, line: str
) -> None:
    (folder / "requirements.txt").write_text("greeting\n")

    async def failing(argv: list[str | Path], *_: object, **__: object) -> ToolOutcome:
        return ToolOutcome(0, "", "") if argv[-1] == "--version" else ToolOutcome(1, "", stderr)

    monkeypatch.setattr(requirements, "run_tool", failing)
    with pytest.raises(Stop) as stopped:
        built(folder, cache)
    assert str(stopped.value) == f"pip could not install requirements.txt: {line}"
    assert capfd.readouterr().err == printed


def test_only_so_many_sets_are_kept(
    folder: Path, cache: Path, pip: Pip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "KEPT", 2)
    for number in range(3):
        (folder / "requirements.txt").write_text(f"greeting=={number}\n")
        built(folder, cache)
        for age, made in enumerate(sorted((cache / "requirements").iterdir(), key=lambda one: -one.stat().st_mtime)):
            os.utime(made, (1000 - age, 1000 - age))
    assert len(list((cache / "requirements").iterdir())) == 2
    assert built(folder, cache).installed == ("requirements.txt as installed before",)


def test_a_cache_that_cannot_be_written_is_done_without(folder: Path, tmp_path: Path, pip: Pip) -> None:
    (folder / "requirements.txt").write_text("greeting\n")
    (tmp_path / "file").write_text("")
    assert built(folder, tmp_path / "file").installed == ("requirements.txt installed",)


@pytest.mark.parametrize(("has_pip", "has_venv", "program"), [
    (True, True, "/opt/python"), (False, True, "SCRATCH/venv/bin/python"), (False, False, sys.executable),
])  # fmt: skip
def test_whose_pip_is_taken(
    folder: Path, tmp_path: Path, pip: Pip, has_pip: bool, has_venv: bool, program: str
) -> None:
    (folder / "requirements.txt").write_text("greeting\n")
    pip.has_pip, pip.has_venv = has_pip, has_venv
    requirements.install(folder, CATALOG["python3.12"], tmp_path, tmp_path / "cache", {})
    assert pip.installs[0][0] == program.replace("SCRATCH", str(tmp_path))
    assert ("--python" in pip.installs[0]) == (program == sys.executable)


def test_what_pip_leaves_behind_lies_in_the_scratch_folder(folder: Path, cache: Path, pip: Pip) -> None:
    (folder / "requirements.txt").write_text("x\n")
    scratch = cache.parent / "scratch"
    build(folder, OURS, scratch, settings.inherited_environment(), cache_dir=cache)
    assert Path(pip.environ["TMPDIR"]).is_dir() and Path(pip.environ["TMPDIR"]).is_relative_to(scratch)
    assert "PATH" in pip.environ


def test_a_python_that_the_machine_lacks(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*arguments: object) -> list[object]:
        return []

    monkeypatch.setattr(requirements, "find", nothing)
    (folder / "requirements.txt").write_text("x\n")
    with pytest.raises(Stop, match=r"needs Python 3\.14 to be installed, and this machine has none"):
        built(folder, cache, "python3.14")
