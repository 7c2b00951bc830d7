"""The Runtime and Extensions APIs as a guest meets them: real sockets on one side, the real machine on the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from lambent import limits
from lambent.core import effects as do
from lambent.core.environment import Environment
from lambent.core.events import (
    DeadlinePassed,
    Event,
    InvocationAssigned,
    ProcessesEnded,
    ProcessExited,
    RetireRequested,
    SandboxCreated,
    Started,
)
from lambent.core.model import ExitStatus, FunctionVersion, Invocation, Outcome
from lambent.core.states import State
from lambent.core.subscription import Api, Subscription
from lambent.http1_connection import Connection
from lambent.runtimeapi import metadata
from lambent.runtimeapi.app import BODY_LIMIT, RuntimeApi
from lambent.runtimeapi.extensions import MAX_NAME
from lambent.runtimeapi.lane import MAX_CONTENT_TYPE

FUNCTION = FunctionVersion("000000000000", "us-east-1", "f", "7", "g1", "python3.12", "app.handler", "0" * 64)
ARN = FUNCTION.function_arn + ":live"
TRACE = "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0"
Answer = tuple[int, dict[str, str], bytes]


class World:
    """An environment's machine, its API, and what a driver would have done."""

    def __init__(self, extensions: tuple[str, ...]) -> None:
        self.function = FUNCTION
        self.machine = Environment(3.0)
        self.api = RuntimeApi(self, metadata_token="secret")
        self.connections: set[Connection] = set()
        self.replies: list[Outcome] = []
        self.init_error_type = ""
        self.epoch = 0
        self.port = 0
        for event in (Started(0.0, invocation("r1")), SandboxCreated(0.1, extensions)):
            self.feed(event)

    # runtimeapi.app.Lifecycle

    def now(self) -> float:
        return 1.0

    def refusal(self, event: Event) -> str | None:
        return self.machine.refusal(event)

    def runtime_state(self) -> State:
        return self.machine.runtime

    def extension_state(self, name: str) -> State:
        return self.machine.extensions[name].state

    def is_external(self, name: str) -> bool:
        extension = self.machine.extensions.get(name)
        return extension is not None and extension.external

    def responding(self) -> bool:
        return self.machine.responding

    def subscription_refusal(self, name: str, api: Api) -> str | None:
        return "NotSupported"

    def subscribe(self, name: str, subscription: Subscription) -> None:
        raise AssertionError("nobody can subscribe here")

    def feed(self, event: Event) -> None:
        for effect in self.machine.handle(event):
            match effect:
                case do.Deliver(invocation=given, participant=participant):
                    self.api.deliver(participant, given, 1234567)
                case do.DeliverShutdown(participant=participant, reason=reason):
                    self.api.deliver_shutdown(participant, reason, 7654321)
                case do.Reply(outcome=outcome):
                    self.replies.append(outcome)
                case do.SetDeadline(epoch=epoch):
                    self.epoch = epoch
                case do.Terminate():
                    self.api.forget()
                case do.ReportInit(error_type=error_type):
                    self.init_error_type = error_type
                case _:
                    pass

    # the guest

    def connect(self) -> Connection:
        made = Connection(self.api.on_request, asyncio.get_running_loop(), BODY_LIMIT, self.connections.discard,
                          timeout_s=None, streamed=self.api.streamed)  # fmt: skip
        self.connections.add(made)
        return made

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One call on a connection of its own, which is closed by the guest."""
        waiting = await self.begin(method, path, body, **headers)
        return await waiting.answer()

    async def begin(self, method: str, path: str, body: bytes = b"", **headers: str) -> Waiting:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
        await writer.drain()
        return Waiting(reader, writer)

    async def work(self) -> Answer:
        """The runtime asks for work and gets it."""
        return await self.call("GET", "/2018-06-01/runtime/invocation/next")

    async def respond(self, body: bytes = b'"ok"', request_id: str = "r1", **headers: str) -> Answer:
        return await self.call("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", body, **headers)

    async def register(self, name: str, *events: str, **headers: str) -> Answer:
        body = json.dumps({"events": events}).encode()
        return await self.call("POST", "/2020-01-01/extension/register", body, Lambda_Extension_Name=name, **headers)


class Waiting:
    """A call that has been sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> Answer:
        async with asyncio.timeout(5):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
            body = await self.reader.readexactly(int(headers["content-length"]))
        self.hang_up()
        return int(lines[0].split()[1]), headers, body

    def hang_up(self) -> None:
        self.writer.transport.abort()


