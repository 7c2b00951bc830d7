"""Requests judged against the model, in AWS's words."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from lambent.control import model
from lambent.control.routes import BY_NAME
from lambent.control.validate import decode, decode_logs
from lambent.errors import ApiError

GOOD = {"FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": "AAAA"}}


def create(body: bytes | None = None, **changes: Any) -> dict[str, Any]:
    document = {**GOOD, **changes}
    return decode(BY_NAME["CreateFunction"], {}, "", {}, json.dumps(document).encode() if body is None else body)


def refusal(body: bytes | None = None, **changes: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        create(body, **changes)
    assert caught.value.status == 400 and "Type" not in caught.value.body()
    return caught.value


def test_good_request_is_decoded_without_what_is_unknown_or_null() -> None:
    params = create(Unknown=1, Description=None, Timeout=3.0, Environment={"Variables": {"AB": "c"}, "More": 1})
    assert params == {"FunctionName": "f", "Role": GOOD["Role"], "Code": {"ZipFile": b"\0\0\0"}, "Timeout": 3,
                      "Environment": {"Variables": {"AB": "c"}}}  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 2, 3, (1 << 20) // 4 * 3, (1 << 20) // 4 * 3 + 1, 2 << 20])
def test_package_of_any_size_is_decoded(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert create(Code={"ZipFile": base64.b64encode(content).decode()})["Code"]["ZipFile"] == content


@pytest.mark.parametrize("text", ["A", "AAA", "AA=A", "=AAA", "AAAA=", "A A A A ", "AA-_", "AAAÄ", "AAA\n",
                                  "A" * ((1 << 20) - 2) + "==AAAA"])  # fmt: skip
def test_package_that_is_not_base64_is_refused(text: str) -> None:
    assert refusal(Code={"ZipFile": text}).message == "The value is not Base64-encoded"


START = "1 validation error detected: Value "


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"MemorySize": 127}, "'127' at 'memorySize' failed to satisfy constraint: "
                              "Member must have value greater than or equal to 128"),
        ({"MemorySize": 32769}, "'32769' at 'memorySize' failed to satisfy constraint: "
                                "Member must have value less than or equal to 32768"),
        ({"Timeout": 901}, "'901' at 'timeout' failed to satisfy constraint: "
                           "Member must have value less than or equal to 900"),
        ({"Role": "r"}, "'r' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: "
                        + model.SHAPES["RoleArn"]["pattern"]),
        ({"Role": None}, "null at 'role' failed to satisfy constraint: Member must not be null"),
        ({"PackageType": "Tar"}, "'Tar' at 'packageType' failed to satisfy constraint: "
                                 "Member must satisfy enum value set: [Zip, Image]"),
        ({"Architectures": ["mips"]}, "'[mips]' at 'architectures' failed to satisfy constraint: Member must satisfy "
         "constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"),
        ({"Architectures": ["x86_64", "arm64"]}, "'[x86_64, arm64]' at 'architectures' failed to satisfy constraint: "
                                                 "Member must have length less than or equal to 1"),
        ({"EphemeralStorage": {"Size": 10241}}, "'10241' at 'ephemeralStorage.size' failed to satisfy constraint: "
                                                "Member must have value less than or equal to 10240"),
        ({"EphemeralStorage": {}}, "null at 'ephemeralStorage.size' failed to satisfy constraint: "
                                   "Member must not be null"),
        ({"FileSystemConfigs": [{"Arn": "x", "LocalMountPath": "/mnt/a"}]}, "'x' at 'fileSystemConfigs.1.member.arn' "
         "failed to satisfy constraint: Member must satisfy regular expression pattern: "),
        ({"Tags": {"a?": "b"}}, "'{a?=b}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: ["),
        ({"Tags": {"a": "\N{SNOWMAN}"}}, "'{a=\N{SNOWMAN}}' at 'tags' failed to satisfy constraint: "
                                         "Map value must satisfy constraint: ["),
    ],
)  # fmt: skip
def test_broken_constraints_are_told_as_aws_tells_them(changes: dict[str, Any], words: str) -> None:
    error = refusal(**changes)
    assert error.code == "ValidationException"
    assert (START + words in error.message) or f"; Value {words}" in error.message


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("PutFunctionConcurrency", {"ReservedConcurrentExecutions": -1}, "'-1' at 'reservedConcurrentExecutions'"),
        ("PutFunctionEventInvokeConfig", {"MaximumRetryAttempts": -1}, "'-1' at 'maximumRetryAttempts'"),
        ("CreateFunctionUrlConfig", {"AuthType": "NONE", "Cors": {"MaxAge": -1}}, "'-1' at 'cors.maxAge'"),
        ("CreateEventSourceMapping", {"FunctionName": "f", "MaximumBatchingWindowInSeconds": -1},
         "'-1' at 'maximumBatchingWindowInSeconds'"),
        ("CreateEventSourceMapping", {"FunctionName": "f", "TumblingWindowInSeconds": -1},
         "'-1' at 'tumblingWindowInSeconds'"),
    ],
)  # fmt: skip
def test_minimum_of_zero_is_a_minimum(name: str, body: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        decode(BY_NAME[name], {"FunctionName": "f"}, "", {}, json.dumps(body).encode())
    sentence = "failed to satisfy constraint: Member must have value greater than or equal to 0"
    assert (caught.value.code, caught.value.message) == ("ValidationException", f"{START}{words} {sentence}")


def test_doubles_are_shown_as_java_shows_them() -> None:
    body = {"Name": "live", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 2}}}
    with pytest.raises(ApiError) as caught:
        decode(BY_NAME["CreateAlias"], {"FunctionName": "f"}, "", {}, json.dumps(body).encode())
    assert caught.value.message == (
        f"{START}'{{2=2.0}}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must "
        "satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or "
        "equal to 0.0, Member must not be null]")  # fmt: skip


def test_secret_values_are_not_repeated() -> None:
    error = refusal(Environment={"Variables": {"1": "secret"}})
    assert error.message.startswith(START + "at 'environment.variables' failed to satisfy constraint: Map keys must")
    assert "secret" not in error.message


def test_all_broken_constraints_come_in_one_message() -> None:
    error = refusal(FunctionName="", MemorySize=1, Timeout=0)
    assert error.message.startswith("4 validation errors detected: Value '' at 'functionName'")
    assert error.message.count("; Value '") == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Timeout": "3"}, "STRING_VALUE can not be converted to an Integer"),
        ({"Timeout": 3.5}, "DECIMAL_VALUE can not be converted to an Integer"),
        ({"Timeout": True}, "TRUE_VALUE can not be converted to an Integer"),
        ({"Handler": 3}, "NUMBER_VALUE can not be converted to a String"),
        ({"Publish": "yes"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"Handler": {}}, "Start of structure or map found where not expected."),
        ({"Handler": []}, "Start of list found where not expected"),
        ({"Environment": "x"}, "STRING_VALUE can not be converted to a Structure"),
        ({"Layers": "x"}, "STRING_VALUE can not be converted to a List"),
        ({"Tags": "x"}, "STRING_VALUE can not be converted to a Map"),
        ({"Code": {"ZipFile": "###"}}, "The value is not Base64-encoded"),
        ({"Code": {"ZipFile": "AAA"}}, "The value is not Base64-encoded"),
        ({"Code": {"ZipFile": "ü" * 4}}, "The value is not Base64-encoded"),
    ],
)
def test_values_of_another_type_are_no_validation_errors(changes: dict[str, Any], words: str) -> None:
    error = refusal(**changes)
    assert (error.code, error.message) == ("SerializationException", words)


@pytest.mark.parametrize(
    "body",
    [b"{", b"nonsense", b"\xff\xfe", b'{"FunctionName":"\\ud800"}', b"[" * 100_000, b"[]", b"3", b'"text"',
     b'{"Timeout":NaN}', b'{"FunctionName":"f","FunctionName"}'],
)  # fmt: skip
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    assert refusal(body).code == "SerializationException"


@pytest.mark.parametrize("number", [b"1e400", b"9" * 400, b"-" + b"9" * 25, b"1e30"])
def test_numbers_beyond_every_type(number: bytes) -> None:
    body = json.dumps({**GOOD, "Timeout": 77}).encode().replace(b"77", number)
    assert refusal(body).code in ("SerializationException", "ValidationException")


def test_empty_body_lacks_what_is_required() -> None:
    assert refusal(b"").message.startswith("3 validation errors detected: Value null at 'functionName'")


def test_query_labels_and_headers_are_decoded_by_their_shapes() -> None:
    listed = decode(BY_NAME["ListFunctions"], {}, "MaxItems=7&Marker=a%20b&Other=1", {}, b"")
    assert listed == {"MaxItems": 7, "Marker": "a b"}
    untagged = decode(BY_NAME["UntagResource"], {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f"},
                      "tagKeys=a&tagKeys=b", {}, b"")  # fmt: skip
    assert untagged["TagKeys"] == ["a", "b"]
    invoked = decode(BY_NAME["Invoke"], {"FunctionName": "f"}, "", {"x-amz-log-type": "Tail"}, b"\xff")
    assert invoked == {"FunctionName": "f", "LogType": "Tail", "Payload": b"\xff"}
    with pytest.raises(ApiError, match="at 'maxItems' failed to satisfy constraint: Member must have value greater"):
        decode(BY_NAME["ListFunctions"], {}, "MaxItems=0", {}, b"")
    with pytest.raises(ApiError, match="STRING_VALUE can not be converted to an Integer"):
        decode(BY_NAME["ListFunctions"], {}, "MaxItems=x", {}, b"")


def test_body_cannot_replace_what_travels_in_the_path() -> None:
    params = decode(BY_NAME["UpdateFunctionConfiguration"], {"FunctionName": "f"}, "", {},
                    b'{"FunctionName":"g","Timeout":4}')  # fmt: skip
    assert params == {"FunctionName": "f", "Timeout": 4}


def test_logs_requests_have_the_error_code_of_their_service() -> None:
    params = decode_logs("GetLogEvents", b'{"logGroupName":"/aws/lambda/f","logStreamName":"s","limit":10}')
    assert params == {"logGroupName": "/aws/lambda/f", "logStreamName": "s", "limit": 10}
    with pytest.raises(ApiError) as caught:
        decode_logs("GetLogEvents", b'{"limit":0}')
    assert caught.value.code == "InvalidParameterException"
    assert "Value null at 'logStreamName' failed to satisfy constraint" in caught.value.message
    for body in (b"[]", b"{"):
        with pytest.raises(ApiError) as caught:
            decode_logs("GetLogEvents", body)
        assert caught.value.code == "SerializationException"


def test_every_pattern_of_the_model_compiles() -> None:
    from lambent.control.shapes import String

    for name, row in (*model.SHAPES.items(), *model.LOGS_SHAPES.items()):
        if row["type"] == "string" and "pattern" in row:
            String(name, {"type": "string", "pattern": row["pattern"]}).obeys("x")
