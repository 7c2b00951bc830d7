"""The measuring client: HTTP/1.1 on raw sockets, so that what is timed is the server and not a client library.

`Wire` is one kept connection in a closed loop. `storm` drives several connections from one process of its own, by
epoll, and counts finished calls. Both send the same bytes to either side and look at each answer's status and body.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from bench import CHECKOUT

TIMEOUT_S = 60.0


class WrongAnswer(Exception):
    """A server did not answer as the function does. What was measured is worth nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send an invocation, and the payload that must come back."""

    host: str
    port: int
    path: str
    expected: bytes

    def message(self, payload: bytes = b"{}") -> bytes:
        """A whole Invoke request."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        return head.encode() + payload

    def connect(self) -> socket.socket:
        connected = socket.create_connection((self.host, self.port), TIMEOUT_S)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected


def _size(data: bytes | bytearray) -> int:
    """How long the answer that begins here is; 0 while its head is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    at = data.find(b"ontent-Length: ", 0, end)
    if at < 0:
        raise WrongAnswer(f"an answer without Content-Length: {bytes(data[:end])!r}")
    return end + 4 + int(data[at + 15 : data.find(b"\r", at)])


def _check(answer: bytes | bytearray, expected: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(expected) or b"X-Amz-Function-Error" in answer:
        raise WrongAnswer(bytes(answer[:2000]).decode("latin-1"))


def complete(connected: socket.socket, expected: bytes) -> bytes:
    """The answer to what was sent on a connection. Raises WrongAnswer or OSError."""
    data = connected.recv(65536)
    size = _size(data)
    while not size or len(data) < size:
        more = connected.recv(65536)
        if not more:
            raise WrongAnswer("the server hung up")
        data += more
        size = _size(data)
    _check(data, expected)
    return data


class Wire:
    """One kept connection; one call after the other."""

    def __init__(self, target: Target) -> None:
        self._socket = target.connect()
        self._message = target.message()
        self._expected = target.expected
        self.last = b""  #: the latest answer, head and body

    def call(self) -> None:
        """Invoke once and wait for the answer. Raises WrongAnswer or OSError."""
        self._socket.sendall(self._message)
        self.last = complete(self._socket, self._expected)

    def samples(self, count: int) -> list[float]:
        """Microseconds of `count` calls in a closed loop."""
        now, call, taken = time.perf_counter_ns, self.call, []
        for _ in range(count):
            begun = now()
            call()
            taken.append((now() - begun) / 1000)
        return taken

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Storm:
    """What a closed loop over several connections did. `calls` were finished within `seconds`."""

    calls: int
    seconds: float
    environments: int  #: how many served, by the answers' own header; 0 where there is none

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds


def storm(target: Target, connections: int, seconds: float) -> Storm:
    """Closed loop over `connections`, in a process of its own. Raises WrongAnswer."""
    argv = [sys.executable, "-m", "bench.wire", target.host, str(target.port), target.path,
            target.expected.decode(), str(connections), str(seconds)]  # fmt: skip
    done = subprocess.run(argv, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S + seconds)
    if done.returncode:
        raise WrongAnswer(done.stdout.strip() or f"the client ended with exit code {done.returncode}")
    return Storm(**json.loads(done.stdout))


def _drive(target: Target, connections: int, seconds: float) -> Storm:
    message, expected = target.message(), target.expected
    selector = selectors.EpollSelector()
    buffers: dict[int, bytearray] = {}
    sockets: dict[int, socket.socket] = {}
    for _ in range(connections):
        connected = target.connect()
        buffers[connected.fileno()] = bytearray()
        sockets[connected.fileno()] = connected
        selector.register(connected, selectors.EVENT_READ)
        connected.sendall(message)
    environments: set[bytes] = set()
    finished, begun = 0, time.perf_counter()
    end = begun + seconds
    while time.perf_counter() < end:
        for key, _ in selector.select(TIMEOUT_S):
            buffer = buffers[key.fd]
            data = sockets[key.fd].recv(65536)
            if not data:
                raise WrongAnswer("the server hung up")
            buffer += data
            size = _size(buffer)
            if not size or len(buffer) < size:
                continue
            _check(buffer, expected)
            if finished < 10_000:
                environments.add(_environment(buffer))
            buffer.clear()
            finished += 1
            sockets[key.fd].sendall(message)
    elapsed = time.perf_counter() - begun
    for connected in sockets.values():
        connected.close()
    return Storm(finished, elapsed, len(environments - {b""}))


def _environment(answer: bytearray) -> bytes:
    at = answer.find(b"X-Lambent-Environment: ")
    return bytes(answer[at : answer.find(b"\r", at)]) if at >= 0 else b""


def _main(host: str, port: str, path: str, expected: str, connections: str, seconds: str) -> int:
    try:
        done = _drive(Target(host, int(port), path, expected.encode()), int(connections), float(seconds))
    except WrongAnswer as wrong:
        print(wrong)
        return 1
    print(json.dumps({"calls": done.calls, "seconds": done.seconds, "environments": done.environments}))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
