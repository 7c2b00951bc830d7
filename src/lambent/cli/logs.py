"""`lambent logs`: what a function and the platform wrote to its log group."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import typer

from lambent.cli import show
from lambent.cli.exits import Stop
from lambent.cli.options import AsJson, Endpoint, FunctionName, connect, environment_id, no_such_environment
from lambent.client import Client
from lambent.clock import Clock
from lambent.errors import ApiError

POLL_S = 0.5
#: Lines of different environments may arrive out of order by this much (logs are written in batches).
OVERLAP_MS = 5_000
A_MINUTE_S, A_DAY_S = 60.0, 86_400.0


class Query(NamedTuple):
    """Which events."""

    group: str
    stream: str | None = None  #: of one environment
    pattern: str | None = None


def logs(
    name: FunctionName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on printing new lines until Ctrl-C")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="an age such as 30s, 10m, 2h or 1d, or an RFC 3339 time")
    ] = "1h",
    pattern: Annotated[
        str | None, typer.Option("--filter", metavar="PATTERN", help="only what matches this CloudWatch filter pattern")
    ] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", metavar="ENV", help="only of this environment (lambent ps)")
    ] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> None:
    """Print what a function wrote.

    With --json, one object per line: timestamp (milliseconds), logStreamName, message.

    \b
    Examples:
      lambent logs hello
      lambent logs hello --follow --since 30s
      lambent logs hello --filter 'ERROR -expected' --environment 7
      lambent logs hello --since 2026-11-21T09:00:00Z --json
    """
    start_ms = _start_ms(since, Clock().wall())
    with connect(endpoint) as client:
        group = _group(client, name)
        stream = None if environment is None else _stream(client, group, environment)
        printed = 0
        for event in _events(client, Query(group, stream, pattern), start_ms, follow):
            _show(event, as_json)
            printed += 1
        if not printed and not as_json:
            what = "nothing" if pattern is None and stream is None else "nothing of that kind"
            show.note(f"{what} in {group} since {since}; a longer --since may show more")


def _start_ms(since: str, now_s: float) -> int:
    ago_s = show.seconds(since)
    if ago_s is not None:
        return max(0, int((now_s - ago_s) * 1000))
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise Stop(f"--since: {since!r} is neither an age (10m) nor a time (2026-11-21T09:00:00Z)") from None
    return max(0, int(moment.timestamp() * 1000))


def _group(client: Client, name: str) -> str:
    """The function's log group. A deleted function's logs are found by its name."""
    try:
        configuration = client.configuration(name)
    except ApiError as error:
        plain_name = re.fullmatch(r"[A-Za-z0-9_-]+", name)
        if error.status != 404 or plain_name is None or not _exists(client, f"/aws/lambda/{name}"):
            raise
        return f"/aws/lambda/{name}"
    logging = configuration.get("LoggingConfig") or {}
    return str(logging.get("LogGroup") or f"/aws/lambda/{configuration['FunctionName']}")


def _stream(client: Client, group: str, given: str) -> str:
    """The log stream of an environment that lives, or has lived lately."""
    found = environment_id(client, given)
    try:
        story = client.story(found)
    except ApiError as error:
        raise no_such_environment(error, given) from None
    if story["log_group"] != group:
        raise Stop(f"environment {found} writes to {story['log_group']}, not to {group}")
    return str(story["log_stream"])


def _exists(client: Client, group: str) -> bool:
    try:
        next(client.log_events(group, 0, pages=1), None)
    except ApiError:
        return False
    return True


def _events(client: Client, query: Query, start_ms: int, follow: bool) -> Iterator[dict[str, Any]]:
    """Each event once. A group that does not exist yet has none."""
    seen: dict[str, int] = {}
    latest = start_ms
    while True:
        try:
            since_ms = max(start_ms, latest - OVERLAP_MS)
            for event in client.log_events(query.group, since_ms, stream=query.stream, pattern=query.pattern):
                key = event.get("eventId") or f"{event['timestamp']} {event.get('logStreamName')} {event['message']}"
                if key not in seen:
                    seen[key] = event["timestamp"]
                    latest = max(latest, event["timestamp"])
                    yield event
        except ApiError as error:
            if error.code != "ResourceNotFoundException":
                raise
        if not follow:
            return
        sys.stdout.flush()
        seen = {key: timestamp for key, timestamp in seen.items() if timestamp >= latest - OVERLAP_MS}
        time.sleep(POLL_S)


def _show(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: event.get(name) for name in ("timestamp", "logStreamName", "message")}))
        return
    print(f"{_at(event['timestamp'], Clock().wall())}  {show.plain(event['message'].rstrip())}")


def _at(timestamp_ms: int, now_s: float) -> str:
    """Local time; with its date where the time alone may be another day's: a day ago, or ahead (`chaos advance`)."""
    moment = datetime.fromtimestamp(timestamp_ms / 1000)
    of_late = -A_MINUTE_S < now_s - timestamp_ms / 1000 < A_DAY_S
    return f"{moment:{'%H:%M:%S' if of_late else '%Y-%m-%d %H:%M:%S'}}.{timestamp_ms % 1000:03d}"
