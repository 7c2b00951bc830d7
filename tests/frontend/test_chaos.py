"""What can be provoked over the management API: who may, what is answered, and every way to ask for it wrongly."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from lambent.clock import Clock
from lambent.core.keepalive.fixed import Fixed
from lambent.core.model import Invocation
from lambent.core.scheduler import Scheduler
from lambent.dispatcher import Dispatcher
from lambent.frontend.chaos import ChaosApi
from lambent.frontend.management import Management

from .front_door import ACCOUNT, ARN, REGION, TOKEN, Client, FrontDoor

CHAOS = "/_lambent/chaos"


class FakeWorker:
    """Environments that are there and do what they are told, but end only when the test says so."""

    def __init__(self) -> None:
        self.retired: list[tuple[int, str]] = []
        self.crashed: list[tuple[int, str]] = []
        self.alive: set[int] = set()
        self.idle: set[int] = set()
        self.runs = True

    def start(self, number: int, invocation: Invocation) -> None:
        self.alive.add(number)

    def retire(self, number: int, reason: str, *, force: bool = False) -> None:
        self.retired.append((number, reason))

    def at_rest(self, number: int) -> bool:
        return number not in self.alive or number in self.idle

    def story(self, environment_id: str) -> dict[str, Any]:
        return {"id": environment_id}

    def crash(self, number: int, participant: str) -> bool:
        self.crashed.append((number, participant))
        return self.runs

    def environments(self) -> list[dict[str, Any]]:
        return [{"id": f"e-{number}", "function_name": "f", "function_arn": ARN, "version": "$LATEST",
                 "phase": "idle"} for number in sorted(self.alive)]  # fmt: skip

    def stories(self, function_arn: str) -> list[dict[str, Any]]:
        return [{"id": "e-1"}] if function_arn == ARN else []

    def find(self, environment_id: str) -> int | None:
        number = int(environment_id.rpartition("-")[2])
        return number if number in self.alive else None

    def memory(self) -> None:
        return None

    async def stop(self) -> None:
        pass


class Door(FrontDoor):
    """The same edge, with a real dispatcher behind its management API."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        scheduler = Scheduler(account_limit=10, keep_alive=Fixed(600.0), max_age_s=14_400.0)
        self.real = Dispatcher(scheduler, self.clock)
        self.worker = FakeWorker()
        self.real.use(cast(Any, self.worker))
        provoking = ChaosApi(self.real, self.functions, self.clock, ACCOUNT, REGION)
        self.edge._management = Management(self.real, TOKEN, dict, lambda peer, own, tell: tell(False), provoking)

    def post(self, what: str, body: Any = None, method: str = "POST") -> tuple[int, dict[str, Any]]:
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        path = f"{CHAOS}/{what}" if what else CHAOS
        status, _, answer = self.ask(method, path, content, Authorization=f"Bearer {TOKEN}")
        return status, json.loads(answer)

    def later(self, what: str, body: Any) -> Client:
        """A request whose answer waits."""
        client = self.client()
        client.send("POST", f"{CHAOS}/{what}", json.dumps(body).encode(), Authorization=f"Bearer {TOKEN}")
        return client

    def call(self, request_id: str) -> None:
        """An invocation of f that nobody answers."""
        function = self.functions.route("f", None, None).function
        self.real.invoke(Invocation(request_id, function, b"{}", ARN), lambda outcome, served: None)

    def environment(self, *, idle: bool = True) -> int:
        self.call("r")
        number = max(self.worker.alive)
        if idle:
            self.worker.idle.add(number)
            self.real.idle(number)
        return number

    def end(self, number: int) -> None:
        self.worker.alive.discard(number)
        self.real.gone(number)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    made = Door()
    yield made
    for number in list(made.worker.alive):
        made.end(number)
    await made.real.stop(0.0)


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "recycle"), ("POST", "crash"), ("POST", "advance"), ("POST", "init-failures"), ("POST", "throttles"),
    ("DELETE", ""),
])  # fmt: skip
async def test_provoking_needs_the_token(door: Door, method: str, path: str) -> None:
    body = b'{"seconds": 60, "environment": "e-1"}'
    assert door.ask(method, f"{CHAOS}/{path}".rstrip("/"), body)[0] == 401
    assert door.clock.offset_s == 0 and door.worker.crashed == []


