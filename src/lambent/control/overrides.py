"""Where the service behaves otherwise than botocore's model says: limits, enums, status codes.

`control/model.py` is generated and never edited; `control/routes.py` and `control/validate.py` lay these differences
over it. Each has its source.
"""

from __future__ import annotations

from typing import Any

from lambent.limits import EPHEMERAL_MIB_MAX, TIMEOUT_S_MAX

#: Constraints of a shape that replace the model's; None removes one.
SHAPES: dict[str, dict[str, Any]] = {
    # The model's 5,400 s and 32,768 MB are for Managed Instances (fact sheet 9.4, 18.3).
    "Timeout": {"max": TIMEOUT_S_MAX},
    "EphemeralStorageSize": {"max": EPHEMERAL_MIB_MAX},
    # The order of the values in the recorded message (fact sheet 7).
    "InvokeMode": {"enum": ["RESPONSE_STREAM", "BUFFERED"]},
    "EventSourcePosition": {"enum": ["LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"]},
    # Judged by PublishLayerVersion, in words of its own (recorded).
    "CompatibleRuntimes": {"member": "String"},
    "CompatibleArchitectures": {"member": "String"},
}

#: (structure, member) -> shape that is checked instead of the model's.
MEMBERS: dict[tuple[str, str], str] = {
    # An unknown runtime is an InvalidParameterValueException with words of its own (fact sheet 9.5).
    ("CreateFunctionRequest", "Runtime"): "String",
    ("UpdateFunctionConfigurationRequest", "Runtime"): "String",
}

#: Operation -> status of its success.
STATUSES: dict[str, int] = {
    "DeleteFunction": 204,  # recorded; the model says 200 (fact sheet 9.1)
}
