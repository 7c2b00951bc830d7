"""`lambent story`, and the story's rendering, which `scripts/demo.py` shares.

The server tells a story as the journal of the environment's machine: events, phases and effects by their names in
`core/events.py` and `core/effects.py`. Here they become a timeline; names that this file does not know are shown as
they are, spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lambent.cli import show
from lambent.cli.exits import API_ERROR, Stop
from lambent.cli.options import AsJson, Endpoint, connect, environment_id
from lambent.client import Client
from lambent.errors import ApiError
from lambent.names import split_qualifier

#: What happened, in words; `{field}` is the event's own.
EVENTS = {
    "Started": "wanted{ahead}",
    "SandboxCreated": "sandbox created",
    "SandboxFailed": "sandbox failed: {reason}",
    "ExtensionRegistered": "extension {participant} registered",
    "NextRequested": "{participant} asks for work",
    "ResponsePosted": "response to {request_id}",
    "ResponseStarted": "response to {request_id} begins",
    "ResponseEnded": "response to {request_id} ends",
    "ErrorPosted": "error from {request_id}",
    "ResponseRefused": "response to {request_id} refused",
    "InitErrorPosted": "Init failed",
    "ExtensionInitErrorPosted": "{participant} could not start",
    "ExtensionExitErrorPosted": "{participant} is about to fail",
    "ProcessExited": "{participant} ended{exit}",
    "EntrypointMissing": "no bootstrap found",
    "InvocationAssigned": "invocation {invocation} assigned",
    "DeadlinePassed": "out of time",
    "RetireRequested": "retire: {reason}",
    "ProcessesEnded": "processes ended",
    "ClockAdvanced": "platform time moved on by {seconds} s (provoked)",
    "InitFailureProvoked": "Init made to fail: {failure} (provoked)",
    "CrashProvoked": "crash of {participant} (provoked)",
}
#: What was done about it; None is left out of the timeline (bookkeeping and log lines).
EFFECTS: dict[str, str | None] = {
    "CreateSandbox": "create sandbox",
    "Launch": "launch {participant}",
    "Deliver": "deliver {invocation}",
    "DeliverShutdown": "tell {participant} to shut down",
    "OpenStream": "open the caller's stream",
    "Reply": "reply",
    "SetDeadline": None,
    "ClearDeadline": None,
    "Freeze": "freeze",
    "Thaw": "thaw",
    "LimitCpu": "limit CPU",
    "SignalRuntime": "SIGTERM",
    "KillProcess": "kill {participant}",
    "Terminate": "end processes",
    "Destroy": "destroy sandbox",
    "Announce": None,
    "AnnounceInitFailed": "tell that it failed",
    "ReportInitStart": None,
    "ReportInit": None,
    "ReportStart": None,
    "ReportEnd": None,
    "ReportEntrypoint": None,
    "ReportInitRuntimeDone": None,
    "ReportExtension": None,
    "ReportRuntimeDone": None,
}

_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)
#: Only before a field that a phrase uses does a comma separate: reasons are free text.
_SEPARATOR = re.compile(
    r", (?=(?:invocation|request_id|participant|reason|force|exit|outcome|deadline|seconds|failure)=)"
)
_EXIT = re.compile(r"ExitStatus\(code=(\w+), signal=(\w+), oom=(\w+)(?:, unlaunched='[^']*')?\)")
_UUID = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")

EnvironmentOrFunction = Annotated[
    str, typer.Argument(metavar="ENV", help="an environment: its id, the start of it, or the number at its end; "
                        "or the name of a function, version or alias", show_default=False)
]  # fmt: skip


def story(environment: EnvironmentOrFunction, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Tell the life of one execution environment.

    A timeline of what happened and what was done, then its invocations with durations and cost. Environments that
    ended recently have a story too; --json has every detail. The name of a function, or of a version or alias such as
    hello:7, tells the stories of all of its environments.

    \b
    Examples:
      lambent ps
      lambent story 7
      lambent story hello
    """
    with connect(endpoint) as client:
        told = _told(client, environment)
    if as_json:
        show.data(told)
    elif "environments" in told:
        _tell_function(told)
    else:
        tell(told)


def _told(client: Client, given: str) -> dict[str, Any]:
    """The story of an environment, or else of a function. Raises Stop when there is neither."""
    try:
        return client.story(environment_id(client, given))
    except ApiError as error:
        if error.status != 404:
            raise
    try:
        return _told_of_function(client, given)
    except ApiError as error:
        if error.status not in (400, 404):
            raise
        raise Stop(f"no environment or function {given} is known; lambent ps lists the environments that live",
                   API_ERROR) from None  # fmt: skip


