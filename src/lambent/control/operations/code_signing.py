"""Code signing configurations, and which functions use them.

They are kept, shown and counted. Signatures are not verified: a package is taken whatever the policy says. Facts: fact
sheet 14.2; a function without a configuration answers empty (trap 47), and some errors carry no Type (recorded).
"""

from __future__ import annotations

import secrets
import string
from typing import Any

from lambent.clock import lambda_time
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.pages import page
from lambent.control.rules import check_tags
from lambent.control.targets import find_function
from lambent.errors import ApiError, conflict
from lambent.names import FunctionName
from lambent.store.documents import Document, Shelf
from lambent.store.writer import Change, together

_LETTERS = string.ascii_lowercase + string.digits
_MEMBERS = ("Description", "AllowedPublishers", "CodeSigningPolicies")


@operation("CreateCodeSigningConfig")
async def create_code_signing_config(context: Context, params: Params) -> Answer:
    check_tags(params.get("Tags", {}))
    config_id = "csc-" + "".join(secrets.choice(_LETTERS) for _ in range(17))
    document = {member: params[member] for member in _MEMBERS if member in params}
    document.setdefault("CodeSigningPolicies", {"UntrustedArtifactOnDeployment": "Warn"})
    document |= {"LastModified": lambda_time(context.clock.wall()), "Tags": params.get("Tags", {})}
    await context.store.change(lambda: context.store.documents.save(_shelf(context), config_id, document))
    return _wrapped(context, config_id, document)


@operation("GetCodeSigningConfig")
def get_code_signing_config(context: Context, params: Params) -> Answer:
    return _wrapped(context, *_find(context, params["CodeSigningConfigArn"]))


@operation("UpdateCodeSigningConfig")
async def update_code_signing_config(context: Context, params: Params) -> Answer:
    arn = params["CodeSigningConfigArn"]

    def decide() -> Change[Document]:
        config_id, before = _find(context, arn)
        changes = {member: params[member] for member in _MEMBERS if member in params}
        if not changes:
            return Change((), lambda: before)
        after = {**before, **changes, "LastModified": lambda_time(context.clock.wall())}
        return context.store.documents.save(_shelf(context), config_id, after)

    return _wrapped(context, _id(arn), await context.store.change(decide))


@operation("DeleteCodeSigningConfig")
async def delete_code_signing_config(context: Context, params: Params) -> Answer:
    arn = params["CodeSigningConfigArn"]

    def decide() -> Change[None]:
        config_id, _ = _find(context, arn)
        if _users(context, arn):
            raise conflict(f"The code signing configuration {arn} is used by functions; take it from them first.")
        return context.store.documents.remove(_shelf(context), config_id)

    await context.store.change(decide)
    return None


@operation("ListCodeSigningConfigs")
def list_code_signing_configs(context: Context, params: Params) -> Answer:
    found, more = page(context.store.documents.all(_shelf(context)), lambda item: item[0], params)
    return {"CodeSigningConfigs": [_shown(context, *item) for item in found], **more}


@operation("ListFunctionsByCodeSigningConfig")
def list_functions_by_code_signing_config(context: Context, params: Params) -> Answer:
    arn = params["CodeSigningConfigArn"]
    _find(context, arn)
    found, more = page(_users(context, arn), lambda name: name, params)
    arns = [FunctionName(context.account, context.region, name).arn for name in found]
    return {"FunctionArns": arns, **more}


@operation("PutFunctionCodeSigningConfig")
async def put_function_code_signing_config(context: Context, params: Params) -> Answer:
    arn = params["CodeSigningConfigArn"]
    named = _named(context, params, "PutFunctionCodeSigningConfig")

    def decide() -> Change[Document]:
        check_config(context, arn)
        find_function(context, named)
        return attach(context, named, arn)

    await context.store.change(decide)
    return {"CodeSigningConfigArn": arn, "FunctionName": named.name}


@operation("GetFunctionCodeSigningConfig")
def get_function_code_signing_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "GetFunctionCodeSigningConfig")
    find_function(context, named)
    document = context.store.documents.get(Shelf(*named.key, "code-signing"), "")
    return {} if document is None else {**document, "FunctionName": named.name}


@operation("DeleteFunctionCodeSigningConfig")
async def delete_function_code_signing_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "DeleteFunctionCodeSigningConfig")

    def decide() -> Change[None]:
        find_function(context, named)
        shelf = Shelf(*named.key, "code-signing")
        if context.store.documents.get(shelf, "") is None:
            return Change((), lambda: None)
        return context.store.documents.remove(shelf, "")

    await context.store.change(decide)
    return None


def check_config(context: Context, arn: str) -> None:
    """ApiError when a function cannot use the configuration of this ARN, since it is not there."""
    if context.store.documents.get(_shelf(context), _id(arn)) is None or arn != _arn(context, _id(arn)):
        raise ApiError("CodeSigningConfigNotFoundException",
                       "The code signing configuration cannot be found. Check that the provided configuration is not "
                       f"deleted: {arn}.")  # fmt: skip


def attach(context: Context, named: FunctionName, arn: str) -> Change[Document]:
    """Have a function use a configuration."""
    return context.store.documents.save(Shelf(*named.key, "code-signing"), "", {"CodeSigningConfigArn": arn})


def created_with(context: Context, named: FunctionName, params: Params, created: Change[Any]) -> Change[Any]:
    """The creation of a function, with the configuration that its request names attached. ApiError as above."""
    arn = params.get("CodeSigningConfigArn")
    if arn is None:
        return created
    check_config(context, arn)
    return together(created, attach(context, named, arn))


def _named(context: Context, params: Params, action: str) -> FunctionName:
    return context.function(params["FunctionName"], action=action)


def _shelf(context: Context) -> Shelf:
    return Shelf(context.account, context.region, "", "code-signing-config")


def _id(arn: str) -> str:
    return arn.rpartition(":")[2]


def _arn(context: Context, config_id: str) -> str:
    return f"arn:aws:lambda:{context.region}:{context.account}:code-signing-config:{config_id}"


def _find(context: Context, arn: str) -> tuple[str, Document]:
    document = context.store.documents.get(_shelf(context), _id(arn))
    if document is None or arn != _arn(context, _id(arn)):
        raise ApiError("ResourceNotFoundException", f"The Lambda code signing configuration {arn} can not be found.",
                       typed=False)  # fmt: skip
    return _id(arn), document


def _users(context: Context, arn: str) -> list[str]:
    """Names of the functions that use a configuration, sorted."""
    attached = context.store.documents.on_functions(context.account, context.region, "code-signing")
    return sorted(name for name, _, document in attached if document["CodeSigningConfigArn"] == arn)


def _shown(context: Context, config_id: str, document: Document) -> dict[str, Any]:
    members = {member: value for member, value in document.items() if member != "Tags"}
    return {"CodeSigningConfigId": config_id, "CodeSigningConfigArn": _arn(context, config_id), **members}


def _wrapped(context: Context, config_id: str, document: Document) -> dict[str, Any]:
    return {"CodeSigningConfig": _shown(context, config_id, document)}
