"""The arithmetic and the report of `make bench`; the measuring itself is seen in its table."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import cast

import bench.__main__ as command
import pytest
from bench import Options, core, memory, neighbours, report
from bench.burst import together
from bench.cold import Fresh, header
from bench.density import Crowd
from bench.measure import Line, around, median, quantile, ratio, rounds
from bench.peers import Peers
from bench.processes import children, identity, parent, pss_bytes
from bench.server import NoServer, Server
from bench.soak import leaks
from bench.soak_watch import Holdings
from bench.wire import Target, WrongAnswer, _check, _size


def test_quantiles_are_samples() -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(samples, share) for share in (0.0, 0.5, 0.9, 1.0)] == [1.0, 3.0, 5.0, 5.0]
    assert median([2.0, 1.0]) == 1.0


def test_a_ratio_is_the_middle_of_its_rounds() -> None:
    compared = ratio([1.0, 30.0, 3.0], [2.0, 10.0, 4.0])
    assert (compared.middle, compared.spread) == (0.75, (0.5, 3.0))


def test_rounds_and_spread_are_of_samples() -> None:
    assert rounds([3.0, 1.0, 2.0, 9.0], 3) == [2.0, 9.0]
    assert around([float(number) for number in range(1, 101)]) == (5.0, 95.0)


def test_a_sample_needs_an_environment_and_a_process_of_its_own() -> None:
    fresh = Fresh()
    fresh.environment("a-1")
    fresh.processes([(10, 500)])
    fresh.processes([(10, 600)])  # the same id, later: another process
    with pytest.raises(WrongAnswer):
        fresh.environment("a-1")
    for served in ([(11, 1), (10, 500)], []):
        with pytest.raises(WrongAnswer):
            fresh.processes(served)
    fresh.one_of([(10, 500), (12, 2)])
    with pytest.raises(WrongAnswer):
        fresh.one_of([(10, 500), (12, 2)])


def test_processes_are_told_apart_by_id_and_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert identity(child.pid) in children(os.getpid())
        assert parent(child.pid) == os.getpid()
        assert pss_bytes(os.getpid()) > 100_000
        assert child.stdin is not None
        child.stdin.close()
    with pytest.raises(OSError):
        identity(child.pid)


def test_a_header_is_read_from_an_answer() -> None:
    assert header(b"HTTP/1.1 200 OK\r\nX-One: a-7\r\nX-Two: b\r\n\r\n", b"X-One") == "a-7"


class Refusing:
    """A server that answers every call at once: nobody ever gets into the function."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.target = Target("127.0.0.1", self._listening.getsockname()[1], "/", b"{}")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listening:
            connected = [self._listening.accept()[0] for _ in range(2)]
            connected[0].recv(4096)
            connected[0].sendall(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
            connected[1].recv(4096)
            for one in connected:
                one.close()

    def join(self) -> None:
        self._thread.join(30)


def test_a_burst_in_which_a_call_is_refused_is_no_measurement() -> None:
    refusing = Refusing()
    with pytest.raises(WrongAnswer, match="429"):
        together(refusing.target, 2)
    refusing.join()


def test_growing_stops_with_what_gave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.density.available_bytes", lambda: 1 << 20)
    crowd = Crowd(deque(["a", "b"]))
    crowd.grow(cast(Server, None))
    assert crowd.gave_out == "memory of this host: less than 1024 MiB are left"
    assert crowd.held == {} and list(crowd.names) == ["b"]


def test_environments_that_made_room_are_not_held() -> None:
    crowd = Crowd(deque(), {"a": "x-1", "b": "x-2"}, [1.0, 2.0])
    crowd.keep({"x-1", "x-2", "x-3"})
    assert crowd.gave_out == "" and len(crowd.held) == 2
    crowd.keep({"x-2"})
    assert crowd.held == {"b": "x-2"}
    assert crowd.gave_out.endswith("2 were made, of which 1 idle ones made room")


def test_a_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: Options) -> list[Line]:
        raise NoServer("it does not start")

    monkeypatch.setattr(memory, "measure", fail)
    lines, failed = command.measure({"core", "memory"}, Options(), Peers())
    assert len(lines) == 2
    assert failed == ["memory could not be measured: it does not start"]


def test_both_machines_take_three_events_for_a_warm_invocation() -> None:
    pair = core.Pair()
    before = core._steps(pair.environment), core._steps(pair.scheduler)
    pair.call("r")
    assert (core._steps(pair.environment) - before[0], core._steps(pair.scheduler) - before[1]) == (3, 3)


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\nContent-Length: 2\r\n\r\n{}",
])  # fmt: skip
def test_a_wrong_answer_is_no_sample(answer: bytes) -> None:
    assert _size(answer) == len(answer)
    with pytest.raises(WrongAnswer):
        _check(answer, b"{}")


def test_an_answer_is_measured_once_its_head_is_there() -> None:
    assert _size(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n") == 0
    assert _size(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12") == 39 + 10
    with pytest.raises(WrongAnswer):
        _size(b"HTTP/1.1 200 OK\r\n\r\n")


def test_the_result_names_figures_and_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    lines = [
        Line("fast", "us", 120.0, "ratio at most 0.5", True, 300.0, 0.4, (0.3, 0.5), "seen", (90, 150), 200, 5000.0),
        Line("slow", "ms", 12.5, "under 10 ms", False),
        Line("shown", "us", 3.0, "", None),
    ]
    path = report.save(report.Machine.here(), {"lambent": "0"}, lines)
    shown, kept = path.read_text(), json.loads(path.with_suffix(".json").read_text())
    fast = "| fast  | 120 us (90.0 to 150.0) | 300 us   | 0.40 (0.30 to 0.50) | 5,000 us  | ratio at most 0.5 | yes |"
    assert fast in shown
    slow = "| slow  | 12.5 ms                |          |                     |           | under 10 ms       | NO  |"
    assert slow in shown
    assert "- fast: 200 samples; seen" in shown
    assert [line["met"] for line in kept["lines"]] == [True, False, None]
    assert socket.gethostname() not in {*kept["machine"].values(), path.name}


def test_a_neighbour_is_compared_with_the_quiet_spell_of_its_own_round() -> None:
    result = neighbours.Result()
    for quiet, then in ((100.0, 150.0), (1000.0, 1900.0), (10.0, 90.0)):
        result.quiet.append([quiet] * 100)
        result.hostile.append([then] * 100)
    assert result.ratio(0.5) == result.ratio(0.99) == 1.9
    assert result.met
    result.hostile[1] = [1900.0] * 90 + [2100.0] * 10
    assert result.ratio(0.5) == 1.9 and result.ratio(0.99) == 2.1 and not result.met


def test_whatever_is_left_after_a_soak_is_named() -> None:
    before = Holdings(50_000, Counter(socket=3, pipe=1), 5, 8, 21, 6)
    assert leaks(before, replace(before, rss_kib=90_000, processes=4)) == []
    after = replace(before, descriptors=Counter(socket=4, eventfd=1), processes=6, groups=9, loops=7)
    assert leaks(before, after) == [
        "1 processes are left", "1 groups are left", "1 loops are left",
        "descriptors are left: {'socket': 1, 'eventfd': 1}"]  # fmt: skip
