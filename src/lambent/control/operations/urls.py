"""Function URLs: CreateFunctionUrlConfig, GetFunctionUrlConfig, DeleteFunctionUrlConfig.

A URL belongs to a function or to an alias, never to a number. Serving it is the frontend's; what the frontend does not
do yet (IAM authentication, CORS, streaming) is refused here rather than promised. Facts: fact sheet 7.
"""

from __future__ import annotations

import secrets
import string
from typing import Any
from urllib.parse import urlsplit

from lambent.clock import rfc3339
from lambent.control.context import Answer, Context, Params, not_served, operation
from lambent.errors import conflict, not_found
from lambent.names import FunctionName
from lambent.store.urls import FunctionUrl
from lambent.store.writer import Change

_LETTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 32


@operation("CreateFunctionUrlConfig")
async def create_function_url_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "CreateFunctionUrlConfig")
    if params["AuthType"] != "NONE":
        raise not_served(f"The AuthType {params['AuthType']} of function URLs")
    if params.get("InvokeMode", "BUFFERED") != "BUFFERED":
        raise not_served(f"The InvokeMode {params['InvokeMode']} of function URLs")
    if params.get("Cors"):
        raise not_served("The Cors setting of function URLs")
    now = context.clock.wall()
    configuration = {"AuthType": "NONE", "InvokeMode": "BUFFERED", "CreationTime": rfc3339(now),
                     "LastModifiedTime": rfc3339(now)}  # fmt: skip
    url_id = "".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))
    url = FunctionUrl(*named.key, named.qualifier or "", url_id, configuration)

    def decide() -> Change[FunctionUrl]:
        _check_function(context, named)
        if context.store.urls.of(*url.key) is not None:
            raise conflict(f"Failed to create function url config for [functionArn = {url.function_arn}]. "
                           "Error message:  FunctionUrlConfig exists for this Lambda function")  # fmt: skip
        return context.store.urls.save(url)

    await context.store.change(decide)
    answer = shown(context, url)
    # The reply of the creation lacks the time of change, and the mode unless it was asked for (recorded).
    del answer["LastModifiedTime"]
    if "InvokeMode" not in params:
        del answer["InvokeMode"]
    return answer


@operation("GetFunctionUrlConfig")
def get_function_url_config(context: Context, params: Params) -> Answer:
    return shown(context, _find(context, _named(context, params, "GetFunctionUrlConfig")))


@operation("DeleteFunctionUrlConfig")
async def delete_function_url_config(context: Context, params: Params) -> Answer:
    named = _named(context, params, "DeleteFunctionUrlConfig")
    await context.store.change(lambda: context.store.urls.remove(_find(context, named)))
    return None


def shown(context: Context, url: FunctionUrl) -> dict[str, Any]:
    """FunctionUrlConfig as the API gives it."""
    port = urlsplit(context.endpoint()).port
    host = f"{url.url_id}.lambda-url.{url.region}.localhost" + (f":{port}" if port else "")
    return {"FunctionUrl": f"http://{host}/", "FunctionArn": url.function_arn, **url.configuration}


def _named(context: Context, params: Params, action: str) -> FunctionName:
    return context.function(params["FunctionName"], params.get("Qualifier"), action=action)


def _check_function(context: Context, named: FunctionName) -> None:
    function = context.store.functions.get(*named.key)
    if function is None or named.qualifier is not None:
        # Aliases come with their own module; until then no qualifier that a URL may have exists.
        raise not_found("Function does not exist" if function is None else f"Alias not found: {named.qualified_arn}")


def _find(context: Context, named: FunctionName) -> FunctionUrl:
    url = context.store.urls.of(*named.key, named.qualifier or "")
    if url is None:
        raise not_found("The resource you requested does not exist.")
    return url
