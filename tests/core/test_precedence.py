"""Who gives way on the processors: the rule, then random walks against a list that is searched anew each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lambent.core.precedence import AFTER_S, Precedence


def test_who_works_for_long_gives_way_until_its_next_invocation_begins() -> None:
    precedence = Precedence[str]()
    assert precedence.next_at is None and precedence.due(0.0) == []
    assert not precedence.began("long", 1.0)
    assert not precedence.began("later", 1.05)
    assert precedence.next_at == 1.0 + AFTER_S
    assert precedence.due(1.0 + AFTER_S) == ["long"]
    assert precedence.due(1.0 + AFTER_S) == []  # told once
    precedence.rests("long")
    assert precedence.next_at == 1.05 + AFTER_S
    assert precedence.began("long", 1.11)  # so its weight is to be restored
    assert not precedence.began("long", 1.12)  # and once is enough


def test_short_invocations_one_after_the_other_never_give_way() -> None:
    precedence = Precedence[str]()
    for number in range(100):
        at = number * AFTER_S / 2
        assert not precedence.began("busy", at) and precedence.due(at) == []


def test_nothing_is_kept_of_who_is_gone() -> None:
    precedence = Precedence[str]()
    precedence.began("a", 0.0)
    precedence.began("b", 0.0)
    precedence.gone("a")
    assert precedence.due(9.0) == ["b"] and precedence.next_at is None
    precedence.gone("b")
    assert not precedence.began("b", 10.0)


STEPS = st.lists(st.tuples(st.sampled_from(["began", "rests", "gone", "due"]), st.integers(0, 4),
                           st.integers(0, 60)), max_size=60)  # fmt: skip


@given(STEPS)
def test_any_walk_tells_what_a_search_would(steps: list[tuple[str, int, int]]) -> None:
    precedence, early, lighter, working, milliseconds = Precedence[int](), dict[int, float](), set[int](), set[int](), 0
    for what, worker, passed in steps:
        milliseconds += passed
        at = milliseconds / 1000
        if what == "began":
            assert precedence.began(worker, at) is (worker in lighter)
            lighter.discard(worker)
            early[worker] = at
            working.add(worker)
        elif what == "due":
            late = {one for one, began in early.items() if began + AFTER_S <= at}
            assert set(precedence.due(at)) == late
            lighter |= late
            early = {one: began for one, began in early.items() if one not in late}
        else:
            early.pop(worker, None)
            working.discard(worker)
            getattr(precedence, what)(worker)
            if what == "gone":
                lighter.discard(worker)
        assert precedence.next_at == (min(early.values()) + AFTER_S if early else None)
        assert precedence.working == len(working)
