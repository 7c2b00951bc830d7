"""The error type that a runtime names in a header, reduced to what may leave the platform (fact sheet 2.5)."""

from __future__ import annotations

import re

_KNOWN = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")
MOST = 265  #: characters; a bound of ours, since it stands in logs and stories
#: Of a runtime that names none where one is always shown: when its Init has failed.
UNNAMED = "Runtime.Unknown"


def function_error_type(header: str) -> str:
    """The header as it is where a type of these stands in it, wherever (AWS's published emulator searches, too); else
    `Function.Unknown` or `Runtime.Unknown`; empty stays empty."""
    if not header or (len(header) <= MOST and header.isprintable() and _KNOWN.search(header)):
        return header
    return "Function.Unknown" if header.startswith("Function.") else UNNAMED
