"""Tags through boto3, as recorded from the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running, settled


async def test_tags_live_with_the_function(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Tags={"a": "1"}))
            revision = settled(client)["RevisionId"]
            assert client.list_tags(Resource=ARN + "f")["Tags"] == {"a": "1"}
            tagged = client.tag_resource(Resource=ARN + "f", Tags={"b": "2", "a": "x", "c d": ""})
            assert tagged["ResponseMetadata"]["HTTPStatusCode"] == 204
            shown = client.get_function(FunctionName="f")
            assert shown["Tags"] == {"a": "x", "b": "2", "c d": ""}
            assert shown["Configuration"]["RevisionId"] != revision
            untagged = client.untag_resource(Resource=ARN + "f", TagKeys=["a", "c d", "nothing"])
            assert untagged["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert client.list_tags(Resource=ARN + "f")["Tags"] == {"b": "2"}
            client.untag_resource(Resource=ARN + "f", TagKeys=["b"])
            assert client.list_tags(Resource=ARN + "f")["Tags"] == {}
            assert "Tags" not in client.get_function(FunctionName="f")

        await plane.drive(script)


async def test_tags_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            fifty = {f"{number}_key": "v" for number in range(50)}
            for arn, tags, code, words in (
                (ARN + "g", {"a": "b"}, "ResourceNotFoundException", f"Function not found: {ARN}g"),
                (ARN + "f:1", {"a": "b"}, "InvalidParameterValueException", "Tags on function aliases and versions are "
                 "not supported. Please specify a function ARN."),
                (ARN + "f:$LATEST", {"a": "b"}, "InvalidParameterValueException", "Tags on function aliases and "
                 "versions are not supported. Please specify a function ARN."),
                (ARN + "f", {}, "InvalidParameterValueException", "An error occurred and the request cannot be "
                 "processed."),
                (ARN + "f", {**fifty, "one": "more"}, "InvalidParameterValueException",
                 "Number of tags exceeds resource tag limit."),
                (ARN + "f", {"aws:x": "y"}, "InvalidParameterValueException",
                 "Tag keys must not begin with aws:, which is reserved."),
                ("arn:aws:lambda:us-east-1:000000000000:capacity-provider:c", {"a": "b"}, "ResourceNotFoundException",
                 "Capacity provider not found: arn:aws:lambda:us-east-1:000000000000:capacity-provider:c"),
            ):  # fmt: skip
                found = refused(client.tag_resource, Resource=arn, Tags=tags)
                assert (found[0], found[2]) == (code, words)
            assert refused(client.tag_resource, Resource="arn:aws:something", Tags={"a": "b"})[0] == (
                "ValidationException")  # fmt: skip
            assert refused(client.untag_resource, Resource=ARN + "f", TagKeys=[]) == (
                "ValidationException", 400, "1 validation error detected: Value null at 'tagKeys' failed to satisfy "
                "constraint: Member must not be null")  # fmt: skip
            client.tag_resource(Resource=ARN + "f", Tags=fifty)
            assert refused(client.tag_resource, Resource=ARN + "f", Tags={"one": "more"})[2] == (
                "Number of tags exceeds resource tag limit.")  # fmt: skip
            assert client.list_tags(Resource=ARN + "f")["Tags"] == fifty

        await plane.drive(script)
