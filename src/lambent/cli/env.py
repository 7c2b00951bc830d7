"""`lambent env`: shell exports that make boto3, the AWS CLI and other tools talk to this server."""

from __future__ import annotations

from typing import Annotated

import typer

from lambent import settings
from lambent.cli import show
from lambent.cli.options import AsJson, Endpoint, connect


def env(
    endpoint: Endpoint = None,
    region: Annotated[
        str | None, typer.Option("--region", metavar="NAME", help="default: that of LAMBENT_REGION, or us-east-1",
                                 show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the exports that point AWS tools at this server.

    Lambent's own commands follow them too.
    The keys are placeholders: the server takes any, and your real ones stay out of the way.

    \b
    Example:
      eval "$(lambent env)"
      aws lambda list-functions
    """
    url = connect(endpoint).endpoint
    region = settings.load({"region": region}).region
    variables = {
        "LAMBENT_ENDPOINT": url,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "lambent",
        "AWS_SECRET_ACCESS_KEY": "lambent",
        # Else some operations (StartLiveTail) go to stream-127.0.0.1, which nobody resolves.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    }
    if as_json:
        show.data(variables)
        return
    for name, value in variables.items():
        print(f"export {name}={value}")
