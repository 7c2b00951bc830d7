"""What `testing.server` runs: `lambent up` that ends when its standard input does.

However pytest ends, the kernel closes the pipe, and the server goes with all of its environments.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from lambent.cli.main import run


def main() -> int:
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    return run(["up", *sys.argv[1:]])


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