def invocation(request_id: str, payload: bytes = b'{"a":1}') -> Invocation:
    return Invocation(request_id, FUNCTION, payload, ARN, TRACE, '{"custom":"\u00e9"}')


def error(answer: Answer) -> tuple[int, str]:
    return answer[0], json.loads(answer[2])["errorType"]


async def until_asked(world: World, participant: str = "runtime") -> None:
    async with asyncio.timeout(5):
        while participant not in world.api._pending:
            await asyncio.sleep(0)


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made = World(getattr(request, "param", ()))
    server = await asyncio.get_running_loop().create_server(made.connect, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    for connection in list(made.connections):
        connection.abort()
    async with asyncio.timeout(5):
        while made.connections:
            await asyncio.sleep(0)


# The runtime


async def test_ping_is_answered_at_any_time(world: World) -> None:
    status, headers, body = await world.call("GET", "/2018-06-01/ping")
    assert (status, headers["content-type"], body) == (200, "text/plain; charset=utf-8", b"pong")


async def test_next_hands_over_the_event_byte_for_byte_with_its_headers(world: World) -> None:
    status, headers, body = await world.work()
    assert (status, body) == (200, b'{"a":1}')
    assert {name: value for name, value in headers.items() if name.startswith("lambda-")} == {
        "lambda-runtime-aws-request-id": "r1",
        "lambda-runtime-deadline-ms": "1234567",
        "lambda-runtime-invoked-function-arn": ARN,
        "lambda-runtime-trace-id": TRACE,
        "lambda-runtime-client-context": '{"custom":"\u00e9"}'.encode().decode("latin-1"),
    }
    assert headers["content-type"] == "application/json"


async def test_headers_without_a_value_are_left_out(world: World) -> None:
    assert world.machine.assigned is not None
    world.machine.assigned.trace_id = world.machine.assigned.client_context = ""
    headers = (await world.work())[1]
    assert not {"lambda-runtime-trace-id", "lambda-runtime-client-context"} & headers.keys()


async def test_response_is_accepted_and_goes_to_the_caller_with_its_type(world: World) -> None:
    await world.work()
    status, headers, body = await world.respond(b"\x00\xff", Content_Type="application/unknown")
    assert (status, headers["content-type"], body) == (202, "application/json", b'{"status":"OK"}\n')
    [outcome] = world.replies
    assert (outcome.kind.value, outcome.payload) == ("response", b"\x00\xff")
    assert outcome.content_type == "application/unknown"


async def test_type_of_a_response_is_json_unless_said_otherwise_and_never_long(world: World) -> None:
    await world.work()
    await world.respond()
    assert world.replies[0].content_type == "application/json"
    waiting = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    await until_asked(world)
    world.feed(InvocationAssigned(2.0, invocation("r2")))
    await waiting.answer()
    await world.respond(request_id="r2", Content_Type="x" * (MAX_CONTENT_TYPE + 1))
    assert world.replies[1].content_type == "application/octet-stream"


async def test_error_goes_to_the_caller_as_it_is_and_its_type_to_the_logs(world: World) -> None:
    await world.work()
    status, _, _ = await world.call("POST", "/2018-06-01/runtime/invocation/r1/error", b'{"errorType":"Boom"}',
                                    Lambda_Runtime_Function_Error_Type="not well formed")  # fmt: skip
    assert status == 202
    [outcome] = world.replies
    assert (outcome.kind.value, outcome.payload) == ("function_error", b'{"errorType":"Boom"}')
    assert outcome.error_type == "Runtime.Unknown"


async def test_init_error_is_accepted_before_the_first_next_only(world: World) -> None:
    path = "/2018-06-01/runtime/init/error"
    assert (await world.call("POST", path, b"{}"))[0] == 202
    answer = await world.call("POST", path, b"{}")
    assert error(answer) == (403, "InvalidStateTransition")
    assert json.loads(answer[2])["errorMessage"] == (
        "State transition from InitError to InitError failed for runtime. Error: State transition is not allowed")


@pytest.mark.parametrize(("header", "shown"), [
    (None, "Runtime.Unknown"), ("ValueError", "Runtime.Unknown"), ("Runtime.NoSuchThing", "Runtime.NoSuchThing")])
async def test_init_error_always_has_a_type_in_logs(world: World, header: str | None, shown: str) -> None:
    headers = {} if header is None else {"Lambda_Runtime_Function_Error_Type": header}
    await world.call("POST", "/2018-06-01/runtime/init/error", b"{}", **headers)
    world.feed(ProcessExited(2.0, ExitStatus(code=1)))
    assert world.init_error_type == shown


@pytest.mark.parametrize(("body", "kind"), [
    (b'{"errorMessage":"no","errorType":"Odd","errorCause":{}}', "application/json"),
    (b"no json", "application/octet-stream"), (b"", "application/octet-stream"),
])  # fmt: skip
async def test_init_error_reaches_the_caller_as_it_is_and_is_json_only_if_it_is(world: World, body: bytes,
                                                                                kind: str) -> None:
    for _ in range(2):  # and once more within the invocation
        assert (await world.call("POST", "/2018-06-01/runtime/init/error", body,
                                 Content_Type="application/vnd.aws.lambda.error.cause+json"))[0] == 202  # fmt: skip
        world.feed(ProcessExited(2.0, ExitStatus(code=1)))
        world.feed(ProcessesEnded(2.1))
    assert [(reply.payload, reply.content_type) for reply in world.replies] == [(body, kind)]


async def test_response_to_another_request_is_400_and_changes_nothing(world: World) -> None:
    await world.work()
    status, headers, body = await world.respond(request_id="r0")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert body == b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}\n'
    assert (await world.respond())[0] == 202


