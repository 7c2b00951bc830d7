"""Whose account and region a request is in, for every form of a signature and for none."""

from __future__ import annotations

import pytest

from lambent.callers import KEPT, Caller, Callers, Session, account_of, key_id, session_of, session_token

HOME = Caller("000000000000", "us-east-1")


def signed(key: str, region: str) -> dict[str, str]:
    return {"authorization": f"AWS4-HMAC-SHA256 Credential={key}/20261121/{region}/lambda/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=0"}  # fmt: skip


@pytest.mark.parametrize(("headers", "query", "caller"), [
    ({}, "", HOME),
    ({}, "Qualifier=1", HOME),
    (signed("test", "eu-west-1"), "", Caller("000000000000", "eu-west-1")),
    (signed("111111111111", "us-gov-west-1"), "", Caller("111111111111", "us-gov-west-1")),
    (signed(key_id("222222222222", "FUNC"), "us-east-1"), "", Caller("222222222222", "us-east-1")),
    (signed("11111111111", "us-east-1"), "", HOME),
    (signed("１１１１１１１１１１１１", "us-east-1"), "", HOME),
    (signed("test", "../../etc"), "", HOME),
    (signed("test", ""), "", HOME),
    ({}, "X-Amz-Credential=333333333333%2F20261121%2Fap-south-2%2Flambda%2Faws4_request&X-Amz-Signature=0",
     Caller("333333333333", "ap-south-2")),
    ({"authorization": "Bearer token"}, "", HOME),
    ({"authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=c"}, "", HOME),
    ({"authorization": "AWS4-ECDSA-P256-SHA256 Credential=k/1/lambda/aws4_request, SignedHeaders=h"}, "", HOME),
])  # fmt: skip
def test_caller_of_a_request(headers: dict[str, str], query: str, caller: Caller) -> None:
    callers = Callers(*HOME)
    assert callers.of(headers, query) == caller
    assert callers.of(headers, query) == caller  # from memory


def test_memory_of_scopes_is_bounded() -> None:
    callers = Callers(*HOME)
    for number in range(KEPT + 10):
        assert callers.of(signed(f"{number:012d}", "us-east-1"), "") == (f"{number:012d}", "us-east-1")
    assert len(callers._known) <= KEPT


def test_key_ids_name_their_account() -> None:
    assert account_of(key_id("444444444444", "ABCD")) == "444444444444"
    assert account_of("ASIAIOSFODNN7EXAMPLE") is None


ROLE = Session("arn:aws:iam::444444444444:role/service-role/a+=,.@-b", "a-function_1")


@pytest.mark.parametrize(("headers", "query", "session"), [
    ({"x-amz-security-token": session_token(ROLE)}, "", ROLE),
    ({}, f"Action=GetCallerIdentity&X-Amz-Security-Token={session_token(ROLE)}".replace("=", "%3D"), None),
    ({}, f"Action=GetCallerIdentity&X-Amz-Security-Token={session_token(ROLE).replace('=', '%3D')}", ROLE),
    ({}, "", None),
    ({"x-amz-security-token": session_token(ROLE)[:-5]}, "", None),
    ({"x-amz-security-token": session_token(ROLE) * 200}, "", None),
    ({"x-amz-security-token": session_token(Session("arn:aws:iam::1:role/r", "n"))}, "", None),
    ({"x-amz-security-token": session_token(Session(ROLE.role, "<script>"))}, "", None),
    ({"x-amz-security-token": session_token(Session("", "f"))}, "", None),
    ({"x-amz-security-token": "\u00ff\u00ff\u00ff\u00ff"}, "", None),
    ({"x-amz-security-token": "____"}, "", None),
])  # fmt: skip
def test_session_is_the_one_that_the_token_names(headers: dict[str, str], query: str, session: Session | None) -> None:
    assert session_of(headers, query) == session
