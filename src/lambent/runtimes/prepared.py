"""A runtime that is ready on this host: where its parts are, how to start it, what it adds to the environment.

Knows nothing of sandboxes: places are any object that says where a guest finds things. Who sets which variable:
this module those of the runtime's row in fact sheet 9.8 (`environment`); the worker everything that belongs to the
function and the environment (name, version, memory, region, log names, credentials, AWS_LAMBDA_RUNTIME_API and
the customer's own variables).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lambent.core.model import FunctionVersion
from lambent.runtimes.catalog import Family


class Places(Protocol):
    """Where a guest finds things."""

    @property
    def task(self) -> str: ...
    @property
    def opt(self) -> str: ...
    @property
    def runtime(self) -> str: ...
    @property
    def lang(self) -> str: ...


class BootstrapMissing(Exception):
    """A `provided.*` function has no executable `bootstrap`. AWS answers with an init error of this type."""

    def __init__(self, candidates: tuple[str, ...]) -> None:
        super().__init__(f"Couldn't find valid bootstrap(s): [{' '.join(candidates)}]")
        self.candidates = candidates


#: Variables of a runtime's row that a customer may replace (page "Using Lambda environment variables").
REPLACEABLE = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_CTYPE", "TZ", "PYTHONPATH", "NODE_PATH")


#: Customer variables that interpreter, loader or C library read when a process starts, by their beginnings.
_READ_AT_START = ("PYTHON", "NODE_", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OPENSSL_", "UV_",
                  "AWS_LAMBDA_EXEC_WRAPPER")  # fmt: skip


@dataclass(frozen=True, slots=True)
class PreparedRuntime:
    """Made by `Runtimes.prepare`; valid for the life of the server."""

    identifier: str  #: as the function asks
    actual: str  #: as in `python3.11` where the nearest version stands in
    family: Family
    line: str  #: the version of the interpreter as identifiers name it: `3.12`, `20`; empty for provided.*
    lang: tuple[tuple[Path, str], ...]  #: (host path, path below /var/lang), in the order in which they are bound
    host_lang: str  #: the interpreter's real prefix, for a backend that isolates nothing
    runtime_dir: Path | None  #: shown at /var/runtime; None for provided.*
    version_label: str  #: as INIT_START prints it: `python:3.12.v1`
    switched_off: tuple[str, ...] = ()  #: features of Node.js that AWS's builds of it do not have on, by their flags

    def command(self, places: Places, function: FunctionVersion, *, task: Path, opt: Path | None) -> tuple[str, ...]:
        """The runtime process's argv. `task` and `opt` are the host's folders of code and layers.

        Raises BootstrapMissing for a `provided.*` function without one. A managed runtime is started through
        AWS_LAMBDA_EXEC_WRAPPER when the function sets it; a wrapper that is missing fails when it is executed
        (exit status 127, as on AWS).
        """
        if self.family == "provided":
            return (find_bootstrap(places, task, opt),)
        if self.family == "python":
            python = f"{places.lang}/bin/python{self.line}"
            argv: tuple[str, ...] = (python, *_python_flags(function), f"{places.runtime}/bootstrap.py")
        else:
            argv = (f"{places.lang}/bin/node", *_node_flags(function, self.switched_off), f"{places.runtime}/index.cjs")
        wrapper = function.environment.get("AWS_LAMBDA_EXEC_WRAPPER")
        return (_placed(wrapper, places), *argv) if wrapper else argv

    @property
    def compiler(self) -> tuple[str, ...] | None:
        """The command that compiles the folder that follows, at AWS's places; None where nothing is compiled."""
        if self.family != "python":
            return None
        return (f"/var/lang/bin/python{self.line}", "-I", "-S", "/var/runtime/compile_code.py")

    def environment(self, places: Places, function: FunctionVersion) -> dict[str, str]:
        """The variables of this runtime's row, to be laid over the customer's.

        A replaceable variable that the customer set keeps the customer's value (with the folder that the interpreter
        needs to start appended to LD_LIBRARY_PATH), so laying this mapping over the customer's gives the result.
        """
        row = self.default_environment(places) | {"_HANDLER": function.handler}
        for name in REPLACEABLE:
            if name in row and name in function.environment:
                row[name] = function.environment[name]
        needed = f"{places.lang}/lib"
        if self.lang and needed not in row["LD_LIBRARY_PATH"].split(":"):
            row["LD_LIBRARY_PATH"] = ":".join(filter(None, (row["LD_LIBRARY_PATH"], needed)))
        return row

    def default_environment(self, places: Places) -> dict[str, str]:
        """The variables of this runtime's row for a function that has none of its own."""
        row = {
            "PATH": f"{places.lang}/bin:/usr/local/bin:/usr/bin/:/bin:{places.opt}/bin",
            "LD_LIBRARY_PATH": ":".join((
                f"{places.lang}/lib", "/lib64", "/usr/lib64", places.runtime, f"{places.runtime}/lib",
                places.task, f"{places.task}/lib", f"{places.opt}/lib")),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": places.task,
            "LAMBDA_RUNTIME_DIR": places.runtime,
        }  # fmt: skip
        if self.family != "provided":
            row |= {"AWS_EXECUTION_ENV": f"AWS_Lambda_{self.identifier}", "PWD": places.task, "SHLVL": "0"}
        if self.family == "python":
            row |= _python_row(places, self.line)
        elif self.family == "nodejs":
            row["NODE_PATH"] = ":".join((
                f"{places.opt}/nodejs/node{self.line}/node_modules", f"{places.opt}/nodejs/node_modules",
                f"{places.runtime}/node_modules", places.runtime, places.task))  # fmt: skip
        return row


