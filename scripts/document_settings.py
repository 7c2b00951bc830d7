"""Write docs/settings.md from the table of settings, or with --check say whether it is current (exit code 1 if not)."""

from __future__ import annotations

import sys
from pathlib import Path

from lambent.settings import SETTINGS, Setting

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

#: Defaults that depend on who runs it.
_DEFAULTS = {
    "data_dir": "`$XDG_DATA_HOME/lambent`, or `~/.local/share/lambent`",
    "cache_dir": "`$XDG_CACHE_HOME/lambent`, or `~/.cache/lambent`",
}

_HEAD = """# Settings

Each setting is a flag of `lambent up` and a variable; the flag goes before the variable, the variable before the
default. An unknown flag or `LAMBENT_` variable and a value that does not fit are refused in one line, with exit code 2.

The other commands read `LAMBENT_ENDPOINT` (the server to talk to) and `LAMBENT_TOKEN` (for `lambent retire` and
`lambent chaos`).

<!-- Written by scripts/document_settings.py from src/lambent/settings.py; a test fails when it is out of date. -->

| flag | variable | value | default | meaning |
| --- | --- | --- | --- | --- |
"""

_VALUES = {int: "whole number", float: "number", str: "text", Path: "folder", bool: "`true` or `false`"}


def page() -> str:
    return _HEAD + "".join(_row(setting) for setting in SETTINGS)


def _row(setting: Setting) -> str:
    flag = f"`{setting.flag}`" + (f", `--no-{setting.flag[2:]}`" if setting.kind is bool else "")
    value = ", ".join(f"`{choice}`" for choice in setting.choices) or _VALUES[setting.kind]
    if setting.minimum is not None:
        value += f", {setting.minimum:g} or more"
    default = _DEFAULTS.get(setting.name) or (f"`{setting.default_text}`" if setting.default_text else "none")
    return f"| {flag} | `{setting.variable}` | {value} | {default} | {setting.help} |\n"


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text("utf-8") == page():
            return 0
        print(f"{PAGE.name} is out of date; run {Path(__file__).name}", file=sys.stderr)
        return 1
    if arguments:
        print("document_settings.py: the only option is --check", file=sys.stderr)
        return 2
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
