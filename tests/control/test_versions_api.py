"""Published versions through boto3: what they keep, when there is nothing to publish, how they go."""

from __future__ import annotations

import base64
import hashlib
import urllib.request
from pathlib import Path
from typing import Any

from control_plane import ARN, GatedPreparer, function, refused, running, settled, zipped

SECOND = zipped({"app.py": b"def handler(event, context):\n    return 2\n"})


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def published(client: Any, **params: Any) -> dict[str, Any]:
    """A new version, once it is Active (boto3's waiter pauses for five seconds)."""
    answer = client.publish_version(FunctionName="f", **params)
    client.get_waiter("published_version_active").wait(
        FunctionName="f", Qualifier=answer["Version"], WaiterConfig={"Delay": 0.01, "MaxAttempts": 500})
    return dict(answer)


async def test_snap_start_is_shown_as_on_for_active_versions_only(tmp_path: Path) -> None:
    wanted = {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            created = client.create_function(**function(SnapStart={"ApplyOn": "PublishedVersions"}))
            assert created["SnapStart"] == wanted == settled(client)["SnapStart"]
            assert published(client)["SnapStart"] == wanted
            version = client.get_function_configuration(FunctionName="f", Qualifier="1")
            assert version["SnapStart"] == {**wanted, "OptimizationStatus": "On"}
            assert client.publish_version(FunctionName="f")["Version"] == "1", "nothing has changed"
            client.update_function_configuration(FunctionName="f", SnapStart={"ApplyOn": "None"})
            settled(client)
            assert published(client)["Version"] == "2"
            version = client.get_function_configuration(FunctionName="f", Qualifier="2")
            assert version["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
            snap, node = {"ApplyOn": "PublishedVersions"}, "nodejs22.x"
            words = ("InvalidParameterValueException", 400, f"{node} is not supported for SnapStart enabled functions.")
            assert refused(client.create_function, **function("g", Runtime=node, SnapStart=snap)) == words
            client.update_function_configuration(FunctionName="f", SnapStart=snap)
            settled(client)
            assert refused(client.update_function_configuration, FunctionName="f", Runtime=node) == words

        await plane.drive(script)


async def test_version_keeps_code_and_configuration_of_its_time(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    async with running(tmp_path, preparer) as plane:
        first = zipped()

        def create(client: Any) -> None:
            client.create_function(**function(Code={"ZipFile": first}, Environment={"Variables": {"AB": "1"}}))
            settled(client)

        await plane.drive(create)
        preparer.gate.clear()  # nothing is to be made ready that is not yet
        answer = await plane.drive(lambda client: client.publish_version(FunctionName="f", Description="one"))
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert (answer["Version"], answer["FunctionArn"], answer["Description"]) == ("1", ARN + "f:1", "one")
        assert (answer["State"], answer["LastUpdateStatus"]) == ("Active", "Successful")
        assert "StateReasonCode" not in answer
        assert plane.store.functions.resolve("f", "1").version == "1"
        preparer.gate.set()

        def change(client: Any) -> None:
            shown = client.get_function_configuration(FunctionName="f", Qualifier="1")
            assert shown["RevisionId"] == answer["RevisionId"]
            client.update_function_code(FunctionName="f", ZipFile=SECOND)
            settled(client)
            client.update_function_configuration(FunctionName="f", Timeout=9, Environment={"Variables": {"AB": "2"}})
            settled(client)
            assert published(client)["Version"] == "2"
            old = client.get_function(FunctionName="f", Qualifier="1")
            shown = old["Configuration"]
            assert (shown["State"], shown["LastUpdateStatus"], shown["Description"]) == ("Active", "Successful", "one")
            assert (shown["Timeout"], shown["Environment"]["Variables"]) == (3, {"AB": "1"})
            assert shown["CodeSha256"] == digest(first) and shown["FunctionArn"] == ARN + "f:1"
            assert urllib.request.urlopen(old["Code"]["Location"]).read() == first
            assert client.get_function_configuration(FunctionName=ARN + "f:2")["Timeout"] == 9

        await plane.drive(change)
        one, two = plane.store.functions.resolve("f", "1"), plane.store.functions.resolve("f:2")
        assert (one.version, one.timeout_s, dict(one.environment)) == ("1", 3, {"AB": "1"})
        assert (two.version, two.timeout_s, dict(two.environment)) == ("2", 9, {"AB": "2"})
        assert plane.store.functions.route("f", "1").invoked_arn == ARN + "f:1"
        assert len({one.generation, two.generation, plane.store.functions.resolve("f").generation}) == 3
        for code in (one.code_sha256, two.code_sha256):
            assert code in plane.store.blobs and plane.packages.path(code).is_dir()


async def test_nothing_changed_gives_the_last_version(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            before = settled(client)
            first = client.publish_version(FunctionName="f", Description="one")
            after = settled(client)
            assert after["RevisionId"] not in (before["RevisionId"], first["RevisionId"])
            assert after["LastModified"] == before["LastModified"]
            again = client.publish_version(FunctionName="f", Description="two")
            assert again["ResponseMetadata"]["HTTPStatusCode"] == 201
            assert (again["Version"], again["Description"], again["State"]) == ("1", "one", "Active")
            # An update that changes nothing is an update, but gives nothing to publish.
            client.update_function_code(FunctionName="f", ZipFile=zipped())
            settled(client)
            assert published(client)["Version"] == "1"
            client.update_function_configuration(FunctionName="f", MemorySize=256)
            settled(client)
            assert published(client)["Version"] == "2"
            client.delete_function(FunctionName="f", Qualifier="2")
            assert published(client)["Version"] == "3"
            assert first["RevisionId"] == again["RevisionId"]

        await plane.drive(script)


async def test_preconditions_of_publishing(tmp_path: Path) -> None:
    preparer = GatedPreparer()
    preparer.gate.clear()
    async with running(tmp_path, preparer) as plane:
        await plane.drive(lambda client: client.create_function(**function()))
        state = "The operation cannot be performed at this time. The function is currently in the following state: "
        early = await plane.drive(lambda client: refused(client.publish_version, FunctionName="f"))
        assert early == ("ResourceConflictException", 409, state + "Pending")
        preparer.gate.set()

        def script(client: Any) -> None:
            present = settled(client)
            assert refused(client.publish_version, FunctionName="g") == (
                "ResourceNotFoundException", 404, f"Function not found: {ARN}g")  # fmt: skip
            assert refused(client.publish_version, FunctionName="f", CodeSha256="x") == (
                "InvalidParameterValueException", 400,
                f"CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({present['CodeSha256']}). "
                "Please try again with the CodeSHA256 in $LATEST.")  # fmt: skip
            assert refused(client.publish_version, FunctionName="f", RevisionId="x") == (
                "PreconditionFailedException", 412,
                "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
                "retrieve the latest Revision Id")  # fmt: skip
            assert client.list_versions_by_function(FunctionName="f")["Versions"][-1]["Version"] == "$LATEST"
            published(client, CodeSha256=present["CodeSha256"], RevisionId=present["RevisionId"])

        await plane.drive(script)
        preparer.gate.clear()
        await plane.drive(lambda client: client.update_function_configuration(FunctionName="f", Timeout=5))
        busy = await plane.drive(lambda client: refused(client.publish_version, FunctionName="f"))
        assert busy == ("ResourceConflictException", 409, "The operation cannot be performed at this time. "
                        f"An update is in progress for resource: {ARN}f")  # fmt: skip
        preparer.gate.set()


async def test_creating_and_updating_can_publish(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            created = client.create_function(**function(Publish=True))
            assert (created["Version"], created["FunctionArn"], created["State"]) == ("1", ARN + "f", "Pending")
            settled(client)
            same = client.update_function_code(FunctionName="f", ZipFile=zipped(), Publish=True)
            assert (same["Version"], same["FunctionArn"]) == ("1", ARN + "f:1")
            settled(client)
            updated = client.update_function_code(FunctionName="f", ZipFile=SECOND, Publish=True)
            assert (updated["Version"], updated["FunctionArn"]) == ("2", ARN + "f:2")
            assert updated["CodeSha256"] == digest(SECOND)
            assert (updated["State"], updated["StateReasonCode"]) == ("Pending", "Creating")
            assert "LastUpdateStatus" not in updated
            settled(client)
            client.get_waiter("published_version_active").wait(
                FunctionName="f", Qualifier="2", WaiterConfig={"Delay": 0.01, "MaxAttempts": 500})

        await plane.drive(script)
        assert [plane.store.functions.resolve("f", number).version for number in ("1", "2")] == ["1", "2"]


async def test_versions_are_listed_by_number_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Publish=True))
            client.create_function(**function("g"))
            for timeout in range(4, 14):
                settled(client)
                client.update_function_configuration(FunctionName="f", Timeout=timeout)
                settled(client)
                client.publish_version(FunctionName="f")
            wanted = ["$LATEST", *map(str, range(1, 12))]
            pages = list(client.get_paginator("list_versions_by_function").paginate(
                FunctionName="f", PaginationConfig={"PageSize": 5}))  # fmt: skip
            versions = [one for page in pages for one in page["Versions"]]
            assert [one["Version"] for one in versions] == wanted and len(pages) == 3
            assert versions[0]["FunctionArn"] == ARN + "f:$LATEST" and versions[11]["FunctionArn"] == ARN + "f:11"
            assert "State" not in versions[0]
            pages = list(client.get_paginator("list_functions").paginate(
                FunctionVersion="ALL", PaginationConfig={"PageSize": 3}))  # fmt: skip
            every = [one["FunctionArn"] for page in pages for one in page["Functions"]]
            assert every == [f"{ARN}f:{number}" for number in wanted] + [ARN + "g:$LATEST"]
            assert len(client.list_functions()["Functions"]) == 2
            assert refused(client.list_versions_by_function, FunctionName="h")[2] == f"Function not found: {ARN}h"

        await plane.drive(script)


async def test_numbers_are_never_used_again_and_survive_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Publish=True))
            settled(client)
            deleted = client.delete_function(FunctionName="f", Qualifier="1")
            assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            gone = ("ResourceNotFoundException", 404, f"Function not found: {ARN}f:1")
            assert refused(client.get_function, FunctionName="f", Qualifier="1") == gone
            again = client.delete_function(FunctionName="f", Qualifier="1")
            assert again["ResponseMetadata"]["HTTPStatusCode"] == 204

        await plane.drive(script)
        told: list[tuple[str, str, bool]] = []
        plane.store.functions.watch(lambda arn, version, serving: told.append((arn, version, serving is None)))
        await plane.drive(lambda client: published(client))
        assert told == [(ARN + "f", "2", False)]
        await plane.drive(lambda client: client.delete_function(FunctionName="f", Qualifier="2"))
        assert told[1:] == [(ARN + "f", "2", True)]
        await plane.drive(lambda client: published(client))
    async with running(tmp_path) as plane:
        one = plane.store.functions.get("000000000000", "us-east-1", "f")
        assert one is not None and set(one.versions) == {"$LATEST", "3"} and one.next_version == 4
        again = await plane.drive(lambda client: published(client))
        assert again["Version"] == "3"
