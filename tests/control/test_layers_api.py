"""Layers through boto3: their versions, and functions that have them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from control_plane import function, refused, running, settled, zipped

from lambent.control import layering
from lambent.store.references import opt_name

LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:"
ONE = zipped({"python/lib.py": b"ONE = 1\n", "both": b"one"})
TWO = zipped({"bin/tool": b"#!/bin/sh\n", "both": b"two"}, 0o755)
MISSING = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")


def publish(client: Any, name: str = "l", content: bytes = ONE, **more: Any) -> str:
    arn: str = client.publish_layer_version(LayerName=name, Content={"ZipFile": content}, **more)["LayerVersionArn"]
    return arn


def names(root: Path, folder: str) -> set[str]:
    return {path.name for path in (root / folder).rglob("*") if path.is_file() or folder == "packages"}


async def test_layer_versions_live_from_publication_to_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            given = {"Description": "d", "CompatibleRuntimes": ["python3.12"], "LicenseInfo": "MIT",
                     "CompatibleArchitectures": ["x86_64"]}  # fmt: skip
            created = client.publish_layer_version(LayerName="l", Content={"ZipFile": ONE}, **given)
            assert created.pop("ResponseMetadata")["HTTPStatusCode"] == 201
            content, date = created.pop("Content"), created.pop("CreatedDate")
            assert created == {"LayerArn": LAYER + "l", "LayerVersionArn": LAYER + "l:1", "Version": 1, **given}
            assert date.endswith("+0000") and date[-9] == "."
            assert content["CodeSize"] == len(ONE)
            assert content["CodeSha256"] == base64.b64encode(hashlib.sha256(ONE).digest()).decode()
            assert urllib.request.urlopen(content["Location"]).read() == ONE
            assert publish(client, LAYER + "l", TWO) == LAYER + "l:2"
            for shown in (client.get_layer_version(LayerName="l", VersionNumber=1),
                          client.get_layer_version_by_arn(Arn=LAYER + "l:1")):  # fmt: skip
                assert urllib.request.urlopen(shown["Content"].pop("Location")).read() == ONE
                assert (shown["Version"], shown["Description"], shown["LicenseInfo"]) == (1, "d", "MIT")
            for _ in range(2):
                deleted = client.delete_layer_version(LayerName="l", VersionNumber=2)
                assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert refused(client.get_layer_version, LayerName="l", VersionNumber=2) == MISSING
            assert publish(client) == LAYER + "l:3"

        await plane.drive(script)
    async with running(tmp_path) as plane:

        def again(client: Any) -> None:
            listed = client.list_layer_versions(LayerName="l")["LayerVersions"]
            assert [one["Version"] for one in listed] == [3, 1] and "Content" not in listed[0]
            for number in (1, 3):
                client.delete_layer_version(LayerName="l", VersionNumber=number)
            assert client.list_layers()["Layers"] == []
            assert publish(client) == LAYER + "l:4"

        await plane.drive(again)


async def test_layers_are_listed_by_what_they_go_with(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            publish(client, "b", CompatibleRuntimes=["python3.12"])
            publish(client, "b", CompatibleRuntimes=["nodejs22.x"], CompatibleArchitectures=["arm64"])
            publish(client, "a")
            publish(client, "c")
            pages = list(client.get_paginator("list_layers").paginate(PaginationConfig={"PageSize": 2}))
            layers = [one for page in pages for one in page["Layers"]]
            rows = [(one["LayerName"], one["LatestMatchingVersion"]["Version"]) for one in layers]
            assert rows == [("a", 1), ("b", 2), ("c", 1)] and len(pages) == 2
            [python] = client.list_layers(CompatibleRuntime="python3.12")["Layers"]
            assert python["LayerArn"] == LAYER + "b" and python["LatestMatchingVersion"]["Version"] == 1
            assert client.list_layers(CompatibleArchitecture="x86_64")["Layers"] == []
            [arm] = client.list_layer_versions(LayerName="b", CompatibleArchitecture="arm64")["LayerVersions"]
            assert arm["LayerVersionArn"] == LAYER + "b:2"
            pages = client.get_paginator("list_layer_versions").paginate(
                LayerName="b", PaginationConfig={"PageSize": 1})  # fmt: skip
            assert [one["Version"] for page in pages for one in page["LayerVersions"]] == [2, 1]
            assert client.list_layer_versions(LayerName="none")["LayerVersions"] == []

        await plane.drive(script)


async def test_layers_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            broken = refused(client.publish_layer_version, LayerName="l", Content={"ZipFile": b"no zip"})
            assert broken[0] == "InvalidParameterValueException" and "Could not unzip" in broken[2]
            for content in ({}, {"ZipFile": ONE, "S3Key": "k"}):
                assert refused(client.publish_layer_version, LayerName="l", Content=content)[1] == 400
            strange = refused(client.publish_layer_version, LayerName="l", Content={"ZipFile": ONE},
                              CompatibleRuntimes=["cobol"])  # fmt: skip
            assert strange[0] == "ValidationException"
            _, _, message = refused(client.publish_layer_version, LayerName="l", Content={"ZipFile": ONE},
                                    CompatibleRuntimes=["cobol", "python3.12"],
                                    CompatibleArchitectures=["mips", "arm64"])  # fmt: skip
            assert message.startswith(
                "2 validation errors detected: Value '[cobol, python3.12]' at 'compatibleRuntimes' failed to satisfy "
                "constraint: Member must satisfy enum value set: [nodejs20.x, python3.14, ")  # fmt: skip
            assert message.endswith(
                "]; Value '[mips, arm64]' at 'compatibleArchitectures' failed to satisfy constraint: Member must "
                "satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]")  # fmt: skip
            many = refused(client.publish_layer_version, LayerName="l", Content={"ZipFile": ONE},
                           CompatibleRuntimes=["python3.12"] * 16)  # fmt: skip
            assert many[2].endswith("Member must have length less than or equal to 15")
            assert refused(client.get_layer_version, LayerName="l", VersionNumber=1) == MISSING
            less = ("InvalidParameterValueException", 400, "Layer Version Cannot be less than 1")
            assert refused(client.get_layer_version, LayerName="l", VersionNumber=0) == less
            assert refused(client.delete_layer_version, LayerName="l", VersionNumber=-1) == less
            theirs = LAYER.replace("0" * 12, "1" * 12) + "l"
            assert refused(client.get_layer_version, LayerName=theirs, VersionNumber=1)[0] == "AccessDeniedException"
            assert refused(client.get_layer_version_by_arn, Arn=theirs + ":1")[0] == "AccessDeniedException"
            assert refused(client.get_layer_version_by_arn, Arn="arn:aws:lambda:::awslayer:x") == MISSING
            far = LAYER.replace("us-east-1", "eu-west-1") + "l"
            assert refused(client.list_layer_versions, LayerName=far)[0] == "ResourceNotFoundException"

        await plane.drive(script)
        assert names(tmp_path, "blobs") == set()


async def test_function_has_its_layers_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            one, two = publish(client), publish(client, "m", TWO)
            created = client.create_function(**function(Layers=[one, two], Publish=True))
            wanted = [{"Arn": one, "CodeSize": len(ONE)}, {"Arn": two, "CodeSize": len(TWO)}]
            assert created["Layers"] == wanted
            assert settled(client)["Layers"] == wanted
            client.update_function_configuration(FunctionName="f", Timeout=5)
            assert settled(client)["Layers"] == wanted
            client.update_function_configuration(FunctionName="f", Layers=[two])
            assert settled(client)["Layers"] == wanted[1:]
            client.update_function_configuration(FunctionName="f", Layers=[])
            assert "Layers" not in settled(client)
            assert client.get_function_configuration(FunctionName="f", Qualifier="1")["Layers"] == wanted

        await plane.drive(script)
        digests = tuple(hashlib.sha256(content).hexdigest() for content in (ONE, TWO))
        assert plane.store.functions.resolve("f").layers == ()
        assert plane.store.functions.resolve("f", "1").layers == digests
        assert set(digests) | {opt_name(digests)} <= set(plane.store.blobs.references)


async def test_functions_with_layers_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layering, "UNZIPPED_BYTES", 50)
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            small = zipped({"a": b"x"})
            client.create_function(**function(Code={"ZipFile": small}))
            settled(client)
            arns = [publish(client, f"l{number}", small) for number in range(6)]
            second = publish(client, "l0", small)
            large = publish(client, "large", zipped({"b": b"x" * 50}))
            far = arns[0].replace("us-east-1", "eu-west-1")
            theirs = arns[0].replace("0" * 12, "1" * 12)
            for layers, code, words in (
                (arns, "InvalidParameterValueException", "Cannot reference more than 5 layers."),
                ([LAYER + "none:1"], "InvalidParameterValueException", f"Layer version {LAYER}none:1 does not exist."),
                ([LAYER + "l0:9"], "InvalidParameterValueException", f"Layer version {LAYER}l0:9 does not exist."),
                ([arns[0], second], "InvalidParameterValueException", "Two different versions of the same layer are "
                 f"not allowed to be referenced in the same function. {arns[0]} and {second} are versions of the same"),
                ([far], "InvalidParameterValueException", "Layers are not in the same region as the function. Layers "
                 "are expected to be in region us-east-1."),
                ([theirs], "AccessDeniedException", "is not authorized to perform: lambda:GetLayerVersion"),
                ([LAYER + "l0"], "ValidationException", "layers"),
                (["arn:aws:lambda:::awslayer:x"], "InvalidParameterValueException", "does not exist"),
                ([large], "InvalidParameterValueException", "exceeds the maximum allowed size of 50 bytes. The actual "
                 "size is 51 bytes."),
            ):  # fmt: skip
                for call, params in ((client.create_function, function("g", Code={"ZipFile": small})),
                                     (client.update_function_configuration, {"FunctionName": "f"})):  # fmt: skip
                    found = refused(call, **params, Layers=layers)
                    assert found[0] == code and words in found[2], (layers, found)
            client.update_function_configuration(FunctionName="f", Layers=arns[:5])
            settled(client)
            found = refused(client.update_function_code, FunctionName="f", ZipFile=zipped({"c": b"x" * 50}))
            assert "The actual size is 55 bytes." in found[2]

        await plane.drive(script)


async def test_code_that_nobody_names_is_removed_while_the_server_runs(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        first, second = zipped(), zipped({"app.py": b"2"})
        digests = {content: hashlib.sha256(content).hexdigest() for content in (first, second, ONE, TWO)}

        async def holds(*contents: bytes) -> None:
            wanted = {digests[content] for content in contents}
            async with asyncio.timeout(30):
                while names(tmp_path, "blobs") != wanted:
                    await asyncio.sleep(0)
                # Packages of /opt are made by the worker, which this plane does not have.
                while {path.name for path in (tmp_path / "packages").iterdir()} - {".boot"} != wanted:
                    await asyncio.sleep(0)

        def create(client: Any) -> None:
            arns = [publish(client), publish(client, "m", TWO)]
            client.create_function(**function(Code={"ZipFile": first}, Layers=arns, Publish=True))
            settled(client)
            client.update_function_code(FunctionName="f", ZipFile=second)
            settled(client)
            client.update_function_configuration(FunctionName="f", Layers=[])
            settled(client)
            for layer in ("l", "m"):
                client.delete_layer_version(LayerName=layer, VersionNumber=1)

        await plane.drive(create)
        await holds(first, second, ONE, TWO)  # for version 1
        await plane.drive(lambda client: client.delete_function(FunctionName="f", Qualifier="1"))
        await holds(second)
        held = [digests[second]]
        plane.store.blobs.references.hold(held)  # as a living environment does
        await plane.drive(lambda client: client.delete_function(FunctionName="f"))
        await holds(second)
        plane.store.blobs.references.release(held)
        await holds()
        # The same code again, right after it went.
        for _ in range(5):
            await plane.drive(lambda client: client.create_function(**function(Code={"ZipFile": first})))
            await plane.drive(settled)
            await holds(first)
            await plane.drive(lambda client: client.delete_function(FunctionName="f"))
        await holds()
