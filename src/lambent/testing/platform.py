"""The platform and its functions, as a test has them. `facts` has what is asserted on, `chaos` what is provoked."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lambent.cli.deploy import deploy_folder, name_of
from lambent.cli.exits import Stop
from lambent.client import Client
from lambent.errors import ApiError
from lambent.testing.chaos import Chaos
from lambent.testing.facts import Environment, Result, result_of, timeline


class DeploymentFailed(Exception):
    """A folder cannot become a function that can be invoked; the message says why."""


class Lambent:
    """A running platform. May be used from many threads."""

    def __init__(self, endpoint: str, token: str, root: Path) -> None:
        self.endpoint = endpoint
        self.chaos = Chaos(self._client)
        self._token = token
        self._root = root  #: relative folders are below it
        self._local = threading.local()
        self._clients: list[Any] = []  #: ours, one for each thread, and those that the test asked for
        self._functions: dict[str, Function] = {}

    def another(self) -> Lambent:
        """The same platform, with memory of its own."""
        return Lambent(self.endpoint, self._token, self._root)

    def _client(self) -> Client:
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = Client(self.endpoint, token=self._token)
            self._clients.append(client)
        return client

    def deploy(self, folder: str | Path, *, name: str | None = None, handler: str | None = None,
               runtime: str | None = None, env: Mapping[str, str] | None = None, memory: int | None = None,
               timeout: int | None = None, ephemeral: int | None = None) -> Function:
        """Create or update a function from a folder, as `lambent deploy` does, and wait until it can be invoked.

        A relative folder is one below pytest's rootdir. Raises DeploymentFailed, and ApiError for a value that the API
        does not take.
        """
        path = self._root / folder
        name = name or name_of(path)
        wanted: dict[str, Any] = {"Handler": handler, "Runtime": runtime, "MemorySize": memory, "Timeout": timeout}
        wanted["Environment"] = None if env is None else {"Variables": dict(env)}
        wanted["EphemeralStorage"] = None if ephemeral is None else {"Size": ephemeral}
        members = {member: value for member, value in wanted.items() if value is not None}
        try:
            deploy_folder(self._client(), path, name, members)
        except Stop as stop:
            raise DeploymentFailed(str(stop)) from None
        return self.function(name)

    def function(self, name: str) -> Function:
        """A function that is there already. Raises ApiError when it is not."""
        if name not in self._functions:
            self._client().configuration(name)
            self._functions[name] = Function(name, self)
        return self._functions[name]

    def client(self, service: str = "lambda", **more: Any) -> Any:
        """A boto3 client for this platform: `lambda`, `logs`, `sts`, `iam`. `more` goes to boto3 as it is."""
        try:
            import boto3
        except ImportError:
            raise RuntimeError("boto3 is not installed: pip install boto3") from None
        session = boto3.Session("test", "test", region_name="us-east-1")
        made = session.client(service, **{"endpoint_url": self.endpoint, **more})
        self._clients.append(made)
        return made

    def environments(self) -> list[Environment]:
        """Every environment that lives now."""
        return [Environment(str(row["id"]), self._client) for row in self._client().environments()]

    def end(self) -> None:
        """Disarm everything, end the environments of the functions that were used, and let go of all clients."""
        try:
            self.chaos.clear()
            for function in self._functions.values():
                try:
                    self.chaos.recycle(function)
                except ApiError as error:
                    if error.status != 404:  # the test may have deleted it
                        raise
        finally:
            self.close()

    def close(self) -> None:
        """Let go of all clients."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._local = threading.local()


