"""Compiles the sources of a package by the interpreter that will run them. Runs in a sandbox of its own, where the
package stands as it will for the function: it is anybody's, and may be made to crash a compiler or worse.

What comes out goes to standard output, one record per module: length of the path (2 bytes) and of the code (4), path,
marshalled code. `worker/codes.py` reads it. A compiler that ends half way has still said what it had.
"""

import _frozen_importlib_external as machinery
import marshal
import os
import resource
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Larger sources are left to those who import them: tables, mostly, or somebody's try to fill the memory.
MOST_SOURCE_BYTES = 1 << 20
#: Of the processor's time, for all of a package: several times what the largest takes.
MOST_CPU_S = 60


def sources(root: str) -> "Iterator[str]":
    """Files that an import could find, in the order of their names."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            path = f"{folder}/{name}"
            if name.endswith(".py") and os.path.getsize(path) <= MOST_SOURCE_BYTES:
                yield path


def byte_code(path: str) -> "bytes | None":
    """What an import of this file would execute; None where it would fail, or say something."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            # The loader knows when byte code that the package brings along counts.
            code = machinery.SourceFileLoader("module", path).get_code("module")
            return None if said or code is None else marshal.dumps(code)
        except Exception:  # whatever it is, the one who imports it is told
            return None


def main(root: str) -> None:
    output = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 5))  # ended by SIGXCPU, which says why
    sys.dont_write_bytecode = True
    with os.fdopen(output, "wb") as records:
        for path in sources(root):
            try:
                name = path.encode()
            except UnicodeEncodeError:
                continue
            code = byte_code(path)
            if code is not None:
                records.write(len(name).to_bytes(2, "little") + len(code).to_bytes(4, "little") + name + code)
                records.flush()


if __name__ == "__main__":
    main(sys.argv[1])
