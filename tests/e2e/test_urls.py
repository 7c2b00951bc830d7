"""Function URLs, from a socket to the handler and back (point 4). Names under localhost need not resolve here."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from .harness import Answer, Function, Server, refusal, running

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
#: As on AWS; that they are open without it is the last test.
FLAGS = ("--public-urls", "policy")

#: Answers with what it got, or with what the query names.
SOURCE = """
import base64, os

ANSWERS = {
    "string": "hello",
    "list": ["hello", 3, True],
    "object": {"hello": "world"},
    "null": None,
    "status": {"statusCode": 201, "headers": {"X-One": "1", "Content-Type": "text/plain"}, "body": "made"},
    "text-status": {"statusCode": "404", "body": "not here"},
    "plain-status": {"statusCode": 200},
    "open": {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}, "body": "x"},
    "cookies": {"statusCode": 200, "cookies": ["a=1; Secure", "b=2"], "body": "x"},
    "multi": {"statusCode": 200, "multiValueHeaders": {"X-Many": ["1", "2"]}, "body": "x"},
    "binary": {"statusCode": 200, "isBase64Encoded": True, "headers": {"content-type": "image/png"},
               "body": base64.b64encode(bytes(range(256))).decode()},
    "types": {"statusCode": 200, "headers": {"X-Number": 7, "X-Truth": True}, "body": "x"},
    "bad-status": {"statusCode": "teapot", "body": "x"},
    "bad-header": {"statusCode": 200, "headers": {"X-Split": "a\\r\\nX-Evil: 1"}, "body": "x"},
    "body-kept": {"statusCode": 200, "body": '{"a":  1}'},
}

def handler(event, context):
    wanted = event.get("queryStringParameters", {}).get("answer")
    if wanted == "raise":
        raise ValueError("boom")
    if wanted == "exit":
        os._exit(1)
    return ANSWERS[wanted] if wanted else event
