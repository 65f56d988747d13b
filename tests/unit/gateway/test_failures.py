"""Guessing is slow, cheap to refuse and bounded in memory (P7, P10)."""

from ipaddress import ip_address

import pytest

from odea_contracts.errors import ErrorCode
from odea_gateway.addresses import Address
from odea_gateway.failures import FailureLimit
from odea_gateway.problems import ProblemError

HERE, THERE = ip_address("192.0.2.1"), ip_address("192.0.2.2")


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(limit: FailureLimit, address: Address) -> int | None:
    """For how many milliseconds, if at all."""
    try:
        limit.check(address)
    except ProblemError as error:
        return error.failure.retry_after_ms
    return None


def test_the_refusal_says_to_come_back() -> None:
    limit = FailureLimit(per_minute=1, addresses_max=10, clock=Clock())
    limit.count(HERE)
    with pytest.raises(ProblemError) as caught:
        limit.check(HERE)
    assert caught.value.failure.code is ErrorCode.RATE_LIMIT_EXCEEDED


def fail(limit: FailureLimit, address: Address, times: int) -> None:
    for _ in range(times):
        assert refused(limit, address) is None
        limit.count(address)


@pytest.mark.parametrize("per_minute", [1, 3, 7, 60])
def test_so_many_failures_are_taken_at_once(per_minute: int) -> None:
    clock = Clock()
    limit = FailureLimit(per_minute=per_minute, addresses_max=10, clock=clock)
    fail(limit, HERE, per_minute)
    wait_ms = refused(limit, HERE)
    assert wait_ms == pytest.approx(60_000 / per_minute, abs=1)
    assert refused(limit, THERE) is None
    clock.now += 60 / per_minute + 0.001
    fail(limit, HERE, 1)
    assert refused(limit, HERE)


def test_all_is_forgiven_after_a_minute() -> None:
    clock = Clock()
    limit = FailureLimit(per_minute=5, addresses_max=10, clock=clock)
    fail(limit, HERE, 5)
    clock.now += 61
    fail(limit, HERE, 5)
    assert refused(limit, HERE)


def test_those_that_were_under_way_together_lock_nobody_for_long() -> None:
    clock = Clock()
    limit = FailureLimit(per_minute=5, addresses_max=10, clock=clock)
    for _ in range(1000):
        limit.count(HERE)
    wait_ms = refused(limit, HERE)
    assert wait_ms is not None
    assert wait_ms <= 24_000


def test_a_network_of_ipv6_is_one_address() -> None:
    limit = FailureLimit(per_minute=2, addresses_max=10, clock=Clock())
    for host in range(2):
        limit.count(ip_address(f"2001:db8::{host}"))
    assert refused(limit, ip_address("2001:db8::ffff"))
    assert refused(limit, ip_address("2001:db8:0:1::1")) is None


def test_memory_is_bounded_and_the_newest_stay() -> None:
    limit = FailureLimit(per_minute=1, addresses_max=100, clock=Clock())
    for number in range(10_000):
        limit.count(ip_address(number))
    assert len(limit) == 100
    assert refused(limit, ip_address(9_999))
    assert refused(limit, ip_address(0)) is None
