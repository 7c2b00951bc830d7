"""`lambent ps` and `lambent retire`: the execution environments that live now."""

from __future__ import annotations

from typing import Any

from lambent.cli import show
from lambent.cli.options import (
    AsJson,
    DataDir,
    Endpoint,
    EnvironmentId,
    Token,
    connect,
    environment_id,
    no_such_environment,
    read_token,
)
from lambent.clock import Clock
from lambent.errors import ApiError


def ps(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List the execution environments.

    FROZEN is read back from the kernel: a frozen environment gets no CPU until its next invocation. MEMORY is what is
    charged to it; PSS is what its processes have, a page that others have too counted in parts.

    \b
    Examples:
      lambent ps
      lambent ps --json | jq -r '.[] | select(.frozen) | .id'
    """
    with connect(endpoint) as client:
        environments = client.environments(pss=True)
        now = _now(client.health())
    if as_json:
        show.data(environments)
    elif not environments:
        show.note("no environments; an invocation makes one")
    else:
        columns = ("ID", "FUNCTION", "PHASE", "FROZEN", "AGE", "IDLE", "INVOCATIONS", "MEMORY", "PSS")
        rows = [_row(environment, now) for environment in environments]
        show.table(columns, rows, right=("AGE", "IDLE", "INVOCATIONS", "MEMORY", "PSS"))


def _now(health: dict[str, Any]) -> float:
    """Platform time, which may be ahead of ours (`lambent chaos advance`)."""
    return show.epoch(str(health.get("time", ""))) or Clock().wall()


def _row(environment: dict[str, Any], now: float) -> tuple[str, ...]:
    idle = environment["phase"] == "idle" and environment.get("last_used_at")
    return (
        str(environment["id"]),
        f"{environment['function_name']}:{environment['version']}",
        str(environment["phase"]),
        "yes" if environment["frozen"] else "no",
        show.duration(now - show.epoch(environment["created_at"])),
        show.duration(now - show.epoch(environment["last_used_at"])) if idle else "-",
        str(environment["invocations"]),
        show.mebibytes(environment.get("memory_bytes")),
        show.mebibytes(environment.get("pss_bytes")),
    )


def retire(
    environment: EnvironmentId,
    endpoint: Endpoint = None,
    data_dir: DataDir = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """End an execution environment.

    It goes through its Shutdown phase; a running invocation is finished first. The next invocation may be cold.

    \b
    Example:
      lambent retire 7
    """
    with connect(endpoint, read_token(token, data_dir)) as client:
        found = environment_id(client, environment)
        try:
            client.retire(found)
        except ApiError as error:
            raise no_such_environment(error, environment) from None
    if as_json:
        show.data({"retired": found})
    else:
        print(f"retired {found}")
