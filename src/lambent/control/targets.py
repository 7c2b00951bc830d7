"""What a setting of a function hangs on: the function itself, one of its versions, or one of its aliases.

Each has a RevisionId of its own, which AWS changes with policies and tags too (recorded).
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import NamedTuple

from lambent.control.context import Context
from lambent.errors import ApiError, not_found
from lambent.names import LATEST, FunctionName
from lambent.store.functions import Function, Key


class Target(NamedTuple):
    """A function, and the qualifier that was named: a version's number, an alias, or `$LATEST` without one."""

    function: Function
    qualifier: str
    arn: str  #: qualified, unless the caller named no qualifier

    @property
    def key(self) -> Key:
        return self.function.key

    @property
    def revision(self) -> str:
        alias = self.function.aliases.get(self.qualifier)
        if alias is not None:
            return alias.revision_id
        revision: str = self.function.versions[self.qualifier].configuration["RevisionId"]
        return revision

    def revised(self) -> Function:
        """The function with a new RevisionId where this target's stands."""
        revision = str(uuid.uuid4())
        alias = self.function.aliases.get(self.qualifier)
        if alias is not None:
            aliases = {**self.function.aliases, alias.name: replace(alias, revision_id=revision)}
            return replace(self.function, aliases=aliases)
        version = self.function.versions[self.qualifier]
        return self.function.with_version(
            replace(version, configuration={**version.configuration, "RevisionId": revision}))


def find_target(context: Context, named: FunctionName) -> Target:
    """What a caller named. ApiError (404) when the function, the version or the alias is not there."""
    function = find_function(context, named)
    qualifier = named.qualifier or LATEST
    if qualifier not in function.versions and qualifier not in function.aliases:
        if qualifier.isdecimal() or "$" in qualifier:  # neither can be an alias's name
            raise not_found(f"Function not found: {named.qualified_arn}")
        raise not_found(f"Cannot find alias arn: {named.qualified_arn}")
    return Target(function, qualifier, named.qualified_arn)


def find_function(context: Context, named: FunctionName) -> Function:
    """The function that a caller named, whatever the qualifier. ApiError (404) when it is not there."""
    function = context.store.functions.get(*named.key)
    if function is None:
        raise not_found(f"Function not found: {named.arn}")
    return function


def check_revision(target: Target, wanted: str | None, source: str = "GetFunction/GetAlias") -> None:
    """ApiError (412) when a caller believes in another state than the present one; `source` tells that one."""
    if wanted is not None and wanted != target.revision:
        raise stale(source)


def stale(source: str) -> ApiError:
    """The 412 of a RevisionId that is not the present one; `source` is the operation that tells that one."""
    return ApiError("PreconditionFailedException",
                    f"The Revision Id provided does not match the latest Revision Id. Call the {source} API to "
                    "retrieve the latest Revision Id")  # fmt: skip
