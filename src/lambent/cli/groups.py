"""A group of commands whose typos are answered with the nearest name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

from lambent.cli.exits import Stop


class Group(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not ctx.resilient_parsing:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; {ctx.command_path} --help lists the commands"
            raise Stop(f"no such command {name!r}{hint}")
        return super().resolve_command(ctx, args)