async def test_second_response_is_403(world: World) -> None:
    await world.work()
    await world.respond()
    assert error(await world.respond()) == (403, "InvalidStateTransition")
    assert len(world.replies) == 1


async def test_response_before_any_next_is_403(world: World) -> None:
    assert error(await world.respond()) == (403, "InvalidStateTransition")


async def test_next_while_an_invocation_runs_hands_it_over_once_more(world: World) -> None:
    first = await world.work()
    assert await world.work() == first
    assert (await world.respond())[0] == 202
    assert len(world.replies) == 1


async def test_next_after_the_timeout_is_403(world: World) -> None:
    me = (await world.register("inner"))[1]["lambda-extension-identifier"]  # it gives the runtime time for its end
    waiting = await world.begin("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=me)
    await until_asked(world, "inner")
    await world.work()
    world.feed(DeadlinePassed(9.0, world.epoch))
    world.feed(InvocationAssigned(9.1, invocation("r2")))
    assert error(await world.work()) == (403, "InvalidStateTransition")
    waiting.hang_up()


async def test_response_after_the_timeout_is_403(world: World) -> None:
    await world.work()
    world.feed(DeadlinePassed(9.0, world.epoch))
    assert error(await world.respond()) == (403, "InvalidStateTransition")


async def test_response_over_the_limit_is_413_for_the_runtime_an_error_for_the_caller_and_no_reset(
    world: World,
) -> None:
    await world.work()
    answer = await world.respond(b"x" * (limits.RESPONSE_PAYLOAD_BYTES + 1))
    assert error(answer) == (413, "RequestEntityTooLarge")
    assert json.loads(answer[2])["errorMessage"] == "Exceeded maximum allowed payload size (6291556 bytes)."
    [outcome] = world.replies
    assert json.loads(outcome.payload) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert world.machine.runtime is State.RESPONDED


async def test_largest_response_is_accepted(world: World) -> None:
    await world.work()
    assert (await world.respond(b"x" * limits.RESPONSE_PAYLOAD_BYTES))[0] == 202


async def test_error_over_the_limit_is_accepted_and_replaced(world: World) -> None:
    await world.work()
    path = "/2018-06-01/runtime/invocation/r1/error"
    assert (await world.call("POST", path, b"x" * (BODY_LIMIT + 1)))[0] == 202
    assert b"Function.ResponseSizeTooLarge" in world.replies[0].payload


@pytest.mark.parametrize("mode", ["backwards", "buffered", "Streaming"])
async def test_unknown_mode_of_a_response_is_400_and_what_the_caller_is_told(world: World, mode: str) -> None:
    await world.work()
    answer = await world.respond(Lambda_Runtime_Function_Response_Mode=mode)
    assert error(answer) == (400, "InvalidFunctionResponseMode")
    assert [reply.error_type for reply in world.replies] == ["Runtime.InvalidResponseModeHeader"]
    assert json.loads(world.replies[0].payload)["errorType"] == "Runtime.InvalidResponseModeHeader"
    assert error(await world.respond()) == (403, "InvalidStateTransition")
    answer = await world.work()
    assert (answer[0], json.loads(answer[2])["errorMessage"]) == (
        403, "State transition from InvocationResponse to Ready failed for runtime. "
             "Error: State transition is not allowed")  # fmt: skip


async def test_empty_mode_of_a_response_is_none(world: World) -> None:
    await world.work()
    assert (await world.respond(Lambda_Runtime_Function_Response_Mode=""))[0] == 202


@pytest.mark.parametrize("says_so", [True, False])
async def test_response_that_breaks_off_is_what_the_caller_is_told(world: World, says_so: bool) -> None:
    await world.work()
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    head = b"POST /2018-06-01/runtime/invocation/r1/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    writer.write(head + b"12345")
    await writer.drain()
    if says_so:  # it sends no more, and still reads
        writer.write_eof()
        answer = await Waiting(reader, writer).answer()
        assert error(answer) == (400, "TruncatedHTTPRequest")
    else:
        writer.transport.abort()
        async with asyncio.timeout(5):
            while not world.replies:
                await asyncio.sleep(0)
    assert [reply.error_type for reply in world.replies] == ["Runtime.TruncatedResponse"]
    waiting = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    await until_asked(world)  # the environment goes on
    waiting.hang_up()


async def test_body_that_breaks_off_and_is_no_response_changes_nothing(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345")
    writer.write_eof()
    assert error(await Waiting(reader, writer).answer()) == (400, "TruncatedHTTPRequest")
    assert world.machine.runtime is State.STARTED


async def test_request_id_is_judged_before_the_state(world: World) -> None:
    await world.work()
    await world.respond()
    assert error(await world.respond(request_id="r9")) == (400, "InvalidRequestID")
    answer = await world.respond()
    assert json.loads(answer[2])["errorMessage"] == (
        "State transition from RuntimeResponseSentState to InvocationResponse failed for runtime. "
        "Error: State transition is not allowed")


@pytest.mark.parametrize(("body", "told", "content_type"), [
    (b'{"errorMessage":"no","errorType":"Odd","stackTrace":["a"],"errorCause":{"x":1}}',
     b'{"errorMessage":"no","errorType":"Odd","stackTrace":["a"]}', "application/json"),
    (b'{"errorMessage":"no","errorType":"Odd"}', b'{"errorMessage":"no","errorType":"Odd"}', "application/json"),
    (b"no json", b'"Invalid error body"', "application/octet-stream"),
])  # fmt: skip
async def test_error_with_its_cause_reaches_the_caller_without_it(world: World, body: bytes, told: bytes,
                                                                  content_type: str) -> None:
    await world.work()
    path = "/2018-06-01/runtime/invocation/r1/error"
    await world.call("POST", path, body, Content_Type="application/vnd.aws.lambda.error.cause+json")
    assert (world.replies[0].payload, world.replies[0].content_type) == (told, content_type)


# Metadata


async def test_metadata_names_a_zone_to_who_has_the_token(world: World) -> None:
    path = "/2026-01-15/metadata/execution-environment"
    status, headers, body = await world.call("GET", path, Authorization="Bearer secret")
    assert (status, json.loads(body)) == (200, {"AvailabilityZoneID": "use1-az1"})
    assert headers["cache-control"] == "private, max-age=43200, immutable"
    assert (await world.call("GET", path))[0] == 401
    for wrong in ("Bearer secrets", "secret", "Bearer \u00e9"):
        assert (await world.call("GET", path, Authorization=wrong))[0] == 401
    assert (await world.call("POST", path, Authorization="Bearer secret"))[0] == 405


@pytest.mark.parametrize(("region", "zone"), [
    ("us-east-1", "use1-az1"), ("eu-central-2", "euc2-az1"), ("ap-southeast-2", "apse2-az1"),
    ("us-gov-west-1", "usgw1-az1"),
])  # fmt: skip
def test_zone_follows_from_the_region(region: str, zone: str) -> None:
    assert metadata.zone_id(region) == zone


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/"), ("POST", "/2018-06-01/runtime/invocation/r1/nothing"), ("POST", "/2018-06-01/runtime/invocation/r1"),
    ("GET", "/2018-06-01/runtime/restore/next"), ("POST", "/2018-06-01/runtime/restore/error"),
    ("GET", "/2021-04-23/credentials"), ("GET", "http://x/2018-06-01/ping"),
    ("GET", "/2018-06-01/runtime/invocation/%6eext"), ("GET", "/2020-01-01/extension/nothing"),
])  # fmt: skip
async def test_whatever_else_is_asked_for_is_404(world: World, method: str, path: str) -> None:
    status, headers, body = await world.call(method, path)
    assert (status, headers["content-type"], body) == (404, "text/plain; charset=utf-8", b"404 page not found\n")


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("POST", "/2018-06-01/runtime/invocation/next", "GET"), ("DELETE", "/2018-06-01/ping", "GET"),
    ("GET", "/2018-06-01/runtime/invocation/r1/response", "POST"),
    ("PUT", "/2018-06-01/runtime/invocation/r1/error", "POST"), ("GET", "/2018-06-01/runtime/init/error", "POST"),
    ("GET", "/2020-01-01/extension/register", "POST"), ("POST", "/2020-01-01/extension/event/next", "GET"),
    ("GET", "/2020-01-01/extension/init/error", "POST"), ("PUT", "/2020-01-01/extension/exit/error", "POST"),
    ("POST", "/2022-07-01/telemetry", "PUT"), ("GET", "/2020-08-15/logs", "PUT"),
])  # fmt: skip
async def test_method_that_a_path_does_not_take_is_405_and_names_the_other(world: World, method: str, path: str,
                                                                           allowed: str) -> None:
    status, headers, body = await world.call(method, path)
    assert (status, headers["allow"], body) == (405, allowed, b"")


