"""Who may use an open URL: what the policy of a function says of requests that nobody has signed (fact sheet 7.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from control_plane import function, running

OVER_URL: dict[str, Any] = {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"}
INVOKE: dict[str, Any] = {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([], False),
        ([OVER_URL], False),
        ([INVOKE], False),
        ([OVER_URL, INVOKE], True),
        ([{"Action": "lambda:InvokeFunctionUrl"}, {"Action": "lambda:InvokeFunction"}], True),
        ([{"Action": "lambda:*"}], True),
        ([{"Action": "*"}], True),
        ([{**OVER_URL, "FunctionUrlAuthType": "AWS_IAM"}, INVOKE], False),
        ([OVER_URL, {**INVOKE, "InvokedViaFunctionUrl": False}], False),
        ([OVER_URL, {**INVOKE, "SourceArn": "arn:aws:s3:::bucket"}], False),
        ([OVER_URL, {**INVOKE, "PrincipalOrgID": "o-1234567890"}], False),
        ([{**OVER_URL, "Principal": "000000000000"}, INVOKE], False),
        ([OVER_URL, {**INVOKE, "Principal": "s3.amazonaws.com"}], False),
        ([{"Action": "lambda:GetFunction"}, INVOKE], False),
    ],
)
async def test_open_url_needs_leave_for_both_actions(
    tmp_path: Path, statements: list[dict[str, Any]], allowed: bool
) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> str:
            client.create_function(**function())
            url: str = client.create_function_url_config(FunctionName="f", AuthType="NONE")["FunctionUrl"]
            for number, statement in enumerate(statements):
                client.add_permission(FunctionName="f", StatementId=f"s{number}", **{"Principal": "*", **statement})
            return url

        url = plane.store.urls.by_id((await plane.drive(script)).split("//")[1].split(".")[0])
        assert url is not None and plane.store.urls.is_public(url) is allowed


async def test_url_of_an_alias_is_judged_by_the_policy_of_the_alias(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            client.create_alias(FunctionName="f", Name="live", FunctionVersion="$LATEST")
            client.create_function_url_config(FunctionName="f", AuthType="NONE")
            client.create_function_url_config(FunctionName="f", AuthType="NONE", Qualifier="live")
            client.add_permission(FunctionName="f", StatementId="all", Action="lambda:*", Principal="*",
                                  Qualifier="live")  # fmt: skip

        await plane.drive(script)
        assert {url.qualifier: plane.store.urls.is_public(url) for url in plane.store.urls} == {"": False, "live": True}

        def remove(client: Any) -> None:
            client.remove_permission(FunctionName="f", StatementId="all", Qualifier="live")

        await plane.drive(remove)
        assert not any(plane.store.urls.is_public(url) for url in plane.store.urls)
