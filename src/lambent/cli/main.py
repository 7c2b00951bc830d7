"""The entry point: which commands there are, and how an error becomes one line and an exit code.

A command's module is imported when the command is run or its help is asked for, so that `lambent --help` and shell
completion stay quick. No traceback ever reaches the terminal. What the commands do stands in their modules.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from lambent import __version__
from lambent.cli import exits
from lambent.cli.exits import Stop
from lambent.cli.groups import Group
from lambent.client import BadEndpoint, Unreachable
from lambent.errors import ApiError
from lambent.settings import SettingError

#: Name, module below `lambent.cli`, and one line of help: the first line of the command's docstring.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Run the server in the foreground."),
    "deploy": ("deploy", "Create or update a function from a folder."),
    "invoke": ("invoke", "Run a function once and show everything about it."),
    "logs": ("logs", "Print what a function wrote."),
    "functions": ("functions", "List the functions."),
    "delete": ("functions", "Delete a function."),
    "ps": ("environments", "List the execution environments."),
    "story": ("story", "Tell the life of one execution environment."),
    "retire": ("environments", "End an execution environment."),
    "chaos": ("chaos", "Provoke what cannot be waited for."),
    "env": ("env", "Print the exports that point AWS tools at this server."),
    "doctor": ("doctor", "Tell what this machine can isolate, freeze and limit."),
}


#: Of the output, or of a temporary folder.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class LazyGroup(Group):
    """A group whose commands are loaded when they are needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"lambent.cli.{COMMANDS[cmd_name][0]}")
        found = getattr(module, cmd_name)
        if isinstance(found, typer.Typer):  # a group of commands
            return typer.main.get_command(found)
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(cmd_name)(found)
        return typer.main.get_command(app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lambent {__version__}")
        raise typer.Exit


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(epilog="\b\nExit codes:\n" + "\n".join(f"  {code:<3} {text}" for code, text in exits.MEANINGS.items()))
def lambent(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """AWS Lambda functions on your own machine, with the lifecycle that AWS gives them.

    \b
    A first session:
      lambent up                                                    in one terminal
      lambent deploy hello/ --handler app.handler --runtime python3.12
      lambent invoke hello -d '{"name": "Ada"}'
      lambent ps
    """


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors have been told on stderr, in one line."""
    argv = sys.argv[1:] if argv is None else argv
    command = typer.main.get_command(app)
    try:
        if not argv:
            command.main(["--help"], prog_name="lambent", standalone_mode=False)
            return exits.USAGE
        result = command.main(list(argv), prog_name="lambent", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else exits.OK
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _unread()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # Typer's answer to it
            return _unread()
        raise
    except Exception as error:
        return _tell(error)


def _unread() -> int:
    """The reader had enough, as with `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.OK


def _tell(error: Exception) -> int:
    match error:
        case Stop():
            return _line(error.message, error.code)
        case typer.TyperException():
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "lambent"
            return _line(f"{error.format_message().rstrip('.')}; see {command} --help", exits.USAGE)
        case SettingError() | BadEndpoint():
            return _line(str(error), exits.USAGE)
        case Unreachable():
            return _line(str(error), exits.UNREACHABLE)
        case ApiError():
            reason = error.extra.get("Reason")
            return _line(str(error) + (f" ({reason})" if reason else ""), exits.API_ERROR)
        case OSError() if error.errno in _DISK_FULL:
            return _line(f"cannot write: {error.strerror}", exits.USAGE)
        case FileNotFoundError() if error.filename is None:  # of os.getcwd
            return _line("the working directory is gone; go to one that is there", exits.USAGE)
        case _:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename}:{frame.lineno}"
            return _line(f"a defect of lambent: {type(error).__name__}: {error} ({where})", exits.BUG)


def _line(message: str, code: int) -> int:
    from lambent.cli.show import plain

    print("lambent: " + " ".join(plain(message).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(run())
