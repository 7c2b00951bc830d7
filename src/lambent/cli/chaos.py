"""`lambent chaos`: recycle, fail, crash, throttle and age on request. What it does stands in `frontend.chaos`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from lambent.cli import show
from lambent.cli.exits import Stop
from lambent.cli.groups import Group
from lambent.cli.options import (
    AsJson,
    DataDir,
    Endpoint,
    EnvironmentId,
    FunctionName,
    Token,
    connect,
    environment_id,
    no_such_environment,
    read_token,
)
from lambent.client import Client
from lambent.errors import ApiError

_HELP = """Provoke what cannot be waited for.

What goes wrong is what goes wrong on AWS, with AWS's words for the caller; lambent story says that it was provoked.

\b
Examples:
  lambent chaos fail-init hello                 the next cold start of hello fails
  lambent chaos throttle hello --times 3        three calls get 429
  lambent chaos crash 7                         kill the runtime of environment 7
  lambent chaos advance 5h                      let five hours of platform time pass
  lambent chaos show                            what is armed
  lambent chaos clear
"""

chaos = typer.Typer(name="chaos", cls=Group, help=_HELP, add_completion=False, rich_markup_mode=None,
                    pretty_exceptions_enable=False)  # fmt: skip
Times = Annotated[
    int | None, typer.Option("--times", metavar="N", help="how many calls  [default: until it is cleared]", min=1,
                             show_default=False)
]


@chaos.command()
def recycle(
    environment: Annotated[
        str | None, typer.Argument(metavar="ENV", help="id of an environment, its start, or the number at its end",
                                   show_default=False)
    ] = None,
    function: Annotated[
        str | None, typer.Option("--function", metavar="NAME", help="all environments of this function")
    ] = None,
    endpoint: Endpoint = None, data_dir: DataDir = None, token: Token = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """End an environment, or all of a function.

    AWS does so now and then. Each goes through its Shutdown phase, a running invocation first; the next invocation is
    cold.

    \b
    Examples:
      lambent chaos recycle 7
      lambent chaos recycle --function hello
    """
    if (environment is None) == (function is None):
        raise Stop("name an environment, or a function with --function")
    with _provoking(endpoint, token, data_dir, environment) as client:
        found = environment_id(client, environment) if environment is not None else None
        answer = client.provoke("recycle", environment=found, function=function)
    _tell_retired(answer, as_json)


@chaos.command("fail-init")
def fail_init(
    name: FunctionName,
    failure: Annotated[
        str, typer.Option("--failure", metavar="HOW", help="exit, timeout, or the error type of a runtime, such as "
                          "Runtime.ImportModuleError")
    ] = "exit",
    times: Annotated[
        int, typer.Option("--times", metavar="N", help="how many Inits fail; each counts, also the second one of a "
                          "cold start", min=1)
    ] = 2,
    endpoint: Endpoint = None, data_dir: DataDir = None, token: Token = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Let the next Init of a function fail.

    As on AWS, an Init that failed is run once more inside the invocation, and the caller is told of that one: with
    --times 1 the caller has a slow success and the log an INIT_REPORT, with --times 2 the caller has the error.

    \b
    Examples:
      lambent chaos fail-init hello
      lambent chaos fail-init hello --failure Runtime.ImportModuleError
      lambent chaos fail-init hello --failure timeout --times 1
    """
    with _provoking(endpoint, token, data_dir) as client:
        answer = client.provoke("init-failures", function=name, failure=failure, times=times)
    if as_json:
        show.data(answer)
    else:
        print(f"the next {_count(times, 'Init')} of {name} will fail: {failure}")


