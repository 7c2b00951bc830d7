"""What `make demo` runs: a function's whole life on this machine, each promise looked at, nothing left behind.

It starts a server on a free port with a data directory of its own, deploys `examples/functions/demo-python`, calls it
through boto3 and through its URL, cold and warm, and 20 times at once, watches it frozen, ends the environments, stops
the server and tells their stories. The exit code is 1 when anything is not as promised.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from lambent.cli import show
from lambent.cli.main import run
from lambent.cli.story import tell
from lambent.client import Client

ROOT = Path(__file__).resolve().parent.parent
FUNCTION = ROOT / "examples" / "functions" / "demo-python"
CACHE = ROOT / ".cache" / "lambent"  # the runtime's client and SDK, installed once; `make clean` removes it
BURST = 20
FROZEN_S = 1.0
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class Promises:
    """What was promised and whether it was so."""

    def __init__(self) -> None:
        self.broken = 0

    def check(self, text: str, kept: bool) -> None:
        print(f"  {'yes' if kept else 'NO '}  {text}", flush=True)
        self.broken += not kept


class Demo:
    """One run against one server."""

    def __init__(self, endpoint: str, promises: Promises, token: str) -> None:
        self.client = Client(endpoint, token=token)
        self.promises = promises
        session = boto3.Session("demo", "demo", region_name="us-east-1")
        config = Config(max_pool_connections=BURST, retries={"total_max_attempts": 1})
        self.aws = session.client("lambda", endpoint_url=endpoint, config=config)
        self.url = ""

    def deploy(self) -> None:
        title("A function is deployed")
        runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
        argv = ["deploy", str(FUNCTION.relative_to(ROOT)), "--name", "demo", "--handler", "app.handler",
                "--runtime", runtime, "--timeout", "10", "--memory", "256", "--url"]  # fmt: skip
        print(f"$ lambent {shlex.join(argv)}", flush=True)
        code = run([*argv, "--endpoint", self.client.endpoint])
        self.promises.check("it is Active", code == 0)
        if code:
            raise RuntimeError("without a function there is nothing to show")
        self.url = self.client.url("demo") or ""

    def call(self, event: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], float]:
        """Through boto3: payload, headers of the answer, milliseconds."""
        begun = time.perf_counter()
        answer = self.aws.invoke(FunctionName="demo", Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read())
        elapsed = (time.perf_counter() - begun) * 1000
        if "FunctionError" in answer:
            raise RuntimeError(f"the function failed: {payload}")
        return payload, answer["ResponseMetadata"]["HTTPHeaders"], elapsed

    def cold_and_warm(self) -> None:
        title("It is called with boto3: cold, then warm")
        cold, headers, cold_ms = self.call({"name": "boto3"})
        print(f"  {cold['greeting']}  {headers.get('x-lambent-start')}, {cold_ms:.1f} ms")
        self.promises.check("the first call is cold", headers.get("x-lambent-start") == "cold")
        warm, again, warm_ms = self.call({"name": "boto3"})
        print(f"  {warm['greeting']}  {again.get('x-lambent-start')}, {warm_ms:.1f} ms")
        self.promises.check("the second is warm", again.get("x-lambent-start") == "warm")
        same = headers.get("x-lambent-environment") == again.get("x-lambent-environment")
        self.promises.check("one environment served both, and its globals survived", same and warm["invocation"] == 2)

    def over_its_url(self) -> None:
        title("It is called over its URL")
        parts = urlsplit(self.url)
        print(f"  {self.url}")
        answer = self.client.request("GET", "/hello?name=URL", host=parts.netloc)
        told = answer.json() if answer.status == 200 else {}
        print(f"  HTTP {answer.status}  {told.get('greeting')}")
        self.promises.check("it answers", told.get("greeting") == "Hello, URL!")

    def freeze(self) -> None:
        title("Between invocations it is frozen")
        before, headers, _ = self.call({"seconds": 0.3})
        running = before["ticks"]["end"] - before["ticks"]["begin"]
        mine = headers.get("x-lambent-environment", "")
        self.until("it is frozen", lambda: self.row(mine).get("frozen") is True)
        first = self.row(mine)
        time.sleep(FROZEN_S)  # the time in which nothing may happen
        second = self.row(mine)
        after, _, _ = self.call({})
        idle = after["ticks"]["begin"] - before["ticks"]["end"]
        print(f"  its thread counted {running} in an invocation of 0.3 s, and {idle} in {FROZEN_S:g} s between two")
        self.promises.check("the kernel says that it is frozen", bool(first.get("frozen") and second.get("frozen")))
        if first.get("cpu_us") is None:
            print("  (this sandbox has no CPU counter)")
        else:
            print(f"  its CPU counter: {first['cpu_us']} us, {FROZEN_S:g} s later {second['cpu_us']} us")
            self.promises.check("its CPU counter stood still", first["cpu_us"] == second["cpu_us"])
        self.promises.check("its thread stood still, and went on afterwards", running > 50 and idle < 50)

    def burst(self) -> None:
        title(f"It is called {BURST} times at once, twice")
        for expected, least in (("cold", BURST - 1), ("warm", BURST)):
            with ThreadPoolExecutor(BURST) as pool:
                begun = time.perf_counter()
                answers = list(pool.map(lambda number: self.call({"name": number, "seconds": 2}), range(BURST)))
                elapsed = time.perf_counter() - begun
            used = {headers.get("x-lambent-environment") for _, headers, _ in answers}
            count = sum(headers.get("x-lambent-start") == expected for _, headers, _ in answers)
            print(f"  {BURST} calls of 2 s each in {elapsed:.2f} s, {count} of them {expected}")
            self.promises.check(f"{BURST} environments, one invocation each", len(used) == BURST)
            self.promises.check(f"at least {least} were {expected}", count >= least)
        self.until("all are frozen", lambda: all(row["frozen"] for row in self.client.environments()))
        print(f"$ lambent ps --endpoint {self.client.endpoint}", flush=True)
        run(["ps", "--endpoint", self.client.endpoint])
        self.promises.check(f"{BURST} environments, all frozen again", len(self.client.environments()) == BURST)

    def end(self) -> list[dict[str, Any]]:
        """Retire every environment and return their stories, oldest first."""
        title("The environments end")
        ids = [row["id"] for row in self.client.environments()]
        for environment in ids:
            self.client.retire(environment)
        self.until("every environment is gone", lambda: not self.client.environments())
        return sorted((self.client.story(environment) for environment in ids), key=lambda told: str(told["created_at"]))

    def row(self, environment: str) -> dict[str, Any]:
        return next((row for row in self.client.environments() if row["id"] == environment), {})

    def until(self, text: str, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Asked for over HTTP, so there is nothing to be woken by."""
        deadline = time.perf_counter() + timeout_s
        while not holds():
            if time.perf_counter() > deadline:
                self.promises.check(text, False)
                return
            time.sleep(0.02)
        self.promises.check(text, True)


