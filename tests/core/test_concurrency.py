"""Leases: who is throttled for its rate, however short its invocations are (fact sheet, section 8)."""

from __future__ import annotations

from lambent.core.concurrency import Leases, Pools

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
OTHER = "arn:aws:lambda:us-east-1:000000000000:function:g"


def served(leases: Leases, arn: str, at: float) -> str | None:
    """One invocation that takes no time; the reason if it was refused."""
    reason = leases.refusal(arn, at)
    if reason is None:
        leases.take(arn)
        leases.give_back(arn)
    return reason


def test_reserved_pool_admits_ten_requests_a_second_for_each_unit() -> None:
    leases = Leases(1000)
    leases.reserve(ARN, 2)
    assert [served(leases, ARN, 5.0) for _ in range(20)] == [None] * 20
    assert served(leases, ARN, 5.0) == "ReservedFunctionInvocationRateLimitExceeded"
    assert served(leases, ARN, 5.0625) is None
    assert served(leases, ARN, 5.0625) == "ReservedFunctionInvocationRateLimitExceeded"
    assert [served(leases, ARN, 60.0) for _ in range(21)].count(None) == 20  # not a minute's worth


def test_functions_without_a_reservation_share_the_rate_of_their_pool() -> None:
    leases = Leases(3)
    leases.reserve(OTHER, 1)
    assert [served(leases, ARN, 0.0) for _ in range(20)] == [None] * 20
    assert served(leases, ARN, 0.0) == "FunctionInvocationRateLimitExceeded"
    assert served(leases, OTHER, 0.0) is None  # its pool is its own
    assert served(Pools(3).of(ARN), ARN, 0.0) is None


def test_full_pool_is_told_before_its_rate_and_costs_none_of_it() -> None:
    leases = Leases(1000)
    leases.reserve(ARN, 1)
    assert leases.refusal(ARN, 0.0) is None
    leases.take(ARN)
    for _ in range(100):
        assert leases.refusal(ARN, 0.0) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    leases.give_back(ARN)
    assert [served(leases, ARN, 0.0) for _ in range(10)] == [None] * 9 + ["ReservedFunctionInvocationRateLimitExceeded"]


def test_reservation_that_is_taken_back_leaves_the_pools_rate() -> None:
    leases = Leases(1000)
    leases.reserve(ARN, 1)
    for _ in range(11):
        served(leases, ARN, 0.0)
    leases.reserve(ARN, None)
    assert served(leases, ARN, 0.0) is None
