"""The house's lines: which module may import which, what `core` must not touch, who may read time and environment."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "lambent"

#: "The rows" of docs/design.md, lowest first. A module imports from lower rows, and within its own package.
ROWS: dict[str, int] = {
    "": 0, "names": 0, "limits": 0, "errors": 0, "settings": 0, "clock": 0, "callers": 0, "http1": 0,
    "http1_connection": 0, "http1_parse": 0, "price": 0, "eventstream": 0,
    "core": 1,
    "sandbox": 2, "runtimeapi": 2, "runtimes": 2, "telemetry": 2, "store": 2,
    "dispatcher": 3, "worker": 3,
    "frontend": 4, "control": 4,
    "cli": 5, "client": 5, "testing": 5,
    "platform": 6, "__main__": 6,
}  # fmt: skip

#: Imports that break the rule, each with its reason.
EXCEPTIONS = {
    ("dispatcher", "worker.base"): "the contract of the worker that it drives",
    ("cli.up", "platform"): "runs the server in this process",
    ("cli.up", "sandbox.base"): "its errors become one line",
    ("cli.up", "store.directory"): "its errors become one line",
}

#: pytest is what loads the plugin; boto3 is asked for by tests that have it.
NEEDS_WHAT_TESTS_HAVE = {("testing.plugin", "pytest"), ("testing.platform", "boto3")}

#: What the pure machines may use of the standard library.
PURE = {"__future__", "bisect", "collections", "collections.abc", "dataclasses", "enum", "heapq", "math", "typing"}


def modules() -> list[tuple[str, ast.Module]]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if "bootstrap" in name.split("."):
            continue  # runs inside environments, not in the platform
        found.append((name.removesuffix(".__init__").removesuffix("__init__"), ast.parse(path.read_text("utf-8"))))
    return found


def imports(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            if node.module == "lambent":
                found += [f"lambent.{alias.name}" for alias in node.names]
            else:
                found.append(node.module)
    return found


def row(module: str) -> int:
    return ROWS[module.split(".")[0]]


def test_imports_go_downwards_only() -> None:
    broken = []
    for module, tree in modules():
        for name in imports(tree):
            target = name.removeprefix("lambent").removeprefix(".")
            if not name.startswith("lambent") or target == "__version__":
                continue
            if target.split(".")[0] == module.split(".")[0] or (module, target) in EXCEPTIONS:
                continue
            if row(target) > row(module) or (row(target) == row(module) and row(module) not in (0, 3, 5, 6)):
                broken.append(f"{module} imports {target}: imports go downwards (docs/design.md, The rows)")
    assert broken == []


def test_core_is_pure() -> None:
    broken = [
        f"{module} imports {name}: decisions have no clock, randomness, IO or logging (design, section 2)"
        for module, tree in modules()
        if module.split(".")[0] == "core"
        for name in imports(tree)
        if not name.startswith("lambent.core") and name not in PURE | {"lambent.limits", "lambent.names"}
    ]
    broken += [
        f"{module} awaits"
        for module, tree in modules()
        if module.split(".")[0] == "core"
        for node in ast.walk(tree)
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await))
    ]
    assert broken == []


def _reads(tree: ast.Module, owner: str, names: set[str]) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr in names and isinstance(node.value, ast.Name)
        and node.value.id == owner
        for node in ast.walk(tree)
    )  # fmt: skip


def test_only_settings_reads_the_environment() -> None:
    readers = [module for module, tree in modules() if _reads(tree, "os", {"environ", "getenv", "environb"})]
    # Process 1's Python fallback runs inside a sandbox, where there are no settings.
    assert [module for module in readers if module not in ("settings", "sandbox.namespace.first")] == []


def test_only_the_clock_reads_time() -> None:
    readers = [module for module, tree in modules() if _reads(tree, "time", {"time", "monotonic", "time_ns"})]
    readers += [module for module, tree in modules() if _reads(tree, "datetime", {"now", "utcnow", "today"})]
    assert [module for module in readers if module not in ("clock",)] == []


def test_no_dependency_is_used_that_is_not_declared() -> None:
    declared = {"httptools", "msgspec", "regex", "rich", "typer", "uvloop", "click", "lambent"}
    used = {name.split(".")[0] for module, tree in modules() for name in imports(tree)
            if (module, name) not in NEEDS_WHAT_TESTS_HAVE}  # fmt: skip
    assert used - declared - set(sys.stdlib_module_names) == set()
