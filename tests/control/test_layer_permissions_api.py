"""Policies of layer versions through boto3, as recorded from the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from control_plane import refused, running, zipped

LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l:1"
ANYBODY = {"StatementId": "s1", "Action": "lambda:GetLayerVersion", "Principal": "*"}


async def test_policy_of_a_layer_version(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            client.publish_layer_version(LayerName="l", Content={"ZipFile": zipped()})
            of = {"LayerName": "l", "VersionNumber": 1}
            none = ("ResourceNotFoundException", 404, "No policy is associated with the given resource.")
            assert refused(client.get_layer_version_policy, **of) == none
            assert refused(client.remove_layer_version_permission, StatementId="s1", **of) == none
            added = client.add_layer_version_permission(**of, **ANYBODY)
            assert added["ResponseMetadata"]["HTTPStatusCode"] == 201
            first = {"Sid": "s1", "Effect": "Allow", "Principal": "*", "Action": "lambda:GetLayerVersion",
                     "Resource": LAYER}  # fmt: skip
            assert json.loads(added["Statement"]) == first
            assert refused(client.add_layer_version_permission, **of, **ANYBODY)[:2] == (
                "ResourceConflictException", 409)  # fmt: skip
            wrong = ("PreconditionFailedException", 412, "The Revision Id provided does not match the latest Revision "
                     "Id. Call the GetLayerPolicy API to retrieve the latest Revision Id")  # fmt: skip
            second = {**ANYBODY, "StatementId": "s2", "Principal": "111111111111", "OrganizationId": "o-1234567890"}
            assert refused(client.add_layer_version_permission, RevisionId="no", **of, **second) == wrong
            client.add_layer_version_permission(RevisionId=added["RevisionId"], **of, **second)
            shown = client.get_layer_version_policy(**of)
            policy = json.loads(shown["Policy"])
            assert shown["RevisionId"] != added["RevisionId"] and policy["Statement"][0] == first
            assert policy["Statement"][1]["Principal"] == {"AWS": "arn:aws:iam::111111111111:root"}
            assert policy["Statement"][1]["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}
            remove = client.remove_layer_version_permission
            assert refused(remove, StatementId="s1", RevisionId="no", **of) == wrong
            assert refused(remove, StatementId="x", **of)[2] == "Statement x is not found in resource policy."
            assert remove(StatementId="s1", **of)["ResponseMetadata"]["HTTPStatusCode"] == 204
            client.delete_layer_version(**of)
            for call, params in ((client.get_layer_version_policy, {}), (remove, {"StatementId": "s2"}),
                                 (client.add_layer_version_permission, ANYBODY)):  # fmt: skip
                assert refused(call, **of, **params) == (
                    "ResourceNotFoundException", 404, f"Layer version {LAYER} does not exist.")  # fmt: skip

        await plane.drive(script)
        assert plane.store.documents._shelves == {}