async def test_looking_needs_no_token(door: Door) -> None:
    status, _, body = door.ask("GET", CHAOS)
    state = json.loads(body)
    assert (status, state["armed"], state["provoked"], state["offset_s"]) == (200, [], [], 0.0)


async def test_recycling_an_idle_environment_is_answered_when_it_is_gone(door: Door) -> None:
    number = door.environment()
    client = door.later("recycle", {"environment": "e-1"})
    assert client.transport.written == b"" and door.worker.retired == [(number, "recycled (provoked)")]
    door.end(number)
    status, _, body = client.answer()
    assert (status, [(row["id"], row["busy"]) for row in json.loads(body)["retired"]]) == (200, [("e-1", False)])


async def test_recycling_a_function_takes_all_of_its_environments_and_waits_for_idle_ones_alone(door: Door) -> None:
    busy, idle = door.environment(idle=False), door.environment()
    client = door.later("recycle", {"function": "f"})
    assert {number for number, _ in door.worker.retired} == {busy, idle}
    door.end(idle)
    assert [(row["id"], row["busy"]) for row in json.loads(client.answer()[2])["retired"]] == [
        ("e-1", True), ("e-2", False)]  # fmt: skip


async def test_advancing_shows_what_that_retired(door: Door) -> None:
    number = door.environment()
    client = door.later("advance", {"seconds": 3600})
    door.end(number)
    status, _, body = client.answer()
    answer = json.loads(body)
    assert (status, answer["offset_s"]) == (200, 3600.0)
    assert [(row["id"], row["reason"]) for row in answer["retired"]] == [("e-1", "idle")]
    assert door.post("advance", {"seconds": 1})[1]["retired"] == []


async def test_caller_who_hangs_up_while_environments_end_harms_nobody(door: Door) -> None:
    number = door.environment()
    client = door.later("recycle", {"environment": "e-1"})
    client.hang_up()
    door.end(number)
    assert door.ask("GET", CHAOS)[0] == 200


async def test_crash_is_carried_to_the_environment(door: Door) -> None:
    door.environment()
    status, answer = door.post("crash", {"environment": "e-1"})
    assert (status, answer) == (202, {"environment": "e-1", "participant": "runtime", "phase": "idle"})
    assert door.post("crash", {"environment": "e-1", "participant": "agent"})[0] == 202
    assert door.worker.crashed == [(1, "runtime"), (1, "agent")]


async def test_crash_of_what_does_not_run_is_a_conflict_that_says_the_phase(door: Door) -> None:
    door.environment()
    door.worker.runs = False
    assert door.post("crash", {"environment": "e-1"}) == (
        409, {"message": "Environment e-1 is in the phase idle and has no runtime that runs."})  # fmt: skip
    status, answer = door.post("crash", {"environment": "e-1", "participant": "agent"})
    assert status == 409 and "no external extension 'agent' that runs" in answer["message"]


async def test_what_is_armed_is_shown_taken_told_and_cleared(door: Door) -> None:
    door.post("throttles", {"function": "f", "times": 2})
    door.post("throttles", {"reason": "CallerRateLimitExceeded"})
    state = door.post("init-failures", {"function": ARN, "failure": "timeout"})[1]
    assert [(row["what"], row["function"], row["how"], row["left"]) for row in state["armed"]] == [
        ("throttle", "f", "ConcurrentInvocationLimitExceeded", 2), ("throttle", None, "CallerRateLimitExceeded", None),
        ("init failure", "f", "timeout", 2)]  # fmt: skip
    door.call("r7")
    told = json.loads(door.ask("GET", "/_lambent/functions/f/story")[2])
    assert told["environments"] == [{"id": "e-1"}]
    assert [(row["request_id"], row["how"]) for row in told["throttled"]] == [
        ("r7", "ConcurrentInvocationLimitExceeded")]  # fmt: skip
    client = door.client()
    client.send("DELETE", f"{CHAOS}?function=f", Authorization=f"Bearer {TOKEN}")
    status, _, body = client.answer()
    assert (status, json.loads(body)) == (200, {"cleared": 2})
    assert door.post("", method="DELETE") == (200, {"cleared": 1})


