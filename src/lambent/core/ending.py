"""How the processes of an environment are ended, by a reset as by a shutdown: the steps, and AWS's time for each.

Without extensions they are killed at once. Otherwise the runtime is asked to end and has its share of the time; then
external extensions that want to know are told and have the rest, while the others are killed; then everything is
killed. Facts: fact sheet 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping

from lambent import limits
from lambent.core.effects import DeliverShutdown, Effect, KillProcess, SignalRuntime, Terminate
from lambent.core.states import Extension, State, Stopping

_FAILED = (State.FAILED, State.EXITING)


class Ending:
    """One reset or shutdown. Each step returns its effects; `deadline` is when the next one is due at the latest."""

    __slots__ = ("_last", "_reason", "deadline", "stage")

    def __init__(self, at: float, reason: str, extensions: Mapping[str, Extension]) -> None:
        """`reason` is what extensions are told: spindown, timeout or failure."""
        registered = [extension for extension in extensions.values() if extension.state is not State.STARTED]
        external = any(extension.external for extension in registered)
        budget = limits.SHUTDOWN_EXTERNAL_S if external else limits.SHUTDOWN_INTERNAL_S
        share = limits.RUNTIME_SHARE_OF_SHUTDOWN if external else 1.0
        self._reason = reason
        self._last = at + budget
        self.stage = Stopping.RUNTIME
        self.deadline: float | None = at + budget * share
        if not registered:
            self.stage, self.deadline = Stopping.KILLED, None

    def begin(self, runtime: State, extensions: Mapping[str, Extension]) -> list[Effect]:
        if self.stage is Stopping.KILLED:
            return [Terminate()]
        if runtime is State.ABSENT:
            return self.go_on(runtime, extensions)
        return [SignalRuntime()]

    def go_on(self, runtime: State, extensions: Mapping[str, Extension], late: bool = False) -> list[Effect]:
        """A process has ended, or with `late` the deadline has passed."""
        if self.stage is Stopping.RUNTIME and (late or runtime is State.ABSENT):
            return self._tell(runtime, extensions)
        if self.stage is Stopping.EXTENSIONS and (late or not any(_wants_to_know(one) for one in extensions.values())):
            return self._kill()
        return []

    def _tell(self, runtime: State, extensions: Mapping[str, Extension]) -> list[Effect]:
        # One that is busy gets the event when it asks for more; one that has failed is only waited for.
        told = [name for name, one in extensions.items() if _wants_to_know(one) and one.state not in _FAILED]
        if not told:
            return self._kill()
        self.stage = Stopping.EXTENSIONS
        self.deadline = self._last
        effects: list[Effect] = [] if runtime is State.ABSENT else [SignalRuntime(kill=True)]
        effects += [KillProcess(name) for name, one in extensions.items() if one.external and not one.shutdown]
        for name in told:
            extensions[name].state = State.BUSY
            effects.append(DeliverShutdown(name, self._reason, self._last))
        return effects

    def _kill(self) -> list[Effect]:
        self.stage, self.deadline = Stopping.KILLED, None
        return [Terminate()]


def _wants_to_know(extension: Extension) -> bool:
    return extension.external and extension.shutdown
