"""AWS quotas and fixed durations, each with the page or recording that it comes from.

Units are in the names. "Quotas" is the page *Lambda quotas*, "Lifecycle" the page *Understanding the Lambda
execution environment lifecycle*, "RIE" AWS's published runtime interface emulator.
"""

from __future__ import annotations

from typing import Final

# Lifecycle
INIT_TIMEOUT_S: Final = 10.0  # Lifecycle: Init phase, on-demand
INIT_TIMEOUT_AHEAD_S: Final = 130.0  # Lifecycle: provisioned concurrency and SnapStart, or the function's timeout
SHUTDOWN_INTERNAL_S: Final = 0.5  # Lifecycle: only internal extensions registered
SHUTDOWN_EXTERNAL_S: Final = 2.0  # Lifecycle: at least one external extension
RUNTIME_SHARE_OF_SHUTDOWN: Final = 0.3  # RIE rapid/shutdown.go
MAX_EXTENSIONS: Final = 10  # Extensions API

# Payloads
REQUEST_PAYLOAD_BYTES: Final = 6 * 1024 * 1024  # Quotas: synchronous request
RESPONSE_PAYLOAD_BYTES: Final = 6 * 1024 * 1024 + 100  # RIE: 6291556, counted on what the runtime posts
STREAM_RESPONSE_BYTES: Final = 200 * 1024 * 1024  # Quotas: response streaming, since 2025
STREAM_BURST_BYTES: Final = 6 * 1024 * 1024  # "Response streaming": uncapped; RIE's token bucket
STREAM_BYTES_PER_S: Final = 2 * 1024 * 1024  # "Response streaming": after that
CLIENT_CONTEXT_BYTES: Final = 3583  # API reference, Invoke
LOG_TAIL_BYTES: Final = 4096  # API reference, Invoke: LogType=Tail
CREATE_REQUEST_BYTES: Final = 70_167_211  # recorded 413 message
HEADER_BYTES: Final = 1024 * 1024  # Quotas: request line and header values

# Functions
ZIPPED_BYTES: Final = 52_428_800  # Quotas
UNZIPPED_BYTES: Final = 262_144_000  # Quotas, with layers
CODE_STORAGE_BYTES: Final = 80_530_636_800  # recorded: GetAccountSettings, all code of an account in a region
MEMORY_MIB_MIN: Final = 128
MEMORY_MIB_MAX: Final = 10_240
TIMEOUT_S_MIN: Final = 1
TIMEOUT_S_MAX: Final = 900
EPHEMERAL_MIB_MIN: Final = 512
EPHEMERAL_MIB_MAX: Final = 10_240
ENVIRONMENT_BYTES: Final = 4096
MEMORY_MIB_DEFAULT: Final = 128
TIMEOUT_S_DEFAULT: Final = 3
EPHEMERAL_MIB_DEFAULT: Final = 512
MEMORY_MIB_PER_CPU: Final = 1769  # "Configure Lambda function memory": one full vCPU
MAX_LAYERS: Final = 5

# What a guest may use (Quotas; recorded ulimits)
OPEN_FILES: Final = 1024
PROCESSES: Final = 1024
STACK_BYTES: Final = 8 * 1024 * 1024
LOCKED_BYTES: Final = 64 * 1024

# Concurrency
ACCOUNT_CONCURRENCY: Final = 1000
UNRESERVED_MINIMUM: Final = 100  # "Configuring reserved concurrency": what must stay for the other functions


def init_timeout_s(init_type: str, timeout_s: float) -> float:
    """How long Init may take: 10 s on demand, else the larger of 130 s and the function's timeout."""
    return INIT_TIMEOUT_S if init_type == "on-demand" else max(INIT_TIMEOUT_AHEAD_S, timeout_s)
