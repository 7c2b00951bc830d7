"""`lambent logs`: what a function and the platform wrote to its log group."""

from __future__ import annotations

import heapq
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from lambent.cli import show
from lambent.cli.exits import Stop
from lambent.cli.log_sources import Source, Sources
from lambent.cli.options import AsJson, Endpoint, connect, environment_id, no_such_environment
from lambent.client import Client
from lambent.clock import Clock
from lambent.errors import ApiError

POLL_S = 0.5
#: Lines of different environments may arrive out of order by this much (logs are written in batches).
OVERLAP_MS = 5_000
A_MINUTE_S, A_DAY_S = 60.0, 86_400.0


def logs(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="name or ARN; with :ALIAS or :VERSION only what that version wrote",
                            show_default=False)
    ],
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
      lambent logs hello:live --follow
      lambent logs hello --filter 'ERROR -expected' --environment 7
      lambent logs hello --since 2026-11-21T09:00:00Z --json
    """
    start_ms = _start_ms(since, Clock().wall())
    with connect(endpoint) as client:
        named = Sources(client, name)
        sources, ask = named.now(), named.now
        if environment is not None:
            one = [_stream(client, sources, name, environment)]
            ask = lambda: one  # noqa: E731
        printed = 0
        for event in _events(client, ask, pattern, start_ms, follow):
            _show(event, as_json)
            printed += 1
        if not printed and not as_json:
            all_of_it = pattern is None and environment is None and sources[0].versions is None
            what = "nothing" if all_of_it else "nothing of that kind"
            groups = " and ".join(source.group for source in sources)
            show.note(f"{what} in {groups} since {since}; a longer --since may show more")


def _start_ms(since: str, now_s: float) -> int:
    ago_s = show.seconds(since)
    if ago_s is not None:
        return max(0, int((now_s - ago_s) * 1000))
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise Stop(f"--since: {since!r} is neither an age (10m) nor a time (2026-11-21T09:00:00Z)") from None
    return max(0, int(moment.timestamp() * 1000))


def _stream(client: Client, sources: list[Source], name: str, given: str) -> Source:
    """The log stream of an environment that lives, or has lived lately."""
    found = environment_id(client, given)
    try:
        story = client.story(found)
    except ApiError as error:
        raise no_such_environment(error, given) from None
    group, stream = str(story["log_group"]), str(story["log_stream"])
    of_group = [source for source in sources if source.group == group]
    if not of_group:
        raise Stop(f"environment {found} writes to {group}, not to {' or '.join(source.group for source in sources)}")
    if not of_group[0].has(stream):
        raise Stop(f"environment {found} is not of {name}: it writes to {stream}")
    return of_group[0]._replace(stream=stream)


def _events(client: Client, sources: Callable[[], list[Source]], pattern: str | None, start_ms: int,
            follow: bool) -> Iterator[dict[str, Any]]:
    """Each event once, by time. What is followed is asked for anew each time, since an alias may lead elsewhere."""
    seen: dict[str, int] = {}
    latest = start_ms
    while True:
        since_ms = max(start_ms, latest - OVERLAP_MS)
        found = (_found(client, source, pattern, since_ms) for source in sources())
        for event, wanted in heapq.merge(*found, key=lambda pair: int(pair[0]["timestamp"])):
            latest = max(latest, event["timestamp"])
            key = event.get("eventId") or f"{event['timestamp']} {event.get('logStreamName')} {event['message']}"
            if wanted and key not in seen:
                seen[key] = event["timestamp"]
                yield event
        if not follow:
            return
        sys.stdout.flush()
        seen = {key: timestamp for key, timestamp in seen.items() if timestamp >= latest - OVERLAP_MS}
        time.sleep(POLL_S)


def _found(client: Client, source: Source, pattern: str | None,
           since_ms: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """What the group has, and whether it is wanted. A group that does not exist yet has nothing."""
    try:
        for event in client.log_events(source.group, since_ms, stream=source.stream, pattern=pattern):
            yield event, source.has(str(event.get("logStreamName", "")))
    except ApiError as error:
        if error.code != "ResourceNotFoundException":
            raise


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
