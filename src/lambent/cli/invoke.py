"""`lambent invoke`: the payload on stdout, everything else that a person wants to know on stderr."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lambent.cli import exits, show
from lambent.cli.exits import Stop
from lambent.cli.options import AsJson, Endpoint, FunctionName, connect
from lambent.cli.report import figures
from lambent.client import Client, Invoked
from lambent.errors import ApiError


def invoke(
    name: FunctionName,
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="JSON", help="the payload: JSON, @FILE, or - for stdin")
    ] = None,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> int:
    """Run a function once and show everything about it.

    The payload goes to stdout; the log tail, a readable traceback and one line of figures go to stderr.
    The exit code is 1 when the function failed.

    \b
    Examples:
      lambent invoke hello -d '{"name": "Ada"}'
      lambent invoke hello -d @event.json 2>/dev/null | jq .
      generate-event | lambent invoke hello -d -
    """
    payload = _payload(data)
    with connect(endpoint) as client:
        invoked = _invoked(client, name, payload)
        configuration = _configuration(client, name)
        story = _story(client, invoked.environment)
    measured = figures(invoked.log_tail, configuration,
                       provisioned=story.get("init_type") == "provisioned-concurrency")  # fmt: skip
    repeated = any(bill["request_id"] == invoked.request_id and bill.get("init_repeated")
                   for bill in story.get("invocations", ()))  # fmt: skip
    if as_json:
        show.data(_as_data(invoked, asdict(measured) if measured else None, repeated))
    else:
        print(show.plain(_readable(invoked.payload)))
        sys.stdout.flush()
        if invoked.log_tail:
            show.note(invoked.log_tail.rstrip("\n"))
        if invoked.function_error:
            show.note(_traceback(invoked.payload))
        show.note(measured.line(invoked.start, invoked.environment, init_repeated=repeated) if measured
                  else invoked.start or "no REPORT line")  # fmt: skip
    return exits.FUNCTION_FAILED if invoked.function_error else exits.OK


def _payload(data: str | None) -> bytes:
    """The bytes to send. Raises Stop for a file that cannot be read and for what is no JSON."""
    if data is None:
        return b""
    if data == "-":
        content, source = sys.stdin.buffer.read(), "stdin"
    elif data == "@":
        raise Stop("--data: @ is followed by the name of a file, as in @event.json")
    elif data.startswith("@"):
        source = data[1:]
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise Stop(f"cannot read {source}: {error.strerror}") from None
    else:
        content, source = data.encode("utf-8", "surrogateescape"), "--data"
    try:
        json.loads(content)
    except ValueError as error:
        raise Stop(f"{source} is no JSON: {error}") from None
    return content


def _invoked(client: Client, name: str, payload: bytes) -> Invoked:
    """Of a function that cannot run, AWS's refusal tells the state and not the reason: the reason goes with it here."""
    try:
        return client.invoke(name, payload)
    except ApiError as error:
        reason = _configuration(client, name).get("StateReason") if error.status == 409 else None
        if not reason:
            raise
        raise Stop(f"{error}: {reason}", exits.API_ERROR) from None


def _configuration(client: Client, name: str) -> dict[str, Any]:
    """For the price only: a function that was deleted meanwhile is priced as x86_64."""
    try:
        return client.configuration(name)
    except ApiError:
        return {}


def _story(client: Client, environment: str) -> dict[str, Any]:
    """Of the environment that served; without one that anybody knows, the price is that of one on demand."""
    try:
        return client.story(environment) if environment else {}
    except ApiError:
        return {}


def _as_data(invoked: Invoked, report: dict[str, Any] | None, init_repeated: bool) -> dict[str, Any]:
    return {
        "request_id": invoked.request_id,
        "executed_version": invoked.executed_version,
        "function_error": invoked.function_error or None,
        "payload": _value(invoked.payload),
        "start": invoked.start or None,
        "init_repeated": init_repeated,
        "environment": invoked.environment or None,
        "report": report,
        "log_tail": invoked.log_tail,
    }


def _value(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")


def _readable(payload: bytes) -> str:
    """Indented on a terminal; as it came in a pipe."""
    text = payload.decode("utf-8", "replace")
    if not sys.stdout.isatty():
        return text
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _traceback(payload: bytes) -> str:
    """A function error as the language itself would print it."""
    value = _value(payload)
    if not isinstance(value, dict):
        return "the function failed"
    head = ": ".join(str(value[key]) for key in ("errorType", "errorMessage") if value.get(key))
    if isinstance(trace := value.get("trace"), list) and trace:  # Node.js: its first line is the head
        return "\n".join(str(line) for line in trace)
    stack = value.get("stackTrace")
    frames = "".join(str(line) if str(line).endswith("\n") else f"{line}\n" for line in stack or ())
    return f"Traceback (most recent call last):\n{frames}{head}" if frames else head or "the function failed"
