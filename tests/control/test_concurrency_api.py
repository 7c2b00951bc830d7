"""Reserved concurrency through boto3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running, settled


async def test_reservation_is_kept_shown_told_to_the_scheduler_and_given_back(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def reserve(client: Any) -> None:
            client.create_function(**function())
            put = client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=7)
            assert put["ReservedConcurrentExecutions"] == 7
            assert client.get_function_concurrency(FunctionName="f")["ReservedConcurrentExecutions"] == 7
            assert client.get_function(FunctionName="f")["Concurrency"] == {"ReservedConcurrentExecutions": 7}

        await plane.drive(reserve)
        assert plane.capacity.reserved == {ARN + "f": 7}
    async with running(tmp_path) as plane:
        assert plane.capacity.reserved == {ARN + "f": 7}, "a restart keeps it"

        def release(client: Any) -> None:
            for _ in range(2):
                deleted = client.delete_function_concurrency(FunctionName="f")
                assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="f")
            assert "Concurrency" not in client.get_function(FunctionName="f")

        await plane.drive(release)
        assert plane.capacity.reserved == {ARN + "f": None}


async def test_a_hundred_executions_stay_unreserved(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function("a"))
            client.create_function(**function("b"))
            put = client.put_function_concurrency
            put(FunctionName="a", ReservedConcurrentExecutions=500)
            message = ("Specified ReservedConcurrentExecutions for function decreases account's "
                       "UnreservedConcurrentExecution below its minimum value of [100].")  # fmt: skip
            assert refused(put, FunctionName="b", ReservedConcurrentExecutions=401) == (
                "InvalidParameterValueException", 400, message)  # fmt: skip
            put(FunctionName="b", ReservedConcurrentExecutions=400)
            put(FunctionName="b", ReservedConcurrentExecutions=0)
            put(FunctionName="a", ReservedConcurrentExecutions=900)

        await plane.drive(script)


async def test_small_accounts_can_reserve_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:
        plane.capacity.account_limit = 10

        def script(client: Any) -> None:
            client.create_function(**function(Publish=True))
            settled(client)
            least = "UnreservedConcurrentExecution below its minimum value of [10]."
            put = client.put_function_concurrency
            assert refused(put, FunctionName="f", ReservedConcurrentExecutions=1)[2].endswith(least)
            assert refused(client.put_provisioned_concurrency_config, FunctionName="f", Qualifier="1",
                           ProvisionedConcurrentExecutions=1)[2].endswith(least)  # fmt: skip
            put(FunctionName="f", ReservedConcurrentExecutions=0)

        await plane.drive(script)


async def test_reservations_are_for_whole_functions(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            for call, more, at in ((client.put_function_concurrency, {"ReservedConcurrentExecutions": 1}, ":$LATEST"),
                                   (client.delete_function_concurrency, {}, "")):  # fmt: skip
                code, status, message = refused(call, FunctionName=ARN + "f:$LATEST", **more)
                assert (code, status) == ("InvalidParameterValueException", 400)
                assert message.startswith("This operation is permitted on Lambda functions only.")
                assert refused(call, FunctionName="nobody:7", **more)[2] == message
                gone = refused(call, FunctionName="nobody", **more)
                assert gone == ("ResourceNotFoundException", 404, f"Function not found: {ARN}nobody{at}")

        await plane.drive(script)
