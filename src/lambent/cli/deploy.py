"""`lambent deploy`: from a folder to a function that can be invoked. The package itself is made by `package`."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from lambent import settings
from lambent.cli import exits, show
from lambent.cli.exits import Stop
from lambent.cli.options import AsJson, Endpoint, connect
from lambent.cli.package import Package, build
from lambent.client import Client
from lambent.control.configuration import check_variables
from lambent.control.rules import check_settings
from lambent.control.shapes import Structure, shape
from lambent.control.validate import judge
from lambent.errors import ApiError
from lambent.runtimes.catalog import CATALOG

#: The server takes any role; this one says that nobody looked at it.
ROLE = "arn:aws:iam::000000000000:role/lambent"
#: A first function of a runtime waits for its client and SDK to be installed.
READY_TIMEOUT_S = 600.0
POLL_S = 0.1


def deploy(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="the folder with the function's code", show_default=False)
    ],
    handler: Annotated[str | None, typer.Option("--handler", metavar="TEXT", help="as in app.handler")] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", metavar="ID", help="as in python3.12, nodejs22.x, provided.al2023")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="default: the folder's name")] = None,
    url: Annotated[bool, typer.Option("--url", help="give it a function URL that anyone may call")] = False,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="K=V", help="environment variable; repeat it for more. "
                                       "Those given replace all that the function has")
    ] = None,
    memory: Annotated[int | None, typer.Option("--memory", metavar="MB", help="128 to 10240  [default: 128]")] = None,
    timeout: Annotated[
        int | None, typer.Option("--timeout", metavar="SECONDS", help="1 to 900  [default: 3]")
    ] = None,
    ephemeral: Annotated[
        int | None, typer.Option("--ephemeral", metavar="MB", help="size of /tmp, 512 to 10240  [default: 512]")
    ] = None,
    reinstall: Annotated[
        bool, typer.Option("--reinstall", help="install packages anew, though what asks for them has not changed")
    ] = False,
    endpoint: Endpoint = None,
    as_json: AsJson = False,
) -> int:
    """Create or update a function from a folder.

    requirements.txt (python) and package.json (nodejs) are installed into the package, not into your folder.
    What was installed for the same requirements or the same package.json before is taken again.

    Deploying again updates the function; --handler, --runtime and the rest keep their values if not given.
    The exit code is 1 when the function cannot be made ready.

    \b
    Examples:
      lambent deploy hello/ --handler app.handler --runtime python3.12 --url
      lambent deploy hello/
      lambent deploy api/ --name api-dev --handler index.handler --runtime nodejs22.x --env STAGE=dev --memory 512
    """
    name = name or name_of(folder)
    wanted = _wanted(handler, runtime, env, memory, timeout, ephemeral)
    with connect(endpoint) as client:
        with exits.tidy_when_terminated():
            deployed = deploy_folder(client, folder, name, wanted, reinstall=reinstall)
        address = client.open_url(name) if url else client.url(name)
        _tell(client, deployed, address, as_json)
    if str(deployed.configuration.get("Runtime")).startswith("provided"):
        _warn_of_bootstrap(folder / "bootstrap")
    return exits.OK


@dataclass(frozen=True, slots=True)
class Deployed:
    """A function that can be invoked."""

    configuration: dict[str, Any]
    what: str  #: created, updated (...), unchanged
    package: Package


def deploy_folder(client: Client, folder: Path, name: str, wanted: Mapping[str, Any], *,
                  reinstall: bool = False) -> Deployed:
    """Create or update a function from a folder and wait until it is ready. `wanted` has members of CreateFunction.

    Raises Stop, in one line, when that cannot be, and ApiError for values that the API does not take.
    """
    present = _present(client, name)
    if present is None and not (wanted.get("Handler") and wanted.get("Runtime")):
        raise Stop(f"{name} is new: give --handler and --runtime, as in --handler app.handler --runtime python3.12")
    _refuse_early(name, wanted, new=present is None)
    runtime = wanted.get("Runtime") or (present or {}).get("Runtime")
    cache_dir = settings.load({}).cache_dir
    with show.waiting(f"packing {folder}"), tempfile.TemporaryDirectory(prefix="lambent-deploy-") as scratch:
        package = build(folder, str(runtime), Path(scratch), settings.inherited_environment(), cache_dir=cache_dir,
                        reinstall=reinstall)
    with show.waiting(f"deploying {name}"):
        ready, what = _apply(client, name, wanted, package, present)
    if (trouble := _trouble(ready)) is not None:
        raise Stop(f"{name}: {trouble}", exits.FUNCTION_FAILED)
    return Deployed(ready, what, package)


def name_of(folder: Path) -> str:
    """The function's name when none is given."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "function"