async def test_runtime_that_hung_up_while_it_waited_is_handed_its_work_when_it_asks_again(world: World) -> None:
    await world.work()
    await world.respond()
    waiting = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    await until_asked(world)
    waiting.hang_up()
    async with asyncio.timeout(5):
        while not world.api._pending["runtime"].gone:
            await asyncio.sleep(0)
    world.feed(InvocationAssigned(2.0, invocation("r2")))
    assert (await world.work())[1]["lambda-runtime-aws-request-id"] == "r2"
    assert (await world.respond(request_id="r2"))[0] == 202


async def test_next_may_be_asked_again_and_the_later_call_is_answered(world: World) -> None:
    await world.work()
    await world.respond()
    first = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    await until_asked(world)
    request = world.api._pending["runtime"]
    second = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    async with asyncio.timeout(5):
        while world.api._pending["runtime"] is request:
            await asyncio.sleep(0)
    world.feed(InvocationAssigned(2.0, invocation("r2")))
    assert (await second.answer())[0] == 200
    first.hang_up()


# Extensions


async def test_internal_extension_registers_until_the_runtime_asks_for_work(world: World) -> None:
    status, headers, body = await world.register("inner", "INVOKE")
    assert status == 200 and len(headers["lambda-extension-identifier"]) == 36
    assert body == b'{"functionName":"f","functionVersion":"7","handler":"app.handler"}\n'
    answer = await world.register("inner")
    assert json.loads(answer[2]) == {"errorMessage": "Extension with this name already registered",
                                     "errorType": "Extension.InvalidExtensionState"}  # fmt: skip
    waiting = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    await until_asked(world)
    assert error(await world.register("later")) == (403, "Extension.RegistrationClosed")
    waiting.hang_up()


