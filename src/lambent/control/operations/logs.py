"""CloudWatch Logs: the operations that tools use to read logs, and those that programs use to write their own.

Groups and streams of functions are made by the platform; here they are only shown. What is done with whole groups is in
`log_groups`. Facts: the CloudWatch Logs API reference, and fact sheet 5.2. What is stored and searched how is in
`telemetry`.
"""

from __future__ import annotations

import base64
import heapq
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from lambent.control.context import Answer, Context, Params, logs_operation, not_served
from lambent.errors import ApiError
from lambent.telemetry.groups import Group, RestingStream, Stream
from lambent.telemetry.logs import LogStore, NoSuchGroup, NoSuchStream
from lambent.telemetry.pattern import BadPattern, compile_pattern
from lambent.telemetry.queries import FOREVER_MS, PAGE_EVENTS, BadToken
from lambent.telemetry.segments import Event, Position

DESCRIBE_LIMIT = 50  # API reference: the default and the maximum
BATCH_BYTES = 1_048_576  # PutLogEvents, with EVENT_BYTES for each event
EVENT_BYTES = 26
BATCH_SPAN_MS = 24 * 3600 * 1000
TOO_OLD_MS = 14 * 24 * 3600 * 1000
TOO_NEW_MS = 2 * 3600 * 1000

_Item = TypeVar("_Item")
_GROUP_ARN = re.compile(r"arn:[^:]*:logs:[^:]*:[^:]*:log-group:([^:]+)")
_PAGE_TOKEN = re.compile(r"([fb])/(\d{20})(\d{12})(\d{24})/s", re.ASCII)


@logs_operation("DescribeLogGroups")
def describe_log_groups(context: Context, params: Params) -> Answer:
    store = store_of(context)
    prefix, part = params.get("logGroupNamePrefix", ""), params.get("logGroupNamePattern", "")
    if prefix and part:
        raise invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
    names = {_name_in(identifier) for identifier in params.get("logGroupIdentifiers") or ()}
    groups = [
        group
        for group in store.groups()
        if group.name.startswith(prefix) and part in group.name and (not names or group.name in names)
    ]
    if params.get("logGroupClass", "STANDARD") != "STANDARD":
        groups = []
    page, token = _slice(groups, params, lambda group: [group.name])
    return {"logGroups": [_group(store, group) for group in page]} | token


@logs_operation("DescribeLogStreams")
def describe_log_streams(context: Context, params: Params) -> Answer:
    store = store_of(context)
    name, prefix = _group_name(params), params.get("logStreamNamePrefix", "")
    by_time = params.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
    with lookup_errors():
        streams = store.streams(name, prefix)
    key = _by_time if by_time else _by_name
    page, token = _slice(streams, params, key, descending=params.get("descending", False))
    return {"logStreams": [_stream(store, name, stream) for stream in page]} | token


@logs_operation("GetLogEvents")
def get_log_events(context: Context, params: Params) -> Answer:
    stream = params["logStreamName"]
    position, backward = None, not params.get("startFromHead", False)
    if params.get("nextToken"):
        found = _PAGE_TOKEN.fullmatch(params["nextToken"])
        if found is None:
            raise invalid("The specified nextToken is invalid.")
        direction, timestamp_ms, segment, offset = found.groups()
        position = Position(int(timestamp_ms), stream, int(segment), int(offset))
        backward = direction == "b"  # a token knows its direction, whatever startFromHead says
    with lookup_errors():
        page = store_of(context).get_events(
            _group_name(params),
            stream,
            start_ms=params.get("startTime", 0),
            end_ms=params.get("endTime", FOREVER_MS),
            position=position,
            backward=backward,
            limit=params.get("limit", PAGE_EVENTS),
        )
    events = [
        {"timestamp": event.timestamp_ms, "message": event.message, "ingestionTime": event.ingestion_ms}
        for event in page.events
    ]
    return {
        "events": events,
        "nextForwardToken": _page_token("f", page.forward),
        "nextBackwardToken": _page_token("b", page.backward),
    }


@logs_operation("FilterLogEvents")
def filter_log_events(context: Context, params: Params) -> Answer:
    streams, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
    if streams and prefix:
        raise invalid("Cannot specify both logStreamNames and logStreamNamePrefix.")
    with lookup_errors():
        found = store_of(context).filter_events(
            _group_name(params),
            streams=streams,
            prefix=prefix,
            start_ms=params.get("startTime", 0),
            # "Events with a timestamp later than this time are not returned": the end belongs to the range here.
            end_ms=min(params.get("endTime", FOREVER_MS) + 1, FOREVER_MS),
            match=compile_pattern(params.get("filterPattern")),
            limit=params.get("limit", PAGE_EVENTS),
            token=params.get("nextToken"),
        )
    answer: dict[str, Any] = {"events": [_event(event) for event in found.events], "searchedLogStreams": []}
    return answer if found.token is None else answer | {"nextToken": found.token}


@logs_operation("CreateLogStream")
def create_log_stream(context: Context, params: Params) -> Answer:
    with lookup_errors():
        made = store_of(context).create_stream(params["logGroupName"], params["logStreamName"])
    if not made:
        raise ApiError("ResourceAlreadyExistsException", "The specified log stream already exists")
    return None


@logs_operation("DeleteLogStream")
def delete_log_stream(context: Context, params: Params) -> Answer:
    with lookup_errors():
        store_of(context).delete_stream(params["logGroupName"], params["logStreamName"])
    return None


