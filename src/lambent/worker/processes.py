"""The processes of one environment, by participant: started, heard of and killed.

A start takes a while, and meanwhile all may be killed, or one, or the environment may end. So processes have a
generation: a new one begins when all are killed, and what an earlier one still reports says nothing. Who is started,
and what an exit means, is decided in `core.environment`; `driver` brings its effects.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from lambent.core.events import RUNTIME
from lambent.core.model import ExitStatus
from lambent.runtimes.prepared import BootstrapMissing
from lambent.sandbox.base import Process, ProcessSpec, Sandbox, SandboxError
from lambent.worker.chronicle import Chronicle


class Processes:
    """`exited` is told of those of this generation. What they write goes to the chronicle."""

    def __init__(self, chronicle: Chronicle, exited: Callable[[str, ExitStatus], None]) -> None:
        self.running: dict[str, Process] = {}
        self._sandbox: Sandbox | None = None  #: where they run; None before the first
        self._chronicle = chronicle
        self._told = exited
        self._generation = 0
        self._doomed: set[str] = set()  #: to be killed as soon as they are there
        self._ended = False

    async def run(self, participant: str, sandbox: Sandbox, spec: Callable[[], ProcessSpec]) -> None:
        """Start one. Raises BootstrapMissing and SandboxError, unless all were to be killed meanwhile."""
        self._sandbox = sandbox
        generation = self._generation
        process: Process | None = None
        early: list[ExitStatus] = []  # it may end before we know its pid

        def exited(exit: ExitStatus) -> None:
            if process is None:
                early.append(exit)
            else:
                self._exited(participant, process, exit, generation)

        try:
            process = await sandbox.run(spec(), exited)
        except (BootstrapMissing, SandboxError):
            if generation != self._generation:
                return  # killed before it had begun
            raise
        if self._ended:
            os.close(process.output)
            return
        self._chronicle.listen(process, extension=participant != RUNTIME)
        if early:
            self._exited(participant, process, early[0], generation)
        elif generation == self._generation:
            self.running[participant] = process
            if participant in self._doomed:
                sandbox.signal(process.pid, signal.SIGKILL)
        else:
            sandbox.signal(process.pid, signal.SIGKILL)

    def _exited(self, participant: str, process: Process, exit: ExitStatus, generation: int) -> None:
        self._chronicle.stop_listening(process)
        if self.running.get(participant) is process:
            del self.running[participant]
        if generation == self._generation:
            self._told(participant, exit)

    def signal(self, participant: str, signum: int) -> bool:
        """Send a signal; False when there is no such process."""
        process = self.running.get(participant)
        if process is None or self._sandbox is None:
            return False
        self._sandbox.signal(process.pid, signum)
        return True

    def kill(self, participant: str) -> None:
        """Now, or as soon as it is there."""
        if not self.signal(participant, signal.SIGKILL):
            self._doomed.add(participant)

    def next_generation(self) -> None:
        """All are to be killed."""
        self._generation += 1
        self._doomed.clear()

    def end(self) -> None:
        """The environment ends: nothing that starts is listened to any more."""
        self._generation += 1
        self._ended = True

    def stop_listening(self) -> None:
        """The sandbox is gone, and all that ran in it."""
        for process in self.running.values():
            self._chronicle.stop_listening(process)
        self.running.clear()