@pytest.mark.parametrize("world", [("ext",)], indirect=True)
async def test_external_extension_that_registers_again_is_told_where_it_stands_whenever_it_does(world: World) -> None:
    told = {"errorMessage": "State transition from Registered to Registered failed for extension ext. "
                            "Error: State transition is not allowed",
            "errorType": "Extension.InvalidExtensionState"}  # fmt: skip
    later = told | {"errorMessage": told["errorMessage"].replace("from Registered", "from Ready")}
    me = (await world.register("ext"))[1]["lambda-extension-identifier"]
    answer = await world.register("ext", "SHUTDOWN")
    assert (answer[0], json.loads(answer[2])) == (403, told)
    waiting = await world.begin("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=me)
    await until_asked(world, "ext")
    await world.work()
    answer = await world.register("ext")  # registration is closed by now, which is for internal ones to hear
    assert (answer[0], json.loads(answer[2])) == (403, later)
    waiting.hang_up()


@pytest.mark.parametrize("body", [b'{"Events":["INVOKE"],"ConfigurationKeys":null}', b'{"events":["INVOKE"],"x":1}'])
async def test_names_of_a_registration_may_be_written_in_any_case(world: World, body: bytes) -> None:
    path = "/2020-01-01/extension/register"
    assert (await world.call("POST", path, body, Lambda_Extension_Name="inner"))[0] == 200
    assert world.machine.extensions["inner"].invoke


@pytest.mark.parametrize("body", [b'{"events":null}', b"{}", b"null"])
async def test_registration_without_events_is_one_for_none(world: World, body: bytes) -> None:
    path = "/2020-01-01/extension/register"
    assert (await world.call("POST", path, body, Lambda_Extension_Name="inner"))[0] == 200
    assert world.machine.extensions["inner"].events == ()


@pytest.mark.parametrize(("events", "message"), [
    (["FREEZE"], "FREEZE: ErrorInvalidEventType"),
    (["INVOKE", "SHUTDOWN"], "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"),
])  # fmt: skip
async def test_event_that_an_extension_cannot_have_is_named(world: World, events: list[str], message: str) -> None:
    assert json.loads((await world.register("inner", *events))[2]) == {
        "errorMessage": message, "errorType": "Extension.InvalidEventType"}  # fmt: skip


async def test_unfit_event_is_told_before_the_registration_is_closed(world: World) -> None:
    await world.work()
    assert error(await world.register("late", "SHUTDOWN")) == (403, "Extension.InvalidEventType")
    assert error(await world.register("late", "INVOKE")) == (403, "Extension.RegistrationClosed")


@pytest.mark.parametrize(("method", "what", "message"), [
    ("GET", "event/next", "Unknown extension 00000000-0000-0000-0000-000000000000"),
    ("POST", "init/error", "Unknown Lambda-Extension-Identifier"),
    ("POST", "exit/error", "Unknown Lambda-Extension-Identifier"),
])  # fmt: skip
async def test_unknown_extension_is_told_so(world: World, method: str, what: str, message: str) -> None:
    answer = await world.call(method, f"/2020-01-01/extension/{what}", b"{}",
                              Lambda_Extension_Identifier="00000000-0000-0000-0000-000000000000",
                              Lambda_Extension_Function_Error_Type="Extension.X")  # fmt: skip
    assert json.loads(answer[2])["errorMessage"] == message


@pytest.mark.parametrize("world", [("ext",)], indirect=True)
async def test_state_of_an_extension_that_posted_an_error_is_named_after_it(world: World) -> None:
    me = (await world.register("ext"))[1]["lambda-extension-identifier"]
    headers = {"Lambda_Extension_Identifier": me, "Lambda_Extension_Function_Error_Type": "Extension.X"}
    for _ in range(2):
        answer = await world.call("POST", "/2020-01-01/extension/exit/error", b"{}", **headers)
        assert (answer[0], answer[2]) == (202, b'{"status":"OK"}\n')
    answer = await world.call("GET", "/2020-01-01/extension/event/next", b"", **headers)
    assert json.loads(answer[2]) == {
        "errorMessage": f"State transition from ExitError to Ready failed for extension {me}. "
                        "Error: State transition is not allowed",
        "errorType": "Extension.InvalidExtensionState"}  # fmt: skip


async def test_account_is_told_to_who_asks_for_it(world: World) -> None:
    body = (await world.register("inner", Lambda_Extension_Accept_Feature="x, accountId"))[2]
    assert json.loads(body)["accountId"] == "000000000000"


@pytest.mark.parametrize(("name", "body", "kind"), [
    ("", b"{}", "Extension.InvalidExtensionName"),
    ("runtime", b"{}", "Extension.InvalidExtensionName"),
    ("x" * (MAX_NAME + 1), b"{}", "Extension.InvalidExtensionName"),
    ("inner", b"", "InvalidRequestFormat"),
    ("inner", b"[]", "InvalidRequestFormat"),
    ("inner", b'{"events":"INVOKE"}', "InvalidRequestFormat"),
    ("inner", b'{"events":["\xff"]}', "InvalidRequestFormat"),
    ("inner", b'{"x":' + b"[" * 100_000, "InvalidRequestFormat"),
    ("inner", b'{"configurationKeys":["a"]}', "InvalidRequestFormat"),
    ("inner", b'{"events":["FREEZE"]}', "Extension.InvalidEventType"),
    ("inner", b'{"events":["SHUTDOWN"]}', "Extension.InvalidEventType"),
])  # fmt: skip
async def test_registration_that_is_wrong_is_403_and_changes_nothing(world: World, name: str, body: bytes,
                                                                     kind: str) -> None:
    headers = {"Lambda_Extension_Name": name} if name else {}
    assert error(await world.call("POST", "/2020-01-01/extension/register", body, **headers)) == (403, kind)
    assert world.machine.extensions == {}


async def test_eleventh_extension_is_one_too_many(world: World) -> None:
    for number in range(limits.MAX_EXTENSIONS):
        assert (await world.register(f"inner{number}"))[0] == 200
    answer = await world.register("one too many")
    assert error(answer) == (403, "Extension.TooManyExtensions")
    assert json.loads(answer[2])["errorMessage"] == "Extension limit (10) reached"
    assert error(await world.register("inner0")) == (403, "Extension.TooManyExtensions")  # judged before the name


@pytest.mark.parametrize("world", [tuple(f"ext{number}" for number in range(limits.MAX_EXTENSIONS))], indirect=True)
async def test_extensions_that_have_not_registered_yet_count(world: World) -> None:
    assert error(await world.register("inner")) == (403, "Extension.TooManyExtensions")
    assert (await world.register("ext9"))[0] == 200


@pytest.mark.parametrize(("identifier", "kind"), [
    (None, "Extension.MissingExtensionIdentifier"), ("x", "Extension.InvalidExtensionIdentifier"),
    ("00000000-0000-0000-0000-000000000000", "Extension.UnknownExtensionIdentifier"),
])  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/2020-01-01/extension/event/next"), ("POST", "/2020-01-01/extension/init/error"),
    ("PUT", "/2022-07-01/telemetry"),
])  # fmt: skip
async def test_call_of_an_extension_that_nobody_knows_is_403(world: World, method: str, path: str,
                                                             identifier: str | None, kind: str) -> None:
    headers = {"Lambda_Extension_Identifier": identifier} if identifier is not None else {}
    headers["Lambda_Extension_Function_Error_Type"] = "Extension.X"
    assert error(await world.call(method, path, b"", **headers)) == (403, kind)


