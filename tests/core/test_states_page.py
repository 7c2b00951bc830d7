"""docs/states.md says what the machine does, and every row names a test that there is."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "document_states.py"))


def test_page_is_current() -> None:
    assert SCRIPT["PAGE"].read_text("utf-8") == SCRIPT["page"](), "run scripts/document_states.py"


def test_every_row_is_shown_by_a_test() -> None:
    for test in SCRIPT["tests"]():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text("utf-8"), test
