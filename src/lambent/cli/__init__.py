"""The command line: `lambent up` runs the server, every other command talks to one over HTTP."""

from __future__ import annotations


def enter() -> int:
    """The program `lambent`. Loading the commands takes a tenth of a second, in which there may be a Ctrl-C, too."""
    try:
        from lambent.cli.main import run
    except KeyboardInterrupt:
        return 130  # exits.INTERRUPTED
    return run()
