"""What all environments share: the account's concurrency and the host's memory (points 8 and 9)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .harness import Function, Server, meeting, refusal, until

CONCURRENCY = 3
MEMORY_MIB = 400
HOARD_MIB = 90
GROWTH_MIB = 220
FLAGS = ("--concurrency", str(CONCURRENCY), "--memory-mib", str(MEMORY_MIB))

MEETS = """
import socket

def handler(event, context):
    if "meet" in event:
        with socket.create_connection(("127.0.0.1", event["meet"])) as peer:
            assert peer.recv(1) == b"!"
    return "done"
"""

HOARDS = f"""
HOARD = bytes(b"x") * ({HOARD_MIB} << 20)

def handler(event, context):
    return len(HOARD) >> 20
"""

GROWS = f"""
KEPT = []

def handler(event, context):
    while len(KEPT) < {GROWTH_MIB}:
        KEPT.append(b"x" * (1 << 20))
    return len(KEPT)
"""

HOARDERS = [f"hoarder-{number}" for number in range(5)]
FUNCTIONS = (
    Function("meets", MEETS),
    *(Function(name, HOARDS) for name in HOARDERS),
    Function("grower", GROWS, memory=1769),
    Function("greedy", "def handler(event, context):\n    bytearray(450 << 20)", memory=1024),
)


def test_calls_over_the_account_concurrency_are_throttled(server: Server) -> None:
    host = server.open_url("meets")
    with ThreadPoolExecutor(CONCURRENCY) as pool, meeting(CONCURRENCY) as (port, met, go):
        running = [pool.submit(server.invoke, "meets", {"meet": port}) for _ in range(CONCURRENCY)]
        assert met.wait(20)
        status, code, message, reply = refusal(lambda: server.invoke("meets"))
        over_url = server.http("GET", "/", host=host)
        go.set()
        assert [future.result().payload for future in running] == ["done"] * CONCURRENCY
    assert (status, code, message) == (429, "TooManyRequestsException", "Rate Exceeded.")
    assert reply["Reason"] == "ConcurrentInvocationLimitExceeded"
    assert reply["Type"] == "User"
    assert "retry-after" in reply["ResponseMetadata"]["HTTPHeaders"]
    assert over_url.status == 429
    assert server.invoke("meets").payload == "done"


def test_memory_pressure_retires_whom_nobody_has_called_for_longest(server: Server) -> None:
    for row in server.environments():
        server.retire(row["id"])
    calls = [server.invoke(name) for name in HOARDERS]
    assert [call.payload for call in calls] == [HOARD_MIB] * len(HOARDERS)
    until(lambda: not server.environments(HOARDERS[0]))
    assert "reason=memory" in str(server.story(calls[0].environment)["steps"])
    again = server.invoke(HOARDERS[-1])
    assert again.environment == calls[-1].environment and not again.cold


def test_idle_environments_make_room_for_one_that_grows_before_the_kernel_ends_it(server: Server) -> None:
    """Three hold most of what there is; the fourth needs what two of them have, as fast as it can take it."""
    for row in server.environments():
        server.retire(row["id"])
    idle = [server.invoke(name).environment for name in HOARDERS[:3]]
    grown = server.invoke("grower")
    assert (grown.error, grown.payload) == (None, GROWTH_MIB)
    until(lambda: len(server.environments()) < 4)
    left = {row["id"] for row in server.environments()}
    assert grown.environment in left
    for environment in {*idle} - left:
        assert "reason=memory" in str(server.story(environment)["steps"])
    assert server.invoke("grower").environment == grown.environment


def test_an_environment_that_wants_more_than_all_may_have_ends_alone(server: Server) -> None:
    call = server.invoke("greedy")
    assert call.payload["errorType"] == "Runtime.OutOfMemory"
    assert server.invoke("meets").payload == "done"
