"""The table of runtimes against the service model's own enumeration."""

from __future__ import annotations

import botocore.session
import pytest

from lambent.runtimes.catalog import CATALOG, RuntimeUnavailable, look_up


def test_every_runtime_of_the_model_has_a_row() -> None:
    model = botocore.session.Session().get_service_model("lambda")
    assert set(CATALOG) == set(model.shape_for("Runtime").enum)


@pytest.mark.parametrize("identifier", ["python3.9", "python3.14", "nodejs20.x", "nodejs24.x", "provided.al2023"])
def test_what_can_run_is_looked_up(identifier: str) -> None:
    assert look_up(identifier).identifier == identifier


@pytest.mark.parametrize(("identifier", "words"), [
    ("java21", "Java functions are not supported yet"), ("dotnet8", ".NET functions are not supported yet"),
    ("ruby3.3", "Ruby functions are not supported yet"), ("go1.x", "go1.x functions are not supported yet"),
    ("python3.8", "too old for the runtime client"), ("nodejs18.x", "too old for the runtime client"),
    ("cobol85", "is not a Lambda runtime"),
])  # fmt: skip
def test_what_cannot_run_says_so_in_one_line(identifier: str, words: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=words) as caught:
        look_up(identifier)
    assert "Supported are python3.9 and later" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.code == "InvalidRuntime"


def test_only_compiled_families_are_bound_to_an_architecture() -> None:
    assert CATALOG["python3.12"].interpreted and CATALOG["nodejs20.x"].interpreted
    assert not CATALOG["provided.al2023"].interpreted
