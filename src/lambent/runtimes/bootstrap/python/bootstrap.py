"""The managed Python runtime's first program: sets the search path as AWS does and runs the official client.

Kept small because a script is compiled at every start, and free of imports that the client does not need.
"""

import gc
import os
import sys


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


def main() -> None:
    runtime = os.path.dirname(os.path.abspath(__file__))
    environ = os.environ
    inherited = sys.path[1:] if sys.path[0] == runtime else sys.path  # no script folder with PYTHONSAFEPATH
    found = search_path(environ["LAMBDA_TASK_ROOT"], "/opt", runtime, inherited)
    # The client first, by a path without the function's code: what a package brings along (a simplejson of its own,
    # say) is not the client's, and each folder before the standard library costs a look per module.
    sys.path[:] = [entry for entry in found[3:] if entry != runtime] + [runtime]
    gc.disable()  # nothing of what follows becomes garbage, and looking for it takes a millisecond
    # Before the official package, since it chooses how that talks.
    from lambent_client import SocketClient, keep_records_whole  # type: ignore[import-not-found]

    from awslambdaric import bootstrap  # type: ignore[import-not-found] # isort: skip

    gc.enable()
    sys.path[:] = found
    import site

    if sys.flags.no_site:
        site.setquit()
        site.setcopyright()
        site.sethelper()
    for folder in found[:3]:
        if os.path.isdir(folder):
            site.addsitedir(folder)  # for the .pth files of packages
    keep_records_whole(bootstrap.StandardLogSink)
    bootstrap.run(environ["_HANDLER"], SocketClient(environ["AWS_LAMBDA_RUNTIME_API"]))


if __name__ == "__main__":
    main()
