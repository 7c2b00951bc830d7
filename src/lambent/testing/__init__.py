"""A platform for tests: deploy a folder, invoke, provoke, and assert on what really happened (`docs/testing.md`).

pytest finds `plugin` by itself and imports it at every start, so nothing is imported here before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lambent.errors import ApiError
    from lambent.testing.chaos import Chaos
    from lambent.testing.facts import Environment, Result
    from lambent.testing.platform import DeploymentFailed, Function, Lambent

__all__ = ["ApiError", "Chaos", "DeploymentFailed", "Environment", "Function", "Lambent", "Result"]

_HOMES = {"ApiError": "lambent.errors", "Chaos": "lambent.testing.chaos", "Environment": "lambent.testing.facts",
          "Result": "lambent.testing.facts"}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "lambent.testing.platform")), name)