@logs_operation("PutLogEvents")
def put_log_events(context: Context, params: Params) -> Answer:
    events = [(event["timestamp"], event["message"]) for event in params["logEvents"]]
    size = sum(len(message.encode("utf-8", "replace")) + EVENT_BYTES for _, message in events)
    if size > BATCH_BYTES:
        raise invalid(f"Upload too large: {size} bytes exceeds limit of {BATCH_BYTES}")
    times = [timestamp_ms for timestamp_ms, _ in events]
    if times != sorted(times):
        raise invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if times[-1] - times[0] > BATCH_SPAN_MS:
        raise invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    now_ms = int(context.clock.wall() * 1000)
    old = sum(timestamp_ms < now_ms - TOO_OLD_MS for timestamp_ms in times)
    new = sum(timestamp_ms > now_ms + TOO_NEW_MS for timestamp_ms in times)
    with lookup_errors():
        store_of(context).put(params["logGroupName"], params["logStreamName"], events[old : len(events) - new])
    rejected: dict[str, int] = {}
    if old:
        rejected["tooOldLogEventEndIndex"] = old
    if new:
        rejected["tooNewLogEventStartIndex"] = len(events) - new
    answer: dict[str, Any] = {"nextSequenceToken": f"{now_ms:056d}"}  # ignored since 2023, and still sent
    return answer | {"rejectedLogEventsInfo": rejected} if rejected else answer


def store_of(context: Context) -> LogStore:
    """The logs of the caller's account and region."""
    if context.logs is None:
        raise not_served("CloudWatch Logs")
    return context.logs.of(context.account, context.region)


@contextmanager
def lookup_errors() -> Iterator[None]:
    """Errors of the store in AWS's words."""
    try:
        yield
    except NoSuchGroup:
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.", status=400) from None
    except NoSuchStream:
        raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.", status=400) from None
    except BadToken:
        raise invalid("The specified nextToken is invalid.") from None
    except BadPattern as error:
        raise invalid(str(error)) from None


def invalid(message: str) -> ApiError:
    """What the service calls nearly every wrong parameter."""
    return ApiError("InvalidParameterException", message)


def _group_name(params: Params) -> str:
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise invalid("Exactly one of logGroupName and logGroupIdentifier must be specified.")
    return str(name) if name is not None else _name_in(str(identifier))


def _name_in(identifier: str) -> str:
    found = _GROUP_ARN.fullmatch(identifier)
    return found[1] if found else identifier


def _group(store: LogStore, group: Group) -> dict[str, Any]:
    arn = _group_arn(store, group.name)
    kept = {} if group.retention_days is None else {"retentionInDays": group.retention_days}
    return kept | {
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "storedBytes": store.stored_bytes(group.name),
        "logGroupClass": "STANDARD",
        "logGroupArn": arn,
    }


def _stream(store: LogStore, group: str, stream: Stream | RestingStream) -> dict[str, Any]:
    shown: dict[str, Any] = {"logStreamName": stream.name, "creationTime": stream.created_ms}
    first, last = stream.first_event(), stream.last_event()
    if first is not None and last is not None:
        shown["firstEventTimestamp"] = first.timestamp_ms
        shown["lastEventTimestamp"] = last.timestamp_ms
        shown["lastIngestionTime"] = last.ingestion_ms
    shown["arn"] = f"{_group_arn(store, group)}:log-stream:{stream.name}"
    shown["storedBytes"] = 0  # AWS reports zero for every stream since 2019
    return shown


def _group_arn(store: LogStore, group: str) -> str:
    return f"arn:aws:logs:{store.region}:{store.account}:log-group:{group}"


def _event(event: Event) -> dict[str, Any]:
    stream = zlib.crc32(event.stream.encode())
    return {
        "logStreamName": event.stream,
        "timestamp": event.timestamp_ms,
        "message": event.message,
        "ingestionTime": event.ingestion_ms,
        "eventId": f"{event.timestamp_ms:020d}{stream:010d}{event.segment:010d}{event.offset:016d}",
    }


def _page_token(direction: str, position: Position) -> str:
    return f"{direction}/{position.timestamp_ms:020d}{position.segment:012d}{position.offset:024d}/s"


def _by_name(stream: Stream | RestingStream) -> list[Any]:
    return [stream.name]


def _by_time(stream: Stream | RestingStream) -> list[Any]:
    return [stream.last_ms or 0, stream.name]


def _slice(items: list[_Item], params: Params, key: Callable[[_Item], list[Any]], *,
           descending: bool = False) -> tuple[list[_Item], dict[str, str]]:  # fmt: skip
    """A page of `items` in the order of `key`, and the member `nextToken` if there are more.

    The token is the key of the last item shown, so items that come or go meanwhile shift nothing.
    """
    keyed = [(key(item), item) for item in items]
    if params.get("nextToken"):
        after = _key_in(params["nextToken"], keyed[0][0] if keyed else [])
        keyed = [pair for pair in keyed if (pair[0] < after if descending else pair[0] > after)]
    limit = params.get("limit", DESCRIBE_LIMIT)
    if descending:  # of times, mostly, which are nearly in order
        first = sorted(keyed, key=itemgetter(0), reverse=True)[:limit]
    else:
        first = heapq.nsmallest(limit, keyed, key=itemgetter(0))
    page = [item for _, item in first]
    if len(keyed) <= limit:
        return page, {}
    return page, {"nextToken": base64.urlsafe_b64encode(msgspec.json.encode(first[-1][0])).decode()}


def _key_in(token: str, like: list[Any]) -> list[Any]:
    try:
        key = msgspec.json.decode(base64.urlsafe_b64decode(token), type=list[int | str])
    except (ValueError, msgspec.DecodeError):
        raise invalid("The specified nextToken is invalid.") from None
    if like and list(map(type, key)) != list(map(type, like)):
        raise invalid("The specified nextToken is invalid.")
    return list(key)
