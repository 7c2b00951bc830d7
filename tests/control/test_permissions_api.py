"""Resource policies through boto3: statements, revisions and errors as recorded from the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from control_plane import ARN, function, refused, running, settled

S3 = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}


async def test_statement_says_what_was_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            cases: tuple[tuple[dict[str, Any], Any, Any], ...] = (
                ({"Principal": "s3.amazonaws.com", "SourceArn": "arn:aws:s3:::b"}, {"Service": "s3.amazonaws.com"},
                 {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}),
                ({"Principal": "111111111111"}, {"AWS": "arn:aws:iam::111111111111:root"}, None),
                ({"Principal": "arn:aws:iam::111111111111:user/u"}, {"AWS": "arn:aws:iam::111111111111:user/u"}, None),
                ({"Principal": "*", "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE",
                  "PrincipalOrgID": "o-1234567890", "SourceAccount": "111111111111", "SourceArn": "arn:aws:s3:::b"},
                 "*", {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE", "aws:PrincipalOrgID": "o-1234567890",
                                        "AWS:SourceAccount": "111111111111"},
                       "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}),
                ({"Principal": "*", "EventSourceToken": "amzn1.ask.skill.x", "InvokedViaFunctionUrl": True}, "*",
                 {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask.skill.x"},
                  "Bool": {"lambda:InvokedViaFunctionUrl": "true"}}),
            )  # fmt: skip
            for number, (given, principal, condition) in enumerate(cases):
                asked = {**S3, **given, "StatementId": f"s{number}"}
                answer = client.add_permission(FunctionName="f", **asked)
                assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
                expected = {"Sid": f"s{number}", "Effect": "Allow", "Principal": principal, "Action": asked["Action"],
                            "Resource": ARN + "f"}  # fmt: skip
                if condition:
                    expected["Condition"] = condition
                assert json.loads(answer["Statement"]) == expected
            policy = json.loads(client.get_policy(FunctionName="f")["Policy"])
            assert (policy["Version"], policy["Id"]) == ("2012-10-17", "default")
            assert [one["Sid"] for one in policy["Statement"]] == ["s0", "s1", "s2", "s3", "s4"]

        await plane.drive(script)


async def test_policy_and_revision_change_together(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            first = settled(client)["RevisionId"]
            wrong = ("PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision "
                     "Id. Call the GetPolicy API to retrieve the latest Revision Id")  # fmt: skip
            assert refused(client.add_permission, FunctionName="f", RevisionId="no", **S3) == wrong
            client.add_permission(FunctionName="f", RevisionId=first, **S3)
            second = client.get_policy(FunctionName="f")["RevisionId"]
            assert second != first and second == settled(client)["RevisionId"]
            assert refused(client.remove_permission, FunctionName="f", StatementId="s3", RevisionId=first) == wrong
            removed = client.remove_permission(FunctionName="f", StatementId="s3", RevisionId=second)
            assert removed["ResponseMetadata"]["HTTPStatusCode"] == 204
            assert settled(client)["RevisionId"] != second
            assert refused(client.get_policy, FunctionName="f") == (
                "ResourceNotFoundException", 404, "The resource you requested does not exist.")  # fmt: skip
            client.add_permission(FunctionName="f", **S3)
            client.delete_function(FunctionName="f")
            client.create_function(**function())
            assert refused(client.get_policy, FunctionName="f")[1] == 404

        await plane.drive(script)


async def test_permissions_that_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.create_function(**function())
            remove = client.remove_permission
            assert refused(remove, FunctionName="f", StatementId="s3") == (
                "ResourceNotFoundException", 404, "No policy is associated with the given resource.")  # fmt: skip
            assert refused(remove, FunctionName="g", StatementId="s3")[2] == f"No policy found for: {ARN}g"
            client.add_permission(FunctionName="f", **S3)
            assert refused(remove, FunctionName="f", StatementId="x") == (
                "ResourceNotFoundException", 404, "Statement x is not found in resource policy.")  # fmt: skip
            for changes, code, words in (
                ({}, "ResourceConflictException", "The statement id (s3) provided already exists. Please provide a new "
                 "statement id, or remove the existing statement."),
                ({"Qualifier": "$LATEST"}, "InvalidParameterValueException",
                 "We currently do not support adding policies for $LATEST."),
                ({"Qualifier": "7"}, "ResourceNotFoundException", f"Function not found: {ARN}f:7"),
                ({"Qualifier": "prod"}, "ResourceNotFoundException", f"Cannot find alias arn: {ARN}f:prod"),
                ({"Qualifier": "a$b"}, "ResourceNotFoundException", f"Function not found: {ARN}f:a$b"),
                ({"FunctionName": "g"}, "ResourceNotFoundException", f"Function not found: {ARN}g"),
                ({"StatementId": "url", "FunctionUrlAuthType": "NONE"}, "InvalidParameterValueException",
                 "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"),
                ({"Principal": "invalid.nonaws.com"}, "InvalidParameterValueException",
                 "The provided principal was invalid. Please check the principal and try again."),
            ):  # fmt: skip
                found = refused(client.add_permission, **{"FunctionName": "f", **S3, **changes})
                assert (found[0], found[2]) == (code, words)
            for qualifier in ("7", "prod"):
                assert refused(client.get_policy, FunctionName="f", Qualifier=qualifier) == (
                    "ResourceNotFoundException", 404, "The resource you requested does not exist.")  # fmt: skip
            assert refused(client.get_policy, FunctionName="g")[2] == f"Function not found: {ARN}g"
            long = "amzn1." + "x" * 250
            for number in range(60):
                client.add_permission(FunctionName="f", **{**S3, "StatementId": f"n{number}", "Principal": "*",
                                                           "EventSourceToken": long})  # fmt: skip
                if number > 40 and len(client.get_policy(FunctionName="f")["Policy"]) > 20_000:
                    break
            found = refused(client.add_permission, FunctionName="f", **{**S3, "StatementId": "one-too-many",
                                                                         "EventSourceToken": long})  # fmt: skip
            assert found[0] == "PolicyLengthExceededException" and "(20480)" in found[2]

        await plane.drive(script)
