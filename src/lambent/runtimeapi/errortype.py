"""The error type that a runtime names in a header, reduced to what may leave the platform (fact sheet 2.5)."""

from __future__ import annotations

import re

_KNOWN = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]{1,255}")  # a bound is ours: it stands in logs and stories


def function_error_type(header: str) -> str:
    """The header as it is when it is well formed; else `Function.Unknown` or `Runtime.Unknown`; empty stays empty."""
    if not header or _KNOWN.fullmatch(header):
        return header
    return "Function.Unknown" if header.startswith("Function.") else "Runtime.Unknown"
