"""The options that several commands share, and how they become a client."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lambent import settings
from lambent.cli.exits import API_ERROR, Stop
from lambent.client import DEFAULT_ENDPOINT, Client
from lambent.errors import ApiError

Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL",
                 help=f"the server to talk to  [variable: LAMBENT_ENDPOINT; default: {DEFAULT_ENDPOINT}]"),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
FunctionName = Annotated[str, typer.Argument(metavar="NAME", help="name or ARN", show_default=False)]
EnvironmentId = Annotated[
    str,
    typer.Argument(metavar="ENV", help="id of an environment, its start, or the number at its end", show_default=False),
]
Token = Annotated[
    str | None, typer.Option("--token", metavar="TEXT", help="the server's token  [variable: LAMBENT_TOKEN]")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="the server's data directory, where the file `token` lies",
                 show_default=False),
]  # fmt: skip


def endpoint_url(endpoint: str | None) -> str:
    return endpoint or settings.client_endpoint() or DEFAULT_ENDPOINT


def connect(endpoint: str | None, token: str | None = None) -> Client:
    """A client for the option, the variable or the default. Raises BadEndpoint."""
    return Client(endpoint_url(endpoint), token=token)


def read_token(token: str | None, data_dir: Path | None) -> str:
    """The token as given, or from the data directory. Raises Stop when it cannot be read."""
    token = token or settings.client_token()
    if token:
        return token
    path = settings.load({"data_dir": data_dir}).data_dir / "token"
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a token"
        raise Stop(f"cannot read {path}: {reason}; name the server's --data-dir, or give --token") from None


def environment_id(client: Client, given: str) -> str:
    """The id of the living environment that begins with `given` or has it as its number (`7` of `3f9a00-7`).

    Or `given` itself when there is none: ended environments have stories too.
    """
    ids = [environment["id"] for environment in client.environments()]
    matching = [known for known in ids if known.rpartition("-")[2] == given]
    matching = matching or [known for known in ids if known.startswith(given)]
    if given in ids or not matching:
        return given
    if len(matching) > 1:
        raise Stop(f"{given!r} is the start of {len(matching)} environments: {', '.join(matching[:5])}")
    return str(matching[0])


def no_such_environment(error: ApiError, given: str) -> Stop | ApiError:
    """The answer for an id that nobody has, in words that help; every other error as it is."""
    if error.status != 404:
        return error
    return Stop(f"no environment {given} is known; lambent ps lists those that live", API_ERROR)