async def test_error_without_a_type_is_refused_before_it_is_asked_whose_it_is(world: World) -> None:
    answer = await world.call("POST", "/2020-01-01/extension/exit/error", b"{}",
                              Lambda_Extension_Identifier="00000000-0000-0000-0000-000000000000")  # fmt: skip
    assert error(answer) == (403, "Extension.MissingHeader")


async def test_identifier_is_known_in_capital_letters_too(world: World) -> None:
    identifier = (await world.register("inner"))[1]["lambda-extension-identifier"]
    answer = await world.call("PUT", "/2022-07-01/telemetry", b"{}", Lambda_Extension_Identifier=identifier.upper())
    assert error(answer) == (202, "Telemetry.NotSupported")


async def test_extension_is_told_of_the_invocation_without_its_payload(world: World) -> None:
    identifier = (await world.register("inner", "INVOKE"))[1]["lambda-extension-identifier"]
    runtime = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    status, headers, body = await world.call("GET", "/2020-01-01/extension/event/next",
                                             Lambda_Extension_Identifier=identifier)  # fmt: skip
    assert status == 200 and len(headers["lambda-extension-event-identifier"]) == 36
    assert json.loads(body) == {
        "eventType": "INVOKE", "deadlineMs": 1234567, "requestId": "r1", "invokedFunctionArn": ARN,
        "tracing": {"type": "X-Amzn-Trace-Id", "value": TRACE},
    }  # fmt: skip
    assert (await runtime.answer())[2] == b'{"a":1}'


