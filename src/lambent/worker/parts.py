"""What an environment's driver is given: the host's facilities, and the questions that need more than one of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lambent.clock import Clock
from lambent.core.events import RUNTIME
from lambent.core.model import ExitStatus, FunctionVersion, InitType
from lambent.errors import ApiError
from lambent.http1_parse import Pace
from lambent.runtimeapi.peer import PeerLookup
from lambent.runtimes.catalog import RuntimeUnavailable
from lambent.runtimes.launching import launch_problem
from lambent.runtimes.preparation import Runtimes
from lambent.runtimes.prepared import PreparedRuntime
from lambent.sandbox.base import ProcessSpec, Sandbox, SandboxBackend, SandboxError
from lambent.store.references import opt_name
from lambent.telemetry.logstores import LogStores
from lambent.worker import layout
from lambent.worker.awake import Awake
from lambent.worker.base import Owner
from lambent.worker.blanks import Blanks
from lambent.worker.codes import Codes
from lambent.worker.packages import PackageStore
from lambent.worker.spare import SpareTime
from lambent.worker.turns import Turns

if TYPE_CHECKING:
    from lambent.worker.driver import Driver

#: Of the loop's time, what strangers may take at the doors of environments that are started. These wait for connections
#: of their own, and whoever finds the backlog full tries again only after a second. With 0.4 that was one of ten while
#: a function of one processor knocked as fast as it could, with 0.6 one of several hundred.
AT_START_SHARE = 0.6


@dataclass(slots=True, eq=False)
class Parts:
    """Shared by all drivers of a worker."""

    clock: Clock
    backend: SandboxBackend
    runtimes: Runtimes
    packages: PackageStore
    logs: LogStores
    owner: Owner
    network: str
    peers: PeerLookup | None
    blanks: Blanks
    codes: Codes
    ended: Callable[[Driver], None]
    spare: SpareTime
    turns: Turns
    awake: Awake
    limit_bandwidth: bool = False  #: of streamed responses, as AWS does
    short_of_memory: bool = False  #: all environments together are close to what they may use
    strangers: Pace = field(init=False)  #: those who knock at a Runtime API that is not theirs
    strangers_at_start: Pace = field(init=False)  #: while its environment is started

    def __post_init__(self) -> None:
        self.strangers = Pace(self.clock.monotonic)
        self.strangers_at_start = Pace(self.clock.monotonic, AT_START_SHARE)

    async def create_sandbox(self, environment_id: str, function: FunctionVersion,
                             on_death: Callable[[str], None]) -> Sandbox:
        """A sandbox with this function's code, layers, interpreter and runtime. Raises SandboxError or OSError."""
        try:
            task = await self.packages.unpack(function.code_sha256)
            opt = await self.packages.opt(function.layers)
        except ApiError as error:  # it could be unpacked before: the blob has been spoilt since
            raise SandboxError(error.message) from None
        runtime = await self._runtime(function)
        codes = self.compiled(function, runtime)
        spec = layout.sandbox_spec(environment_id, function, runtime, task, opt, self.network, codes)
        blank = await self.blanks.take(runtime, function, spec, on_death)
        return blank or await self.backend.create(spec, on_death)

    def compiled(self, function: FunctionVersion, runtime: PreparedRuntime) -> tuple[Path | None, Path | None]:
        """Byte code of the function's package and of its layers, which are unpacked; what is missing is made soon."""
        opt = self.codes.of(opt_name(function.layers), "/opt", runtime) if function.layers else None
        return self.codes.of(function.code_sha256, "/var/task", runtime), opt

    async def _runtime(self, function: FunctionVersion) -> PreparedRuntime:
        # At once for one that this server prepared; after a restart, or when a cache was emptied, it is made here.
        try:
            return await self.runtimes.prepare(function.runtime)
        except RuntimeUnavailable as error:
            raise SandboxError(str(error)) from None

    def extensions(self, function: FunctionVersion) -> tuple[str, ...]:
        """External extensions to launch: the files in /opt/extensions, by name. Raises SandboxError.

        As on AWS also those that cannot be executed, so that somebody is told.
        """
        opt = self.packages.opt_path(function.layers)
        folder = opt / "extensions" if opt is not None else None
        if folder is None or not folder.is_dir():
            return ()
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found if not entry.is_dir(follow_symlinks=False))
        if RUNTIME in names:
            raise SandboxError(f"a layer holds an extension of the name {RUNTIME}, which the runtime has")
        return tuple(names)

    def told_why(self, function: FunctionVersion, name: str, exit: ExitStatus) -> ExitStatus:
        """The end of a process that could not be executed, with the reason, as far as its file tells."""
        opt = self.packages.opt_path(function.layers)
        if exit.code not in (126, 127):
            return exit
        if name != RUNTIME:
            return replace(exit, unlaunched=launch_problem(opt / "extensions" / name)) if opt is not None else exit
        runtime = self.runtimes.get(function.runtime)
        if runtime.family != "provided":
            return exit
        for folder, place in ((self.packages.path(function.code_sha256), "/var/task"), (opt, "/opt")):
            file = folder / "bootstrap" if folder is not None else None
            if file is not None and file.is_file() and os.access(file, os.X_OK):
                problem = launch_problem(file)
                return replace(exit, unlaunched=f"fork/exec {place}/bootstrap: {problem}") if problem else exit
        return exit

    def process_spec(self, function: FunctionVersion, sandbox: Sandbox, log_stream: str,
                     participant: str, init_type: InitType, metadata_token: str) -> ProcessSpec:
        """How to start the runtime or an extension. Raises BootstrapMissing."""
        runtime = self.runtimes.get(function.runtime)
        places = sandbox.places
        row = layout.variables(function, runtime, places, api_address=sandbox.api_address, log_stream=log_stream,
                               init_type=init_type, metadata_token=metadata_token)
        if participant != RUNTIME:
            command: tuple[str, ...] = (f"{places.opt}/extensions/{participant}",)
            return ProcessSpec(command, layout.extension_variables(row), places.task)
        task = self.packages.path(function.code_sha256)
        opt = self.packages.opt_path(function.layers)
        return ProcessSpec(runtime.command(places, function, task=task, opt=opt), row, places.task)

    def complain(self, line: str) -> None:
        """One line for the operator."""
        print(f"lambent: {line}", file=sys.stderr, flush=True)