@pytest.mark.parametrize(("what", "body", "status", "said"), [
    ("recycle", {}, 400, "Name either an environment or a function."),
    ("recycle", {"environment": "e-1", "function": "f"}, 400, "Name either"),
    ("recycle", {"environment": "e-99"}, 404, "No environment e-99 is alive."),
    ("recycle", {"function": "absent"}, 404, "Function not found"),
    ("recycle", {"function": "f:1"}, 400, "without a version or alias"),
    ("crash", {}, 400, "environment"),
    ("crash", {"environment": "e-99"}, 404, "No environment e-99 is alive."),
    ("advance", {}, 400, "seconds"),
    ("advance", {"seconds": 0}, 400, "greater than 0"),
    ("advance", {"seconds": -5}, 400, "greater than 0"),
    ("advance", {"seconds": "5h"}, 400, "Expected `float`"),
    ("advance", {"seconds": 1e300}, 400, "days ahead"),
    ("advance", b'{"seconds": 1e999}', 400, "."),
    ("init-failures", {"function": "f", "failure": "Extension.Crash"}, 400, "is no way to fail"),
    ("init-failures", {"function": "f", "times": 0}, 400, "times"),
    ("init-failures", {"failure": "exit"}, 400, "function"),
    ("throttles", {"function": "f", "reason": "Because"}, 400, "none of AWS's reasons"),
    ("throttles", {"function": "f", "times": 1.5}, 400, "times"),
    ("throttles", {"function": "f", "often": 3}, 400, "often"),
    ("throttles", {"function": "not a name"}, 400, "not a name"),
    ("throttles", {"function": "arn:aws:lambda:eu-west-1:000000000000:function:f"}, 404, "Function not found"),
    ("throttles", b"{", 400, "."),
    ("throttles", b"[]", 400, "."),
    ("throttles", b" " * 70_000, 413, "65536"),
])  # fmt: skip
async def test_wrong_requests_are_refused_in_one_sentence_and_do_nothing(
    door: Door, what: str, body: Any, status: int, said: str
) -> None:
    answered, answer = door.post(what, body)
    assert (answered, said in answer["message"], "\n" in answer["message"]) == (status, True, False), answer
    assert door.real.chaos.armed == [] and door.clock.offset_s == 0 and door.worker.retired == []


@pytest.mark.parametrize(("method", "path", "status"), [
    ("PUT", CHAOS, 405), ("GET", f"{CHAOS}/recycle", 405), ("POST", f"{CHAOS}/earthquake", 404),
    ("POST", "/_lambent/functions/f/story", 405), ("GET", "/_lambent/functions/absent/story", 404),
])  # fmt: skip
async def test_what_is_not_there_is_said(door: Door, method: str, path: str, status: int) -> None:
    assert door.ask(method, path, Authorization=f"Bearer {TOKEN}")[0] == status


@pytest.mark.parametrize(("wait", "answered"), [("idle", True), ("gone", False)])
async def test_story_of_a_busy_environment_can_be_waited_for(door: Door, wait: str, answered: bool) -> None:
    number = door.environment(idle=False)
    client = door.client()
    client.send("GET", f"/_lambent/environments/e-{number}/story?wait={wait}")
    assert client.transport.written == b""
    door.worker.idle.add(number)
    door.real.idle(number)
    assert bool(client.transport.written) is answered
    door.end(number)
    assert json.loads(client.answer()[2]) == {"id": "e-1"}


async def test_story_is_waited_for_no_longer_than_needed(door: Door) -> None:
    number = door.environment()
    for path in (f"e-{number}/story?wait=idle", "e-99/story?wait=gone"):
        client = door.client()
        client.send("GET", f"/_lambent/environments/{path}")
        assert client.answer()[0] == 200
    client = door.client()
    client.send("GET", "/_lambent/environments/e-1/story?wait=for-ever")
    status, _, body = client.answer()
    assert (status, json.loads(body)) == (400, {"message": "wait is idle or gone."})
