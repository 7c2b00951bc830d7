"""Event source mappings through boto3: shapes, defaults and errors as recorded from the service."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running

QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-01-01T00:00:00.000"
BROKERS = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:9092", "b:9092"]}}
SECRET = [{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:s"}]


def members(answer: dict[str, Any]) -> dict[str, Any]:
    """The mapping without what differs each time."""
    return {name: value for name, value in answer.items()
            if name not in ("ResponseMetadata", "LastModified", "UUID", "EventSourceMappingArn")}  # fmt: skip


async def test_mapping_of_a_queue_from_creation_to_deletion(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            created = client.create_event_source_mapping(FunctionName="f", EventSourceArn=QUEUE, Tags={"a": "b"})
            assert created["ResponseMetadata"]["HTTPStatusCode"] == 202 and created["LastModified"].year >= 2020
            expected = {"EventSourceArn": QUEUE, "FunctionArn": ARN + "f", "BatchSize": 10, "FunctionResponseTypes": [],
                        "MaximumBatchingWindowInSeconds": 0}  # fmt: skip
            transition = {"State": "Creating", "StateTransitionReason": "USER_INITIATED"}
            assert members(created) == expected | transition
            mapping = created["UUID"]
            arn = f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{mapping}"
            assert created["EventSourceMappingArn"] == arn
            assert client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
            shown = client.get_event_source_mapping(UUID=mapping)
            assert shown["State"] == "Enabled" and "no poller runs" in shown["StateTransitionReason"]
            updated = client.update_event_source_mapping(UUID=mapping, BatchSize=5, Enabled=False)
            assert (updated["State"], updated["BatchSize"]) == ("Disabling", 5)
            assert updated["ResponseMetadata"]["HTTPStatusCode"] == 202
            shown = client.get_event_source_mapping(UUID=mapping)
            assert (shown["State"], shown["StateTransitionReason"]) == ("Disabled", "USER_INITIATED")
            assert client.update_event_source_mapping(UUID=mapping, BatchSize=6)["State"] == "Updating"
            assert client.update_event_source_mapping(UUID=mapping, Enabled=True)["State"] == "Enabling"
            deleted = client.delete_event_source_mapping(UUID=mapping)
            assert (deleted["State"], deleted["BatchSize"]) == ("Deleting", 6)
            assert refused(client.get_event_source_mapping, UUID=mapping)[1] == 404

        await plane.drive(script)


async def test_mapping_of_a_stream_has_its_defaults(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            created = client.create_event_source_mapping(FunctionName=ARN + "f:$LATEST", EventSourceArn=TABLE,
                                                         StartingPosition="TRIM_HORIZON", BatchSize=1)  # fmt: skip
            assert members(created) == {
                "EventSourceArn": TABLE, "FunctionArn": ARN + "f:$LATEST", "BatchSize": 1, "FunctionResponseTypes": [],
                "MaximumBatchingWindowInSeconds": 0, "BisectBatchOnFunctionError": False,
                "DestinationConfig": {"OnFailure": {}}, "LastProcessingResult": "No records processed",
                "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1, "ParallelizationFactor": 1,
                "StartingPosition": "TRIM_HORIZON", "State": "Creating", "StateTransitionReason": "User action",
                "TumblingWindowInSeconds": 0,
            }  # fmt: skip
            kafka = client.create_event_source_mapping(
                FunctionName="f", SelfManagedEventSource=BROKERS, Topics=["evts"], StartingPosition="LATEST",
                SourceAccessConfigurations=SECRET)  # fmt: skip
            assert kafka["BatchSize"] == 100 and "EventSourceArn" not in kafka
            assert len(kafka["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"]) == 36
            twice = refused(client.create_event_source_mapping, FunctionName="f", SelfManagedEventSource=BROKERS,
                            Topics=["evts"], StartingPosition="LATEST", SourceAccessConfigurations=SECRET)  # fmt: skip
            assert twice == (
                "ResourceConflictException", 409, 'An event source mapping with event source ("a:9092,b:9092"), '
                f'function ("{ARN}f"), topics ("evts") already exists. Please update or delete the existing mapping '
                f"with UUID {kafka['UUID']}")  # fmt: skip

        await plane.drive(script)


async def test_mappings_are_listed_by_source_and_function(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            client.create_function(**function("g"))
            ids = {client.create_event_source_mapping(FunctionName=name, EventSourceArn=QUEUE + str(number))["UUID"]
                   for number in range(3) for name in "fg"}  # fmt: skip
            listed = client.get_paginator("list_event_source_mappings").paginate(PaginationConfig={"PageSize": 2})
            assert {one["UUID"] for part in listed for one in part["EventSourceMappings"]} == ids
            found = client.list_event_source_mappings(FunctionName="g", EventSourceArn=QUEUE + "1")
            assert [one["FunctionArn"] for one in found["EventSourceMappings"]] == [ARN + "g"]
            assert len(client.list_event_source_mappings(FunctionName=ARN + "f")["EventSourceMappings"]) == 3
            assert client.list_event_source_mappings(FunctionName="h")["EventSourceMappings"] == []

        await plane.drive(script)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"FunctionName": "nothing", "EventSourceArn": None}, "Unrecognized event source."),
    ({"EventSourceArn": "arn:aws:s3:::bucket"}, "Unrecognized event source."),
    ({"FunctionName": "nothing"}, "Function does not exist"),
    ({"BatchSize": 11}, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than "
                        "10"),
    ({"EventSourceArn": QUEUE + ".fifo", "MaximumBatchingWindowInSeconds": 1},
     "Batching window is not supported for FIFO queues."),
    ({"DestinationConfig": {"OnFailure": {"Destination": QUEUE}}},
     "Unsupported DestinationConfig parameter for given event source mapping type."),
    ({"StartingPosition": "LATEST"}, "StartingPosition is not valid for SQS event sources."),
    ({"EventSourceArn": STREAM}, "1 validation error detected: Value null at 'startingPosition' failed to satisfy "
                                 "constraint: Member must not be null."),
    ({"EventSourceArn": STREAM, "StartingPosition": "LATEST", "StartingPositionTimestamp": 1},
     "Timestamp only valid with StartingPosition AT_TIMESTAMP"),
    ({"EventSourceArn": TABLE, "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1},
     f"Unsupported starting position for arn type: {TABLE}"),
    ({"EventSourceArn": None, "SelfManagedEventSource": BROKERS, "StartingPosition": "LATEST", "Topics": ["evts"]},
     "Required 'sourceAccessConfigurations' parameter is missing."),
    ({"FilterCriteria": {"Filters": [{"Pattern": "{"}]}}, "Invalid filter pattern definition."),
    ({"FilterCriteria": {"Filters": [{"Pattern": '{"body": {"a": "not a list"}}'}]}},
     "Invalid filter pattern definition."),
]  # fmt: skip


async def test_mappings_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            for changes, words in REFUSED:
                params = {"FunctionName": "f", "EventSourceArn": QUEUE, **changes}
                given = {member: value for member, value in params.items() if value is not None}
                found = refused(client.create_event_source_mapping, **given)
                assert found == ("InvalidParameterValueException", 400, words), changes
            assert refused(client.create_event_source_mapping, FunctionName="f", EventSourceArn=STREAM,
                           StartingPosition="0")[2].endswith(
                "Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]")  # fmt: skip
            filters = {"Filters": [{"Pattern": '{"body": {"a": [{"prefix": "x"}, 1, null]}}'}]}
            first = client.create_event_source_mapping(FunctionName="f", EventSourceArn=QUEUE, FilterCriteria=filters)
            assert first["FilterCriteria"] == filters
            assert refused(client.create_event_source_mapping, FunctionName="f", EventSourceArn=QUEUE) == (
                "ResourceConflictException", 409, f'An event source mapping with SQS arn (" {QUEUE} ") and function '
                '(" f ") already exists. Please update or delete the existing mapping with UUID '
                f"{first['UUID']}")  # fmt: skip
            unknown = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
            for call in (client.get_event_source_mapping, client.delete_event_source_mapping,
                         client.update_event_source_mapping):  # fmt: skip
                assert refused(call, UUID=str(uuid.uuid4())) == unknown
            assert refused(client.update_event_source_mapping, UUID=first["UUID"], BatchSize=100)[0] == (
                "InvalidParameterValueException")  # fmt: skip

        await plane.drive(script)
