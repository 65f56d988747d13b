"""The breaker judges the upstream alone (P8), and has none of the faults that aiobreaker was measured to have."""

import asyncio

import pytest

from odea_contracts.synth import BreakerState
from odea_synth.breaker import Breaker, BreakerOpenError, Permit
from odea_synth.providers.base import ErrorClass, ProviderError

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FAULT = ProviderError(ErrorClass.UPSTREAM, "It broke.")
OPEN_S = 30.0


class Guarded:
    """A breaker that opens at the third fault, with a clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = Breaker(
            faults_max=3,
            open_s=OPEN_S,
            changed=lambda before, now: self.changes.append((before, now)),
            clock=lambda: self.now_s,
        )

    @property
    def state(self) -> BreakerState:
        return self.breaker.state

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.breaker.enter().fail(FAULT)

    def opened(self) -> "Guarded":
        self.fail(3)
        assert self.state is OPEN
        return self

    def half_open(self) -> Permit:
        """Its probe."""
        self.opened().now_s += OPEN_S
        return self.breaker.enter()

    def refused_for_s(self) -> float:
        with pytest.raises(BreakerOpenError) as refused:
            self.breaker.enter()
        return refused.value.retry_after_s


def test_faults_in_a_row_open_it_and_a_whole_stream_between_them_does_not() -> None:
    guarded = Guarded()
    guarded.fail(2)
    guarded.breaker.enter().succeed()
    guarded.fail(2)
    assert guarded.state is CLOSED
    guarded.fail()
    assert guarded.state is OPEN
    assert guarded.changes == [(CLOSED, OPEN)]


def test_what_says_nothing_about_the_upstream_does_not_reset_the_count() -> None:
    """aiobreaker's first fault: a caller's mistake between two upstream faults kept the breaker shut for ever."""
    guarded = Guarded()
    for _ in range(3):
        assert guarded.state is CLOSED
        guarded.breaker.enter().leave()
        guarded.fail()
    assert guarded.state is OPEN


def test_what_says_nothing_about_the_upstream_does_not_close_a_half_open_one() -> None:
    guarded = Guarded()
    guarded.half_open().leave()
    assert guarded.state is HALF_OPEN
    guarded.breaker.enter().fail(FAULT)
    assert guarded.state is OPEN


def test_what_says_nothing_about_the_upstream_does_not_open_it() -> None:
    guarded = Guarded()
    for _ in range(50):
        guarded.breaker.enter().leave()
    assert guarded.state is CLOSED
    assert guarded.changes == []


async def test_one_of_many_at_once_probes_a_half_open_one() -> None:
    """aiobreaker's second fault: ten of ten went through. Counted at entry, not when the probe ends."""
    guarded = Guarded().opened()
    guarded.now_s += OPEN_S
    gate = asyncio.Event()
    let_in: list[Permit] = []

    async def speak() -> None:
        await gate.wait()
        try:
            permit = guarded.breaker.enter()
        except BreakerOpenError:
            return
        let_in.append(permit)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(speak())
        gate.set()
    [probe] = let_in
    probe.succeed()
    assert guarded.state is CLOSED
    assert guarded.changes == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]


def test_a_probe_that_failed_opens_it_for_the_whole_time_again() -> None:
    guarded = Guarded()
    probe = guarded.half_open()
    guarded.now_s += 5
    probe.fail(FAULT)
    assert guarded.state is OPEN
    assert guarded.refused_for_s() == pytest.approx(OPEN_S)


def test_a_probe_that_was_cancelled_lets_the_next_one_in() -> None:
    guarded = Guarded()
    guarded.half_open().leave()
    guarded.breaker.enter().succeed()
    assert guarded.state is CLOSED


def test_a_probe_that_speaks_lets_the_next_one_in_and_is_still_judged_by_its_end() -> None:
    """A stream may take as long as its listener likes; nobody should wait for that with a healthy upstream."""
    guarded = Guarded()
    slow = guarded.half_open()
    assert guarded.refused_for_s() == OPEN_S
    slow.spoke()
    assert guarded.state is HALF_OPEN
    other = guarded.breaker.enter()
    guarded.refused_for_s()
    slow.fail(FAULT)
    assert guarded.state is OPEN
    other.succeed()
    assert guarded.state is OPEN, "its era is over"


def test_a_stream_that_breaks_in_the_middle_counts() -> None:
    """aiobreaker's third fault: it saw a generator made, called that a success and looked away."""
    guarded = Guarded()
    for _ in range(3):
        permit = guarded.breaker.enter()
        permit.spoke()
        permit.fail(FAULT)
    assert guarded.state is OPEN


def test_a_stream_takes_one_verdict() -> None:
    guarded = Guarded()
    permit = guarded.breaker.enter()
    for _ in range(5):
        permit.fail(FAULT)
    assert guarded.state is CLOSED
    permit = guarded.breaker.enter()
    permit.leave()
    permit.succeed()
    guarded.fail(2)
    assert guarded.state is OPEN, "the second verdict would have reset the count"


def test_streams_that_began_before_it_opened_neither_close_it_nor_keep_it_open() -> None:
    guarded = Guarded()
    good, bad = guarded.breaker.enter(), guarded.breaker.enter()
    guarded.opened().now_s += OPEN_S / 2
    bad.fail(FAULT)
    good.succeed()
    assert guarded.state is OPEN
    assert guarded.refused_for_s() == pytest.approx(OPEN_S / 2)
    guarded.now_s += OPEN_S / 2
    guarded.breaker.enter().succeed()
    assert guarded.state is CLOSED


def test_time_is_the_clock_that_it_was_given() -> None:
    """aiobreaker's fourth fault: local and universal times in one sum, so an hour or none, by where it runs."""
    guarded = Guarded().opened()
    assert guarded.refused_for_s() == OPEN_S
    guarded.now_s += OPEN_S - 0.25
    assert guarded.refused_for_s() == pytest.approx(0.25)
    guarded.now_s += 0.25
    guarded.breaker.enter()
    assert guarded.state is HALF_OPEN
