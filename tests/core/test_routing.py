"""Weighted aliases: every number leads to one version, and shares are the weights."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambent.core.routing import choose


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_other_version_gets_numbers_below_its_weight(weight: float, number: float) -> None:
    assert choose("main", [("other", weight)], number) == ("other" if number < weight else "main")


def test_shares_are_the_weights() -> None:
    drawn = [choose("main", [("a", 0.25), ("b", 0.5)], number / 1000) for number in range(1000)]
    assert {name: drawn.count(name) for name in ("a", "b", "main")} == {"a": 250, "b": 500, "main": 250}


def test_no_others_means_main() -> None:
    assert choose("main", (), 0.0) == "main"
