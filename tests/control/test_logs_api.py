"""CloudWatch Logs through boto3: what `aws logs tail`, paginators and programs that write logs do."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from control_plane import Plane, running

from lambent.clock import Clock
from lambent.telemetry import queries
from lambent.telemetry.logs import LogStore
from lambent.telemetry.logstores import LogStores

GROUP = "/aws/lambda/f"
STREAMS = [f"2026/11/21/[$LATEST]{number:032x}" for number in range(3)]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[LogStores]:
    stores = LogStores(tmp_path, Clock())
    yield stores
    await stores.stop()


@pytest.fixture
async def store(stores: LogStores) -> LogStore:
    return stores.of("000000000000", "us-east-1")


@pytest.fixture
async def plane(tmp_path: Path, stores: LogStores) -> AsyncIterator[Plane]:
    async with running(tmp_path) as plane:
        plane.app._context = dataclasses.replace(plane.app._context, logs=stores)
        yield plane


def fill(store: LogStore, count: int = 30) -> int:
    """Events a millisecond apart, in turn over three streams; the time of the first."""
    first_ms = int(Clock().wall() * 1000) - 1000
    for number in range(count):
        store.append(GROUP, STREAMS[number % 3], first_ms + number, f"line {number}\n")
    return first_ms


def refusal(call: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


async def test_paginator_sees_all_streams_as_one(
    plane: Plane, store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_ms = fill(store)
    monkeypatch.setattr(queries, "SCAN_BYTES", 300)

    def script(logs: Any) -> None:
        pages = list(logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP))
        assert len(pages) > 3
        events = [event for page in pages for event in page["events"]]
        assert [event["message"] for event in events] == [f"line {number}\n" for number in range(30)]
        assert [event["timestamp"] for event in events] == list(range(first_ms, first_ms + 30))
        assert {event["logStreamName"] for event in events} == set(STREAMS)
        assert len({event["eventId"] for event in events}) == 30
        assert all(len(event["eventId"]) == 56 for event in events)
        assert all(event["ingestionTime"] >= event["timestamp"] for event in events)

    await plane.drive(script, "logs")


async def test_filter_by_time_stream_and_pattern(plane: Plane, store: LogStore) -> None:
    first_ms = fill(store)

    def numbers(logs: Any, **params: Any) -> list[int]:
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, **params)
        return [int(event["message"].split()[1]) for page in pages for event in page["events"]]

    def script(logs: Any) -> None:
        assert numbers(logs, startTime=first_ms + 10, endTime=first_ms + 12) == [10, 11, 12]
        assert numbers(logs, logStreamNames=[STREAMS[1]], limit=2)[:4] == [1, 4, 7, 10]
        assert numbers(logs, logStreamNamePrefix=STREAMS[2]) == list(range(2, 30, 3))
        assert numbers(logs, filterPattern='"line 7"') == [7]
        assert numbers(logs, filterPattern="line -1 -2") == [0, 3, 4, 5, 6, 7, 8, 9]

    await plane.drive(script, "logs")


async def test_identifier_may_be_an_arn(plane: Plane, store: LogStore) -> None:
    fill(store, 1)

    def script(logs: Any) -> None:
        (group,) = logs.describe_log_groups()["logGroups"]
        assert len(logs.filter_log_events(logGroupIdentifier=group["logGroupArn"])["events"]) == 1
        assert len(logs.describe_log_streams(logGroupIdentifier=group["logGroupArn"])["logStreams"]) == 1

    await plane.drive(script, "logs")


async def test_get_log_events_walks_both_ways(plane: Plane, store: LogStore) -> None:
    for number in range(10):
        store.append(GROUP, "s", 1_795_000_000_000 + number // 3, str(number))

    def script(logs: Any) -> None:
        def get(**params: Any) -> Any:
            return logs.get_log_events(logGroupName=GROUP, logStreamName="s", limit=4, **params)

        def messages(page: Any) -> str:
            return "".join(event["message"] for event in page["events"])

        tail = get()
        assert messages(tail) == "6789"
        before = get(nextToken=tail["nextBackwardToken"])
        assert messages(before) == "2345"
        head = get(nextToken=before["nextBackwardToken"])
        assert messages(head) == "01"
        nothing = get(nextToken=head["nextBackwardToken"])
        assert nothing["events"] == [] and nothing["nextBackwardToken"] == head["nextBackwardToken"]
        start = get(startFromHead=True)
        assert messages(start) == "0123"
        assert messages(get(nextToken=start["nextForwardToken"], startFromHead=True)) == "4567"
        end = get(nextToken=tail["nextForwardToken"])
        assert end["events"] == [] and end["nextForwardToken"] == tail["nextForwardToken"]
        assert messages(get(startTime=1_795_000_000_001, endTime=1_795_000_000_002)) == "345"

    await plane.drive(script, "logs")


async def test_forward_token_of_an_end_finds_what_comes_later(plane: Plane, store: LogStore) -> None:
    store.append(GROUP, "s", 1_795_000_000_000, "first")

    def forward(token: str | None) -> Any:
        def script(logs: Any) -> Any:
            params = {"nextToken": token} if token else {}
            return logs.get_log_events(logGroupName=GROUP, logStreamName="s", startFromHead=True, **params)

        return script

    page = await plane.drive(forward(None), "logs")
    store.append(GROUP, "s", 1_795_000_000_000, "second")
    later = await plane.drive(forward(page["nextForwardToken"]), "logs")
    assert [event["message"] for event in later["events"]] == ["second"]


async def test_groups_and_streams_are_listed_in_pages(plane: Plane, store: LogStore) -> None:
    first_ms = fill(store, 6)
    for number in range(5):
        store.create_group(f"/other/{number}")

    def script(logs: Any) -> None:
        pages = list(logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 4}))
        groups = [group for page in pages for group in page["logGroups"]]
        assert [group["logGroupName"] for group in groups] == [GROUP, *(f"/other/{number}" for number in range(5))]
        assert groups[0]["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:*"
        assert groups[0]["storedBytes"] > 0 and groups[1]["storedBytes"] == 0
        assert len(logs.describe_log_groups(logGroupNamePrefix="/other")["logGroups"]) == 5
        assert len(logs.describe_log_groups(logGroupNamePattern="her/3")["logGroups"]) == 1
        orders: tuple[tuple[dict[str, Any], list[str]], ...] = (
            ({}, STREAMS),
            ({"descending": True}, STREAMS[::-1]),
            ({"orderBy": "LastEventTime", "descending": True}, STREAMS[::-1]),
        )
        for params, order in orders:
            pages = list(
                logs.get_paginator("describe_log_streams").paginate(
                    logGroupName=GROUP, PaginationConfig={"PageSize": 2}, **params
                )
            )
            streams = [stream for page in pages for stream in page["logStreams"]]
            assert [stream["logStreamName"] for stream in streams] == order
        (stream,) = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=STREAMS[1])["logStreams"]
        assert stream["firstEventTimestamp"] == first_ms + 1
        assert stream["lastEventTimestamp"] == first_ms + 4
        assert stream["arn"].endswith(f":log-group:{GROUP}:log-stream:{STREAMS[1]}")

    await plane.drive(script, "logs")


async def test_program_writes_logs_of_its_own(plane: Plane, store: LogStore) -> None:
    def script(logs: Any) -> None:
        now = int(time.time() * 1000)
        logs.create_log_group(logGroupName="/mine")
        logs.create_log_stream(logGroupName="/mine", logStreamName="s")
        assert refusal(logs.create_log_group, logGroupName="/mine")[0] == "ResourceAlreadyExistsException"
        assert refusal(logs.create_log_stream, logGroupName="/mine", logStreamName="s")[0] == (
            "ResourceAlreadyExistsException"
        )
        events = [{"timestamp": now + number, "message": f"m{number}"} for number in range(3)]
        answer = logs.put_log_events(logGroupName="/mine", logStreamName="s", logEvents=events)
        assert "rejectedLogEventsInfo" not in answer
        old, new = now - 20 * 86_400_000, now + 3 * 3_600_000
        for times, rejected in (
            ([old, old], {"tooOldLogEventEndIndex": 2}),
            ([now + 5, new, new], {"tooNewLogEventStartIndex": 1}),
        ):
            events = [{"timestamp": at, "message": f"at {at}"} for at in times]
            answer = logs.put_log_events(logGroupName="/mine", logStreamName="s", logEvents=events)
            assert answer["rejectedLogEventsInfo"] == rejected
        found = logs.filter_log_events(logGroupName="/mine")["events"]
        assert [event["message"] for event in found] == ["m0", "m1", "m2", f"at {now + 5}"]
        logs.delete_log_group(logGroupName="/mine")
        assert logs.describe_log_groups()["logGroups"] == []

    await plane.drive(script, "logs")


async def test_what_does_not_exist_or_fit_is_refused(plane: Plane, store: LogStore) -> None:
    fill(store, 3)
    no_group = ("ResourceNotFoundException", "The specified log group does not exist.")
    no_stream = ("ResourceNotFoundException", "The specified log stream does not exist.")

    def script(logs: Any) -> None:
        assert refusal(logs.filter_log_events, logGroupName="x") == no_group
        assert refusal(logs.describe_log_streams, logGroupName="x") == no_group
        assert refusal(logs.get_log_events, logGroupName="x", logStreamName="s") == no_group
        assert refusal(logs.delete_log_group, logGroupName="x") == no_group
        assert refusal(logs.create_log_stream, logGroupName="x", logStreamName="s") == no_group
        event = {"timestamp": 1, "message": "m"}
        assert refusal(logs.put_log_events, logGroupName="x", logStreamName="s", logEvents=[event]) == no_group
        assert refusal(logs.get_log_events, logGroupName=GROUP, logStreamName="s") == no_stream
        assert refusal(logs.filter_log_events, logGroupName=GROUP, logStreamNames=["s"]) == no_stream
        wrong: list[tuple[Any, dict[str, Any]]] = [
            (logs.filter_log_events, {"logGroupName": GROUP, "nextToken": "x"}),
            (logs.filter_log_events, {"logGroupName": GROUP, "filterPattern": "{ $.a }"}),
            (logs.filter_log_events, {"logGroupName": GROUP, "filterPattern": "[a, b]"}),
            (logs.filter_log_events, {"logGroupName": GROUP, "logStreamNames": ["s"], "logStreamNamePrefix": "s"}),
            (logs.filter_log_events, {"logGroupName": GROUP, "limit": 0}),
            (logs.filter_log_events, {}),
            (logs.get_log_events, {"logGroupName": GROUP, "logStreamName": STREAMS[0], "nextToken": "f/1/s"}),
            (logs.describe_log_groups, {"nextToken": "x"}),
            (logs.describe_log_groups, {"nextToken": "WzFd"}),
            (logs.describe_log_groups, {"limit": 51}),
            (logs.describe_log_groups, {"logGroupNamePrefix": "a", "logGroupNamePattern": "b"}),
            (logs.describe_log_streams, {"logGroupName": GROUP, "orderBy": "LastEventTime",
                                         "logStreamNamePrefix": "a"}),
            (logs.create_log_stream, {"logGroupName": GROUP, "logStreamName": "a:b"}),
            (logs.create_log_group, {"logGroupName": "a b"}),
            (logs.put_log_events, {"logGroupName": GROUP, "logStreamName": STREAMS[0],
                                   "logEvents": [{"timestamp": 2, "message": "b"}, {"timestamp": 1, "message": "a"}]}),
        ]  # fmt: skip
        for call, params in wrong:
            assert refusal(call, **params)[0] == "InvalidParameterException", params

    await plane.drive(script, "logs")


async def test_logs_of_one_region_or_account_are_not_seen_in_another(plane: Plane, store: LogStore) -> None:
    fill(store)

    def script(client: Any) -> None:
        assert len(client.describe_log_groups()["logGroups"]) == 1
        for region, key in (("eu-west-1", "test"), ("us-east-1", "111111111111")):
            other = plane.client("logs", region, key)
            assert other.describe_log_groups()["logGroups"] == []
            other.create_log_group(logGroupName="own")
            shown = other.describe_log_groups()["logGroups"]
            account = key if key.isdecimal() else "000000000000"
            assert [group["arn"] for group in shown] == [f"arn:aws:logs:{region}:{account}:log-group:own:*"]
            other.close()
        assert len(client.describe_log_groups()["logGroups"]) == 1

    await plane.drive(script, "logs")


async def test_stream_is_deleted_with_its_events(plane: Plane, store: LogStore) -> None:
    fill(store)

    def script(logs: Any) -> None:
        logs.delete_log_stream(logGroupName=GROUP, logStreamName=STREAMS[0])
        left = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
        assert sorted(stream["logStreamName"] for stream in left) == STREAMS[1:]
        assert len(logs.filter_log_events(logGroupName=GROUP)["events"]) == 20
        gone = refusal(logs.delete_log_stream, logGroupName=GROUP, logStreamName=STREAMS[0])
        assert gone == ("ResourceNotFoundException", "The specified log stream does not exist.")
        logs.create_log_stream(logGroupName=GROUP, logStreamName=STREAMS[0])
        assert logs.get_log_events(logGroupName=GROUP, logStreamName=STREAMS[0])["events"] == []

    await plane.drive(script, "logs")


async def test_events_are_shown_for_as_long_as_their_group_keeps_them(
    plane: Plane, stores: LogStores, store: LogStore, tmp_path: Path
) -> None:
    now_ms = fill(store)
    store.put(GROUP, STREAMS[0], [(now_ms - 2 * 24 * 3600 * 1000, "old")])

    def shown(logs: Any) -> int:
        return len(logs.filter_log_events(logGroupName=GROUP)["events"])

    def script(logs: Any) -> None:
        assert shown(logs) == 31
        logs.put_retention_policy(logGroupName=GROUP, retentionInDays=1)
        assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 1
        assert shown(logs) == 30
        code, _ = refusal(logs.put_retention_policy, logGroupName=GROUP, retentionInDays=2)
        assert code == "InvalidParameterException"
        assert refusal(logs.put_retention_policy, logGroupName="none", retentionInDays=1)[0] == (
            "ResourceNotFoundException")

    await plane.drive(script, "logs")
    await stores.stop()
    later = LogStores(tmp_path, Clock())
    assert [group.retention_days for group in later.of("000000000000", "us-east-1").groups()] == [1]
    await later.stop()


async def test_retention_policy_can_be_taken_back(plane: Plane, store: LogStore) -> None:
    fill(store)

    def script(logs: Any) -> None:
        logs.put_retention_policy(logGroupName=GROUP, retentionInDays=7)
        logs.delete_retention_policy(logGroupName=GROUP)
        assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]

    await plane.drive(script, "logs")


async def test_groups_have_tags_as_long_as_they_live(plane: Plane, store: LogStore) -> None:
    fill(store)
    arn = "arn:aws:logs:us-east-1:000000000000:log-group:"

    def script(logs: Any) -> None:
        logs.create_log_group(logGroupName="/mine", tags={"a": "b"})
        assert logs.list_tags_for_resource(resourceArn=f"{arn}/mine")["tags"] == {"a": "b"}
        logs.tag_resource(resourceArn=f"{arn}/mine", tags={"a": "c", "d": "e"})
        logs.tag_log_group(logGroupName="/mine", tags={"f": "g"})
        assert logs.list_tags_log_group(logGroupName="/mine")["tags"] == {"a": "c", "d": "e", "f": "g"}
        logs.untag_resource(resourceArn=f"{arn}/mine", tagKeys=["a", "none"])
        logs.untag_log_group(logGroupName="/mine", tags=["d"])
        assert logs.list_tags_for_resource(resourceArn=f"{arn}/mine")["tags"] == {"f": "g"}
        assert logs.list_tags_for_resource(resourceArn=arn + GROUP)["tags"] == {}, "the platform made this one"
        assert refusal(logs.tag_resource, resourceArn=f"{arn}/mine", tags={f"k{number}": "" for number in range(50)}
                       )[0] == "TooManyTagsException"  # fmt: skip
        logs.delete_log_group(logGroupName="/mine")
        logs.create_log_group(logGroupName="/mine")
        assert logs.list_tags_for_resource(resourceArn=f"{arn}/mine")["tags"] == {}
        nobody = ("ResourceNotFoundException", "The specified log group does not exist.")
        assert refusal(logs.list_tags_for_resource, resourceArn=f"{arn}nobody") == nobody
        assert refusal(logs.tag_log_group, logGroupName="nobody", tags={"a": "b"}) == nobody
        assert refusal(logs.delete_log_group, logGroupName="nobody") == nobody
        for strange in ("arn:aws:logs:eu-west-1:000000000000:log-group:/mine", "arn:aws:logs:us-east-1::destination:d"):
            assert refusal(logs.list_tags_for_resource, resourceArn=strange)[0] == "ResourceNotFoundException"

    await plane.drive(script, "logs")
