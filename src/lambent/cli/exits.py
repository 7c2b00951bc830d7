"""What a command's exit code means, and the exception that ends a command with one line."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FUNCTION_FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
API_ERROR: Final = 4
INTERRUPTED: Final = 130
BUG: Final = 70  # EX_SOFTWARE of sysexits.h

MEANINGS: Final = {
    OK: "done",
    FUNCTION_FAILED: "the function failed (invoke), or its deployment did",
    USAGE: "wrong usage or configuration",
    UNREACHABLE: "no server at the endpoint",
    API_ERROR: "the server refused the request",
    BUG: "a defect of lambent itself",
    INTERRUPTED: "interrupted with Ctrl-C",
}


class Stop(Exception):
    """End the command: one line for the person on stderr, and an exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
