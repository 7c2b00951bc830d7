"""What an idle environment costs the platform in descriptors, of which a process may only have so many."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from .harness import Function, Server, at_once, meeting, running, until

FLAGS = ("--blanks", "0")  # they have descriptors, too
ENVIRONMENTS = 6
#: Each is held by the server for as long as the environment lives; any more need a reason, and room in this table.
EACH = {
    "socket": 3,  # the Runtime API's listening one, the runtime's connection to it, the control of process 1
    "pipe": 1,  # what the runtime writes
    "cgroup.freeze": 1,
}  # and the memory's peak, whose file has a name of its own in each version of control groups

CROWD = """
import os, socket

def handler(event, context):
    open("/tmp/kept", "w").write("x" * 1000)
    if "port" in event:
        with socket.create_connection(("127.0.0.1", event["port"])) as place:
            place.recv(1)
"""
FUNCTIONS = (Function("crowd", CROWD, timeout=60),)


def descriptors(server: Server) -> Counter[str]:
    """What the server has open, by kind; the name of the file for control groups."""
    found: Counter[str] = Counter()
    folder = f"/proc/{server.process.pid}/fd"
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed meanwhile
            path = os.readlink(f"{folder}/{name}")
            found[re.split(r"[:\[]", path)[0] if path[0] != "/" else path.rpartition("/")[2]] += 1
    return found


def without_callers(server: Server) -> Counter[str]:
    """The descriptors once nobody is connected to the server's port."""
    server.functions.close()
    place, open_or_half_closed = f":{server.port:04X}", ("01", "08")

    def connected() -> list[str]:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        return [row[1] for row in rows if row[1].endswith(place) and row[3] in open_or_half_closed]

    until(lambda: not connected())
    return descriptors(server)


def each(found: Counter[str]) -> dict[str, int]:
    return EACH | {next(name for name in found if name.startswith("memory.")): 1}


def test_an_idle_environment_takes_six_descriptors_of_the_server(server: Server) -> None:
    first = server.idle(server.invoke("crowd").environment)["id"]
    before = without_callers(server)
    with meeting(ENVIRONMENTS + 1) as (port, met, go):
        calls = [server.background("crowd", {"port": port}) for _ in range(ENVIRONMENTS + 1)]
        assert met.wait(30)
        go.set()
        served = {future.result().environment for future in calls}
    assert first in served
    for environment in served:
        server.idle(environment)
    wanted = {kind: count * ENVIRONMENTS for kind, count in each(before).items()}
    assert sum(wanted.values()) == 6 * ENVIRONMENTS
    assert without_callers(server) - before == wanted
    at_once(partial(server.retire, name) for name in served)
    until(lambda: sum(descriptors(server).values()) <= sum(before.values()) - 6)


def test_an_environment_that_was_a_blank_takes_no_more(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--blanks", "1") as server:
        server.deploy(*FUNCTIONS)

        def parked() -> bool:
            return bool(server.http("GET", "/_lambent/health").json()["blanks"])

        until(parked)
        before = without_callers(server)
        row = server.idle(server.invoke("crowd").environment)
        assert row["from_blank"]
        until(parked)
        assert without_callers(server) - before == each(before)
