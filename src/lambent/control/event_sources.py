"""Kinds of event sources: what a mapping of each may say, must say, and says by default.

The table and the rules are pure; storing is `operations/event_sources.py`. That a source exists is not checked: it may
be anywhere. Facts: fact sheet 13.1 and 20, and recordings; sentences without a source there are ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lambent.errors import ApiError, invalid_parameter

Mapped = dict[str, Any]

_STREAM_ONLY = frozenset({
    "BisectBatchOnFunctionError", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts", "ParallelizationFactor",
    "TumblingWindowInSeconds",
})  # fmt: skip
#: Members that only some kinds take; the others are for all.
_SPECIAL = _STREAM_ONLY | {
    "AmazonManagedKafkaEventSourceConfig", "DestinationConfig", "DocumentDBEventSourceConfig", "FunctionResponseTypes",
    "ProvisionedPollerConfig", "Queues", "ScalingConfig", "SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig",
    "SourceAccessConfigurations", "StartingPosition", "StartingPositionTimestamp", "Topics",
}
_SCALARS = (str, int, float, bool, type(None))
#: The longest age that is not the source's own, and the shortest (API reference).
_RECORD_AGE_S = (60, 604_800)


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of source. `reason` is its StateTransitionReason, `word` its name in messages."""

    word: str
    takes: frozenset[str]
    needs: tuple[str, ...] = ()
    batch: int = 100
    largest_batch: int = 10_000
    reason: str = "USER_INITIATED"
    defaults: Mapping[str, Any] = field(default_factory=dict)


_STREAM_DEFAULTS: Mapping[str, Any] = {
    "BisectBatchOnFunctionError": False, "DestinationConfig": {"OnFailure": {}}, "FunctionResponseTypes": [],
    "LastProcessingResult": "No records processed", "MaximumBatchingWindowInSeconds": 0,
    "MaximumRecordAgeInSeconds": -1, "MaximumRetryAttempts": -1, "ParallelizationFactor": 1,
    "TumblingWindowInSeconds": 0,
}  # fmt: skip
_STARTS = frozenset({"StartingPosition", "StartingPositionTimestamp"})
_STREAM = _STREAM_ONLY | _STARTS | {"DestinationConfig", "FunctionResponseTypes"}
_KAFKA = _STARTS | {"DestinationConfig", "FunctionResponseTypes", "ProvisionedPollerConfig",
                    "SourceAccessConfigurations", "Topics", "BisectBatchOnFunctionError", "MaximumRecordAgeInSeconds",
                    "MaximumRetryAttempts"}  # fmt: skip
_ACCESS = "SourceAccessConfigurations"
_QUEUE_DEFAULTS: Mapping[str, Any] = {"FunctionResponseTypes": [], "MaximumBatchingWindowInSeconds": 0}

SQS = SourceKind("SQS", frozenset({"FunctionResponseTypes", "ScalingConfig", "ProvisionedPollerConfig"}), batch=10,
                 defaults=_QUEUE_DEFAULTS)  # fmt: skip
FIFO = SourceKind("SQS", SQS.takes, batch=10, largest_batch=10, defaults=_QUEUE_DEFAULTS)
KINESIS = SourceKind("Kinesis", _STREAM, ("StartingPosition",), reason="User action", defaults=_STREAM_DEFAULTS)
DYNAMODB = SourceKind("DynamoDB", _STREAM, ("StartingPosition",), reason="User action", defaults=_STREAM_DEFAULTS)
MSK = SourceKind("MSK", _KAFKA | {"AmazonManagedKafkaEventSourceConfig"}, ("StartingPosition", "Topics"))
SELF_MANAGED = SourceKind("Kafka", _KAFKA | {"SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"},
                          ("StartingPosition", "Topics", _ACCESS))  # fmt: skip
MQ = SourceKind("MQ", frozenset({"Queues", _ACCESS}), ("Queues", _ACCESS))
DOCUMENTDB = SourceKind("DocumentDB", _STARTS | {"DocumentDBEventSourceConfig", _ACCESS},
                        ("StartingPosition", "DocumentDBEventSourceConfig", _ACCESS))  # fmt: skip

_BY_SERVICE = {"kinesis": KINESIS, "dynamodb": DYNAMODB, "kafka": MSK, "mq": MQ, "rds": DOCUMENTDB}


def kind_of(mapping: Mapping[str, Any]) -> SourceKind:
    """The kind of source that a mapping names. ApiError when it names none that Lambda reads."""
    arn: str = mapping.get("EventSourceArn", "")
    if mapping.get("SelfManagedEventSource") and not arn:
        return SELF_MANAGED
    service = arn.split(":")[2] if arn else ""
    if service == "sqs":
        return FIFO if arn.endswith(".fifo") else SQS
    if service not in _BY_SERVICE or (service == "dynamodb" and "/stream/" not in arn):
        raise invalid_parameter("Unrecognized event source.")
    return _BY_SERVICE[service]


