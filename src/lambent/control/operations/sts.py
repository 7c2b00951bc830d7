"""STS as far as tools need it: who the caller is, and keys that work for a while.

Keys open nothing, since nothing is locked: what counts is that their ids name an account and their tokens a role
(`callers.py`), so that what is done with them happens there and in its name. Functions have such keys, too. Roles are
not checked to exist, and nobody is refused one. Facts: STS's API reference; IAM's page on unique identifiers.
"""

from __future__ import annotations

import re
import secrets
import string
from typing import Any

from lambent.callers import Session, key_id, session_token
from lambent.clock import rfc3339
from lambent.control.context import Context
from lambent.control.operations.iam_roles import role_id, role_of
from lambent.control.query import Form, QueryError, Result, need, query_operation

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):role/([\w+=,.@/-]{1,575})", re.ASCII)
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
#: Seconds (API reference). A role may allow its sessions less.
_SHORTEST_S, _ROLE_LONGEST_S = 900, 43_200


@query_operation("sts", "GetCallerIdentity")
def get_caller_identity(context: Context, form: Form) -> Result:
    account, session = context.account, context.session
    if session is None:
        return {"Arn": f"arn:aws:iam::{account}:root", "UserId": account, "Account": account}
    user = _assumed(context, account, session)
    return {"Arn": user["Arn"], "UserId": user["AssumedRoleId"], "Account": account}


@query_operation("sts", "GetSessionToken")
def get_session_token(context: Context, form: Form) -> Result:
    if context.session is not None:
        raise QueryError("AccessDenied", "Cannot call GetSessionToken with session credentials", 403)
    return {"Credentials": _keys(context, context.account, form, 43_200, 129_600)}


@query_operation("sts", "AssumeRole")
def assume_role(context: Context, form: Form) -> Result:
    arn, name = need(form, "RoleArn"), need(form, "RoleSessionName")
    found = _ROLE.fullmatch(arn)
    if found is None:
        raise QueryError("ValidationError", f"{arn} is invalid")
    if not _NAME.fullmatch(name):
        raise QueryError("ValidationError", "RoleSessionName is 2 to 64 letters, digits and characters of +=,.@-_")
    session, account = Session(arn, name), found[1]
    keys = _keys(context, account, form, 3600, _ROLE_LONGEST_S)
    role = role_of(context, arn)
    if role is not None and int(form.get("DurationSeconds", "0")) > role["MaxSessionDuration"]:
        raise QueryError("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for "
                         "this role.")  # fmt: skip
    return {"AssumedRoleUser": _assumed(context, account, session),
            "Credentials": {**keys, "SessionToken": session_token(session)}}  # fmt: skip


def _assumed(context: Context, account: str, session: Session) -> dict[str, str]:
    """A session of a role as STS shows it. The path of the role is not part of it."""
    name = session.role.rpartition("/")[2]
    return {"AssumedRoleId": f"{role_id(context, session.role)}:{session.name}",
            "Arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session.name}"}  # fmt: skip


def _keys(context: Context, account: str, form: Form, usual_s: int, longest_s: int) -> dict[str, Any]:
    text = form.get("DurationSeconds", str(usual_s))
    seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else -1
    if not _SHORTEST_S <= seconds <= longest_s:
        raise QueryError("ValidationError", f"DurationSeconds is {_SHORTEST_S} to {longest_s}.")
    letters = "".join(secrets.choice(string.ascii_uppercase) for _ in range(4))
    return {"AccessKeyId": key_id(account, letters), "SecretAccessKey": secrets.token_urlsafe(30),
            "SessionToken": secrets.token_urlsafe(64),
            "Expiration": rfc3339(context.clock.host_wall() + seconds)}  # fmt: skip
