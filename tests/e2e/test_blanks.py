"""Parked blanks: a runtime that waited before there was a function, and keeps nothing of anybody."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .harness import Function, Server, at_once, meeting, running, until

LOOKS = """
import hashlib, json, os, random, socket, ssl, sys, time, uuid

SEEN = {"environ": dict(os.environ), "cwd": os.getcwd(), "path": list(sys.path), "modules": sorted(sys.modules)}

def handler(event, context):
    if "port" in event:
        with socket.create_connection(("127.0.0.1", event["port"])) as friend:
            friend.recv(1)
    space = os.statvfs("/tmp")
    return SEEN | {
        "hash": hash("lambent"), "random": random.random(), "uuid": str(uuid.uuid4()), "node": uuid.getnode(),
        "openssl": ssl.RAND_bytes(16).hex(), "address": id(SEEN), "argv": sys.argv, "tz": time.strftime("%Z"),
        "descriptors": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{fd}")),
        "meminfo_kib": int(open("/proc/meminfo").readline().split()[1]),
        "tmp_mib": space.f_blocks * space.f_frsize >> 20, "stdin": os.readlink("/proc/self/fd/0"),
        "opt": sorted(os.listdir("/opt")), "task": sorted(os.listdir("/var/task")), "flags": sys.flags.no_site,
        "name": context.function_name, "memory": context.memory_limit_in_mb,
    }
"""
NODE = Function("node", """
const fs = require("node:fs");
const seen = { environ: { ...process.env }, cwd: process.cwd(), argv: process.argv, flags: process.execArgv };
exports.handler = async () => ({ ...seen, hour: new Date(0).getHours(), stdin: fs.readlinkSync("/proc/self/fd/0"),
                                 meminfo: fs.readFileSync("/proc/meminfo", "utf8").split("\\n")[0],
                                 uptime: process.uptime() });
""", runtime="nodejs20.x", memory=512, more={"Environment": {"Variables": {"TZ": "Asia/Tokyo"}}})
CANARY = "a-secret-that-nobody-else-may-see"

FUNCTIONS = [
    Function("looks", LOOKS, memory=512),
    Function("warmer", LOOKS, more={"Environment": {"Variables": {"CANARY": CANARY}}}),
    Function("sized", LOOKS, memory=1024, more={"EphemeralStorage": {"Size": 1024},
                                               "Environment": {"Variables": {"TZ": "Asia/Tokyo"}}}),
    Function("counted-on", LOOKS, more={"Environment": {"Variables": {"PYTHONDONTWRITEBYTECODE": "1"}}}),
    Function("json", "import logging\ndef handler(event, context):\n    logging.getLogger().warning('said')\n",
             more={"LoggingConfig": {"LogFormat": "JSON"}}),
    Function("debug", "import logging\ndef handler(event, context):\n    logging.getLogger().debug('said')\n",
             more={"Environment": {"Variables": {"AWS_LAMBDA_LOG_LEVEL": "DEBUG"}}}),
]  # fmt: skip


def parked(server: Server, least: int = 1) -> None:
    until(lambda: server.http("GET", "/_lambent/health").json()["blanks"] >= least)


def fresh(server: Server, name: str) -> None:
    """The next call is cold, and a blank waits for it."""
    for row in server.environments(name):
        server.retire(row["id"])
    until(lambda: not server.environments(name))
    parked(server)


def cold(server: Server, name: str) -> dict[str, Any]:
    """The environment of a call that had to start one."""
    for row in server.environments(name):
        server.retire(row["id"])
    until(lambda: not server.environments(name))
    return server.environment(server.invoke(name).environment)


def test_the_first_call_of_a_function_is_served_from_a_blank(server: Server) -> None:
    fresh(server, "looks")
    call = server.invoke("looks")
    assert call.cold and server.environment(call.environment)["from_blank"]
    assert "Init Duration" in call.log


def test_a_blank_becomes_what_a_process_of_the_function_s_own_is(server: Server, data_dir: Path) -> None:
    with running(data_dir.with_name("without"), "--blanks", "0") as other:
        other.deploy(*(function for function in FUNCTIONS if function.name in ("looks", "sized")))
        for name in ("looks", "sized"):
            fresh(server, name)
            call, plain = server.invoke(name), other.invoke(name)
            ours, theirs = call.payload, plain.payload
            assert server.environment(call.environment)["from_blank"]
            assert not other.environment(plain.environment)["from_blank"]
            for differs in ("hash", "random", "uuid", "openssl", "address"):
                assert ours.pop(differs) != theirs.pop(differs)
            for row in (ours, theirs):
                for own in ("LOG_STREAM_NAME", "RUNTIME_API", "METADATA_API", "METADATA_TOKEN"):
                    row["environ"].pop("AWS_LAMBDA_" + own)
            # The waiting process has used its time to import what functions import most.
            waited, own_process = set(ours.pop("modules")), set(theirs.pop("modules"))
            assert own_process < waited and not {"boto3", "asyncio", "http.client"} & waited
            assert {"logging", "awslambdaric.bootstrap"} < waited - own_process
            assert ours["environ"] == theirs["environ"]
            assert ours == theirs


def test_sizes_are_those_of_the_function(server: Server) -> None:
    fresh(server, "sized")
    seen = server.invoke("sized").payload
    assert seen["meminfo_kib"] == 1024 * 1024 and seen["tmp_mib"] >= 1000
    assert seen["tz"] == "JST"


def test_a_node_js_blank_becomes_what_a_process_of_the_function_s_own_is(server: Server, data_dir: Path) -> None:
    with running(data_dir.with_name("without-node"), "--blanks", "0") as other:
        rows = []
        for one in (server, other):
            one.deploy(NODE)
            if one is server:
                fresh(one, "node")
            before = time.monotonic()
            call = one.invoke("node")
            assert one.environment(call.environment)["from_blank"] is (one is server)
            rows.append(call.payload)
            assert rows[-1].pop("uptime") <= time.monotonic() - before  # of the environment, not of the process
        for row in rows:
            for own in ("LOG_STREAM_NAME", "RUNTIME_API", "METADATA_API", "METADATA_TOKEN"):
                row["environ"].pop("AWS_LAMBDA_" + own)
        assert rows[0] == rows[1]
        assert rows[0]["environ"]["TZ"] == "Asia/Tokyo" and rows[0]["hour"] == 9


def test_siblings_share_neither_seeds_nor_secrets(server: Server) -> None:
    fresh(server, "looks")
    server.invoke("warmer")
    with meeting(6) as (port, everybody_is_in, go_on):
        calls = [server.background("looks", {"port": port}) for _ in range(6)]
        assert everybody_is_in.wait(30)
        go_on.set()
        rows = [call.result().payload for call in calls]
    for secret in ("hash", "random", "uuid", "openssl", "address"):
        assert len({row[secret] for row in rows}) == 6, secret
    assert not any(CANARY in str(row) for row in rows)


def test_a_variable_that_is_read_when_a_process_starts_makes_a_process_of_its_own(server: Server) -> None:
    until(lambda: cold(server, "counted-on")["from_blank"])  # the sandbox alone
    payload = server.invoke("counted-on").payload
    assert payload["environ"]["PYTHONDONTWRITEBYTECODE"] == "1" and payload["flags"] == 0


def test_the_log_format_of_the_function_holds(server: Server) -> None:
    parked(server)
    call = server.invoke("json")
    assert server.environment(call.environment)["from_blank"]
    assert '"message": "said"' in call.log or '"message":"said"' in call.log


def test_the_log_level_of_the_function_holds(server: Server) -> None:
    parked(server)
    call = server.invoke("debug")
    assert server.environment(call.environment)["from_blank"]
    assert "[DEBUG]" in call.log and "said" in call.log


def blank_processes(server: Server) -> list[int]:
    """Process 1 of every sandbox that is nobody's: the server's children with a child that waits at its input."""
    known = {pid for row in server.environments() for pid in row["pids"]}
    found = []
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            guests = Path(f"/proc/{child}/task/{child}/children").read_text().split()
            if guests and int(guests[0]) not in known:
                found.append(int(guests[0]))
    return found


def stat(pid: int) -> list[str]:
    """State, parent and so on; as of a dead process when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ["X", "0"]


