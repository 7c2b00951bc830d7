"""Settings of a function that are judged, kept and shown, and that change nothing at run time.

What each does (or does not) when the function runs is a row of docs/operations.md. Queues, networks, keys and file
systems are not checked to exist: they may be anywhere. Facts: fact sheet 12, 14.6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from lambent.errors import invalid_parameter

_NO_VPC = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}


def with_stored(before: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with what a request says about these settings. ApiError for what the rules forbid."""
    after = dict(before)
    if "ImageConfig" in params:
        raise invalid_parameter("Please don't provide ImageConfig for a function with packageType Zip.")
    if "VpcConfig" in params:
        after["VpcConfig"] = _vpc(params["VpcConfig"])
    if "DeadLetterConfig" in params:
        _keep(after, "DeadLetterConfig", _dead_letters(params["DeadLetterConfig"]))
    if "KMSKeyArn" in params:
        _keep(after, "KMSKeyArn", params["KMSKeyArn"])
    if "FileSystemConfigs" in params:
        _keep(after, "FileSystemConfigs", params["FileSystemConfigs"])
    if after.get("FileSystemConfigs") and not after.get("VpcConfig", _NO_VPC)["SubnetIds"]:
        raise invalid_parameter("A function with FileSystemConfigs needs a VpcConfig with subnets and security groups.")
    return after


def _keep(after: dict[str, Any], member: str, value: Any) -> None:
    """An empty value takes the setting away."""
    if value:
        after[member] = value
    else:
        after.pop(member, None)


def _vpc(given: Mapping[str, Any]) -> dict[str, Any]:
    subnets, groups = given.get("SubnetIds", []), given.get("SecurityGroupIds", [])
    if bool(subnets) != bool(groups):
        raise invalid_parameter("SubnetIds and SecurityIds must coexist or be both empty list.")
    if not subnets:
        return dict(_NO_VPC)
    # Nobody here knows the network, so its id follows from the first subnet: the same for the same subnet.
    vpc = "vpc-" + hashlib.sha256(subnets[0].encode()).hexdigest()[:17]
    return {"SubnetIds": subnets, "SecurityGroupIds": groups, "VpcId": vpc,
            "Ipv6AllowedForDualStack": given.get("Ipv6AllowedForDualStack", False)}  # fmt: skip


def _dead_letters(given: Mapping[str, Any]) -> dict[str, str]:
    arn = given.get("TargetArn", "")
    if not arn:
        return {}
    service = arn.split(":")[2]
    if service not in ("sqs", "sns"):
        raise invalid_parameter(f"The dead letter target {arn} is neither an SQS queue nor an SNS topic.")
    if arn.endswith(".fifo"):
        raise invalid_parameter(f"The dead letter target {arn} is FIFO; only standard queues and topics can be one.")
    return {"TargetArn": arn}
