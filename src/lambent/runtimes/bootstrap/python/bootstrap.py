"""The managed Python runtime's first program. A script is compiled at every start: the rest is `lambent_start`."""

import os
import sys


def main() -> None:
    runtime = os.path.dirname(os.path.abspath(__file__))
    inherited = sys.path[1:] if sys.path[0] == runtime else sys.path[:]  # no script folder with PYTHONSAFEPATH
    sys.path.insert(0, runtime)
    import lambent_start  # type: ignore[import-not-found]

    awslambdaricmain = lambent_start.start(runtime, inherited, sys.modules[__name__])
    awslambdaricmain.main([os.environ["LAMBDA_TASK_ROOT"], os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
