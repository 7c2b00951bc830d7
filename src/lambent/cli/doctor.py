"""`lambent doctor`: what this machine can do for environments. It looks; it changes nothing and needs no server."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lambent import settings
from lambent.cli import show
from lambent.cli.options import AsJson

if TYPE_CHECKING:
    from lambent.sandbox.capacity import Bound


def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine can isolate, freeze and limit.

    And how many environments it holds, which runtimes it has, what is missing, and what to do about it. No server is
    needed.

    \b
    Examples:
      lambent doctor
      lambent doctor --json | jq -r '.capabilities[] | select(.available | not) | .remedy'
      lambent doctor --json | jq '.ceiling'
    """
    from lambent.sandbox import capacity
    from lambent.sandbox.detect import probe

    capabilities = [asdict(capability) for capability in probe()]
    environ = settings.inherited_environment()
    runtimes = asyncio.run(_runtimes(environ))
    tools = {tool: shutil.which(tool, path=environ.get("PATH")) for tool in ("npm", "gcc", "mkfs.ext4")}
    bounds = capacity.bounds(capacity.look(settings.load({}).memory_mib))
    if as_json:
        ceiling = {"environments": bounds[0].environments, "set_by": bounds[0].name,
                   "bounds": [asdict(bound) for bound in bounds]}  # fmt: skip
        show.data({"capabilities": capabilities, "ceiling": ceiling, "runtimes": runtimes, "tools": tools})
        return
    show.table(("SANDBOX", "", "DETAIL"), [_capability(capability) for capability in capabilities])
    print()
    _ceiling(bounds)
    print()
    show.table(("RUNTIME", "INTERPRETER", "VERSION"), [_runtime(runtime) for runtime in runtimes])
    print()
    show.table(("TOOL", "FOUND AT"), [(tool, path or "missing") for tool, path in tools.items()])
    remedies = [capability for capability in capabilities if not capability["available"] and capability["remedy"]]
    if remedies:
        print("\nWhat to do:")
        for capability in remedies:
            print(f"  {capability['name']}: {capability['remedy']}")


def _ceiling(bounds: list[Bound]) -> None:
    rows = [(bound.name, f"{bound.environments:,}", bound.detail) for bound in bounds]
    show.table(("SUFFICES FOR", "ENVIRONMENTS", "DETAIL"), rows, right=("ENVIRONMENTS",))
    first = bounds[0]
    remedy = f" To hold more: {first.remedy}." if first.remedy else ""
    print(f"This machine holds about {first.environments:,} idle Python environments; "
          f"it is limited by {first.name}.{remedy}")  # fmt: skip


async def _runtimes(environ: dict[str, str]) -> list[dict[str, Any]]:
    """Every runtime that Lambent can run, with the interpreter that this machine has for it, or None."""
    from lambent.runtimes.catalog import CATALOG
    from lambent.runtimes.interpreters import find

    entries = [entry for entry in CATALOG.values() if entry.interpreted and entry.unsupported is None]
    found = [await find(entry, environ) for entry in entries]
    return [
        {"runtime": entry.identifier, "interpreter": str(one[0].program) if one else None,
         "version": one[0].version if one else None}
        for entry, one in zip(entries, found, strict=True)
    ]  # fmt: skip


def _capability(capability: dict[str, Any]) -> tuple[str, ...]:
    return capability["name"], "yes" if capability["available"] else "no", capability["detail"]


def _runtime(runtime: dict[str, Any]) -> tuple[str, ...]:
    return runtime["runtime"], runtime["interpreter"] or "not on this machine", runtime["version"] or "-"