"""

FUNCTIONS = (Function("url", SOURCE), Function("other", SOURCE), Function("ruled", SOURCE),
             Function("late", "import time\ndef handler(event, context): time.sleep(5)", timeout=1))  # fmt: skip


@pytest.fixture(scope="module")
def host(server: Server) -> str:
    """The Host of the URL of the function `url`."""
    return server.open_url("url")


def answer(server: Server, host: str, wanted: str) -> Answer:
    return server.http("GET", f"/?answer={wanted}", host=host)


def test_the_configuration_is_created_shown_and_deleted(server: Server) -> None:
    reply = server.functions.create_function_url_config(FunctionName="other", AuthType="NONE")
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    url = reply["FunctionUrl"]
    assert re.fullmatch(rf"http://[a-z0-9]{{32}}\.lambda-url\.us-east-1\.localhost:{server.port}/", url)
    assert reply["FunctionArn"] == ARN + "other"
    assert reply["AuthType"] == "NONE"
    assert "InvokeMode" not in reply and "LastModifiedTime" not in reply
    again = refusal(lambda: server.functions.create_function_url_config(FunctionName="other", AuthType="NONE"))
    assert again[:3] == (409, "ResourceConflictException", "Failed to create function url config for [functionArn = "
                         f"{ARN}other]. Error message:  FunctionUrlConfig exists for this Lambda function")  # fmt: skip
    shown = server.functions.get_function_url_config(FunctionName="other")
    assert (shown["FunctionUrl"], shown["InvokeMode"]) == (url, "BUFFERED")
    host = url.removeprefix("http://").removesuffix("/")
    shut = answer(server, host, "string")
    assert (shut.status, shut.header("x-amzn-ErrorType")) == (403, "AccessDeniedException"), "no policy lets anybody in"
    server.let_anybody_in("other")
    assert answer(server, host, "string").status == 200

    deleted = server.functions.delete_function_url_config(FunctionName="other")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    gone = answer(server, host, "string")
    assert (gone.status, gone.body) == (403, b'{"Message":null}')
    absent = refusal(lambda: server.functions.get_function_url_config(FunctionName="other"))
    assert absent[:3] == (404, "ResourceNotFoundException", "The resource you requested does not exist.")
    made = server.functions.create_function_url_config(FunctionName="other", AuthType="NONE")
    assert made["FunctionUrl"] != url


def test_a_request_becomes_an_event_of_format_two(server: Server, host: str) -> None:
    reply = server.http(
        "POST", "/my/p%20th?a=1&a=2&b=x%20y&c=", host=host, body=b'{"k": 1}',
        headers=[("Content-Type", "application/json"), ("Cookie", "c1=v1; c2=v2"), ("User-Agent", "test/1"),
                 ("X-Twice", "1"), ("x-twice", "2"), ("X-Forwarded-For", "6.6.6.6")])  # fmt: skip
    event = reply.json()
    url_id = host.split(".")[0]
    domain = host.rpartition(":")[0]
    assert (event["version"], event["routeKey"]) == ("2.0", "$default")
    assert event["rawPath"] == "/my/p%20th"
    assert event["rawQueryString"] == "a=1&a=2&b=x%20y&c="
    assert event["queryStringParameters"] == {"a": "1,2", "b": "x y", "c": ""}
    assert event["cookies"] == ["c1=v1", "c2=v2"]
    headers = event["headers"]
    assert "cookie" not in headers and headers["x-twice"] == "1,2"
    assert headers["host"] == host and headers["content-type"] == "application/json"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == ("http", str(server.port))
    assert headers["x-amzn-trace-id"].startswith("Root=1-")
    context = event["requestContext"]
    assert (context["accountId"], context["apiId"], context["domainPrefix"]) == ("anonymous", url_id, url_id)
    assert context["domainName"] == domain
    assert context["http"] == {"method": "POST", "path": "/my/p%20th", "protocol": "HTTP/1.1",
                               "sourceIp": "127.0.0.1", "userAgent": "test/1"}  # fmt: skip
    assert (context["routeKey"], context["stage"]) == ("$default", "$default")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    assert isinstance(context["timeEpoch"], int)
    assert context["requestId"] == reply.header("x-amzn-RequestId")
    assert reply.header("X-Amzn-Trace-Id") == headers["x-amzn-trace-id"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"k": 1}', False)
    assert "authorizer" not in context


def test_what_is_empty_is_absent(server: Server, host: str) -> None:
    event = server.http("DELETE", "/", host=host).json()
    assert event["requestContext"]["http"]["method"] == "DELETE"
    assert not {"cookies", "queryStringParameters", "body"} & event.keys()
    assert event["isBase64Encoded"] is False


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=x", "image/png", None])
def test_what_is_not_text_comes_as_base64(server: Server, host: str, kind: str | None) -> None:
    body = bytes(range(256))
    headers = [("Content-Type", kind)] if kind else []
    event = server.http("PUT", "/", host=host, body=body, headers=headers).json()
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == body


@pytest.mark.parametrize(
    ("wanted", "status", "kind", "body"),
    [
        ("string", 200, "application/json", b"hello"),
        ("list", 200, "application/json", b'["hello",3,true]'),
        ("object", 200, "application/json", b'{"hello":"world"}'),
        ("status", 201, "text/plain", b"made"),
        ("text-status", 404, "application/json", b"not here"),
        ("plain-status", 200, "application/json", b""),
        ("binary", 200, "image/png", bytes(range(256))),
        ("body-kept", 200, "application/json", b'{"a":  1}'),
        ("raise", 502, "text/plain", b"Internal Server Error"),
        ("exit", 502, "text/plain", b"Internal Server Error"),
        ("bad-status", 502, "text/plain", b"Internal Server Error"),
        ("bad-header", 502, "text/plain", b"Internal Server Error"),
    ],
)
def test_a_result_becomes_a_response(
    server: Server, host: str, wanted: str, status: int, kind: str, body: bytes
) -> None:
    reply = answer(server, host, wanted)
    assert (reply.status, reply.header("content-type"), reply.body) == (status, kind, body)
    assert reply.header("x-amzn-RequestId") is not None
    assert reply.header("X-Evil") is None


def test_only_cookies_can_repeat(server: Server, host: str) -> None:
    headers = answer(server, host, "cookies").headers
    assert [value for name, value in headers if name.lower() == "set-cookie"] == ["a=1; Secure", "b=2"]
    assert answer(server, host, "multi").header("X-Many") is None
    typed = answer(server, host, "types")
    assert (typed.header("X-Number"), typed.header("X-Truth"), typed.header("X-One")) == ("7", "true", None)
    assert answer(server, host, "status").header("X-One") == "1"


def test_a_timeout_is_a_bad_gateway(server: Server) -> None:
    reply = answer(server, server.open_url("late"), "string")
    assert (reply.status, reply.body) == (502, b"Internal Server Error")


def test_a_head_has_no_body(server: Server, host: str) -> None:
    reply = server.http("HEAD", "/?answer=string", host=host)
    assert (reply.status, reply.body) == (200, b"")


def test_a_body_over_the_limit_is_refused(server: Server, host: str) -> None:
    reply = server.http("POST", "/", host=host, body=b"x" * (6 * 1024 * 1024 + 1))
    assert reply.status == 413


@pytest.mark.parametrize("prefix", ["a" * 32, "x"])
def test_an_unknown_host_is_forbidden(server: Server, prefix: str) -> None:
    reply = server.http("GET", "/", host=f"{prefix}.lambda-url.us-east-1.localhost:{server.port}")
    assert (reply.status, reply.json()) == (403, {"Message": None})


def test_a_url_leads_to_the_function_and_nowhere_else(server: Server, host: str) -> None:
    """What is a path of the API elsewhere is the function's own here."""
    for path in ("/2015-03-31/functions", "/_lambent/health", "/2015-03-31/functions/url/invocations"):
        event: dict[str, Any] = json.loads(server.http("POST", path, host=host).body)
        assert event["rawPath"] == path


