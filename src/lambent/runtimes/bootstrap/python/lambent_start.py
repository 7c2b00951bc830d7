"""How the managed Python runtime starts: the search path as AWS sets it, the start image, a parked blank's wait.

Free of imports that the way to the handler does not need: each costs every cold start.
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


def has_path_files(folder: str) -> bool:
    """Whether packages in this folder ask for more by .pth files; `site` takes half a millisecond to find none."""
    try:
        return any(name.endswith(".pth") for name in os.listdir(folder))
    except OSError:
        return False


def warm_up(loop: "Any") -> None:
    """While nobody waits: what functions import most, the compiler, the folders of the standard library and the way of
    a call are used once, which takes some milliseconds off the function's start."""
    loop.load_official()
    import contextlib

    with contextlib.suppress(ImportError):  # there is no such module, and so every folder is looked at
        import lambent_warm_up  # type: ignore[import-not-found]  # noqa: F401
    code = compile("def handler(event, context):\n    return {'a': f'{event}'}\n", "<warm-up>", "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    loop.official.to_json(names["handler"](loop.official.json.loads('{"a": [1, "b", null]}'), None))


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


def start(runtime: str, inherited: "list[str]", bootstrap: "Any") -> "Any":
    """A module whose `main` serves invocations until the process is ended: what `awslambdaric.__main__` is on AWS.

    `inherited` is the interpreter's own search path, `bootstrap` the first program, which a wrapper may have imported.
    Nothing of this stands under the handler in a stack trace.
    """
    environ = os.environ
    found = search_path(environ["LAMBDA_TASK_ROOT"], "/opt", runtime, inherited)
    # The client first, by a path without the function's code: what a package brings along (a simplejson of its own,
    # say) is not the client's, and each folder before the standard library costs a look per module.
    sys.path[:] = [entry for entry in found[3:] if entry != runtime] + [runtime]
    gc.disable()  # nothing of what follows becomes garbage, and looking for it takes a millisecond
    import start_image  # type: ignore[import-not-found]

    image = start_image.install(runtime, sys.path[:])
    import site

    import code_image  # type: ignore[import-not-found]
    import lambent_client  # type: ignore[import-not-found]
    import lambent_loop  # type: ignore[import-not-found]

    if sys.flags.no_site:
        site.setquit()
        site.setcopyright()
        site.sethelper()
    loop = lambent_loop.Loop(lambent_client.SocketClient(environ["AWS_LAMBDA_RUNTIME_API"]), image)
    # As AWS's own first program has it: Sentry's SDK, for one, looks there for what it replaces.
    imported = ("json", "logging", "site", "time", "traceback", "warnings")
    start_image.provide(bootstrap, {"awslambdaricmain": "awslambdaric.__main__", **{name: name for name in imported}})
    if "LAMBENT_PARKED" in environ:
        warm_up(loop)
        gc.freeze()  # none of this will be garbage, nor need it be looked at
        wait_for_orders()
        if "AWS_LAMBDA_LOG_FORMAT" in environ or "AWS_LAMBDA_LOG_LEVEL" in environ:  # which are read at the import
            import importlib

            importlib.reload(loop.official)
    if image is None or "collections" in sys.modules:
        # Nobody tells of imports, or a `sitecustomize` has imported what was to be told of.
        loop.load_official()
    gc.enable()
    sys.path[:] = found
    code_image.install(runtime)
    for folder in found[:3]:
        if has_path_files(folder):
            site.addsitedir(folder)
    for name in ("start_image", "code_image"):  # a package may have modules of these names
        del sys.modules[name]
    module = loop.module()
    if image is not None:
        image.close()
    return module
