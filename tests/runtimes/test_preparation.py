"""Preparing runtimes: built once, shared, whole or not at all, and a clear line when it cannot be."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lambent import settings
from lambent.runtimes import PreparedRuntime, Runtimes, RuntimeUnavailable, build, interpreters, packages
from lambent.runtimes.catalog import CATALOG
from lambent.runtimes.interpreters import Interpreter


@pytest.fixture
def registry_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip and npm meet a closed port and an empty cache."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))


@pytest.fixture
def installs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the registries by a file that says it was installed; counts installations."""
    made: list[Path] = []

    async def install(folder: Path, environ: Mapping[str, str]) -> None:
        made.append(folder)
        (folder / "installed.js").write_text("")
        (folder / "installed.js").chmod(0o600)

    def recipe(interpreter: Interpreter) -> packages.Recipe:
        return packages.Recipe("nodejs", "the SDK", ("pins",), install)

    monkeypatch.setattr(packages, "recipe", recipe)
    return made


NODE = Interpreter("nodejs", "20.1.0", Path("/usr/bin/node"), Path("/usr"), "115-x64", ())


async def test_a_folder_is_built_once_and_readable_by_all(tmp_path: Path, installs: list[Path]) -> None:
    first = await build.build(tmp_path, NODE, {}, offline=False)
    again = await build.build(tmp_path, NODE, {}, offline=True)
    assert first == again and len(installs) == 1
    assert (first / "index.cjs").is_file() and (first / "installed.js").stat().st_mode & 0o777 == 0o644
    assert first.stat().st_mode & 0o777 == 0o755


async def test_builders_that_race_end_with_one_whole_folder(tmp_path: Path, installs: list[Path]) -> None:
    places = await asyncio.gather(*(build.build(tmp_path, NODE, {}, offline=False) for _ in range(5)))
    assert len(set(places)) == 1
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "runtimes").iterdir()) == ["nodejs", "nodejs"]


async def test_what_a_dead_builder_left_is_removed(tmp_path: Path, installs: list[Path]) -> None:
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    (tmp_path / "runtimes").mkdir()
    (tmp_path / "runtimes" / f".making-{dead.pid}-0-x").mkdir()
    (tmp_path / "runtimes" / f".making-{os.getpid()}-77-x").mkdir()
    await build.build(tmp_path, NODE, {}, offline=False)
    left = [path.name for path in (tmp_path / "runtimes").glob(".making-*")]
    assert left == [f".making-{os.getpid()}-77-x"]


async def test_offline_without_packages_says_so_and_makes_nothing(tmp_path: Path, installs: list[Path]) -> None:
    with pytest.raises(RuntimeUnavailable, match="the server is offline"):
        await build.build(tmp_path, NODE, {}, offline=True)
    assert installs == [] and list((tmp_path / "runtimes").iterdir()) == []


async def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, installs: list[Path]) -> None:
    (tmp_path / "runtimes").write_text("a file in the way")
    with pytest.raises(RuntimeUnavailable, match="the cache folder must be writable"):
        await build.build(tmp_path, NODE, {}, offline=False)


@pytest.mark.slow
@pytest.mark.usefixtures("registry_down")
@pytest.mark.parametrize("identifiers", [("python3.12", "python3.11", "python3.13"), ("nodejs20.x", "nodejs22.x")])
async def test_a_registry_that_is_down_is_one_line_and_nothing_half_made(
    tmp_path: Path, identifiers: tuple[str, ...]
) -> None:
    environ = settings.inherited_environment()
    for identifier in identifiers:
        if await interpreters.find(CATALOG[identifier], environ):
            break
    else:
        pytest.skip(f"needs one of {identifiers}")
    with pytest.raises(RuntimeUnavailable, match=r"could not be installed .*; check the network") as caught:
        await Runtimes(tmp_path / "cache").prepare(identifier)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "runtimes").iterdir()) == []


async def test_callers_share_one_preparation(tmp_path: Path, installs: list[Path], fake_find: list[str]) -> None:
    runtimes = Runtimes(tmp_path)
    with pytest.raises(KeyError):
        runtimes.get("nodejs20.x")
    results = await asyncio.gather(*(runtimes.prepare("nodejs20.x") for _ in range(5)))
    assert len(set(results)) == 1 and len(installs) == 1 and fake_find == ["nodejs20.x"]
    assert runtimes.get("nodejs20.x") is results[0]


async def test_a_cancelled_caller_does_not_stop_the_others(
    tmp_path: Path, installs: list[Path], fake_find: list[str]
) -> None:
    runtimes = Runtimes(tmp_path)
    impatient = asyncio.create_task(runtimes.prepare("nodejs20.x"))
    patient = asyncio.create_task(runtimes.prepare("nodejs20.x"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).identifier == "nodejs20.x"
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_stopping_ends_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             fake_find: list[str]) -> None:
    started = asyncio.Event()

    async def install(folder: Path, environ: Mapping[str, str]) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(packages, "recipe", lambda _: packages.Recipe("nodejs", "the SDK", (), install))
    runtimes = Runtimes(tmp_path)
    waiting = asyncio.create_task(runtimes.prepare("nodejs20.x"))
    await started.wait()
    await runtimes.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert list((tmp_path / "runtimes").iterdir()) == []


@pytest.fixture
def fake_find(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A host with Node.js 20 and nothing else; records what is looked for."""
    asked: list[str] = []

    async def find(entry: Any, environ: Any, *, any_version: bool = False,
                   passed_over: Any = None) -> list[Interpreter]:
        asked.append(entry.identifier)
        return [NODE] if entry.family == "nodejs" and (any_version or entry.version == "20") else []

    monkeypatch.setattr(interpreters, "find", find)
    return asked


async def test_a_missing_interpreter_is_named_and_not_remembered(
    tmp_path: Path, installs: list[Path], fake_find: list[str]
) -> None:
    runtimes = Runtimes(tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeUnavailable, match=r"nodejs22\.x needs Node.js 22, .* nvm install 22, or start"):
            await runtimes.prepare("nodejs22.x")
    assert fake_find == ["nodejs22.x", "nodejs22.x"]
    with pytest.raises(RuntimeUnavailable, match=r"python3.14 needs Python 3.14, .* uv python install 3.14, or start"):
        await runtimes.prepare("python3.14")


async def test_the_nearest_version_stands_in_when_allowed(
    tmp_path: Path, installs: list[Path], fake_find: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        runtime = await Runtimes(tmp_path, nearest=True).prepare("nodejs22.x")
    assert (runtime.identifier, runtime.actual, runtime.version_label) == ("nodejs22.x", "nodejs20.x", "nodejs:20.v1")
    assert caplog.messages == ["nodejs22.x is not installed: nodejs20.x at /usr/bin/node stands in for it"]


async def test_a_custom_runtime_needs_nothing(tmp_path: Path) -> None:
    runtime = await Runtimes(tmp_path).prepare("provided.al2023")
    assert isinstance(runtime, PreparedRuntime) and runtime.runtime_dir is None and runtime.lang == ()
    assert os.listdir(tmp_path) == []
