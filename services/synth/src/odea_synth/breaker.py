"""The breaker of one provider: aiobreaker with its faults mended, judging the upstream alone (P8).

aiobreaker 1.2.0 wants whole calls, and measured it (1) resets its count and closes when an excluded exception passes,
(2) lets every concurrent call through while half-open, (3) does not guard async generators and (4) mixes local and
universal times. So each speech gets a permit here when it begins, which is used for one verdict when it ends: good, bad
or none at all. aiobreaker is told good and bad ends only, keeps the count and changes its state; the clock is ours.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from aiobreaker import CircuitBreaker, CircuitBreakerListener
from aiobreaker.state import CircuitBreakerBaseState, CircuitBreakerState

from odea_contracts.synth import BreakerState

_STATES: Final = {
    CircuitBreakerState.CLOSED: BreakerState.CLOSED,
    CircuitBreakerState.OPEN: BreakerState.OPEN,
    CircuitBreakerState.HALF_OPEN: BreakerState.HALF_OPEN,
}

Changed = Callable[[BreakerState, BreakerState], None]
"""Told the state before and the state now."""


class BreakerOpenError(Exception):
    """The provider is left alone for now; `retry_after_s` says how long."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"open for {retry_after_s:.3f} s")
        self.retry_after_s = retry_after_s


class Permit:
    """Leave for one speech. It takes one verdict; whoever leaves it without one has said nothing about the upstream."""

    def __init__(self, breaker: "Breaker", era: int, *, probe: bool) -> None:
        self._breaker = breaker
        self._probe = probe
        self.era: Final = era
        self._judged = False

    def spoke(self) -> None:
        """The first audio is there. A probe that got so far lets the next one in, for a stream may take an hour."""
        if self._probe:
            self._probe = False
            self._breaker.end_probe(self)

    def succeed(self) -> None:
        """The stream came to its whole end."""
        self._judge(fault=None)

    def fail(self, fault: Exception) -> None:
        """The upstream failed, before its first byte or in the middle."""
        self._judge(fault=fault)

    def leave(self) -> None:
        """The speech ended otherwise: the caller's fault, throttled, cancelled. Neither opens, closes nor resets."""
        self._judged = True
        self.spoke()

    def _judge(self, fault: Exception | None) -> None:
        if not self._judged:
            self.leave()
            self._breaker.judge(self, fault)


class Breaker:
    """Guards one provider in one process.

    Args:
        faults_max: upstream faults in a row that open it.
        open_s: how long it stays open before one speech probes the upstream.
        changed: called at every change of state.
        clock: monotonic seconds.
    """

    def __init__(
        self, *, faults_max: int, open_s: float, changed: Changed, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._open_s = open_s
        self._clock = clock
        self._changed = changed
        self._opened_at = 0.0
        self._probe: Permit | None = None
        self._era = 0
        self._inner = _TimelessBreaker(
            fail_max=faults_max,
            timeout_duration=timedelta(seconds=open_s),
            listeners=[_Listener(self._note_change)],
        )

    @property
    def state(self) -> BreakerState:
        """The state now. An open breaker becomes half-open when somebody asks for a permit after `open_s`."""
        return _STATES[self._inner.current_state]

    def check(self) -> None:
        """Refuse what `enter` would refuse now, without asking for a permit.

        Raises:
            BreakerOpenError: see `enter`.
        """
        if self.state is BreakerState.OPEN:
            left_s = self._opened_at + self._open_s - self._clock()
            if left_s > 0:
                raise BreakerOpenError(left_s)
        elif self._probe is not None:
            # Nobody knows how long the probe takes; an open period is what follows if it fails.
            raise BreakerOpenError(self._open_s)

    def enter(self) -> Permit:
        """Leave to call the upstream.

        Raises:
            BreakerOpenError: it is open, or half-open and its one probe is under way.
        """
        self.check()
        if self.state is BreakerState.OPEN:
            self._inner.half_open()
        if self.state is not BreakerState.HALF_OPEN:
            return Permit(self, self._era, probe=False)
        self._probe = Permit(self, self._era, probe=True)
        return self._probe

    def end_probe(self, permit: Permit) -> None:
        """The next probe may enter. For permits alone."""
        if self._probe is permit:
            self._probe = None

    def judge(self, permit: Permit, fault: Exception | None) -> None:
        """Count an end. For permits alone; one from before the last change says nothing about the state now."""
        if permit.era != self._era:
            return

        def end() -> None:
            if fault is not None:
                raise _FaultError from fault

        try:
            self._inner.call(end)
        except Exception as error:
            # The fault itself, or aiobreaker's word that it has opened because of it.
            if fault is None:
                raise AssertionError("a good end was refused") from error

    def _note_change(self, before: BreakerState, now: BreakerState) -> None:
        self._era += 1
        self._probe = None
        if now is BreakerState.OPEN:
            self._opened_at = self._clock()
        self._changed(before, now)


class _FaultError(Exception):
    """Stands for the upstream's fault inside aiobreaker."""


class _TimelessBreaker(CircuitBreaker):
    """aiobreaker without its clock."""

    def open(self) -> None:
        """Open; when that was is for the wrapper to know."""
        self._state_storage.state = CircuitBreakerState.OPEN
        self.state = CircuitBreakerState.OPEN

    @property
    def opens_at(self) -> datetime:
        """Only for the text of an exception that nobody reads."""
        return datetime.fromtimestamp(0, UTC)


class _Listener(CircuitBreakerListener):
    def __init__(self, changed: Changed) -> None:
        self._tell = changed

    def state_change(self, breaker: CircuitBreaker, old: CircuitBreakerBaseState, new: CircuitBreakerBaseState) -> None:
        """Pass it on in our own words."""
        del breaker
        self._tell(_STATES[old.state], _STATES[new.state])