def is_dead(pid: int) -> bool:
    return stat(pid)[0] in "ZX"


@pytest.mark.parametrize("which", ["the runtime", "process 1"])
def test_a_blank_that_is_killed_costs_nobody_anything(server: Server, which: str) -> None:
    fresh(server, "looks")
    for guest in blank_processes(server):
        victim = guest if which == "the runtime" else int(stat(guest)[1])
        os.kill(victim, signal.SIGKILL)
        until(functools.partial(is_dead, victim))  # not: until the server knows
    assert server.invoke("looks").payload["name"] == "looks"
    parked(server)  # and another one takes its place


def test_blanks_killed_while_they_are_handed_out_lose_no_call(server: Server) -> None:
    def kill(blanks: list[int]) -> None:
        for guest in blanks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guest, signal.SIGKILL)

    for _ in range(4):
        fresh(server, "looks")
        # Found before the call: a runtime that is being started for it is no blank, and not to be hit.
        outcomes = at_once([lambda: server.invoke("looks"), functools.partial(kill, blank_processes(server))])
        # The runtime of a call that has begun may have been hit: that is told as on AWS, and nothing worse.
        assert outcomes[0].status == 200 and outcomes[0].error in (None, "Unhandled")
        assert server.invoke("looks").error is None


def test_without_blanks_nothing_is_parked(data_dir: Path) -> None:
    with running(data_dir.with_name("none"), "--blanks", "0") as server:
        server.deploy(Function("plain", "def handler(event, context):\n    return 1\n"))
        assert server.invoke("plain").payload == 1
        assert server.http("GET", "/_lambent/health").json()["blanks"] == 0


def test_after_a_restart_blanks_wait_before_anything_was_called(data_dir: Path) -> None:
    folder = data_dir.with_name("again")
    with running(folder) as server:
        server.deploy(Function("plain", "def handler(event, context):\n    return 1\n"), NODE)
    with running(folder) as server:
        parked(server, 2)
        for name in ("plain", "node"):
            assert server.environment(server.invoke(name).environment)["from_blank"]


def test_a_custom_runtime_starts_in_a_parked_sandbox_without_a_runtime(server: Server) -> None:
    script = """#!/bin/sh
while id=$(curl -sD- "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next" -o /dev/null \\
           | tr -d '\\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //Ip'); [ "$id" ]; do
    curl -s -d '"custom"' "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" >/dev/null
done
"""
    server.deploy(Function("custom", runtime="provided.al2023", files={"bootstrap": script}))
    assert server.invoke("custom").payload == "custom"
    until(lambda: cold(server, "custom")["from_blank"])
    assert server.invoke("custom").payload == "custom"


