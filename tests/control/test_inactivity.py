"""Versions in a VPC that nobody uses become Inactive, and come back when they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from control_plane import ARN, GatedPreparer, Plane, function, running, settled

from lambent.control.inactivity import IDLE
from lambent.errors import ApiError

DAYS_14 = 14 * 86_400.0
VPC = {"SubnetIds": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}


def create(client: Any) -> dict[str, Any]:
    client.create_function(**function("plain"))
    client.create_function(**function("vpc", VpcConfig=VPC))
    settled(client, "plain")
    return settled(client, "vpc")


def until(client: Any, state: str, **named: str) -> dict[str, Any]:
    for _ in range(1000):
        shown: dict[str, Any] = client.get_function_configuration(**{"FunctionName": "vpc", **named})
        if shown["State"] == state:
            return shown
    raise AssertionError(f"it is {shown['State']}, not {state}")


def called(plane: Plane, name: str = "vpc", qualifier: str | None = None) -> tuple[str, int]:
    """Code and status of the error that an invocation gets."""
    with pytest.raises(ApiError) as caught:
        plane.store.functions.route(name, qualifier)
    return caught.value.code, caught.value.status


async def test_idle_function_in_a_vpc_is_inactive_after_14_days_and_a_call_brings_it_back(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:
        before = await plane.drive(create)
        plane.clock.advance(DAYS_14 - 60)
        assert (await plane.drive(settled_twice))[0] == "Active"
        plane.clock.advance(60)
        idle = await plane.drive(lambda client: until(client, "Inactive"))
        assert {name: idle[name] for name in IDLE} == {
            "State": "Inactive", "StateReason": "The function is currently idle.", "StateReasonCode": "Idle"}
        assert idle["LastUpdateStatus"] == "Successful"
        assert await plane.drive(lambda client: settled(client, "plain")["State"]) == "Active"

        plane.preparer.gate.clear()
        assert called(plane) == ("ResourceNotReadyException", 502)
        assert called(plane) == ("ResourceNotReadyException", 502)
        shown = await plane.drive(lambda client: until(client, "Pending"))
        assert shown["StateReasonCode"] == "Restoring"
        assert called(plane) == ("ResourceConflictException", 409)
        plane.preparer.gate.set()
        after = await plane.drive(lambda client: until(client, "Active"))
        assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}
        assert plane.store.functions.route("vpc").function.name == "vpc"
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive"))


def settled_twice(client: Any) -> list[str]:
    """The states of both functions, after a change that comes behind whatever is under way."""
    client.tag_resource(Resource=ARN + "plain", Tags={"a": "b"})
    return [settled(client, name)["State"] for name in ("vpc", "plain")]


async def test_version_with_an_environment_is_in_use(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:
        await plane.drive(create)
        (tell,) = plane.capacity.environment_watchers
        tell(ARN + "vpc", "$LATEST", 1, True)
        plane.clock.advance(DAYS_14)
        assert (await plane.drive(settled_twice))[0] == "Active"
        tell(ARN + "vpc", "$LATEST", 1, False)
        plane.clock.advance(DAYS_14 - 60)
        assert (await plane.drive(settled_twice))[0] == "Active"
        plane.clock.advance(60)
        # Somebody calls before it is written: it stays.
        tell(ARN + "vpc", "$LATEST", 2, True)
        assert (await plane.drive(settled_twice))[0] == "Active"
        tell(ARN + "vpc", "$LATEST", 2, False)
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive"))


async def test_function_that_cannot_be_restored_is_inactive_again(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:
        await plane.drive(create)
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive"))
        plane.preparer.lacks = "python3.12"
        called(plane)
        for _ in range(1000):
            shown = await plane.drive(lambda client: until(client, "Inactive"))
            if shown["StateReasonCode"] != "Idle":
                break
        assert (shown["StateReasonCode"], shown["StateReason"]) == ("InvalidRuntime", "python3.12 is not installed")
        assert shown["LastUpdateStatus"] == "Successful"
        plane.preparer.lacks = ""
        called(plane)
        await plane.drive(lambda client: until(client, "Active"))


async def test_update_brings_an_inactive_function_back(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:
        await plane.drive(create)
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive"))
        plane.preparer.gate.clear()
        answer = await plane.drive(lambda client: client.update_function_configuration(FunctionName="vpc", Timeout=9))
        assert (answer["State"], answer["LastUpdateStatus"]) == ("Inactive", "InProgress")
        assert called(plane) == ("ResourceNotReadyException", 502)
        plane.preparer.gate.set()
        shown = await plane.drive(lambda client: until(client, "Active"))
        assert shown["Timeout"] == 9 and "StateReason" not in shown
        # Out of the VPC there is nothing to take back.
        await plane.drive(lambda client: client.update_function_configuration(
            FunctionName="vpc", VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}))
        await plane.drive(lambda client: settled(client, "vpc"))
        plane.clock.advance(DAYS_14)
        assert (await plane.drive(settled_twice))[0] == "Active"


async def test_weighted_alias_wakes_its_other_version_while_the_main_one_serves(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:

        def publish(client: Any) -> None:
            create(client)
            client.publish_version(FunctionName="vpc")
            until(client, "Active", Qualifier="1")
            client.update_function_configuration(
                FunctionName="vpc", Timeout=5, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []})  # fmt: skip
            settled(client, "vpc")
            client.publish_version(FunctionName="vpc")
            until(client, "Active", Qualifier="2")
            client.create_alias(FunctionName="vpc", Name="both", FunctionVersion="2",
                                RoutingConfig={"AdditionalVersionWeights": {"1": 0.5}})  # fmt: skip

        await plane.drive(publish)
        assert len(plane.store.functions.route("vpc", "both").others) == 1
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive", Qualifier="1"))
        route = plane.store.functions.route("vpc", "both")
        assert (route.function.version, route.others) == ("2", ())
        await plane.drive(lambda client: until(client, "Active", Qualifier="1"))
        assert len(plane.store.functions.route("vpc", "both").others) == 1


async def test_provisioned_concurrency_brings_an_inactive_version_back(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:

        def publish(client: Any) -> None:
            create(client)
            client.publish_version(FunctionName="vpc")
            until(client, "Active", Qualifier="1")

        def provision(client: Any) -> None:
            client.put_provisioned_concurrency_config(
                FunctionName="vpc", Qualifier="1", ProvisionedConcurrentExecutions=1)  # fmt: skip
            until(client, "Active", Qualifier="1")

        await plane.drive(publish)
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive", Qualifier="1"))
        assert plane.capacity.wanted == {}
        await plane.drive(provision)
        assert list(plane.capacity.wanted.values()) == [1]


async def test_inactive_stays_inactive_and_a_restoring_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, inactive_after_s=DAYS_14) as plane:
        await plane.drive(create)
        plane.clock.advance(DAYS_14)
        await plane.drive(lambda client: until(client, "Inactive"))
    preparer = GatedPreparer()
    preparer.gate.clear()
    async with running(tmp_path, preparer) as plane:  # now it never happens, and what did can still be undone
        assert called(plane) == ("ResourceNotReadyException", 502)
        await plane.drive(lambda client: until(client, "Pending"))
    async with running(tmp_path) as plane:
        await plane.drive(lambda client: until(client, "Active"))
        plane.clock.advance(10 * DAYS_14)
        assert (await plane.drive(settled_twice))[0] == "Active"
