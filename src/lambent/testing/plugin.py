"""The pytest plugin: the fixtures `lambent` and `lambent_server`. Registered as an entry point in pyproject.toml.

Loaded at every start of pytest, also where no test wants it: everything but pytest is imported inside the fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lambent.testing.platform import Lambent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("lambent_flags", "flags of `lambent up` for the server that the fixture `lambent` starts",
                  type="args", default=[])  # fmt: skip


@pytest.fixture(scope="session")
def lambent_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lambent]:
    """A running platform for the whole session, with a data directory of its own, ended in the end.

    For fixtures that deploy once for many tests. Tests themselves want `lambent`.
    """
    from lambent.testing.platform import Lambent
    from lambent.testing.server import Server

    server = Server(tmp_path_factory.mktemp("lambent") / "data", request.config.getini("lambent_flags"))
    try:
        platform = Lambent(server.endpoint, server.token, request.config.rootpath)
        yield platform
        platform.close()
    finally:
        server.stop()


@pytest.fixture
def lambent(lambent_server: Lambent) -> Iterator[Lambent]:
    """The platform as one test sees it: what it counts begins with the test.

    Afterwards nothing is armed, and the environments of the functions that the test used are ended. Functions stay
    deployed, which makes deploying them again quick. Platform time never goes back.
    """
    platform = lambent_server.another()
    try:
        yield platform
    finally:
        platform.end()