def title(text: str) -> None:
    print(f"\n{text}", flush=True)


def stories(told: list[dict[str, Any]]) -> None:
    """The longest life step by step, and a line for each of the others."""
    if not told:
        return
    longest = max(told, key=lambda story: len(story["invocations"]))
    title("The story of the first environment")
    tell(longest)
    others = [story for story in told if story is not longest]
    if others:
        title("And of the others")
        columns = ("ENVIRONMENT", "INIT", "INVOCATIONS", "BILLED", "LIVED", "COST")
        show.table(columns, [_summary(story) for story in others], right=columns[1:])
    total = sum(bill["cost_usd"] for story in told for bill in story["invocations"])
    count = sum(len(story["invocations"]) for story in told)
    print(f"\nAltogether {len(told)} environments and {count} invocations, {show.dollars(total)} on AWS")


def _summary(story: dict[str, Any]) -> tuple[str, ...]:
    bills = story["invocations"]
    init = next((bill["init_ms"] for bill in bills if bill["init_ms"] is not None), None)
    return (
        str(story["id"]),
        "-" if init is None else show.milliseconds(init),
        str(len(bills)),
        f"{sum(bill['billed_ms'] for bill in bills)} ms",
        show.milliseconds(story["steps"][-1]["offset_ms"]),
        show.dollars(sum(bill["cost_usd"] for bill in bills)),
    )


def start_server(data_dir: Path) -> subprocess.Popen[str]:
    argv = ["up", "--port", "0", "--data-dir", str(data_dir), "--cache-dir", str(CACHE)]
    print(f"$ lambent {shlex.join(argv)}", flush=True)
    return subprocess.Popen([sys.executable, "-m", "lambent.cli.main", *argv], stdout=subprocess.PIPE, text=True)


def wait_for_address(process: subprocess.Popen[str]) -> str:
    """The base URL from the line that the server prints when it is ready; empty when it did not start."""
    assert process.stdout is not None
    signal.signal(signal.SIGALRM, lambda number, frame: process.kill())
    signal.alarm(START_TIMEOUT_S)
    line = process.stdout.readline()
    signal.alarm(0)
    print(f"  {line.strip() or 'the server did not start'}", flush=True)
    return next((word for word in line.split() if word.startswith("http://")), "")


def stop_server(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        assert process.stdout is not None
        process.stdout.close()


def left_behind(instance: str, data_dir: Path, pids: set[int]) -> list[str]:
    """Processes, mounts and cgroups of that server, and its data directory if it is still there."""
    mountinfo = Path("/proc/self/mountinfo")
    lines = mountinfo.read_text().splitlines() if mountinfo.exists() else []
    mounts = [line.split()[4] for line in lines if str(data_dir) in line]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/*{instance}*")] if instance else []
    alive = [f"process {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]
    return alive + mounts + groups + ([str(data_dir)] if data_dir.exists() else [])


def main() -> int:
    promises = Promises()
    begun = time.perf_counter()
    data_dir = Path(tempfile.mkdtemp(prefix="lambent-demo-"))
    told: list[dict[str, Any]] = []
    instance = ""
    pids: set[int] = set()
    title("The server starts")
    process = start_server(data_dir)
    try:
        address = wait_for_address(process)
        promises.check("it is ready", bool(address))
        if address:
            demo = Demo(address, promises, (data_dir / "token").read_text("ascii").strip())
            instance = str(demo.client.health()["instance"])
            for part in (demo.deploy, demo.cold_and_warm, demo.over_its_url, demo.freeze, demo.burst):
                part()
            pids = {pid for row in demo.client.environments() for pid in row["pids"]}
            told = demo.end()
            demo.client.close()
    except Exception as error:
        promises.check(f"no error: {type(error).__name__}: {error}", False)
    finally:  # nothing is printed before the server has ended: the terminal may be what went away
        code = stop_server(process)
        shutil.rmtree(data_dir, ignore_errors=True)
    title("The server stops")
    promises.check("with exit code 0", code == 0)
    remains = left_behind(instance, data_dir, pids)
    promises.check("nothing is left behind" + (f": {', '.join(remains)}" if remains else ""), not remains)
    stories(told)
    kept = "Everything was as promised" if not promises.broken else f"{promises.broken} promises were broken"
    print(f"\n{kept}, in {time.perf_counter() - begun:.1f} s")
    return 1 if promises.broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):  # the server has been stopped on the way here
        os._exit(130)
