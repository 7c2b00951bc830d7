"""The arithmetic and the report of `make bench`; the measuring itself is seen in its table."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from bench import core, report
from bench.measure import Line, median, quantile, ratio
from bench.wire import WrongAnswer, _check, _size


def test_quantiles_are_samples() -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [quantile(samples, share) for share in (0.0, 0.5, 0.9, 1.0)] == [1.0, 3.0, 5.0, 5.0]
    assert median([2.0, 1.0]) == 1.0


def test_a_ratio_is_the_middle_of_its_rounds() -> None:
    compared = ratio([1.0, 30.0, 3.0], [2.0, 10.0, 4.0])
    assert (compared.middle, compared.spread) == (0.75, (0.5, 3.0))


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
        Line("fast", "us", 120.0, "ratio at most 0.5", True, 300.0, 0.4, (0.3, 0.5), "seen"),
        Line("slow", "ms", 12.5, "under 10 ms", False),
        Line("shown", "us", 3.0, "", None),
    ]
    path = report.save(report.Machine.here(), {"lambent": "0"}, lines)
    shown, kept = path.read_text(), json.loads(path.with_suffix(".json").read_text())
    assert "| fast  | 120 us  | 300 us   | 0.40 (0.30 to 0.50) | ratio at most 0.5 | yes |" in shown
    assert "| slow  | 12.5 ms |          |                     | under 10 ms       | NO  |" in shown
    assert "- fast: seen" in shown
    assert [line["met"] for line in kept["lines"]] == [True, False, None]
    assert socket.gethostname() not in {*kept["machine"].values(), path.name}
