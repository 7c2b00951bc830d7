"""The management side of the API, with ten thousand functions stored, and the price of a package of 10 MB.

Reads are timed as requests on one kept connection: GetFunction and its like on functions all over the table, and the
pages of ListFunctions, the first ones against the last. CreateFunction is timed from the request to its answer, and
until the function is Active, beside what the same work (decode, hash, write and sync, unpack) takes without a server.

`python -m bench.control_plane` runs this alone.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import random
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import CODE, HANDLER, MEMORY_MIB
from bench.measure import Line, median, quantile
from bench.server import ROLE, NoServer, Server
from bench.wire import WrongAnswer

FUNCTIONS = 10_000
READS = 2_000
PAGE = 50
#: How many pages at either end are compared, and how often.
ENDS, ROUNDS = 10, 10
PACKAGES = 7
PACKAGE_BYTES = 10 << 20
WANTED_MS = 2.0
#: A last page may take so many times what a first one takes before it counts as growth.
WANTED_GROWTH = 1.5
#: How many times the bare work CreateFunction may take, until Active: the rest is HTTP, validation and the database.
WANTED_CREATE = 2.0
ROOT = "/2015-03-31/functions"
ACTIVE_S = 60.0


class Api:
    """One kept connection to the API of Lambda."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection(server.client.host, server.client.port, timeout=60)

    def __call__(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The decoded answer. Raises WrongAnswer unless it is a good one."""
        self._connection.request(method, path, body)
        reply = self._connection.getresponse()
        content = reply.read()
        if reply.status >= 300:
            raise WrongAnswer(f"{method} {path} was answered with {reply.status}: {content[:200]!r}")
        return json.loads(content) if content else None

    def ms(self, method: str, path: str, body: bytes | None = None) -> float:
        """Milliseconds from the request to the whole answer."""
        begun = time.perf_counter()
        self(method, path, body)
        return (time.perf_counter() - begun) * 1000

    def close(self) -> None:
        self._connection.close()


def measure(server: Server) -> list[Line]:
    """Every line of this part."""
    fill(server, FUNCTIONS)
    api = Api(server)
    try:
        return [*_reads(api), _pages(api), *_packages(api, server.runtime)]
    finally:
        api.close()


def fill(server: Server, count: int) -> None:
    """Store so many functions of one package."""
    content = package(len(CODE))

    def create(numbers: range) -> None:
        api = Api(server)
        for number in numbers:
            api("POST", ROOT, _request(f"stored-{number:05}", server.runtime, content))
        api.close()

    step = -(-count // 8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, [range(start, min(start + step, count)) for start in range(0, count, step)]))


def package(size: int, seed: int = 0) -> bytes:
    """A zip of about so many bytes: the trivial function, and data that does not compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", CODE)
        dice = random.Random(seed)
        for number in range(size // (256 << 10)):
            archive.writestr(f"data/{number}.bin", dice.randbytes(256 << 10))
    return buffer.getvalue()


def _request(name: str, runtime: str, content: bytes) -> bytes:
    return json.dumps({
        "FunctionName": name, "Runtime": runtime, "Handler": HANDLER, "Role": ROLE,
        "MemorySize": MEMORY_MIB,
        "Code": {"ZipFile": base64.b64encode(content).decode()},
    }).encode()  # fmt: skip


def _reads(api: Api) -> list[Line]:
    dice = random.Random(1)
    lines = []
    for what, suffix in (("GetFunction", ""), ("GetFunctionConfiguration", "/configuration")):
        paths = [f"{ROOT}/stored-{dice.randrange(FUNCTIONS):05}{suffix}" for _ in range(READS)]
        for path in paths[:100]:
            api("GET", path)
        taken = [api.ms("GET", path) for path in paths]
        middle = median(taken)
        lines.append(Line(f"{what} of {FUNCTIONS:,}, p50", "ms", middle, f"under {WANTED_MS:g} ms",
                          middle < WANTED_MS, more=f"p99 {quantile(taken, 0.99):.2f} ms"))  # fmt: skip
    return lines


def _pages(api: Api) -> Line:
    """Both ends in turn, each page by the marker that the page before gave."""
    paths = [f"{ROOT}?MaxItems={PAGE}"]
    while True:
        marker = api("GET", paths[-1]).get("NextMarker")
        if not marker:
            break
        paths.append(f"{ROOT}?MaxItems={PAGE}&Marker={marker}")
    first: list[float] = []
    last: list[float] = []
    for _ in range(ROUNDS):
        first += [api.ms("GET", path) for path in paths[:ENDS]]
        last += [api.ms("GET", path) for path in paths[-ENDS - 1 : -1]]
    growth = median(last) / median(first)
    return Line(f"ListFunctions, a page of {PAGE} at the end, p50", "ms", median(last),
                f"at most {WANTED_GROWTH:g} times a first one", growth <= WANTED_GROWTH,
                more=f"a first page {median(first):.2f} ms, {growth:.2f} times; {len(paths)} pages")  # fmt: skip


def _packages(api: Api, runtime: str) -> list[Line]:
    """CreateFunction and the time until Active, beside the bare work on the same package."""
    answered, active, bare, unpacked = [], [], [], []
    for number in range(PACKAGES):
        content = package(PACKAGE_BYTES, seed=number)
        body = _request(f"large-{number}", runtime, content)
        decoding, unpacking = _work(body)
        bare.append(decoding)
        unpacked.append(decoding + unpacking)
        begun = time.perf_counter()
        answered.append(api.ms("POST", ROOT, body))
        _wait_active(api, f"large-{number}")
        active.append((time.perf_counter() - begun) * 1000)
    size = f"{PACKAGE_BYTES >> 20} MB zip"
    ratios = [one / other for one, other in zip(active, unpacked, strict=True)]
    ours = median(active)
    return [
        Line(f"CreateFunction of a {size}, answered", "ms", median(answered), "", None,
             more=f"decoding and hashing it alone {median(bare):.0f} ms"),
        Line(f"CreateFunction of a {size}, until Active", "ms", ours,
             f"at most {WANTED_CREATE:g} times the bare work", median(ratios) <= WANTED_CREATE,
             more=f"decoding, hashing, keeping and unpacking alone {median(unpacked):.0f} ms, "
                  f"{median(ratios):.2f} times"),
    ]  # fmt: skip


def _work(body: bytes) -> tuple[float, float]:
    """Milliseconds to decode and hash a request's package, and to keep it on disk and unpack it there."""
    begun = time.perf_counter()
    content = base64.b64decode(json.loads(body)["Code"]["ZipFile"])
    hashlib.sha256(content).digest()
    decoded = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lambent-bench-") as folder:
        with open(Path(folder, "blob"), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(Path(folder, "unpacked"))
        kept = time.perf_counter()
    return (decoded - begun) * 1000, (kept - decoded) * 1000


def _wait_active(api: Api, name: str) -> None:
    deadline = time.monotonic() + ACTIVE_S
    while (state := api("GET", f"{ROOT}/{name}/configuration")["State"]) != "Active":
        if state == "Failed" or time.monotonic() > deadline:
            raise NoServer(f"{name} is {state}")


def alone() -> list[Line]:
    """On a server of its own."""
    with Server() as server:
        return measure(server)


def main() -> int:
    from bench.report import notes, table

    try:
        lines = alone()
    except (NoServer, WrongAnswer) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(f"{table(lines)}\n\n{notes(lines)}")
    return 1 if any(line.met is False for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
