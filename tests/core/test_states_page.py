"""docs/states.md says what the machine does; tests/e2e/test_failures.py shows that it happens."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "document_states.py"))


def test_page_is_current() -> None:
    assert SCRIPT["PAGE"].read_text("utf-8") == SCRIPT["page"](), "run scripts/document_states.py"


def test_every_way_is_shown_or_explained() -> None:
    ways = set(SCRIPT["WAYS"])
    for row in SCRIPT["ROWS"]:
        assert row.ways and set(row.ways) | row.not_over.keys() == ways, row.situation
        assert all(row.not_over.values()), row.situation
