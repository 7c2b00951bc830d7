"""Invoke: what a caller may send, what the function gets, and how each outcome is answered."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from lambent import limits
from lambent.core.model import OutcomeKind
from lambent.frontend import tracing
from lambent.frontend.invoke import MAX_PARAMETERS
from lambent.worker.base import Served

from .front_door import ARN, URL_ID, FrontDoor

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"
TRACE = r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=1:[0-9a-f]{8}:0"


@pytest.fixture
async def door() -> FrontDoor:
    return FrontDoor()


def refused(door: FrontDoor, *args: Any, **options: Any) -> tuple[int, str, dict[str, Any]]:
    """Status, error type and body of an Invoke that must not reach the dispatcher."""
    status, headers, body = door.invoke(*args, **options).answer()
    assert door.invoked == []
    assert re.fullmatch(UUID4, headers["x-amzn-requestid"])
    return status, headers["x-amzn-errortype"], json.loads(body)


# What the function gets


async def test_event_goes_on_byte_for_byte_with_a_new_request_id_and_trace(door: FrontDoor) -> None:
    body = b' {"a" : 1, "a": 2, "big": 1e999, "u": "\xc3\xa9"} '
    door.invoke(body=body)
    [invocation] = door.invoked
    assert invocation.payload == body
    assert re.fullmatch(UUID4, invocation.request_id)
    assert re.fullmatch(TRACE, invocation.trace_id)
    assert (invocation.function.version, invocation.invoked_arn) == ("$LATEST", ARN)
    assert not invocation.reply_after_report


async def test_event_is_json_for_the_runtime_whatever_the_caller_calls_it(door: FrontDoor) -> None:
    door.invoke(Content_Type="application/octet-stream")  # AWS's SDK for JavaScript
    assert door.invoked[0].content_type == "application/json"


async def test_path_may_end_in_a_slash(door: FrontDoor) -> None:
    client = door.client()
    client.send("POST", "/2015-03-31/functions/f/invocations/", b"{}")
    assert [invocation.function.name for invocation in door.invoked] == ["f"]


async def test_empty_body_is_an_empty_object(door: FrontDoor) -> None:
    door.invoke(body=b"")
    assert door.invoked[0].payload == b"{}"


@pytest.mark.parametrize(("name", "query", "version", "arn"), [
    ("f", "", "$LATEST", ARN),
    ("f:live", "", "2", f"{ARN}:live"),
    ("f", "?Qualifier=live", "2", f"{ARN}:live"),
    ("f", "?Qualifier=2", "2", f"{ARN}:2"),
    ("f%3A2", "", "2", f"{ARN}:2"),
    ("f", "?Qualifier=%24LATEST", "$LATEST", f"{ARN}:$LATEST"),
    ("arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af", "?Qualifier=live", "2", f"{ARN}:live"),
    ("000000000000:function:f", "", "$LATEST", ARN),
    ("f:2", "?Qualifier=2", "2", f"{ARN}:2"),
])  # fmt: skip
async def test_function_may_be_named_in_every_form(door: FrontDoor, name: str, query: str, version: str,
                                                   arn: str) -> None:
    door.invoke(name, query=query)
    assert (door.invoked[0].function.version, door.invoked[0].invoked_arn) == (version, arn)


async def test_trace_header_of_the_caller_goes_on(door: FrontDoor) -> None:
    given = f"{ROOT};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=2:0a1b2c3d:1"
    client = door.invoke(X_Amzn_Trace_Id=given)
    assert door.invoked[0].trace_id == given
    door.conclude()
    assert client.answer()[1]["x-amzn-trace-id"] == given


@pytest.mark.parametrize(("given", "completed"), [
    (ROOT, rf"{ROOT};Parent=[0-9a-f]{{16}};Sampled=0;Lineage=1:[0-9a-f]{{8}}:0"),
    (f"{ROOT};Sampled=1", rf"{ROOT};Parent=[0-9a-f]{{16}};Sampled=1;Lineage=1:[0-9a-f]{{8}}:0"),
    (f"Self=1-x;{ROOT}; Sampled=?", rf"{ROOT};Parent=[0-9a-f]{{16}};Sampled=0;Self=1-x;Lineage=1:[0-9a-f]{{8}}:0"),
])  # fmt: skip
async def test_trace_header_of_the_caller_is_completed(door: FrontDoor, given: str, completed: str) -> None:
    door.invoke(X_Amzn_Trace_Id=given)
    assert re.fullmatch(completed, door.invoked[0].trace_id)


@pytest.mark.parametrize("given", ["x" * (tracing.MAX_BYTES + 1), "Root=\xe9", "", "garbage", "Root=1-x", "Sampled=1"])
async def test_trace_header_that_would_harm_a_runtime_is_replaced(door: FrontDoor, given: str) -> None:
    door.invoke(X_Amzn_Trace_Id=given)
    assert re.fullmatch(TRACE, door.invoked[0].trace_id)
    client = door.client()
    client.send("GET", "/", Host=f"{URL_ID}.lambda-url.us-east-1.localhost", X_Amzn_Trace_Id=given)
    assert re.fullmatch(TRACE, door.invoked[1].trace_id)


async def test_client_context_is_decoded_and_cannot_break_a_header(door: FrontDoor) -> None:
    context = base64.b64encode(b'{"custom" : {"a": "line\\r\\nbreak", "b": "\xc3\xa9"}}').decode()
    door.invoke(X_Amz_Client_Context=context)
    text = door.invoked[0].client_context
    assert json.loads(text) == {"custom": {"a": "line\r\nbreak", "b": "\u00e9"}}
    assert "\r" not in text and "\n" not in text


async def test_tail_waits_for_the_report_and_comes_as_base64(door: FrontDoor) -> None:
    client = door.invoke(X_Amz_Log_Type="Tail")
    assert door.invoked[0].reply_after_report
    door.conclude(served=Served("env-1", True, b"START\nEND\n"))
    assert base64.b64decode(client.answer()[1]["x-amz-log-result"]) == b"START\nEND\n"


async def test_dry_run_is_204_and_runs_nothing(door: FrontDoor) -> None:
    status, headers, body = door.invoke(X_Amz_Invocation_Type="DryRun").answer()
    assert (status, body) == (204, b"")
    assert "x-amzn-requestid" in headers and "x-amz-executed-version" not in headers
    assert door.invoked == []


# What is refused


async def test_event_invocation_is_refused_in_a_sentence(door: FrontDoor) -> None:
    status, kind, body = refused(door, X_Amz_Invocation_Type="Event")
    assert (status, kind) == (400, "InvalidParameterValueException")
    assert "not supported yet" in body["message"]


@pytest.mark.parametrize(("header", "member"), [
    ("X_Amz_Invocation_Type", "invocationType"), ("X_Amz_Log_Type", "logType")])  # fmt: skip
async def test_unknown_choice_is_a_validation_error_without_a_type(door: FrontDoor, header: str, member: str) -> None:
    status, kind, body = refused(door, **{header: "tail"})
    assert (status, kind) == (400, "ValidationException")
    assert body.keys() == {"message"}
    assert body["message"].startswith(f"1 validation error detected: Value 'tail' at '{member}' failed to satisfy")


async def test_all_unknown_choices_are_told_at_once(door: FrontDoor) -> None:
    _, _, body = refused(door, X_Amz_Invocation_Type="a", X_Amz_Log_Type="b")
    assert body["message"] == (
        "2 validation errors detected: Value 'a' at 'invocationType' failed to satisfy constraint: Member must satisfy "
        "enum value set: [Event, RequestResponse, DryRun]; Value 'b' at 'logType' failed to satisfy constraint: Member "
        "must satisfy enum value set: [None, Tail]")


async def test_broken_names_are_told_with_unknown_choices(door: FrontDoor) -> None:
    _, _, body = refused(door, "a%20b", query="?Qualifier=%21", X_Amz_Log_Type="b")
    found = re.findall(r"Value '([^']*)' at '(\w+)' failed to satisfy constraint: ", body["message"])
    assert found == [("a b", "functionName"), ("b", "logType"), ("!", "qualifier")]


@pytest.mark.parametrize("body", [
    b"{", b"nope", b'{"a":1} x', b"\xff", b'"\xff"', b"NaN", b"[" * 100_000, b'{"a":1,}', b'\xef\xbb\xbf{}', b" ",
    b'"\\ud800', b'"\\ud8"', b'"\xed\xa0\x80"'])  # fmt: skip
async def test_event_that_is_not_json_is_400(door: FrontDoor, body: bytes) -> None:
    status, kind, answer = refused(door, body=body)
    assert (status, kind, answer["Type"]) == (400, "InvalidRequestContentException", "User")
    assert answer["message"].startswith("Could not parse request body into json: Could not parse payload into json: ")


@pytest.mark.parametrize("body", [rb'"\ud800"', rb'{"a": ["\uDFFF\ud83d\ude00", "\\ud800"]}'])
async def test_half_of_a_pair_may_be_escaped_in_an_event(door: FrontDoor, body: bytes) -> None:
    door.invoke(body=body)
    assert door.invoked.pop().payload == body


async def test_largest_event_is_served_and_a_larger_one_is_413_with_its_size(door: FrontDoor) -> None:
    largest = b'"' + b"x" * (limits.REQUEST_PAYLOAD_BYTES - 2) + b'"'
    door.invoke(body=largest)
    assert door.invoked.pop().payload == largest
    door.dispatcher.invocations.clear()
    status, kind, answer = refused(door, body=largest + b" ")
    assert (status, kind) == (413, "RequestEntityTooLargeException")
    assert answer["message"] == ("6291457 byte payload is too large for the RequestResponse invocation type "
                                 "(limit 6291456 bytes)")


async def test_event_too_large_even_to_be_received_is_413_too(door: FrontDoor) -> None:
    client = door.client()
    client._connection._reader._limit = limits.REQUEST_PAYLOAD_BYTES
    client.send("POST", "/2015-03-31/functions/f/invocations", b"x" * (limits.REQUEST_PAYLOAD_BYTES + 5))
    assert client.answer()[0] == 413
    assert b"6291461 byte payload" in client.answer()[2]


@pytest.mark.parametrize("context", [
    base64.b64encode(b"[1]").decode(), base64.b64encode(b"null").decode(),
    "not base64!", base64.b64encode(b"not json").decode(), base64.b64encode(b"\xff").decode(), "e30", "\xe9",
    base64.b64encode(b'"' + b"x" * limits.CLIENT_CONTEXT_BYTES + b'"').decode(),
    base64.b64encode(b"[" * 2000).decode(),
])  # fmt: skip
async def test_client_context_that_is_none_is_400(door: FrontDoor, context: str) -> None:
    status, kind, answer = refused(door, X_Amz_Client_Context=context)
    assert (status, kind) == (400, "InvalidRequestContentException")
    assert answer["message"] == "Client context must be a valid Base64-encoded JSON object."


@pytest.mark.parametrize("header", ["X_Amz_Tenant_Id", "X_Amz_Durable_Execution_Name"])
async def test_header_for_another_kind_of_function_is_400_and_nothing_runs(door: FrontDoor, header: str) -> None:
    status, kind, answer = refused(door, **{header: "blue"})
    assert (status, kind, answer["Type"]) == (400, "InvalidParameterValueException", "User")
    assert answer["message"].endswith(f"Remove the header {header.lower().replace('_', '-')} from your request.")
    assert refused(door, "unknown", **{header: "blue"})[1] == "ResourceNotFoundException"


async def test_unknown_function_is_404_with_the_whole_arn(door: FrontDoor) -> None:
    status, kind, answer = refused(door, "unknown")
    assert (status, kind) == (404, "ResourceNotFoundException")
    assert answer == {"Type": "User", "Message": "Function not found: arn:aws:lambda:us-east-1:000000000000:function:"
                      "unknown:$LATEST"}  # fmt: skip


async def test_version_that_is_not_active_is_409(door: FrontDoor) -> None:
    status, kind, answer = refused(door, "f:1")
    assert (status, kind) == (409, "ResourceConflictException")
    assert answer["message"] == ("The operation cannot be performed at this time. "
                                 "The function is currently in the following state: Pending")


async def test_qualifiers_that_disagree_are_400(door: FrontDoor) -> None:
    status, kind, answer = refused(door, "f:1", query="?Qualifier=2")
    assert (status, kind) == (400, "InvalidParameterValueException")
    assert answer["message"].startswith("The derived qualifier from the function name does not match")


@pytest.mark.parametrize("name", ["", "f%0d%0aX-Evil:1", "f%e9", "%", "f/g", "f%00", "a" * 300, "f:live:x", "f%0a"])
async def test_name_that_is_none_is_an_error_of_the_caller(door: FrontDoor, name: str) -> None:
    status, _, _ = refused(door, name)
    assert 400 <= status < 500


async def test_query_with_too_many_parameters_is_400(door: FrontDoor) -> None:
    status, kind, _ = refused(door, query="?" + "&".join(["a=b"] * (MAX_PARAMETERS + 1)))
    assert (status, kind) == (400, "InvalidParameterValueException")


# How outcomes are answered


async def test_result_is_200_with_the_payload_and_the_headers_of_aws(door: FrontDoor) -> None:
    client = door.invoke("f:live")
    assert client.transport.written == b""
    door.conclude(payload=b"null", served=Served("env-1", False))
    status, headers, body = client.answer()
    assert (status, body) == (200, b"null")
    assert headers["x-amzn-requestid"] == door.invoked[0].request_id
    assert headers["x-amz-executed-version"] == "2"
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
    assert (headers["x-lambent-environment"], headers["x-lambent-start"]) == ("env-1", "warm")
    assert not {"x-amz-function-error", "x-amz-log-result"} & headers.keys()


async def test_error_of_the_function_is_200_and_unhandled(door: FrontDoor) -> None:
    client = door.invoke()
    door.conclude(OutcomeKind.FUNCTION_ERROR, b'{"errorType":"Boom"}', "Boom", served=Served("env-1", True))
    status, headers, body = client.answer()
    assert (status, headers["x-amz-function-error"], body) == (200, "Unhandled", b'{"errorType":"Boom"}')


async def test_throttled_invocation_is_429_with_the_reason_and_when_to_come_back(door: FrontDoor) -> None:
    client = door.invoke()
    door.conclude(OutcomeKind.REFUSED, b"", "ConcurrentInvocationLimitExceeded")
    status, headers, body = client.answer()
    assert (status, headers["x-amzn-errortype"], headers["retry-after"]) == (429, "TooManyRequestsException", "1")
    assert json.loads(body) == {
        "Reason": "ConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}  # fmt: skip


async def test_fault_of_the_platform_is_500_with_the_cause(door: FrontDoor) -> None:
    client = door.invoke()
    door.conclude(OutcomeKind.PLATFORM_ERROR, b"", "no memory is left")
    status, headers, body = client.answer()
    assert (status, headers["x-amzn-errortype"]) == (500, "ServiceException")
    assert json.loads(body)["Type"] == "Service" and "no memory is left" in json.loads(body)["Message"]


@pytest.mark.parametrize("given", ["text/plain\r\nX-Evil: 1", "text/\xe9", "a\x00b", "text/plain\x7f"])
async def test_content_type_that_would_break_the_answer_is_replaced(door: FrontDoor, given: str) -> None:
    client = door.invoke()
    door.conclude(content_type=given)
    status, headers, _ = client.answer()
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert "x-evil" not in headers


async def test_caller_who_asked_to_close_is_closed_after_the_answer(door: FrontDoor) -> None:
    client = door.invoke(Connection="close")
    door.conclude()
    assert client.answer()[1]["connection"] == "close"
    assert client.transport.closing


async def test_outcome_for_a_caller_who_has_hung_up_is_dropped(door: FrontDoor) -> None:
    client = door.invoke()
    client.hang_up()
    door.conclude()
    assert client.transport.written == b""
