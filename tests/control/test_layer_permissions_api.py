"""Policies of layer versions through boto3, as recorded from the service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from control_plane import function, refused, running, settled, zipped

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


async def test_layer_serves_the_accounts_that_its_policy_names(tmp_path: Path) -> None:
    async with running(tmp_path) as plane:

        def script(client: Any) -> None:
            other = plane.client("lambda", key="111111111111")
            client.publish_layer_version(LayerName="l", Content={"ZipFile": zipped({"a": b"1"})})
            of = {"LayerName": "l", "VersionNumber": 1}
            using = function(Layers=[LAYER], Role="arn:aws:iam::111111111111:role/r")
            denied = ("AccessDeniedException", 403,
                      "User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:GetLayerVersion on "
                      f"resource: {LAYER} because no resource-based policy allows the lambda:GetLayerVersion action")
            ways = ((other.create_function, using), (other.get_layer_version_by_arn, {"Arn": LAYER}),
                    (other.get_layer_version, {"LayerName": LAYER.rpartition(":")[0], "VersionNumber": 1}))
            for statement in (None, {"Principal": "222222222222"},
                              {"Principal": "111111111111", "OrganizationId": "o-1234567890"}):
                if statement is not None:
                    client.add_layer_version_permission(**of, **{**ANYBODY, **statement})
                for call, params in ways:
                    assert refused(call, **params) == denied
                if statement is not None:
                    client.remove_layer_version_permission(**of, StatementId="s1")
            for statement in ({"Principal": "111111111111"}, {"Principal": "arn:aws:iam::111111111111:root"}, {}):
                client.add_layer_version_permission(**of, **{**ANYBODY, **statement})
                assert other.get_layer_version_by_arn(Arn=LAYER)["LayerVersionArn"] == LAYER
                assert other.get_layer_version(**ways[2][1])["LayerVersionArn"] == LAYER
                assert [layer["Arn"] for layer in other.create_function(**using)["Layers"]] == [LAYER]
                assert settled(other)["State"] == "Active"
                client.remove_layer_version_permission(**of, StatementId="s1")
                # Who has it keeps it; it is still the other account's.
                assert [layer["Arn"] for layer in settled(other)["Layers"]] == [LAYER]
                assert other.list_layers()["Layers"] == []
                other.delete_function(FunctionName="f")
            foreign = {"LayerName": LAYER.rpartition(":")[0], "VersionNumber": 1}
            assert refused(other.delete_layer_version, **foreign)[:2] == ("AccessDeniedException", 403)
            assert refused(other.get_layer_version_policy, **foreign)[:2] == ("AccessDeniedException", 403)
            other.close()

        await plane.drive(script)
