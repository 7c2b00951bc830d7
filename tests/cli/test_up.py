"""`lambent up`: every setting is a flag, and everything that is wrong is one line. Starting is the platform's test."""

from __future__ import annotations

import errno
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lambent.sandbox.base import SandboxError
from lambent.settings import SETTINGS, Settings
from lambent.store.directory import StoreError

from .conftest import Lambent


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """A platform that only remembers its settings; or raises what the test puts into `trouble`."""
    remembered: list[Settings] = []

    def serve(settings: Settings) -> int:
        remembered.append(settings)
        return 0

    platform = ModuleType("lambent.platform")
    platform.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lambent.platform", platform)
    return remembered


def test_every_setting_has_a_flag_in_the_help(lambent: Lambent) -> None:
    shown = lambent("up", "--help").out
    for setting in SETTINGS:
        assert setting.flag in shown and setting.variable in shown


def test_flags_become_settings(lambent: Lambent, served: list[Settings], tmp_path: Path) -> None:
    ran = lambent("up", "--host", "127.0.0.9", "--port", "0", "--data-dir", str(tmp_path), "--sandbox", "process",
                  "--keep-alive-s", "1.5", "--nearest-runtime")  # fmt: skip
    assert ran == (0, "", "")
    [settings] = served
    assert (settings.host, settings.port, settings.data_dir, settings.sandbox) == ("127.0.0.9", 0, tmp_path, "process")
    assert (settings.keep_alive_s, settings.nearest_runtime) == (1.5, True)


def test_a_flag_goes_before_a_variable_before_the_default(
    lambent: Lambent, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMBENT_PORT", "1")
    monkeypatch.setenv("LAMBENT_NEAREST_RUNTIME", "true")
    lambent("up")
    lambent("up", "--port", "2", "--no-nearest-runtime")
    assert [(settings.port, settings.nearest_runtime) for settings in served] == [(1, True), (2, False)]
    assert served[0].region == "us-east-1"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--port", "http"], "--port: 'http' is not a whole number"),
        (["--port", "70000"], "--port: 70000 is not a port (0 to 65535)"),
        (["--port", "-1"], "--port: -1 is below 0"),
        (["--sandbox", "docker"], "--sandbox: 'docker' is not one of auto, namespace, process"),
        (["--account", "1"], "--account: '1' is not a 12-digit account id"),
        (["--keep-alive-s", "nan"], "--keep-alive-s: nan is not a number that one can count to"),
        (["--keep-alive-s", "inf"], "--keep-alive-s: inf is not a number"),
        (["--bogus"], "No such option: --bogus"),
        (["extra"], "extra"),
    ],
)
def test_a_wrong_value_is_one_line_and_exit_code_2(
    lambent: Lambent, served: list[Settings], argv: list[str], said: str
) -> None:
    ran = lambent("up", *argv)
    assert (ran.code, ran.out, served) == (2, "", [])
    assert said in ran.err and ran.err.count("\n") == 1


def test_a_wrong_variable_is_one_line_and_exit_code_2(
    lambent: Lambent, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAMBENT_SANDBOX", "docker")
    ran = lambent("up")
    assert (ran.code, served) == (2, [])
    assert "'docker' is not one of" in ran.err


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (OSError(errno.EADDRINUSE, "address already in use"), "port 4566 on 127.0.0.1 is in use; choose another one"),
        (
            OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
            "cannot listen on 127.0.0.1 port 4566: cannot assign",
        ),
        (socket.gaierror(-2, "Name or service not known"), "--host: '127.0.0.1' is neither an address nor a name"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "No space left on device: '/x'"),
        (SandboxError("this host lacks user namespaces"), "this host lacks user namespaces"),
        (StoreError("data directory /x: Permission denied"), "data directory /x: Permission denied"),
    ],
)
def test_what_keeps_the_server_from_starting_is_one_line(
    lambent: Lambent, monkeypatch: pytest.MonkeyPatch, trouble: Exception, said: str
) -> None:
    def serve(settings: Settings) -> int:
        raise trouble

    platform = ModuleType("lambent.platform")
    platform.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lambent.platform", platform)
    ran = lambent("up")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and ran.err.count("\n") == 1


def test_the_servers_exit_code_is_the_commands(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = ModuleType("lambent.platform")
    platform.serve = lambda settings: 2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lambent.platform", platform)
    assert lambent("up").code == 2
