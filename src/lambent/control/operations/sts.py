"""STS as far as tools need it: who the caller is, and keys that work for a while.

Keys open nothing, since nothing is locked: what counts is that their ids name an account (`callers.py`), so that what
is done with them happens there. Roles are not checked to exist, and nobody is refused one.
"""

from __future__ import annotations

import re
import secrets
import string
from typing import Any

from lambent.callers import key_id
from lambent.clock import rfc3339
from lambent.control.context import Context
from lambent.control.query import Form, QueryError, Result, need, query_operation

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/([\w+=,.@/-]{1,575})", re.ASCII)
_SESSION = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
#: Seconds: the shortest, and the longest of a role and of a session (API reference).
_SHORTEST_S, _LONGEST_S = 900, {"AssumeRole": 43_200, "GetSessionToken": 129_600}


@query_operation("sts", "GetCallerIdentity")
def get_caller_identity(context: Context, form: Form) -> Result:
    return {"Arn": f"arn:aws:iam::{context.account}:root", "UserId": context.account, "Account": context.account}


@query_operation("sts", "GetSessionToken")
def get_session_token(context: Context, form: Form) -> Result:
    return {"Credentials": _keys(context, context.account, form, "GetSessionToken", 43_200)}


@query_operation("sts", "AssumeRole")
def assume_role(context: Context, form: Form) -> Result:
    arn, session = need(form, "RoleArn"), need(form, "RoleSessionName")
    role = _ROLE.fullmatch(arn)
    if role is None:
        raise QueryError("ValidationError", f"{arn} is invalid")
    if not _SESSION.fullmatch(session):
        raise QueryError("ValidationError", "RoleSessionName is 2 to 64 letters, digits and characters of +=,.@-_")
    account, name = role[1], role[2].rpartition("/")[2]
    keys = _keys(context, account, form, "AssumeRole", 3600)
    return {
        "AssumedRoleUser": {"AssumedRoleId": f"AROA{account}LENT:{session}",
                            "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session}"},
        "Credentials": keys,
    }  # fmt: skip


def _keys(context: Context, account: str, form: Form, action: str, usual_s: int) -> dict[str, Any]:
    text = form.get("DurationSeconds", str(usual_s))
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else -1
    if not _SHORTEST_S <= seconds <= _LONGEST_S[action]:
        raise QueryError("ValidationError", f"DurationSeconds is {_SHORTEST_S} to {_LONGEST_S[action]}.")
    letters = "".join(secrets.choice(string.ascii_uppercase) for _ in range(4))
    return {"AccessKeyId": key_id(account, letters), "SecretAccessKey": secrets.token_urlsafe(30),
            "SessionToken": secrets.token_urlsafe(64),
            "Expiration": rfc3339(context.clock.wall() + seconds)}  # fmt: skip
