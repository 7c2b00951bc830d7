"""What an invocation would cost on AWS, in US dollars.

First tier of us-east-1, without the free tier (AWS Lambda pricing; fact sheet, section 10). GB means 1024 MB.
"""

from __future__ import annotations

from typing import Final

from lambent.limits import EPHEMERAL_MIB_DEFAULT

USD_PER_GB_S: Final = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
#: For environments that provisioned concurrency keeps, which costs by itself besides.
USD_PER_PROVISIONED_GB_S: Final = {"x86_64": 0.0000097222, "arm64": 0.0000077778}
USD_PER_REQUEST: Final = 0.20 / 1_000_000
USD_PER_TMP_GB_S: Final = 0.0000000309  #: for what /tmp has over 512 MB


def invocation_usd(billed_ms: float, memory_mib: int, *, architecture: str = "x86_64",
                   ephemeral_mib: int = EPHEMERAL_MIB_DEFAULT, provisioned: bool = False) -> float:
    """Duration, the request itself and /tmp beyond what is free. `provisioned`: served by provisioned concurrency."""
    seconds = billed_ms / 1000
    prices = USD_PER_PROVISIONED_GB_S if provisioned else USD_PER_GB_S
    memory = memory_mib / 1024 * seconds * prices.get(architecture, prices["x86_64"])
    tmp = max(0, ephemeral_mib - EPHEMERAL_MIB_DEFAULT) / 1024 * seconds * USD_PER_TMP_GB_S
    return memory + tmp + USD_PER_REQUEST
