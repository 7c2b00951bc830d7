"""The front of the command line: help, typos, one line per error, exit codes."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from lambent import __version__
from lambent.cli import enter, exits
from lambent.cli.main import COMMANDS, run

from .conftest import Lambent
from .fake_server import FakeServer
from .test_client import free_port


def one_line(text: str) -> str:
    """The text, which must be exactly one line that names the program."""
    assert text.startswith("lambent: ") and text.endswith("\n") and text.count("\n") == 1, text
    return text


def test_help_lists_every_command_and_exit_code(lambent: Lambent) -> None:
    ran = lambent("--help")
    assert ran.code == 0
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in ran.out and summary in ran.out
    for code, meaning in exits.MEANINGS.items():
        assert f"{code}" in ran.out and meaning in ran.out


def test_without_a_command_the_help_is_shown_and_the_usage_is_wrong(lambent: Lambent) -> None:
    ran = lambent()
    assert ran.code == 2
    assert ran.out.startswith("Usage: lambent")


def test_version(lambent: Lambent) -> None:
    assert lambent("--version") == (0, f"lambent {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(lambent: Lambent, name: str) -> None:
    ran = lambent(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert COMMANDS[name][1] in ran.out
    assert "Example" in ran.out and "lambent" in ran.out.split("Example", 1)[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_first_line_of_the_docstring(name: str) -> None:
    module, summary = COMMANDS[name]
    found = getattr(import_module(f"lambent.cli.{module}"), name)
    documented = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert documented is not None and documented.splitlines()[0] == summary


@pytest.mark.parametrize(
    ("typed", "meant"), [("dploy", "deploy"), ("invok", "invoke"), ("functoins", "functions"), ("strory", "story")]
)
def test_a_typo_suggests_the_nearest_command(lambent: Lambent, typed: str, meant: str) -> None:
    ran = lambent(typed)
    assert ran.code == 2
    assert one_line(ran.err) == f"lambent: no such command '{typed}'; did you mean '{meant}'?\n"


def test_a_command_like_nothing(lambent: Lambent) -> None:
    ran = lambent("zzzz")
    assert ran.code == 2
    assert "lambent --help" in one_line(ran.err)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--bogus"], "No such option: --bogus"),
        (["ps", "--bogus"], "No such option: --bogus"),
        (["invoke", "f", "--dta", "1"], "--data"),
        (["invoke"], "Missing argument 'NAME'"),
        (["story"], "Missing argument 'ENV'"),
        (["ps", "extra"], "extra"),
        (["invoke", "f", "-d"], "requires an argument"),
        (["deploy", ".", "--memory", "much"], "--memory"),
        (["ps", "--endpoint", "ftp://x"], "not an endpoint"),
        (["ps", "--endpoint", "http://x:99999"], "no valid port"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(lambent: Lambent, argv: list[str], said: str) -> None:
    ran = lambent(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert said in one_line(ran.err)


@pytest.mark.parametrize(
    "argv",
    [
        ["ps"],
        ["functions"],
        ["story", "x"],
        ["invoke", "f"],
        ["logs", "f"],
        ["delete", "f"],
        ["retire", "x", "--token", "t"],
        ["deploy", ".", "--handler", "a.b", "--runtime", "python3.12"],
    ],
)
def test_without_a_server_every_command_exits_3(lambent: Lambent, argv: list[str]) -> None:
    ran = lambent(*argv, "--endpoint", f"http://127.0.0.1:{free_port()}")
    assert (ran.code, ran.out) == (3, "")
    assert "connection refused" in one_line(ran.err) and "lambent up" in ran.err


@pytest.mark.parametrize(
    "argv",
    [
        ["ps"],
        ["functions"],
        ["story", "x"],
        ["invoke", "f"],
        ["logs", "f"],
        ["delete", "f"],
        ["retire", "x", "--token", "t"],
    ],
)
def test_a_refusal_of_the_server_exits_4(lambent: Lambent, server: FakeServer, argv: list[str]) -> None:
    body = b'{"Type":"Service","Message":"it is\\nbroken"}'
    server.raw = lambda method, path: (500, {"x-amzn-ErrorType": "ServiceException"}, body)
    ran = lambent(*argv)
    assert (ran.code, ran.out) == (4, "")
    assert one_line(ran.err) == "lambent: ServiceException: it is broken\n"


def test_a_throttle_says_why(lambent: Lambent, server: FakeServer) -> None:
    body = b'{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}'
    server.raw = lambda method, path: (429, {"x-amzn-ErrorType": "TooManyRequestsException"}, body)
    ran = lambent("invoke", "hello")
    assert ran.code == 4
    assert "Rate Exceeded. (ConcurrentInvocationLimitExceeded)" in one_line(ran.err)


def test_an_unknown_variable_is_a_configuration_error(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBENT_PROT", "1")
    ran = lambent("env")
    assert ran.code == 2
    assert "LAMBENT_PROT is not a setting" in one_line(ran.err)


def test_an_error_message_cannot_drive_the_terminal(lambent: Lambent, server: FakeServer) -> None:
    server.raw = lambda method, path: (400, {}, b'{"message":"\\u001b]0;owned\\u0007 \\u001b[2J"}')
    ran = lambent("functions")
    assert "\x1b" not in ran.err and "\x07" not in ran.err
    assert "\\x1b]0;owned\\x07" in one_line(ran.err)


def test_our_own_defect_is_one_line_too(lambent: Lambent, server: FakeServer) -> None:
    server.environments = [{"id": "x"}]
    ran = lambent("ps")
    assert ran.code == 70
    assert "a defect of lambent: KeyError" in one_line(ran.err)


def test_ctrl_c_is_quiet(lambent: Lambent, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lambent.client.Client.environments", interrupted)
    assert lambent("ps") == (130, "", "")


def test_help_is_quick_because_commands_are_loaded_when_needed() -> None:
    code = "import sys; from lambent.cli.main import run; run(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("rich", "lambent.cli.deploy", "lambent.platform", "asyncio", "msgspec", "sqlite3"):
        assert f"'{heavy}'" not in ran.stderr, heavy


@pytest.mark.parametrize("more", [(), ("--json",)])
@pytest.mark.parametrize("functions", [1, 300])
def test_a_closed_pipe_ends_quietly(server: FakeServer, functions: int, more: tuple[str, ...]) -> None:
    for number in range(functions):
        server.add_function(f"function-{number:03d}")
    server.page_size = 1000
    with subprocess.Popen(
        [sys.executable, "-m", "lambent.cli.main", "functions", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        if functions > 1:
            process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_an_output_that_is_full_is_told(server: FakeServer) -> None:
    server.add_function("hello")
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-m", "lambent.cli.main", "functions"], stdout=full, check=False,
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert (ran.returncode, ran.stderr) == (2, "lambent: cannot write: No space left on device\n")


def test_run_takes_the_process_arguments_by_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lambent", "--version"])
    assert run() == 0
    assert __version__ in capsys.readouterr().out


def test_sigterm_leaves_a_block_in_order_and_the_handler_as_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, exits.tidy_when_terminated():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == exits.TERMINATED == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_working_directory_that_is_gone_is_one_line(
    lambent: Lambent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = lambent("up", "--port", "0", "--data-dir", "data")
    assert (ran.code, one_line(ran.err)) == (2, "lambent: the working directory is gone; go to one that is there\n")


def test_an_interrupt_while_the_commands_are_loaded_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "lambent.cli.main", Loading("lambent.cli.main"))
    assert enter() == exits.INTERRUPTED
