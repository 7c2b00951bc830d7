"""Counts of what is needed: held, let go, told once when nobody is left."""

from __future__ import annotations

import pytest

from lambent.store.references import References, names_of, opt_name


def test_name_is_free_when_its_last_holder_lets_go() -> None:
    references = References()
    told: list[str] = []
    references.freed = told.append
    references.hold(["a", "b", "a"])
    with references.held(["b", "c"]):
        assert set(references) == {"a", "b", "c"} and "c" in references
    assert told == ["c"] and "c" not in references
    references.release(["a"])
    assert told == ["c"] and "a" in references
    references.release(["a", "b"])
    assert told == ["c", "a", "b"] and not set(references)


def test_letting_go_of_what_is_not_held_is_a_defect() -> None:
    references = References()
    references.hold(["a"])
    references.release(["a"])
    with pytest.raises(AssertionError, match="a is released more often"):
        references.release(["a"])


def test_names_of_a_version() -> None:
    assert names_of("code", ()) == ("code",)
    assert set(names_of("code", ("one",))) == {"code", "one"} and opt_name(("one",)) == "one"
    two = names_of("code", ("one", "two"))
    assert two[:3] == ("code", "one", "two") and two[3].startswith("opt-")
    assert opt_name(("two", "one")) != two[3]