def test_a_web_page_from_elsewhere_may_call_a_url(server: Server, host: str) -> None:
    reply = server.http("GET", "/?answer=string", host=host, headers=[("Origin", "https://example.com")])
    assert reply.status == 200
    preflight = server.http("OPTIONS", "/", host=host, headers=[("Origin", "https://example.com")])
    assert preflight.json()["requestContext"]["http"]["method"] == "OPTIONS"


def test_the_url_of_an_alias_invokes_it_and_survives_it(server: Server) -> None:
    lambda_ = server.functions
    lambda_.publish_version(FunctionName="other")
    lambda_.get_waiter("published_version_active").wait(
        FunctionName="other", Qualifier="1", WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    lambda_.create_alias(FunctionName="other", Name="prod", FunctionVersion="1")
    host = server.open_url("other", Qualifier="prod")
    served = answer(server, host, "string")
    assert served.body == b"hello"
    assert server.environment(str(served.header("X-Lambent-Environment")))["version"] == "1"
    lambda_.delete_alias(FunctionName="other", Name="prod")
    gone = answer(server, host, "string")
    assert (gone.status, gone.header("x-amzn-ErrorType")) == (403, "AccessDeniedException")
    lambda_.delete_function_url_config(FunctionName="other", Qualifier="prod")


def test_cross_origin_rules_are_the_servers(server: Server) -> None:
    rules = {"AllowOrigins": ["https://a.example"], "AllowMethods": ["PUT"], "MaxAge": 60}
    host = server.open_url("ruled", Cors=rules)
    asked = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    preflight = server.http("OPTIONS", "/", host=host, headers=asked)
    assert (preflight.status, preflight.body) == (200, b"")
    assert preflight.header("Access-Control-Allow-Methods") == "PUT"
    assert server.environments("ruled") == []
    ours = server.http("GET", "/?answer=open", host=host, headers=asked[:1])
    assert [value for name, value in ours.headers if name.lower() == "access-control-allow-origin"] == [
        "https://a.example"]  # fmt: skip
    theirs = server.http("GET", "/?answer=open", host=host, headers=[("Origin", "https://b.example")])
    assert theirs.body == b"x" and theirs.header("Access-Control-Allow-Origin") is None
    failed = server.http("GET", "/?answer=raise", host=host, headers=asked[:1])
    assert (failed.status, failed.header("Access-Control-Allow-Origin")) == (502, "https://a.example")
    server.functions.update_function_url_config(FunctionName="ruled", Cors={})
    without = server.http("OPTIONS", "/", host=host, headers=asked)
    assert without.json()["requestContext"]["http"]["method"] == "OPTIONS"


def test_a_url_with_iam_stays_shut(server: Server) -> None:
    server.functions.update_function_url_config(FunctionName="ruled", AuthType="AWS_IAM", Cors={"AllowOrigins": ["*"]})
    reply = server.functions.get_function_url_config(FunctionName="ruled")
    host = reply["FunctionUrl"].removeprefix("http://").removesuffix("/")
    shut = answer(server, host, "string")
    assert (shut.status, shut.header("x-amzn-ErrorType")) == (403, "AccessDeniedException")
    asked = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "PUT")]
    assert server.http("OPTIONS", "/", host=host, headers=asked).header("Access-Control-Allow-Origin") == "*"


def test_a_url_is_open_without_a_policy_unless_that_is_asked_for(data_dir: Path) -> None:
    with running(data_dir.with_name("open")) as server:
        server.deploy(Function("plain", "def handler(event, context):\n    return event['rawPath']\n"))
        reply = server.functions.create_function_url_config(FunctionName="plain", AuthType="NONE")
        host = reply["FunctionUrl"].removeprefix("http://").removesuffix("/")
        assert server.http("GET", "/hello", host=host).body == b"/hello"
