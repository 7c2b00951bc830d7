"""Names and ARNs of functions and layers in every form that AWS takes, and the errors for those that it refuses.

A caller may say `name`, `name:qualifier`, `123456789012:function:name`, or the whole ARN, and a qualifier beside it.
Only the text is judged here; whether such a function exists is the store's to say. Facts: fact sheet 6.2, 6.7 and
trap 37 (a bare `function` is a legal name; 64 characters are a limit on creation only).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lambent.errors import ApiError, invalid_parameter, not_found

LATEST = "$LATEST"

_PREFIX = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?"
    r"((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
)
#: The model's patterns, by the shape's name. `tests/test_names.py` compares them with the compiled model.
PATTERNS: dict[str, str] = {
    "NamespacedFunctionName": _PREFIX + r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    "FunctionName": _PREFIX + r"([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?",
    "NumericLatestPublishedOrAliasQualifier": r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+",
}
MAX_LENGTHS = {"NamespacedFunctionName": 256, "FunctionName": 140, "NumericLatestPublishedOrAliasQualifier": 128}
MAX_NAME = 64  # API reference, CreateFunction

_FORMS = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_-]+))?",
    re.ASCII,
)
_LAYER = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:)?"
    r"(?P<name>[a-zA-Z0-9_-]+)(?::(?P<version>[0-9]{1,18}))?",
    re.ASCII,
)

Action = Literal[
    "InvokeFunction", "GetFunction", "GetFunctionConfiguration", "CreateFunction", "UpdateFunctionCode",
    "UpdateFunctionConfiguration", "DeleteFunction",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FunctionName:
    """What a caller named. `qualifier` is None when there was none in either place."""

    account: str
    region: str
    name: str
    qualifier: str | None = None

    @property
    def arn(self) -> str:
        """The unqualified ARN."""
        return function_arn(self.account, self.region, self.name)

    @property
    def qualified_arn(self) -> str:
        """The ARN as the caller named it: with the qualifier if there was one."""
        return self.arn if self.qualifier is None else f"{self.arn}:{self.qualifier}"

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.account, self.region, self.name)


def function_arn(account: str, region: str, name: str) -> str:
    return f"arn:aws:lambda:{region}:{account}:function:{name}"


def runtime_version_arn(region: str, runtime: str) -> str:
    """An ARN in AWS's form that is always the same for a runtime: configurations and INIT_START show the same one."""
    return f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(runtime.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class LayerName:
    """What a caller named. `version` is None when there was none."""

    account: str
    region: str
    name: str
    version: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.account, self.region, self.name)

    @property
    def arn(self) -> str:
        """The ARN without a version."""
        return layer_arn(self.account, self.region, self.name)


def layer_arn(account: str, region: str, name: str) -> str:
    return f"arn:aws:lambda:{region}:{account}:layer:{name}"


def parse_layer(text: str, *, account: str, region: str) -> LayerName:
    """The layer that a name, an ARN or an ARN with a version means to a caller of this account and region.

    ValueError for what the model's patterns would not have let through.
    """
    form = _LAYER.fullmatch(text)
    if form is None:
        raise ValueError(f"{text!r} names no layer")
    version = None if form["version"] is None else int(form["version"])
    return LayerName(form["account"] or account, form["region"] or region, form["name"], version)


def parse_function(text: str, qualifier: str | None = None, *, account: str, region: str,
                   action: str = "InvokeFunction",
                   shared: Callable[[FunctionName], bool] | None = None) -> FunctionName:
    """The function that `text` (percent-decoded) and `qualifier` mean for a caller of this account and region.

    Raises ApiError: 400 ValidationException for text that is no name, 400 InvalidParameterValueException when two
    qualifiers disagree, 404 for another region, 403 for another account, unless `shared` says that it lets this one in.
    """
    form = _FORMS.fullmatch(text) if len(text) <= MAX_LENGTHS["NamespacedFunctionName"] else None
    wrong = qualifier_problems(qualifier) if qualifier is not None else []
    if form is None or wrong:
        raise validation_error(name_problems(text) + wrong)
    inner = form["qualifier"]
    if inner is not None and qualifier is not None and inner != qualifier:
        raise invalid_parameter(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    if form["region"] is not None and form["region"] != region:
        raise not_found(f"Functions from '{form['region']}' are not reachable in this region ('{region}')")
    owner = form["account"] or account
    named = FunctionName(owner, region, form["name"], inner if inner is not None else qualifier)
    if owner != account and (shared is None or not shared(named)):
        raise not_allowed(account, action, named.arn)
    return named


def split_qualifier(text: str) -> tuple[str, str | None]:
    """A function's name or ARN without the qualifier, and the qualifier; text that is no name as it is."""
    form = _FORMS.fullmatch(text)
    if form is None or form["qualifier"] is None:
        return text, None
    return text[: form.start("qualifier") - 1], form["qualifier"]


def is_alias(qualifier: str) -> bool:
    """Whether a qualifier can only be an alias, whose names are no numbers."""
    return not qualifier.startswith("$") and not re.fullmatch(r"[0-9]+", qualifier)


def not_allowed(account: str, action: str, arn: str) -> ApiError:
    """What belongs to another account, and is not shared with this one. The words are AWS's, who has none for those
    that would create a function there (recorded)."""
    if action == "CreateFunction":
        return ApiError("AccessDeniedException", "")
    return ApiError("AccessDeniedException",
                    f"User: arn:aws:iam::{account}:root is not authorized to perform: lambda:{action} on resource: "
                    f"{arn} because no resource-based policy allows the lambda:{action} action")  # fmt: skip


def validation_error(problems: list[str]) -> ApiError:
    """AWS's framework error for one or more broken constraints."""
    count = len(problems)
    return ApiError("ValidationException",
                    f"{count} validation error{'s' if count > 1 else ''} detected: {'; '.join(problems)}")  # fmt: skip


def name_problems(text: str) -> list[str]:
    """What is wrong with the name of a function, in the framework's words; empty for one that is legal."""
    return _problems(text, "functionName", "NamespacedFunctionName")


def qualifier_problems(text: str) -> list[str]:
    """The same for a qualifier."""
    return _problems(text, "qualifier", "NumericLatestPublishedOrAliasQualifier")


def _problems(text: str, member: str, shape: str) -> list[str]:
    problems = []
    if len(text) > MAX_LENGTHS[shape]:
        problems.append(f"Member must have length less than or equal to {MAX_LENGTHS[shape]}")
    if not text:
        problems.append("Member must have length greater than or equal to 1")
    if not re.fullmatch(PATTERNS[shape], text, re.ASCII):
        problems.append(f"Member must satisfy regular expression pattern: {PATTERNS[shape]}")
    start = f"Value '{text}' at '{member}' failed to satisfy constraint: "
    return [start + problem for problem in problems]
