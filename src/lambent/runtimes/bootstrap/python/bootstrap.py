"""The managed Python runtime's first program: sets the search path as AWS does and runs the official client.

Kept small because a script is compiled at every start, and free of imports that the client does not need.
"""

import gc
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def search_path(task: str, opt: str, runtime: str, inherited: "list[str]") -> "list[str]":
    """The module search path: the function's code, its layers, then what the interpreter found by itself."""
    minor = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    hidden = ("/site-packages", "/dist-packages")
    kept = [
        entry
        for entry in inherited
        if not (entry.endswith(hidden) and entry.startswith((sys.prefix, sys.base_prefix)))
    ]
    first = [task, opt + "/python/lib/" + minor + "/site-packages", opt + "/python"]
    if runtime not in kept:
        kept.append(runtime)
    return first + [entry for entry in kept if entry not in first]


def open_image(runtime: str) -> "Any":
    """What the next imports come from; None where only the files themselves will do."""
    from start_image import Image  # type: ignore[import-not-found]

    try:
        image = Image(runtime)
    except OSError:
        return None
    image.install()
    return image


def has_path_files(folder: str) -> bool:
    """Whether packages in this folder ask for more by .pth files; `site` takes half a millisecond to find none."""
    try:
        return any(name.endswith(".pth") for name in os.listdir(folder))
    except OSError:
        return False


def warm_up(bootstrap: "Any") -> None:
    """While nobody waits: the compiler, the folders of the standard library and the way of a call are used once, which
    takes a millisecond off the function's start."""
    import contextlib

    with contextlib.suppress(ImportError):  # there is no such module, and so every folder is looked at
        import lambent_warm_up  # type: ignore[import-not-found]  # noqa: F401
    code = compile("def handler(event, context):\n    return {'a': f'{event}'}\n", "<warm-up>", "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    bootstrap.to_json(names["handler"](bootstrap.json.loads('{"a": [1, "b", null]}'), None))


def wait_for_orders() -> None:
    """A parked blank goes no further until it is known whose runtime it is: its input then brings the environment."""
    parts = []
    while part := os.read(0, 65536):
        parts.append(part)
    if not parts:
        sys.exit(0)  # nobody will need this one
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    coerced = os.environ.get("LC_CTYPE")  # set by the interpreter where the host lacks the locale (PEP 538)
    os.environ.clear()
    for row in os.fsdecode(b"".join(parts)).split("\0"):
        name, _, value = row.partition("=")
        os.environ[name] = value
    if coerced is not None:
        os.environ.setdefault("LC_CTYPE", coerced)
    time.tzset()
    os.chdir(os.environ["LAMBDA_TASK_ROOT"])


def main() -> None:
    runtime = os.path.dirname(os.path.abspath(__file__))
    environ = os.environ
    inherited = sys.path[1:] if sys.path[0] == runtime else sys.path  # no script folder with PYTHONSAFEPATH
    found = search_path(environ["LAMBDA_TASK_ROOT"], "/opt", runtime, inherited)
    # The client first, by a path without the function's code: what a package brings along (a simplejson of its own,
    # say) is not the client's, and each folder before the standard library costs a look per module.
    sys.path[:] = [entry for entry in found[3:] if entry != runtime] + [runtime]
    gc.disable()  # nothing of what follows becomes garbage, and looking for it takes a millisecond
    image = open_image(runtime)
    import code_image  # type: ignore[import-not-found]

    # Before the official package, since it chooses how that talks.
    from lambent_client import SocketClient, keep_records_whole  # type: ignore[import-not-found]

    from awslambdaric import bootstrap  # type: ignore[import-not-found] # isort: skip

    import site

    if image is not None:
        image.remove()
    if sys.flags.no_site:
        site.setquit()
        site.setcopyright()
        site.sethelper()
    client = SocketClient(environ["AWS_LAMBDA_RUNTIME_API"])
    if "LAMBENT_PARKED" in environ:
        warm_up(bootstrap)
        gc.freeze()  # none of this will be garbage, nor need it be looked at
        wait_for_orders()
        if "AWS_LAMBDA_LOG_FORMAT" in environ or "AWS_LAMBDA_LOG_LEVEL" in environ:  # which are read at the import
            import importlib

            importlib.reload(bootstrap)
    gc.enable()
    sys.path[:] = found
    code_image.install(runtime)
    for folder in found[:3]:
        if has_path_files(folder):
            site.addsitedir(folder)
    keep_records_whole(bootstrap.StandardLogSink)
    bootstrap.run(environ["_HANDLER"], client)


if __name__ == "__main__":
    main()
