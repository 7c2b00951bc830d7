"""A function in a VPC that nobody calls becomes Inactive on a real server, and the next call brings it back."""

from __future__ import annotations

from .harness import Function, Server, refusal, until

#: Two seconds instead of 14 days, and environments that go at once.
FLAGS = ("--inactive-after-days", str(2 / 86_400), "--keep-alive-s", "0")
FUNCTIONS = (Function("vpc", "def handler(event, context):\n    return 'served'\n", more={
    "VpcConfig": {"SubnetIds": ["subnet-0123456789abcdef0"], "SecurityGroupIds": ["sg-0123456789abcdef0"]}}),)


def state(server: Server) -> str:
    shown: str = server.functions.get_function_configuration(FunctionName="vpc")["State"]
    return shown


def test_first_call_is_refused_and_those_after_it_are_served(server: Server) -> None:
    until(lambda: state(server) == "Inactive")
    status, code, _, _ = refusal(lambda: server.invoke("vpc"))
    assert (status, code) == (502, "ResourceNotReadyException")
    server.wait_active("vpc")
    assert server.invoke("vpc").payload == "served"
    until(lambda: state(server) == "Inactive")  # once its environment is gone
    assert server.environments() == []
