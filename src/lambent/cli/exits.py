"""What a command's exit code means, and the exception that ends a command with one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

OK: Final = 0
FUNCTION_FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
API_ERROR: Final = 4
INTERRUPTED: Final = 130
TERMINATED: Final = 143
BUG: Final = 70  # EX_SOFTWARE of sysexits.h

MEANINGS: Final = {
    OK: "done",
    FUNCTION_FAILED: "the function failed (invoke), or its deployment did",
    USAGE: "wrong usage or configuration",
    UNREACHABLE: "no server at the endpoint",
    API_ERROR: "the server refused the request",
    BUG: "a defect of lambent itself",
    INTERRUPTED: "interrupted with Ctrl-C",
    TERMINATED: "ended with SIGTERM",
}


class Stop(Exception):
    """End the command: one line for the person on stderr, and an exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


@contextmanager
def tidy_when_terminated() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: tools are killed and temporary folders removed. Main thread only."""

    def ended(_number: int, _frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
