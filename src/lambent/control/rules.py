"""Rules about a function's settings that the model does not hold, and settings that are refused by name.

A setting that a function would miss is refused, so that nobody believes in it; `stored_settings` has those that are
kept and shown. Messages in AWS's words where AWS has them (fact sheet 9.5, 20); the others say what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambent.control.code_source import check_source
from lambent.control.context import not_served
from lambent.control.model import SHAPES
from lambent.errors import ApiError, invalid_parameter
from lambent.limits import MEMORY_MIB_MAX
from lambent.names import validation_error
from lambent.runtimes.catalog import CATALOG

MAX_TAGS = 50

#: Runtimes that AWS's list of all of them begins with (recorded).
_FIRST = ("nodejs20.x", "python3.14")
#: Settings that are not served. Empty values ask for nothing and are let through.
REFUSED = ("CapacityProviderConfig", "DurableConfig", "PublishTo", "TenancyConfig")


def check_create(params: Mapping[str, Any]) -> None:
    """What CreateFunction's parameters must obey together. Raises ApiError."""
    if params.get("PackageType") == "Image":
        raise not_served("PackageType Image")
    check_settings(params)
    if "Runtime" not in params or "Handler" not in params:
        raise invalid_parameter("Runtime and Handler are mandatory parameters for functions created with deployment "
                                "packages.")  # fmt: skip
    check_code(params["Code"], params)
    check_tags(params.get("Tags", {}))


def check_tags(tags: Mapping[str, str]) -> None:
    """What all tags of a resource must obey together. Raises ApiError."""
    if len(tags) > MAX_TAGS:
        raise invalid_parameter("Number of tags exceeds resource tag limit.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise invalid_parameter("Tag keys must not begin with aws:, which is reserved.")


def check_settings(params: Mapping[str, Any]) -> None:
    """What the settings of a create or an update must obey. Raises ApiError."""
    if "Runtime" in params:
        _check_runtime(params["Runtime"])
    if params.get("MemorySize", 0) > MEMORY_MIB_MAX:
        # The model's limit is that of Managed Instances; below it AWS says the account's, without its usual start.
        raise ApiError("ValidationException", "'MemorySize' value failed to satisfy constraint: Member must have value "
                       f"less than or equal to {MEMORY_MIB_MAX}")  # fmt: skip
    for member in REFUSED:
        if _says_something(params.get(member)):
            raise not_served(f"The setting {member}")


def check_code(code: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Exactly one source of code, and one that is served; `params` is the request around it. Raises ApiError."""
    if _says_something(params.get("PublishTo")):
        raise not_served("The setting PublishTo")
    check_source(code, "FunctionCode")


def _says_something(value: Any) -> bool:
    """False for an absent value and for one that is empty all the way down, as `{"SubnetIds": []}`."""
    if isinstance(value, Mapping):
        return any(_says_something(item) for item in value.values())
    return bool(value)


def _check_runtime(runtime: str) -> None:
    if runtime not in SHAPES["Runtime"]["enum"]:
        raise invalid_parameter(f"Value {runtime} at 'runtime' failed to satisfy constraint: {_one_of_current()} or be "
                                "a valid ARN")  # fmt: skip
    if _is_gone(runtime):
        raise _gone(runtime)


def check_compatible(runtimes: list[str], architectures: list[str]) -> None:
    """What a layer says that it goes with; old runtimes are let through. ApiError in words of the operation's own:
    runtimes first, and no word on null (recorded)."""
    problems = []
    if not set(runtimes) <= set(SHAPES["Runtime"]["enum"]):
        problems.append(f"Value '[{', '.join(runtimes)}]' at 'compatibleRuntimes' failed to satisfy constraint: "
                        f"{_one_of_current()}")  # fmt: skip
    known: list[str] = SHAPES["Architecture"]["enum"]
    if not set(architectures) <= set(known):
        problems.append(f"Value '[{', '.join(architectures)}]' at 'compatibleArchitectures' failed to satisfy "
                        f"constraint: Member must satisfy constraint: [Member must satisfy enum value set: "
                        f"[{', '.join(known)}]]")  # fmt: skip
    if problems:
        raise validation_error(problems)


def _one_of_current() -> str:
    """The rule that lists the runtimes of today."""
    known: list[str] = SHAPES["Runtime"]["enum"]
    current = [*_FIRST, *(name for name in known if not _is_gone(name) and name not in _FIRST)]
    return f"Member must satisfy enum value set: [{', '.join(current)}]"


def _is_gone(runtime: str) -> bool:
    """AWS has blocked it, and it cannot run here either; older ones that still run here are let through."""
    entry = CATALOG.get(runtime)
    return entry is not None and entry.deprecated == "long ago" and entry.unsupported is not None


def _gone(runtime: str) -> ApiError:
    return invalid_parameter(f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS "
                             "Lambda functions. We recommend you use a supported runtime while creating or updating "
                             "functions.")  # fmt: skip