def check_mapping(kind: SourceKind, said: Mapping[str, Any], mapping: Mapping[str, Any]) -> None:
    """What the rules forbid: `said` is the request, `mapping` what would come of it. Raises ApiError."""
    _check_start(kind, mapping)
    for member in sorted(_SPECIAL - kind.takes):
        if said.get(member):
            raise invalid_parameter(f"Unsupported {member} parameter for given event source mapping type.")
    for member in kind.needs:
        if not mapping.get(member):
            raise _missing(member)
    if mapping["BatchSize"] > kind.largest_batch:
        raise invalid_parameter(f"The batch size of this event source cannot be greater than {kind.largest_batch}.")
    window = mapping.get("MaximumBatchingWindowInSeconds", 0)
    if kind is FIFO and window:
        raise invalid_parameter("Batching window is not supported for FIFO queues.")
    if kind is SQS and mapping["BatchSize"] > 10 and not window:
        raise invalid_parameter("Maximum batch window in seconds must be greater than 0 if maximum batch size is "
                                "greater than 10")  # fmt: skip
    if not _is_age(mapping.get("MaximumRecordAgeInSeconds", -1)):
        raise invalid_parameter("MaximumRecordAgeInSeconds must be -1, or between 60 and 604800.")
    if "OnSuccess" in mapping.get("DestinationConfig", {}):
        raise invalid_parameter("Unsupported DestinationConfig parameter for given event source mapping type.")
    for one in mapping.get("FilterCriteria", {}).get("Filters", ()):
        if not is_pattern(one.get("Pattern", "")):
            raise invalid_parameter("Invalid filter pattern definition.")


def with_defaults(kind: SourceKind, said: Mapping[str, Any]) -> Mapped:
    """What a creation says, with the defaults of its kind."""
    mapping = {"BatchSize": kind.batch, **kind.defaults, **said}
    if kind is MSK or kind is SELF_MANAGED:
        member = "AmazonManagedKafkaEventSourceConfig" if kind is MSK else "SelfManagedKafkaEventSourceConfig"
        mapping[member] = {"ConsumerGroupId": str(uuid.uuid4()), **said.get(member, {})}
    return mapping


def already_there(kind: SourceKind, mapping: Mapping[str, Any], function: str, existing: str) -> str:
    """AWS's words for a mapping that stands already under the id `existing`."""
    advice = f"Please update or delete the existing mapping with UUID {existing}"
    source = mapping.get("EventSourceArn")
    if kind is SELF_MANAGED:
        endpoints = mapping["SelfManagedEventSource"].get("Endpoints", {})
        servers = ",".join(server for servers in endpoints.values() for server in servers)
        return (f'An event source mapping with event source ("{servers}"), function ("{mapping["FunctionArn"]}"), '
                f'topics ("{",".join(mapping["Topics"])}") already exists. {advice}')  # fmt: skip
    if kind in (KINESIS, DYNAMODB):
        return (f'The event source arn (" {source} ") and function (" {function} ") provided mapping already exists. '
                f"{advice}")  # fmt: skip
    return (f'An event source mapping with {kind.word} arn (" {source} ") and function (" {function} ") already '
            f"exists. {advice}")  # fmt: skip


def is_pattern(text: str) -> bool:
    """Whether a text is an event pattern: an object whose leaves are lists of values or of rules."""
    try:
        return _is_pattern(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        return False


def _is_pattern(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_is_condition(item) for item in value.values())


def _is_condition(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_pattern(value)
    return isinstance(value, list) and bool(value) and all(_is_alternative(item) for item in value)


def _is_alternative(value: Any) -> bool:
    """A value, a rule such as `{"prefix": "a"}`, or a pattern of `$or`."""
    return isinstance(value, _SCALARS) or (isinstance(value, dict) and bool(value))


def _is_age(seconds: int) -> bool:
    return seconds == -1 or _RECORD_AGE_S[0] <= seconds <= _RECORD_AGE_S[1]


def _check_start(kind: SourceKind, mapping: Mapping[str, Any]) -> None:
    position = mapping.get("StartingPosition")
    if kind in (SQS, FIFO) and (position or "StartingPositionTimestamp" in mapping):
        raise invalid_parameter("StartingPosition is not valid for SQS event sources.")
    if kind is DYNAMODB and position == "AT_TIMESTAMP":
        raise invalid_parameter(f"Unsupported starting position for arn type: {mapping['EventSourceArn']}")
    if "StartingPosition" in kind.needs and position is None:
        raise invalid_parameter("1 validation error detected: Value null at 'startingPosition' failed to satisfy "
                                "constraint: Member must not be null.")  # fmt: skip
    if "StartingPositionTimestamp" in mapping and position != "AT_TIMESTAMP":
        raise invalid_parameter("Timestamp only valid with StartingPosition AT_TIMESTAMP")
    if position == "AT_TIMESTAMP" and "StartingPositionTimestamp" not in mapping:
        raise _missing("StartingPositionTimestamp")


def _missing(member: str) -> ApiError:
    return invalid_parameter(f"Required '{member[0].lower()}{member[1:]}' parameter is missing.")
