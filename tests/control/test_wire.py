"""Answers as bytes: status, headers and bodies of the control plane, without an SDK between (fact sheet 6.4, 19.1)."""

from __future__ import annotations

import http.client
import json
import re
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from control_plane import ARN, Plane, function, running, settled

F = "/2015-03-31/functions"
SCOPE = "111111111111%2F20260101%2Feu-west-1%2Flambda%2Faws4_request"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]  #: names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(plane: Plane, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
        ) -> Reply:  # fmt: skip
    """One request, exactly as written."""
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return Reply(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        connection.close()


async def test_answers_have_a_request_id_a_date_and_a_content_type(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            target = {"X-Amz-Target": "Logs_20140328.DescribeLogGroups"}
            for status, kind, error, asked in (
                (200, "application/json", None, ("GET", f"{F}/f")),
                (404, "application/json", "ResourceNotFoundException", ("GET", f"{F}/g")),
                (204, None, None, ("DELETE", "/2017-10-31/functions/f/concurrency")),
                (200, "text/xml", None, ("POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15", form)),
                (501, "text/xml", "NotImplementedException", ("POST", "/", b"Action=No&Version=2011-06-15", form)),
                (400, "application/x-amz-json-1.1", "SerializationException", ("POST", "/", b"{", target)),
            ):
                reply = ask(plane, *asked)
                assert (reply.status, reply.headers.get("content-type")) == (status, kind), asked
                assert reply.headers.get("x-amzn-errortype") == error
                assert UUID.fullmatch(reply.headers["x-amzn-requestid"])
                assert abs(parsedate_to_datetime(reply.headers["date"]).timestamp() - plane.clock.wall()) < 60
                assert reply.headers["date"].endswith(" GMT")

        await plane.drive(script)


BODIES: list[tuple[str, str, bytes | None, int, str, dict[str, Any]]] = [
    ("GET", f"{F}/g", None, 404, "ResourceNotFoundException",
     {"Type": "User", "Message": f"Function not found: {ARN}g"}),
    ("POST", F, json.dumps(function(Code={})).encode(), 400, "InvalidParameterValueException",
     {"Type": "User", "message": "Please provide a source for function code."}),
    ("GET", f"{F}?MaxItems=0", None, 400, "ValidationException",
     {"message": "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have "
                 "value greater than or equal to 1"}),
    ("GET", f"{F}?MaxItems=many", None, 400, "SerializationException",
     {"message": "STRING_VALUE can not be converted to an Integer"}),
    ("GET", f"{F}/111111111111:function:f", None, 403, "AccessDeniedException",
     {"Message": "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:GetFunction on resource: "
                 f"{ARN.replace('000000000000', '111111111111')}f because no resource-based policy allows the "
                 "lambda:GetFunction action"}),
    ("POST", F, json.dumps(function(f"{ARN.replace('000000000000', '111111111111')}f", Code={})).encode(), 403,
     "AccessDeniedException", {"Message": None}),
    ("PUT", "/2017-10-31/functions/f/concurrency", b'{"ReservedConcurrentExecutions":901}', 400,
     "InvalidParameterValueException",
     {"message": "Specified ReservedConcurrentExecutions for function decreases account's "
                 "UnreservedConcurrentExecution below its minimum value of [100]."}),
    ("POST", f"{F}/f/versions", b'{"RevisionId":"x"}', 412, "PreconditionFailedException",
     {"Type": "User", "message": "The Revision Id provided does not match the latest Revision Id. Call the "
                                 "GetFunction/GetAlias API to retrieve the latest Revision Id"}),
    ("GET", "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=7", None, 404, "ResourceNotFoundException",
     {"Type": "User", "Message": f"Function not found: {ARN}f:7"}),
    ("POST", f"{F}/f/aliases", json.dumps({"Name": "a", "FunctionVersion": "$LATEST", "RoutingConfig": {
        "AdditionalVersionWeights": {"1": 0.5}}}).encode(), 400, "InvalidParameterValueException",
     {"message": "$LATEST is not supported for an alias pointing to more than 1 version"}),
    ("GET", "/2025-11-30/capacity-providers", None, 501, "NotImplementedException",
     {"Type": "Service", "message": "The operation ListCapacityProviders is not served by this version of Lambent; "
                                    "nothing was changed."}),
    ("PATCH", F, None, 404, "UnknownOperationException", {"message": f"There is no operation at PATCH {F}"}),
    ("OPTIONS", f"{F}/f", None, 404, "UnknownOperationException",
     {"message": f"There is no operation at OPTIONS {F}/f"}),
]  # fmt: skip


async def test_errors_have_the_body_of_their_code(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            settled(client)
            for method, path, body, status, code, said in BODIES:
                reply = ask(plane, method, path, body)
                assert (reply.status, reply.headers["x-amzn-errortype"], reply.json()) == (status, code, said)
            head = ask(plane, "HEAD", f"{F}/f")
            assert (head.status, head.body) == (404, b"") and int(head.headers["content-length"]) > 0

        await plane.drive(script)


@pytest.mark.parametrize(
    "path",
    [
        f"{F}/f", f"{F}/f/", f"{F}/%66", f"{F}/{ARN}f", f"{F}/{ARN.replace(':', '%3A')}f", f"{F}/function%3Af",
        f"{F}/000000000000:f/", f"{F}/f?Qualifier=%24LATEST", f"{F}/f:$LATEST",
    ],
)  # fmt: skip
async def test_paths_in_every_spelling_lead_to_the_function(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            assert ask(plane, "GET", path).json()["Configuration"]["FunctionName"] == "f"

        await plane.drive(script)


async def test_older_sdks_send_slashes_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            for path, member in ((f"{F}/", "Functions"), ("/2015-03-31/event-source-mappings/", "EventSourceMappings"),
                                 ("/2016-08-19/account-settings/", "AccountLimit"),
                                 ("/2020-04-22/code-signing-configs/", "CodeSigningConfigs")):  # fmt: skip
                assert member in ask(plane, "GET", path).json()
            assert ask(plane, "POST", "/2014-11-13/functions/f/invoke-async/", b"{}").status == 501

        await plane.drive(script)


async def test_signatures_in_the_query_say_account_and_region(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            presigned = f"{F}/f?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE}&X-Amz-Signature=0"
            assert ask(plane, "GET", presigned).json()["Message"] == (
                "Function not found: arn:aws:lambda:eu-west-1:111111111111:function:f")  # fmt: skip
            assert ask(plane, "GET", f"{F}/f").status == 200, "without a signature it is the server's own"

        await plane.drive(script)
