"""`lambent functions` and `lambent delete`."""

from __future__ import annotations

from lambent.cli import show
from lambent.cli.options import AsJson, Endpoint, FunctionName, connect


def functions(endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """List the functions.

    \b
    Examples:
      lambent functions
      lambent functions --json | jq -r '.[].FunctionName'
    """
    with connect(endpoint) as client:
        found = list(client.functions())
    if as_json:
        show.data(found)
    elif not found:
        show.note("no functions yet; lambent deploy makes one")
    else:
        columns = ("NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "CODE", "MODIFIED")
        show.table(columns, [_row(function) for function in found], right=("MEMORY", "TIMEOUT", "CODE"))


def _row(function: dict[str, object]) -> tuple[str, ...]:
    size = function.get("CodeSize")
    return (
        str(function.get("FunctionName", "-")),
        str(function.get("Runtime", "-")),
        str(function.get("Handler", "-")),
        f"{function.get('MemorySize', '-')} MB",
        f"{function.get('Timeout', '-')} s",
        show.file_size(size) if isinstance(size, int) else "-",
        str(function.get("LastModified", "-")),
    )


def delete(name: FunctionName, endpoint: Endpoint = None, as_json: AsJson = False) -> None:
    """Delete a function.

    Its environments are retired and its URL is gone; its logs stay.

    \b
    Example:
      lambent delete hello
    """
    with connect(endpoint) as client:
        client.delete_function(name)
    if as_json:
        show.data({"deleted": name})
    else:
        print(f"deleted {name}")
