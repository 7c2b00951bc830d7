"""docs/settings.md says what the table of settings says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from lambent.settings import SETTINGS

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "document_settings.py"


@pytest.fixture
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_the_page_is_current(script: dict[str, Any]) -> None:
    assert script["PAGE"].read_text("utf-8") == script["page"](), "run scripts/document_settings.py"
    assert script["main"](["--check"]) == 0


def test_the_page_has_every_setting_and_no_path_of_this_machine(script: dict[str, Any]) -> None:
    page = script["page"]()
    for setting in SETTINGS:
        assert f"`{setting.flag}`" in page and f"`{setting.variable}`" in page
    assert str(Path.home()) not in page


def test_an_old_page_is_noticed_and_written_anew(
    script: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "settings.md"
    script["main"].__globals__["PAGE"] = page
    assert script["main"](["--check"]) == 1
    assert "out of date" in capsys.readouterr().err
    assert script["main"]([]) == 0
    assert script["main"](["--check"]) == 0
    assert script["main"](["--bogus"]) == 2
