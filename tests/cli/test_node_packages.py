"""What npm installed is kept as long as nothing else could come of it; by an npm that notes what it was asked."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lambent.cli import kept
from lambent.cli.exits import Stop
from lambent.cli.package import Package, build

#: Puts what it was asked, and its number of the call, into the one package that it installs.
NPM = """#!/bin/sh
[ -z "$(cat "$0.fails" 2>/dev/null)" ] || { echo "npm error no network" >&2; exit 1; }
echo "$@" >> "$0.log"
mkdir -p node_modules/left node_modules/.bin
ls -A | tr '\\n' ' ' > node_modules/left/saw
wc -l < "$0.log" > node_modules/left/index.js
ln -s ../left/index.js node_modules/.bin/left
echo "{}" > node_modules/.package-lock.json
"""
PLAIN: dict[str, Any] = {"name": "f", "dependencies": {"left": "^1.0.0"}}


class Stand:
    """A function's folder, a cache and an npm."""

    def __init__(self, folder: Path) -> None:
        self.own, self.cache, self.tools = (folder / name for name in ("own", "cache", "tools"))
        for made in (self.own, self.tools):
            made.mkdir()
        self.npm = self.tools / "npm"
        self.npm.write_text(NPM)
        self.npm.chmod(0o755)
        (self.own / "index.mjs").write_text("export const handler = async () => 1;\n")
        self.declare(PLAIN)
        self.environ = {"PATH": f"{self.tools}:/usr/bin:/bin"}

    def declare(self, package: dict[str, Any]) -> None:
        (self.own / "package.json").write_text(json.dumps(package))

    def built(self, *, reinstall: bool = False) -> Package:
        with tempfile.TemporaryDirectory() as scratch:
            return build(self.own, "nodejs22.x", Path(scratch), self.environ, cache_dir=self.cache,
                         reinstall=reinstall)  # fmt: skip

    def calls(self) -> list[str]:
        log = Path(f"{self.npm}.log")
        return log.read_text().splitlines() if log.exists() else []

    def sets(self) -> list[Path]:
        return list((self.cache / "node_modules").iterdir())


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def content(package: Package) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(package.content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_same_dependencies_are_installed_once(stand: Stand) -> None:
    first = stand.built()
    (stand.own / "index.mjs").write_text("export const handler = async () => 2;\n")
    second = stand.built()
    assert (first.installed, second.installed) == (("package.json installed",), ("package.json as installed before",))
    assert len(stand.calls()) == 1
    files = content(second)
    assert {name: text for name, text in files.items() if name != "index.mjs"} == {
        name: text for name, text in content(first).items() if name != "index.mjs"}  # fmt: skip
    assert set(files) == {"index.mjs", "package.json", "node_modules/left/index.js", "node_modules/left/saw",
                          "node_modules/.bin/left"}  # fmt: skip
    assert "2" in files["index.mjs"]


@pytest.mark.parametrize("name", ["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"])
def test_others_are_installed_anew(stand: Stand, name: str) -> None:
    stand.built()
    (stand.own / name).write_text(json.dumps(PLAIN | {"version": "2"}))
    assert [stand.built().installed for _ in range(2)] == [
        ("package.json installed",), ("package.json as installed before",)]  # fmt: skip
    assert len(stand.calls()) == 2
    assert stand.calls()[1].split()[0] == ("ci" if name == "package-lock.json" else "install")


def test_so_are_they_by_other_tools_and_from_elsewhere(stand: Stand) -> None:
    stand.built()
    node = stand.tools / "node"
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    stand.built()
    stand.environ["npm_config_registry"] = "https://registry.example/"
    stand.built()
    stand.npm.write_text(NPM + "# another version\n")
    stand.built()
    assert len(stand.calls()) == 4
    stand.built()
    assert len(stand.calls()) == 4


@pytest.mark.parametrize("declared", [
    {"dependencies": {"left": "file:./left"}}, {"dependencies": {"left": "../left"}},
    {"dependencies": {"left": "somebody/left"}}, {"dependencies": {"left": "git+ssh://git@host/left.git"}},
    {"dependencies": {"left": "https://host/left.tgz"}}, {"optionalDependencies": {"left": "left-1.0.0.TGZ"}},
    {"dependencies": {"left": "1"}, "devDependencies": {"right": "link:../right"}},
    {"dependencies": {"left": "1"}, "overrides": {"left": {"right": "file:./right"}}},
    {"dependencies": {"left": "1"}, "workspaces": ["left"]},
    {"dependencies": {"left": "1"}, "scripts": {"postinstall": "patch-package"}},
])  # fmt: skip
def test_what_may_change_without_package_json_is_installed_each_time(stand: Stand, declared: dict[str, Any]) -> None:
    stand.declare(declared)
    assert [stand.built().installed for _ in range(2)] == [("package.json installed",)] * 2
    saw = content(stand.built())["node_modules/left/saw"]
    assert "index.mjs" in saw.split()  # npm runs where everything is that may be referred to
    assert not (stand.cache / "node_modules").exists()


@pytest.mark.parametrize("version", ["", "*", "latest", "^1.2.0 || ~2.0", ">=1 <3", "1.x", "npm:right@^1",
                                     "npm:@scope/right@1.0.0-rc.1", "npm:@scope/right"])  # fmt: skip
def test_releases_are_kept_by_whatever_name(stand: Stand, version: str) -> None:
    stand.declare({"dependencies": {"left": version}, "scripts": {"test": "true"}})
    stand.built()
    assert stand.built().installed == ("package.json as installed before",)


def test_no_secret_is_kept(stand: Stand) -> None:
    (stand.own / ".npmrc").write_text("//registry.example/:_authToken=secret\n")
    saw = content(stand.built())["node_modules/left/saw"]
    assert ".npmrc" in saw.split() and "index.mjs" not in saw.split()
    [place] = stand.sets()
    assert [path.name for path in place.iterdir()] == ["node_modules"]
    assert "secret" not in "".join(path.read_text() for path in place.rglob("*") if path.is_file())


def test_reinstalling_replaces_what_is_kept_unless_it_fails(stand: Stand) -> None:
    stand.built()
    again = stand.built(reinstall=True)
    assert again.content == stand.built().content and len(stand.calls()) == 2 and len(stand.sets()) == 1
    Path(f"{stand.npm}.fails").write_text("yes")
    with pytest.raises(Stop, match="no network"):
        stand.built(reinstall=True)
    assert stand.built().content == again.content and len(stand.sets()) == 1


def test_only_so_many_sets_are_kept(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT", 2)
    for number in range(3):
        stand.declare(PLAIN | {"version": f"{number}"})
        stand.built()
    assert len(stand.sets()) == 2


def test_a_cache_that_cannot_be_written_is_done_without(stand: Stand) -> None:
    stand.cache.write_text("")
    assert [stand.built().installed for _ in range(2)] == [("package.json installed",)] * 2


@pytest.mark.slow
def test_npm_itself_installs_into_what_is_kept(stand: Stand) -> None:
    """With nothing to fetch: a lock of which every package is optional and for another system."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    optional = {"optionalDependencies": {"left": "1.0.0"}}
    stand.declare({"name": "f", "version": "1.0.0", **optional})
    (stand.own / "package-lock.json").write_text(json.dumps({
        "name": "f", "version": "1.0.0", "lockfileVersion": 3, "packages": {
            "": {"name": "f", "version": "1.0.0", **optional},
            "node_modules/left": {"version": "1.0.0", "optional": True, "os": ["win32"]}}}))  # fmt: skip
    stand.npm.unlink()
    assert [stand.built().installed for _ in range(2)] == [
        ("package.json installed",), ("package.json as installed before",)]  # fmt: skip
