"""Which error types of a runtime leave the platform (fact sheet 2.5)."""

from __future__ import annotations

import pytest

from lambent.runtimeapi.errortype import function_error_type


@pytest.mark.parametrize(("header", "shown"), [
    ("", ""),
    ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
    ("Function.MyError", "Function.MyError"),
    ("Function.my error", "Function.Unknown"),
    ("Function.", "Function.Unknown"),
    ("Function.A1", "Function.Unknown"),
    ("Function.Http500Error", "Function.Http500Error"),
    ("Runtime.My.Error", "Runtime.My.Error"),
    ("Runtime.Bad\tname", "Runtime.Unknown"),
    ("Runtime.x", "Runtime.Unknown"),
    ("Runtime.Bad\n", "Runtime.Unknown"),
    ("Sandbox.Timedout", "Runtime.Unknown"),
    ("ValueError", "Runtime.Unknown"),
    ("Function." + "A" * 256, "Function." + "A" * 256),
    ("Function." + "A" * 257, "Function.Unknown"),
    ("Runtime." + "A" * 1_000_000, "Runtime.Unknown"),
])  # fmt: skip
def test_well_formed_types_pass_and_others_are_unknown(header: str, shown: str) -> None:
    assert function_error_type(header) == shown
