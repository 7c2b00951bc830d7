"""`lambent up`: the server in the foreground. Its flags are the rows of the table of settings."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from lambent.cli.exits import USAGE, Stop
from lambent.settings import SETTINGS, Setting, load


def up(**flags: Any) -> int:
    """Run the server in the foreground.

    It prints one line when it is ready and ends cleanly on Ctrl-C or SIGTERM. Each flag can also be set by the
    variable LAMBENT_<NAME>; a flag goes before a variable.

    \b
    Examples:
      lambent up
      lambent up --port 0 --data-dir /tmp/trial
      LAMBENT_SANDBOX=process lambent up
    """
    settings = load(flags)
    from lambent.platform import serve
    from lambent.sandbox.base import SandboxError
    from lambent.store.directory import StoreError

    logging.basicConfig(format="lambent: %(message)s")
    try:
        return serve(settings)
    except (SandboxError, StoreError) as error:
        raise Stop(str(error), USAGE) from None
    except OSError as error:
        raise Stop(_address_trouble(error, settings.host, settings.port), USAGE) from None


def _address_trouble(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another one with --port (0 picks a free one)"
    if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES):
        return f"cannot listen on {host} port {port}: {os.strerror(error.errno).lower()}"
    if isinstance(error, socket.gaierror):
        return f"--host: {host!r} is neither an address nor a name that resolves"
    return f"the server could not start: {error}"


def _parameter(setting: Setting) -> inspect.Parameter:
    """A flag. Values stay text: the table of settings judges them, whether they come from a flag or a variable."""
    default = f"; default: {setting.default_text}" if setting.default_text else ""
    text = f"{setting.help}  [variable: {setting.variable}{default}]"
    if setting.kind is bool:
        option: Any = typer.Option(f"{setting.flag}/--no-{setting.flag[2:]}", help=text, show_default=False)
        annotation: Any = Annotated[bool | None, option]
    else:
        number = "DAYS" if setting.name.endswith("_days") else "SECONDS"
        metavar = "|".join(setting.choices) or {int: "N", float: number, Path: "DIR"}.get(setting.kind, "TEXT")
        annotation = Annotated[str | None, typer.Option(setting.flag, metavar=metavar, help=text, show_default=False)]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_parameters = [_parameter(setting) for setting in SETTINGS]
up.__signature__ = inspect.Signature(_parameters)  # type: ignore[attr-defined]
up.__annotations__ = {parameter.name: parameter.annotation for parameter in _parameters}
