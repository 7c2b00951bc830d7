"""Everything at once: failing calls, updates, deletions and retirements of the same few functions."""

from __future__ import annotations

import random
import time

import pytest
from botocore.exceptions import ClientError

from .harness import Function, Server, at_once, until

FLAGS = ("--keep-alive-s", "0.3", "--max-age-s", "2", "--concurrency", "30")
STORM_S = 5.0
CALLERS = 10

SOURCE = """
import os, threading, time

def handler(event, context):
    match event:
        case "raise":
            raise ValueError("x")
        case "exit":
            os._exit(1)
        case "late":
            time.sleep(5)
        case "hoard":
            [bytearray(1 << 20) for _ in range(4096)]
        case "large":
            return "x" * (7 << 20)
        case "soon":
            threading.Timer(0.001, os._exit, [3]).start()
        case "child":
            if os.fork() == 0:
                time.sleep(100)
    return "fine"
"""

NAMES = [f"storm-{number}" for number in range(3)]
FUNCTIONS = tuple(Function(name, SOURCE, timeout=1, memory=200) for name in NAMES)
EVENTS = ("fine", "fine", "fine", "raise", "exit", "late", "hoard", "large", "soon", "child")
#: What may come of a call, whatever else happens. `soon` ends the process during any later one.
OUTCOMES = {"fine", "ValueError", "Runtime.ExitError", "Sandbox.Timedout", "Runtime.OutOfMemory",
            "Function.ResponseSizeTooLarge", "ResourceNotFoundException", "ResourceConflictException",
            "TooManyRequestsException"}  # fmt: skip


@pytest.mark.slow
def test_every_call_is_answered_and_everything_ends(server: Server) -> None:
    end = time.monotonic() + STORM_S
    seen: list[str] = []

    def call(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            try:
                log_type = chance.choice(["Tail", "None"])
                made = server.invoke(chance.choice(NAMES), chance.choice(EVENTS), LogType=log_type)
                seen.append(made.payload["errorType"] if made.error else made.payload)
            except ClientError as error:
                seen.append(error.response["Error"]["Code"])

    def change() -> None:
        chance = random.Random(0)
        bearer = (("Authorization", f"Bearer {server.token}"),)
        number = 0
        while time.monotonic() < end:
            number += 1
            function = chance.choice(FUNCTIONS)
            try:
                match number % 4:
                    case 0:
                        package = Function(function.name, f"{SOURCE}\nEDITION = {number}").package()
                        server.functions.update_function_code(FunctionName=function.name, ZipFile=package)
                    case 1:
                        server.functions.update_function_configuration(
                            FunctionName=function.name, MemorySize=chance.choice([150, 200]))
                    case 2:
                        server.functions.delete_function(FunctionName=function.name)
                        server.create(function)
                    case 3:
                        for row in server.environments()[:2]:
                            server.http("POST", f"/_lambent/environments/{row['id']}/retire", headers=bearer)
            except ClientError as error:
                assert error.response["Error"]["Code"] == "ResourceConflictException", error
            time.sleep(0.05)

    at_once([*(lambda seed=seed: call(seed) for seed in range(CALLERS)), change])
    assert set(seen) <= OUTCOMES
    assert {"fine", "ValueError", "Runtime.ExitError"} <= set(seen)
    until(lambda: not server.environments())
    for name in NAMES:
        server.wait_active(name)
        assert server.invoke(name, "fine").payload == "fine"