def _told_of_function(client: Client, given: str) -> dict[str, Any]:
    """All lives of a function, or of the versions that are named as `lambent ps` does (hello:7) or by an alias."""
    name, qualifier = split_qualifier(given)
    if qualifier is None:
        return client.function_story(given)
    versions = client.versions(name, qualifier)
    told = client.function_story(name)
    lives = [story for story in told["environments"] if story["version"] in versions]
    return told | {"function_arn": f"{told['function_arn']}:{qualifier}", "throttled": [], "environments": lives}


def _tell_function(told: dict[str, Any]) -> None:
    if told.get("throttled"):
        print(f"throttled {told['function_arn']}, which met no environment (provoked)\n")
        rows = [(row["at"], _UUID.sub(r"\1", row["request_id"]), row["how"]) for row in told["throttled"]]
        show.table(("AT", "INVOCATION", "REASON"), rows)
        print()
    for count, story in enumerate(told["environments"]):
        if count:
            print()
        tell(story)
    if not told["environments"]:
        show.note(f"{told['function_arn']} has had no environment; an invocation makes one")


def tell(told: dict[str, Any]) -> None:
    """The story as the server gives it, on stdout."""
    print(f"environment {told['id']} of {told['function_name']}:{told['version']}, now {told['phase']}")
    if told.get("log_stream"):
        print(f"log stream {told['log_stream']}")
    if told.get("made_ahead"):
        print("initialised in expectation of invocations (--proactive-init)")
    print()
    steps = told.get("steps", ())
    if steps and not steps[0]["event"].startswith("Started"):
        print("(earlier steps are no longer kept)")
    show.table(("AT", "PHASE", "WHAT HAPPENED", "WHAT WAS DONE"), [_step(step) for step in steps], right=("AT",))
    tell_invocations(told.get("invocations", ()))


def tell_invocations(invocations: Sequence[dict[str, Any]]) -> None:
    """The table of invocations, and what they would cost together."""
    if not invocations:
        return
    print()
    columns = ("INVOCATION", "START", "DURATION", "INIT", "BILLED", "MEMORY", "STATUS", "COST")
    rows = [_invocation(invocation) for invocation in invocations]
    show.table(columns, rows, right=("DURATION", "INIT", "BILLED", "MEMORY", "COST"))
    total = sum(invocation.get("cost_usd") or 0.0 for invocation in invocations)
    count = "1 invocation" if len(rows) == 1 else f"{len(rows)} invocations"
    print(f"\n{count}, {show.dollars(total)} on AWS")


def words(call: str, meanings: dict[str, Any]) -> str:
    """`Name(field=value)` in words; the empty string for what is not worth telling."""
    found = _CALL.fullmatch(call)
    name, inside = (found[1], found[2]) if found else (call, "")
    fields = dict(pair.split("=", 1) for pair in _SEPARATOR.split(inside) if "=" in pair)
    if ended := _EXIT.fullmatch(fields.get("exit", "")):
        fields["exit"] = _ending(*ended.groups())
    if call == "Started()":
        fields["ahead"] = " ahead of invocations"
    if name in meanings:
        meaning = meanings[name]
        text = "" if meaning is None else meaning.format_map(_Fields(fields))
    else:
        text = " ".join([re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower(), inside]).strip()
    return _UUID.sub(r"\1", text)


def _ending(code: str, signal: str, oom: str) -> str:
    if oom == "True":
        return ": out of memory"
    return f": exit status {code}" if code != "None" else f": signal {signal}"


class _Fields(dict[str, str]):
    """A field that the journal left out (it said nothing) is left out here too."""

    def __missing__(self, key: str) -> str:
        return ""


def _step(step: dict[str, Any]) -> tuple[str, ...]:
    before, after = step["phase"], step["next"]
    done = [words(effect, EFFECTS) for effect in step["effects"]]
    return (
        "+" + show.milliseconds(step["offset_ms"]),
        before if before == after else f"{before} → {after}",
        words(step["event"], EVENTS),
        ", ".join(text for text in done if text),
    )


def _invocation(invocation: dict[str, Any]) -> tuple[str, ...]:
    return (
        _UUID.sub(r"\1", str(invocation["request_id"])),
        str(invocation.get("start", "-")),
        show.milliseconds(invocation["duration_ms"]),
        _init(invocation),
        f"{invocation['billed_ms']} ms",
        f"{invocation['max_memory_mib']} of {invocation['memory_mib']} MB",
        str(invocation["status"]),
        show.dollars(invocation.get("cost_usd") or 0.0),
    )


def _init(invocation: dict[str, Any]) -> str:
    """`again`: after a reset or an Init that failed it ran inside the invocation, which is in its duration."""
    if invocation.get("init_repeated"):
        return "again"
    init = invocation.get("init_ms")
    return "-" if init is None else show.milliseconds(init)