@chaos.command()
def crash(
    environment: EnvironmentId,
    extension: Annotated[
        str | None, typer.Option("--extension", metavar="NAME", help="an external extension instead of the runtime")
    ] = None,
    endpoint: Endpoint = None, data_dir: DataDir = None, token: Token = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Kill the runtime of an environment now.

    It may be frozen or at work. The environment is reset: the sandbox, /tmp and the log stream stay, memory is lost,
    and the next invocation runs Init again.

    \b
    Examples:
      lambent chaos crash 7
      lambent chaos crash 7 --extension agent
    """
    with _provoking(endpoint, token, data_dir, environment) as client:
        answer = client.provoke("crash", environment=environment_id(client, environment), participant=extension)
    if as_json:
        show.data(answer)
    else:
        print(f"killed the {answer['participant']} of {answer['environment']} (phase {answer['phase']})")


@chaos.command()
def advance(
    duration: Annotated[str, typer.Argument(metavar="DURATION", help="such as 30s, 10m, 5h, 1d or 1h30m",
                                            show_default=False)],
    endpoint: Endpoint = None, data_dir: DataDir = None, token: Token = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Let platform time pass at once.

    What that retires is shown. Keep-alive, maximum age and retention read platform time, and so do timestamps. Clocks
    inside environments do not move, nor do timeouts. Platform time does not go back before the server is started again.

    \b
    Examples:
      lambent chaos advance 5h
      lambent chaos advance 1h30m --json
    """
    seconds = show.seconds(duration)
    if seconds is None:
        raise Stop(f"{duration!r} is no duration such as 30s, 10m, 5h, 1d or 1h30m")
    with _provoking(endpoint, token, data_dir) as client:
        answer = client.provoke("advance", seconds=seconds)
    if not as_json:
        print(f"platform time is {answer['time']}, {show.duration(answer['offset_s'])} ahead")
    _tell_retired(answer, as_json)


@chaos.command()
def throttle(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="name or ARN", show_default=False)] = None,
    all_functions: Annotated[bool, typer.Option("--all", help="every function")] = False,
    times: Times = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="REASON", help="AWS's word for why  "
                                 "[default: ConcurrentInvocationLimitExceeded]")
    ] = None,
    endpoint: Endpoint = None, data_dir: DataDir = None, token: Token = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Answer invocations with 429.

    TooManyRequestsException, for --times calls or until it is cleared. SDKs try a throttled call again by themselves,
    and each try counts.

    \b
    Examples:
      lambent chaos throttle hello --times 3
      lambent chaos throttle --all --reason CallerRateLimitExceeded
    """
    if (name is None) is not all_functions:
        raise Stop("name a function, or say --all")
    with _provoking(endpoint, token, data_dir) as client:
        answer = client.provoke("throttles", function=name, times=times, reason=reason)
    if as_json:
        show.data(answer)
    else:
        how_long = "until it is cleared (lambent chaos clear)"
        if times:
            how_long = "for one call" if times == 1 else f"for {times} calls"
        print(f"{name or 'every function'} is throttled {how_long}")


@chaos.command("show")
def show_(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Show what is armed and what was provoked.

    \b
    Example:
      lambent chaos show
    """
    with connect(endpoint) as client:
        state = client.chaos()
    if as_json:
        show.data(state)
        return
    print(f"platform time is {state['time']}, {show.duration(state['offset_s'])} ahead")
    _tell_rows("armed", ("WHAT", "FUNCTION", "HOW", "LEFT"), [
        (row["what"], row["function"] or "(all)", row["how"], str(row["left"] or "until cleared"))
        for row in state["armed"]
    ])  # fmt: skip
    _tell_rows("provoked lately", ("AT", "WHAT", "FUNCTION", "HOW", "MET"), [
        (row["at"], row["what"], row["function"], row["how"], row.get("environment") or row.get("request_id", ""))
        for row in state["provoked"]
    ])  # fmt: skip


@chaos.command()
def clear(
    function: Annotated[
        str | None, typer.Option("--function", metavar="NAME", help="only what is armed for this function")
    ] = None,
    endpoint: Endpoint = None, data_dir: DataDir = None, token: Token = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Disarm everything. Platform time stays where it is.

    \b
    Example:
      lambent chaos clear
    """
    with _provoking(endpoint, token, data_dir) as client:
        answer = client.clear_chaos(function)
    if as_json:
        show.data(answer)
    else:
        print(f"cleared {answer['cleared']}" if answer["cleared"] else "nothing was armed")


@contextmanager
def _provoking(endpoint: str | None, token: str | None, data_dir: Any, environment: str | None = None
               ) -> Iterator[Client]:  # fmt: skip
    """A client with the token. An environment that nobody knows is told in words that help."""
    with connect(endpoint, read_token(token, data_dir)) as client:
        try:
            yield client
        except ApiError as error:
            if environment is None:
                raise
            raise no_such_environment(error, environment) from None


def _tell_retired(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show.data(answer)
        return
    for row in answer["retired"]:
        then = ", once its invocation is over" if row["busy"] else ""
        print(f"retired {row['id']} of {row['function_name']}:{row['version']}: {row['reason']}{then}")
    if not answer["retired"]:
        show.note("no environment was retired")


def _tell_rows(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print()
    if rows:
        print(f"{title}:")
        show.table(columns, rows)
    else:
        print(f"{title}: nothing")


def _count(number: int, noun: str) -> str:
    return noun if number == 1 else f"{number} {noun}s"