@pytest.mark.parametrize("world", [("ext",)], indirect=True)
async def test_external_extension_is_told_of_the_shutdown_and_why(world: World) -> None:
    identifier = (await world.register("ext", "SHUTDOWN"))[1]["lambda-extension-identifier"]
    waiting = await world.begin("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=identifier)
    await until_asked(world, "ext")
    await world.work()
    await world.respond()
    runtime = await world.begin("GET", "/2018-06-01/runtime/invocation/next")
    await until_asked(world)
    world.feed(RetireRequested(5.0, "idle"))
    world.feed(ProcessExited(5.1, ExitStatus(signal=15)))
    assert json.loads((await waiting.answer())[2]) == {
        "eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": 7654321}  # fmt: skip
    runtime.hang_up()


async def test_identifier_is_void_once_the_processes_have_ended(world: World) -> None:
    identifier = (await world.register("inner"))[1]["lambda-extension-identifier"]
    world.feed(ProcessExited(0.5, ExitStatus(code=1)))
    world.feed(DeadlinePassed(0.6, world.epoch))
    world.feed(ProcessesEnded(0.7))
    answer = await world.call("GET", "/2020-01-01/extension/event/next", Lambda_Extension_Identifier=identifier)
    assert error(answer) == (403, "Extension.UnknownExtensionIdentifier")
    assert (await world.register("inner"))[0] == 200


@pytest.mark.parametrize(("path", "title"), [
    ("/2022-07-01/telemetry", "Telemetry"), ("/2022-07-01/telemetry/", "Telemetry"), ("/2020-08-15/logs/", "Logs")])
async def test_subscription_where_there_is_none_is_202_not_supported(world: World, path: str, title: str) -> None:
    identifier = (await world.register("inner"))[1]["lambda-extension-identifier"]
    answer = await world.call("PUT", path, b"{}", Lambda_Extension_Identifier=identifier)
    assert error(answer) == (202, f"{title}.NotSupported")
