"""What holds for the whole test suite: how it may be started, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
from tests import leftovers

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("lambent", deadline=None)
hypothesis.settings.load_profile("lambent")

# A shell starts background jobs with SIGINT ignored, and children inherit that: Ctrl-C, which some tests send to the
# programs that they start, would do nothing there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_MARK = leftovers.mark()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lists of mounts, control groups and processes of this run are the same after as before."""
    run = leftovers.Run(_MARK, (f"{tmp_path_factory.getbasetemp()}/", f"/lambent-test-{os.getpid()}-"))
    before = run.listings()
    yield
    left = {name: sorted(found - before[name]) for name, found in run.listings().items()}
    assert not any(left.values()), f"the test suite left behind: {left}"
