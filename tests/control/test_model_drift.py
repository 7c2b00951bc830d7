"""The committed model is what the pinned botocore gives, and the vocabulary that others repeat agrees with it."""

from __future__ import annotations

import runpy
from pathlib import Path

from lambent import errors, names
from lambent.control import model, overrides
from lambent.control.context import LOGS, OPERATIONS
from lambent.control.routes import BY_NAME, find

ROOT = Path(__file__).resolve().parent.parent.parent


def test_committed_model_is_what_the_script_makes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "compile_model.py"))
    assert script["TARGET"] == Path(model.__file__)
    assert script["render"]() == Path(model.__file__).read_text("utf-8"), "run scripts/compile_model.py"


def test_name_patterns_are_those_of_the_model() -> None:
    for shape, pattern in names.PATTERNS.items():
        assert model.SHAPES[shape]["pattern"] == pattern
        assert model.SHAPES[shape]["max"] == names.MAX_LENGTHS[shape]


def test_error_table_agrees_with_the_model() -> None:
    for code, (status, lower) in errors.CODES.items():
        if code in model.ERRORS:
            assert (status, "message" if lower else "Message") == model.ERRORS[code], code


def test_overrides_name_shapes_members_and_operations_that_exist() -> None:
    assert overrides.SHAPES.keys() <= model.SHAPES.keys()
    for structure, member in overrides.MEMBERS:
        assert member in model.SHAPES[structure]["members"]
    assert overrides.STATUSES.keys() <= model.OPERATIONS.keys()


def test_every_operation_of_the_model_is_routed_and_every_registered_one_is_in_it() -> None:
    assert len(BY_NAME) == len(model.OPERATIONS) >= 88
    for name, (method, uri, _, _, _) in model.OPERATIONS.items():
        path, _, query = uri.partition("?")
        path = path.replace("{", "").replace("}", "")
        for written in (path, path + "/"):
            found = find(method, written, query)
            assert found is not None and found[0].name == name
            assert all(label == value for label, value in found[1].items())
    assert OPERATIONS.keys() <= model.OPERATIONS.keys()
    assert LOGS.keys() <= model.LOGS_OPERATIONS.keys()


def test_paths_that_are_no_operation() -> None:
    for path in ("", "/", "/2015-03-31", "/2015-03-31/functions//configuration", "/2015-03-31/nothing"):
        assert find("GET", path, "") is None
    assert find("PATCH", "/2015-03-31/functions", "") is None
    found = find("GET", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Aa%2Fb", "")
    assert found is not None and found[1] == {"Resource": "arn:aws:lambda:us-east-1:0:function:a/b"}