def _wanted(handler: str | None, runtime: str | None, env: list[str] | None, memory: int | None, timeout: int | None,
            ephemeral: int | None) -> dict[str, Any]:
    """The members of CreateFunction that were asked for."""
    wanted: dict[str, Any] = {"Handler": handler, "Runtime": runtime, "MemorySize": memory, "Timeout": timeout}
    if env:
        wanted["Environment"] = {"Variables": dict(_variable(pair) for pair in env)}
    if ephemeral is not None:
        wanted["EphemeralStorage"] = {"Size": ephemeral}
    return {member: value for member, value in wanted.items() if value is not None}


def _refuse_early(name: str, wanted: Mapping[str, Any], *, new: bool) -> None:
    """Raise the ApiError that the server would answer with, before anything is installed and packed for nothing."""
    _check_runtime(str(wanted.get("Runtime", "")))
    request = shape("CreateFunctionRequest" if new else "UpdateFunctionConfigurationRequest")
    assert isinstance(request, Structure)
    judge(request, {"FunctionName": name, **({"Role": ROLE, "Code": {}} if new else {}), **wanted})
    check_settings(wanted)
    if "Environment" in wanted:
        check_variables(wanted["Environment"]["Variables"])


def _check_runtime(given: str) -> None:
    """The API lists all runtimes; to a person who mistyped one, the nearest tells more. Raises Stop."""
    runnable = [name for name, entry in CATALOG.items() if entry.unsupported is None]
    if given not in CATALOG and (close := get_close_matches(given, runnable, 1)):
        raise Stop(f"there is no runtime {given!r}; did you mean {close[0]!r}?")


def _variable(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise Stop(f"--env: {pair!r} is not of the form K=V")
    return name, value


def _present(client: Client, name: str) -> dict[str, Any] | None:
    try:
        return client.configuration(name)
    except ApiError as error:
        if error.status != 404:
            raise
        return None


def _apply(client: Client, name: str, wanted: Mapping[str, Any], package: Package,
           present: dict[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Make the function as wanted, wait until it is settled, and say what was done."""
    if present is None:
        client.create_function({"FunctionName": name, "Role": ROLE, "Code": {"ZipFile": package.content}, **wanted})
        return _settled(client, name), "created"
    present = _settled(client, name)
    done = []
    if _differs(wanted, present):
        client.update_configuration(name, wanted)
        present = _settled(client, name)
        done.append("configuration")
    # A function that failed is made again from the same code: what it lacked may be there now.
    if present.get("CodeSha256") != _sha256(package.content) or _trouble(present) is not None:
        client.update_code(name, package.content)
        present = _settled(client, name)
        done.append("code")
    return present, f"updated ({' and '.join(reversed(done))})" if done else "unchanged"


def _differs(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    return any(present.get(member) != value for member, value in wanted.items())


def _sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _settled(client: Client, name: str) -> dict[str, Any]:
    """The configuration once nothing is pending, as AWS's waiters do it. Raises Stop after READY_TIMEOUT_S."""
    for _ in range(int(READY_TIMEOUT_S / POLL_S)):
        configuration = client.configuration(name)
        if configuration.get("State") != "Pending" and configuration.get("LastUpdateStatus") != "InProgress":
            return configuration
        time.sleep(POLL_S)
    raise Stop(f"{name} is still being prepared after {READY_TIMEOUT_S:g} s", exits.API_ERROR)


def _trouble(configuration: Mapping[str, Any]) -> str | None:
    """Why the function cannot run as deployed; None when it can."""
    if configuration.get("State") == "Failed":
        return f"Failed: {configuration.get('StateReason', 'no reason given')}"
    if configuration.get("LastUpdateStatus") == "Failed":
        return f"the update failed: {configuration.get('LastUpdateStatusReason', 'no reason given')}"
    return None


def _tell(client: Client, deployed: Deployed, address: str | None, as_json: bool) -> None:
    ready, what, package = deployed.configuration, deployed.what, deployed.package
    if as_json:
        show.data({"function": ready, "action": what, "url": address,
                   "curl": curl(client.endpoint, address) if address else None})  # fmt: skip
        return
    contents = f"{package.files} file{'s' * (package.files != 1)}, {show.file_size(len(package.content))}"
    if package.installed:
        contents += f", with {' and '.join(package.installed)}"
    figures = f"{ready.get('MemorySize', '-')} MB  {ready.get('Timeout', '-')} s"
    print(f"{ready['FunctionName']}  {what}  {ready.get('State', '-')}  {ready.get('Runtime', '-')}  "
          f"{ready.get('Handler', '-')}  {figures}  ({contents})")
    if address:
        print(f"url   {address}")
        print(f"curl  {curl(client.endpoint, address)}")


def _warn_of_bootstrap(path: Path) -> None:
    """Lambda passes over one that cannot be executed, and only an invocation would say that there is none."""
    if path.is_file() and not path.stat().st_mode & 0o111:
        show.note(f"{path} is not executable, so Lambda will not start it: chmod +x, and deploy again")


def curl(endpoint: str, address: str) -> str:
    """A command that works where names below localhost do not resolve: the server by address, the URL as Host."""
    return f"curl -H 'Host: {urlsplit(address).netloc}' {endpoint}/"
