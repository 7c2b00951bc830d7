"""Function URLs: their configurations, created, shown, listed, updated, deleted.

A URL belongs to a function or to an alias, never to a number; it survives its alias and answers 403 then. Serving it is
the frontend's. AWS_IAM is kept and every request refused, since signatures are not checked; whom NONE lets in is in
`control/function_policies.py`. Facts: fact sheet 7.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from lambent.clock import rfc3339
from lambent.control.context import Answer, Context, Params, operation
from lambent.control.pages import page
from lambent.errors import conflict, invalid_parameter, not_found
from lambent.names import FunctionName
from lambent.store.functions import Function
from lambent.store.urls import FunctionUrl
from lambent.store.writer import Change

_LETTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 32
#: OPTIONS is the preflight's own (API reference, Cors).
_METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*"})
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[a-z0-9.*_-]+(:[0-9]{1,5})?", re.IGNORECASE)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, 5.6.2; * among them


@operation("CreateFunctionUrlConfig")
async def create_function_url_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "CreateFunctionUrlConfig")
    _check(params)
    now = rfc3339(context.clock.wall())
    configuration = {**_kept(params), "CreationTime": now, "LastModifiedTime": now, **_cors(params)}
    url_id = "".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))
    url = FunctionUrl(*named.key, named.qualifier or "", url_id, configuration)

    def decide() -> Change[FunctionUrl]:
        _check_target(context, named)
        if context.store.urls.of(*url.key) is not None:
            raise conflict(f"Failed to create function url config for [functionArn = {url.function_arn}]. "
                           "Error message:  FunctionUrlConfig exists for this Lambda function")  # fmt: skip
        return context.store.urls.save(url)

    await context.store.change(decide)
    answer = _replied(context, url)
    del answer["LastModifiedTime"]  # recorded
    return answer


@operation("GetFunctionUrlConfig")
def get_function_url_config(context: Context, params: Params) -> Answer:
    return shown(context, _find(context, _named(context, params, "GetFunctionUrlConfig")))


@operation("ListFunctionUrlConfigs")
def list_function_url_configs(context: Context, params: Params) -> Answer:
    named = _named(context, params, "ListFunctionUrlConfigs")
    _function(context, named)
    found = sorted(context.store.urls.of_function(named.key), key=lambda url: url.qualifier)
    # "-" so that no key is empty, which would be before every page
    urls, more = page(found, lambda url: "-" + url.qualifier, params)
    return {"FunctionUrlConfigs": [shown(context, url) for url in urls], **more}


@operation("UpdateFunctionUrlConfig")
async def update_function_url_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "UpdateFunctionUrlConfig")
    _check(params)

    def decide() -> Change[FunctionUrl]:
        _check_target(context, named)
        url = _find(context, named)
        configuration = {**url.configuration, "LastModifiedTime": rfc3339(context.clock.wall())}
        configuration |= _kept(params)
        if "Cors" in params:
            configuration.pop("Cors", None)
            configuration |= _cors(params)
        return context.store.urls.save(replace(url, configuration=configuration))

    return _replied(context, await context.store.change(decide))


@operation("DeleteFunctionUrlConfig")
async def delete_function_url_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "DeleteFunctionUrlConfig")
    await context.store.change(lambda: context.store.urls.remove(_find(context, named)))
    return None


def _replied(context: Context, url: FunctionUrl) -> dict[str, Any]:
    """The reply to a change. It shows the mode only if some request has named one (recorded)."""
    answer = shown(context, url)
    if "InvokeMode" not in url.configuration:
        del answer["InvokeMode"]
    return answer


def shown(context: Context, url: FunctionUrl) -> dict[str, Any]:
    """FunctionUrlConfig as the API gives it."""
    port = urlsplit(context.endpoint()).port
    host = f"{url.url_id}.lambda-url.{url.region}.localhost" + (f":{port}" if port else "")
    return {"FunctionUrl": f"http://{host}/", "FunctionArn": url.function_arn,
            "InvokeMode": "BUFFERED", **url.configuration}  # fmt: skip


def _kept(params: Params) -> dict[str, Any]:
    return {name: params[name] for name in ("AuthType", "InvokeMode") if name in params}


def _check(params: Params) -> None:
    _check_cors(params.get("Cors", {}))


def _check_cors(cors: Mapping[str, Any]) -> None:
    """What the model lets through and no browser understands, or would make a second header. The words are ours."""
    for method in cors.get("AllowMethods", ()):
        if method not in _METHODS:
            raise invalid_parameter(f"AllowMethods holds {method!r}; allowed are {', '.join(sorted(_METHODS))}.")
    for origin in cors.get("AllowOrigins", ()):
        if not _ORIGIN.fullmatch(origin):
            raise invalid_parameter(f"AllowOrigins holds {origin!r}, which is neither * nor an origin such as "
                                    "https://www.example.com.")  # fmt: skip
    for member in ("AllowHeaders", "ExposeHeaders"):
        for name in cors.get(member, ()):
            if not _HEADER.fullmatch(name):
                raise invalid_parameter(f"{member} holds {name!r}, which is not the name of a header.")


def _cors(params: Params) -> dict[str, Any]:
    """The member Cors of the configuration; empty rules are none."""
    return {"Cors": params["Cors"]} if params.get("Cors") else {}


def _named(context: Context, params: Params, action: str) -> FunctionName:
    return context.function(params["FunctionName"], params.get("Qualifier"), action=action)


def _function(context: Context, named: FunctionName) -> Function:
    function = context.store.functions.get(*named.key)
    if function is None:
        raise not_found("Function does not exist")
    return function


def _check_target(context: Context, named: FunctionName) -> None:
    """ApiError (404) when there is no such function, or no such alias."""
    function = _function(context, named)
    if named.qualifier is not None and named.qualifier not in function.aliases:
        raise not_found("Function does not exist")


def _find(context: Context, named: FunctionName) -> FunctionUrl:
    url = context.store.urls.of(*named.key, named.qualifier or "")
    if url is None:
        raise not_found("The resource you requested does not exist.")
    return url