class Function:
    """A function on a platform. What it counts begins when this was made."""

    def __init__(self, name: str, platform: Lambent) -> None:
        self.name = name
        self._platform = platform
        #: request ids of earlier invocations, by environment
        self._before = {story["id"]: {row["request_id"] for row in story["invocations"]}
                        for story in self._told()["environments"]}  # fmt: skip

    def __repr__(self) -> str:
        return f"<function {self.name}>"

    def invoke(self, event: Any = None, *, qualifier: str | None = None) -> Result:
        """Run it once, with the log. `event` is what json.dumps takes, or bytes as they are; None: `{}`.

        A failing function is a result; ApiError is raised when it was not run, as by a throttle.
        """
        payload = event if isinstance(event, bytes) else json.dumps({} if event is None else event).encode()
        name = self.name if qualifier is None else f"{self.name}:{qualifier}"
        return result_of(self.name, self._platform._client().invoke(name, payload), self._platform._client)

    def invoke_at_once(self, *events: Any) -> list[Result]:
        """Run it for all of these events at the same time, each in a thread; the results in the order of the events."""
        with ThreadPoolExecutor(max(1, len(events))) as pool:
            return list(pool.map(self.invoke, events))

    def _told(self) -> dict[str, Any]:
        return self._platform._client().function_story(self.name)

    def _stories(self) -> list[dict[str, Any]]:
        """The lives of the environments that did something since this was made; each settled."""
        stories = []
        for story in self._told()["environments"]:
            if story["phase"] not in ("idle", "gone"):
                story = self._platform._client().story(story["id"], wait="idle")
            before = self._before.get(story["id"])
            recent = [row for row in story["invocations"] if row["request_id"] not in (before or ())]
            if before is None or recent:
                stories.append(story | {"invocations": recent})
        return stories

    @property
    def environments(self) -> list[Environment]:
        """Those that were started or used since, alive or ended, the oldest first. Waits until each is at rest."""
        return [Environment(story["id"], self._platform._client) for story in self._stories()]

    @property
    def invocations(self) -> list[dict[str, Any]]:
        """Since, by time; whoever invoked. Members as in `Environment.invocations`."""
        found = [row for story in self._stories() for row in story["invocations"]]
        return sorted(found, key=lambda row: str(row["started_at"]))

    @property
    def cold_starts(self) -> int:
        return sum(row["start"] == "cold" for row in self.invocations)

    @property
    def billed_ms(self) -> int:
        """All invocations together."""
        return sum(int(row["billed_ms"]) for row in self.invocations)

    @property
    def throttled(self) -> int:
        """Calls that were throttled because the test asked for it, since the server started."""
        return len(self._told()["throttled"])

    @property
    def log(self) -> str:
        """What the environments since wrote, in order of time."""
        return "".join(self._messages())

    def _messages(self) -> Sequence[str]:
        stories = self._stories()
        streams = {story["log_stream"] for story in stories}
        if not stories:
            return []
        events = self._platform._client().log_events(stories[-1]["log_group"], 0)
        return [event["message"] for event in events if event.get("logStreamName") in streams]

    def assert_cold_starts(self, expected: int) -> None:
        __tracebackhide__ = True
        found = self.cold_starts
        if found != expected:
            raise AssertionError(f"{self.name} had {found} cold starts, not {expected}\n{self._explained()}")

    def assert_environments(self, expected: int) -> None:
        """So many environments were started or used."""
        __tracebackhide__ = True
        found = len(self._stories())
        if found != expected:
            raise AssertionError(f"{self.name} had {found} environments, not {expected}\n{self._explained()}")

    def assert_logged(self, text: str) -> None:
        """Somewhere in the log of the environments since."""
        __tracebackhide__ = True
        log = self.log
        if text not in log:
            shown = "\n".join(f"    {line}" for line in log.splitlines()[-50:]) or "    (nothing)"
            raise AssertionError(f"{text!r} is not in the log of {self.name}, whose end is\n{shown}")

    def assert_billed(self, at_most_ms: int) -> None:
        """All invocations together."""
        __tracebackhide__ = True
        found = self.billed_ms
        if found > at_most_ms:
            raise AssertionError(f"{self.name} was billed {found} ms, more than {at_most_ms} ms\n{self._explained()}")

    def _explained(self) -> str:
        stories = self._stories()
        rows = [f"  {row['started_at']}  {row['start']}  {row['duration_ms']} ms, billed {row['billed_ms']} ms  "
                f"{row['status']}  in {story['id']}" for story in stories for row in story["invocations"]]  # fmt: skip
        return "\n".join((*sorted(rows), *(timeline(story) for story in stories)))