@dataclass(frozen=True, slots=True)
class BlankKind:
    """What a runtime cannot change about itself once it runs: functions that agree in it can share parked blanks."""

    runtime: PreparedRuntime
    argv: tuple[str, ...]  #: of the process that waits; empty for a bare sandbox, in which nothing runs yet
    network: str

    def environment(self, places: Places) -> dict[str, str]:
        """What the runtime starts with; the function's whole environment takes its place."""
        row = self.runtime.default_environment(places)
        return row | {"LAMBENT_PARKED": "1"}


def blank_kind(runtime: PreparedRuntime, places: Places, function: FunctionVersion, network: str) -> BlankKind:
    """The kind of blank that can become this function's: a bare one where only a process of its own will do."""
    if runtime.family == "provided":  # whichever it is, the sandbox is the same
        runtime = replace(runtime, identifier=runtime.family, actual=runtime.family, version_label="")
        return BlankKind(runtime, (), network)
    if any(name.startswith(_READ_AT_START) for name in function.environment):
        return BlankKind(runtime, (), network)
    nowhere = Path()  # only custom runtimes look at the package
    return BlankKind(runtime, runtime.command(places, function, task=nowhere, opt=None), network)


def bootstrap_candidates(places: Places) -> tuple[str, ...]:
    """Where a custom runtime's program may be, in order (fact sheet 2.7)."""
    return (f"{places.task}/bootstrap", f"{places.opt}/bootstrap")


def find_bootstrap(places: Places, task: Path, opt: Path | None) -> str:
    """The custom runtime's program as the guest sees it, looked up in the host's folders, or BootstrapMissing."""
    candidates = bootstrap_candidates(places)
    for folder, candidate in zip((task, opt), candidates, strict=True):
        if folder is None:
            continue
        file = folder / "bootstrap"
        # A link may point to a place that exists only inside (/opt/...): following it is the guest's business.
        if file.is_symlink() or (file.is_file() and file.stat().st_mode & 0o111):
            return candidate
    raise BootstrapMissing(candidates)


def _python_row(places: Places, line: str) -> dict[str, str]:
    row = {"PYTHONPATH": places.runtime}
    if places.opt != "/opt":  # the bootstrap knows AWS's place of layers only
        row["PYTHONPATH"] = f"{places.opt}/python/lib/python{line}/site-packages:{places.opt}/python:{places.runtime}"
    if int(line.split(".")[1]) >= 12:
        row["LC_CTYPE"] = "C.UTF-8"
    return row


def _python_flags(function: FunctionVersion) -> tuple[str, ...]:
    """Without `site`, which takes two milliseconds of a cold start; the bootstrap does what functions see of it.

    Not where somebody may count on `sitecustomize`: instrumentation layers bring one by a wrapper and PYTHONPATH.
    """
    counted_on = any(name.startswith("PYTHON") or name == "AWS_LAMBDA_EXEC_WRAPPER" for name in function.environment)
    return () if counted_on else ("-S",)


def switched_off(node_version: str) -> tuple[str, ...]:
    """What AWS switches off: requiring ES modules up to 22, and telling them by their syntax in 22.

    Only what this version has a flag for, or it would not start. Page "Building Lambda functions with Node.js".
    """
    major, minor = (int(part) for part in node_version.split(".")[:2])
    if major == 20:
        return ("require-module",) if minor >= 17 else ()
    return ("require-module", "detect-module") if major == 22 else ()


def _node_flags(function: FunctionVersion, switched_off: tuple[str, ...]) -> tuple[str, ...]:
    """Heap sizes by memory: nine tenths for the old generation, a twentieth for a semi-space, in MiB."""
    flags = ["--expose-gc", "--max-http-header-size=81920"]
    customer = function.environment.get("NODE_OPTIONS", "").replace("_", "-")
    if "--max-semi-space-size" not in customer:
        flags.append(f"--max-semi-space-size={max(1, function.memory_mib * 5 // 100)}")
    if "--max-old-space-size" not in customer:
        flags.append(f"--max-old-space-size={function.memory_mib * 9 // 10}")
    flags += [f"--no-experimental-{name}" for name in switched_off if f"--experimental-{name}" not in customer]
    return tuple(flags)


def _placed(path: str, places: Places) -> str:
    """A path in AWS's places as the guest of this backend finds it."""
    for prefix, place in (("/opt", places.opt), ("/var/task", places.task)):
        if path == prefix or path.startswith(prefix + "/"):
            return place + path[len(prefix):]
    return path
