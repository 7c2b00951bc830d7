"""What all environments share: the account's concurrency and the host's memory (points 8 and 9)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .harness import Function, Server, meeting, refusal, until

CONCURRENCY = 3
MEMORY_MIB = 400
HOARD_MIB = 90
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

HOARDERS = [f"hoarder-{number}" for number in range(5)]
FUNCTIONS = (
    Function("meets", MEETS),
    *(Function(name, HOARDS) for name in HOARDERS),
    Function("greedy", "def handler(event, context):\n    bytearray(450 << 20)", memory=1024),
)


def test_calls_over_the_account_concurrency_are_throttled(server: Server) -> None:
    url = server.functions.create_function_url_config(FunctionName="meets", AuthType="NONE")["FunctionUrl"]
    host = url.removeprefix("http://").rstrip("/")
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


def test_an_environment_that_wants_more_than_all_may_have_ends_alone(server: Server) -> None:
    call = server.invoke("greedy")
    assert call.payload["errorType"] == "Runtime.OutOfMemory"
    assert server.invoke("meets").payload == "done"
