"""Function URLs through boto3."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running


async def test_url_lives_from_creation_to_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> str:
            client.create_function(**function())
            created = client.create_function_url_config(FunctionName="f", AuthType="NONE")
            assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
            assert created["FunctionArn"] == ARN + "f" and created["AuthType"] == "NONE"
            assert "LastModifiedTime" not in created and "InvokeMode" not in created
            form = rf"http://([a-z0-9]{{32}})\.lambda-url\.us-east-1\.localhost:{plane.port}/"
            match = re.fullmatch(form, created["FunctionUrl"])
            assert match is not None
            shown = client.get_function_url_config(FunctionName=ARN + "f")
            assert shown["FunctionUrl"] == created["FunctionUrl"] and shown["InvokeMode"] == "BUFFERED"
            assert shown["CreationTime"] == shown["LastModifiedTime"] == created["CreationTime"]
            assert refused(client.create_function_url_config, FunctionName="f", AuthType="NONE") == (
                "ResourceConflictException", 409, f"Failed to create function url config for [functionArn = {ARN}f]. "
                "Error message:  FunctionUrlConfig exists for this Lambda function")  # fmt: skip
            return match[1]

        first = await plane.drive(script)
        url = plane.store.urls.by_id(first)
        assert url is not None and url.function_arn == ARN + "f"

        def remove(client: Any) -> None:
            deleted = client.delete_function_url_config(FunctionName="f")
            assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            for call in (client.get_function_url_config, client.delete_function_url_config):
                gone = refused(call, FunctionName="f")
                assert gone == ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
            again = client.create_function_url_config(FunctionName="f", AuthType="NONE", InvokeMode="BUFFERED")
            assert again["InvokeMode"] == "BUFFERED" and first not in again["FunctionUrl"]
            client.delete_function(FunctionName="f")

        await plane.drive(remove)
        assert plane.store.urls.by_id(first) is None and list(plane.store.urls) == []


async def test_urls_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            create = client.create_function_url_config
            for changes, code, words in (
                ({"Cors": {"AllowOrigins": ["www.example.com"]}}, "InvalidParameterValueException", "AllowOrigins"),
                ({"Cors": {"AllowMethods": ["FETCH"]}}, "InvalidParameterValueException", "AllowMethods"),
                ({"Cors": {"AllowMethods": ["OPTIONS"]}}, "ValidationException", "less than or equal to 6"),
                ({"Cors": {"AllowHeaders": ["a\rb"]}}, "InvalidParameterValueException", "AllowHeaders"),
                ({"Cors": {"ExposeHeaders": ["a b"]}}, "InvalidParameterValueException", "ExposeHeaders"),
                ({"Cors": {"MaxAge": 86401}}, "ValidationException", "less than or equal to 86400"),
                ({"InvokeMode": "x"}, "ValidationException", "at 'invokeMode' failed to satisfy constraint: "
                 "Member must satisfy enum value set: [RESPONSE_STREAM, BUFFERED]"),
                ({"Qualifier": "$LATEST"}, "ValidationException", "at 'qualifier'"),
                ({"Qualifier": "prod"}, "ResourceNotFoundException", "Function does not exist"),
                ({"Qualifier": "1"}, "ValidationException", "at 'qualifier'"),
                ({"FunctionName": "g"}, "ResourceNotFoundException", "Function does not exist"),
            ):  # fmt: skip
                found = refused(create, **{"FunctionName": "f", "AuthType": "NONE", **changes})
                assert found[0] == code and words in found[2], found

        await plane.drive(script)
        assert list(plane.store.urls) == []


CORS = {"AllowOrigins": ["https://a.example", "http://localhost:3000"], "AllowMethods": ["GET", "*"],
        "AllowHeaders": ["x-one"], "ExposeHeaders": ["x-two"], "AllowCredentials": True, "MaxAge": 60}  # fmt: skip


async def test_urls_of_aliases_are_listed_updated_and_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Publish=True))
            for name in ("prod", "test"):
                client.create_alias(FunctionName="f", Name=name, FunctionVersion="1")
            client.create_function_url_config(FunctionName="f", AuthType="NONE")
            made = client.create_function_url_config(FunctionName="f", Qualifier="prod", AuthType="AWS_IAM", Cors=CORS)
            assert (made["FunctionArn"], made["AuthType"], made["Cors"]) == (ARN + "f:prod", "AWS_IAM", CORS)
            client.create_function_url_config(FunctionName="f:test", AuthType="NONE", Cors={})
            pages = list(client.get_paginator("list_function_url_configs").paginate(
                FunctionName="f", PaginationConfig={"PageSize": 2}))  # fmt: skip
            rows = [[one["FunctionArn"].removeprefix(ARN) for one in page["FunctionUrlConfigs"]] for page in pages]
            assert rows == [["f", "f:prod"], ["f:test"]]
            plane.clock.advance(5)
            changed = client.update_function_url_config(FunctionName="f", Qualifier="prod", AuthType="NONE")
            assert (changed["AuthType"], changed["Cors"]) == ("NONE", CORS) and "InvokeMode" not in changed
            assert changed["FunctionUrl"] == made["FunctionUrl"]
            assert changed["LastModifiedTime"] > changed["CreationTime"] == made["CreationTime"]
            without = client.update_function_url_config(FunctionName="f", Qualifier="prod", Cors={})
            assert "Cors" not in without
            client.delete_alias(FunctionName="f", Name="test")
            for named in ({"FunctionName": "f", "Qualifier": "other"}, {"FunctionName": "g"}):
                assert refused(client.update_function_url_config, **named) == (
                    "ResourceNotFoundException", 404, "Function does not exist")  # fmt: skip
            client.create_alias(FunctionName="f", Name="bare", FunctionVersion="1")
            assert refused(client.update_function_url_config, FunctionName="f", Qualifier="bare") == (
                "ResourceNotFoundException", 404, "The resource you requested does not exist.")  # fmt: skip
            assert refused(client.list_function_url_configs, FunctionName="g")[2] == "Function does not exist"
            streaming = client.update_function_url_config(FunctionName="f", InvokeMode="RESPONSE_STREAM")
            assert streaming["InvokeMode"] == "RESPONSE_STREAM"
            unnamed = client.update_function_url_config(FunctionName="f", AuthType="NONE")
            assert unnamed["InvokeMode"] == "RESPONSE_STREAM"  # once named, every reply names it
            assert client.get_function_url_config(FunctionName="f")["InvokeMode"] == "RESPONSE_STREAM"

        await plane.drive(script)
    async with running(tmp_path) as plane:
        assert sorted(url.qualifier for url in plane.store.urls) == ["", "prod", "test"]
