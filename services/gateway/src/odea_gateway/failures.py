"""A limit for failed authentication by address, so that guessing keys is slow and asking about them stays cheap.

A known good key is let in from wherever it comes: who shares an address with an attacker is not locked out.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter

from odea_contracts.errors import ErrorCode
from odea_gateway.addresses import Address, neighbourhood
from odea_gateway.problems import problem

_MINUTE_S: Final = 60.0
_REFUSED: Final = Counter("odea_auth_failures_limited_total", "Requests refused since their address failed too often")


class FailureLimit:
    """Counts failures by address. Each address may fail `per_minute` times at once, and then at that rate.

    Args:
        per_minute: failures of one address.
        addresses_max: how many addresses are remembered; beyond it, the one that failed longest ago is forgotten.
        clock: seconds that only grow.
    """

    def __init__(self, *, per_minute: int, addresses_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s: Final = _MINUTE_S / per_minute
        self._burst_s: Final = _MINUTE_S - self._interval_s
        self._addresses_max: Final = addresses_max
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()
        """By address, when all of its failures are forgiven."""

    def __len__(self) -> int:
        return len(self._full_at)

    def check(self, address: Address) -> None:
        """Let an attempt go on.

        Raises:
            ProblemError: the address failed too often.
        """
        # A hair of tolerance, so that the last failure that is allowed does not hang on how floats round.
        wait_s = self._full_at.get(neighbourhood(address), 0.0) - self._clock() - self._burst_s
        if wait_s > 1e-6:
            _REFUSED.inc()
            raise problem(
                ErrorCode.RATE_LIMIT_EXCEEDED,
                "Too many failed attempts to authenticate from this address.",
                retry_after_ms=round(wait_s * 1000),
            )

    def count(self, address: Address) -> None:
        """An attempt has failed."""
        name = neighbourhood(address)
        now = self._clock()
        # No more than a request over the limit: those that were under way together must not lock it for long.
        full_at = max(self._full_at.pop(name, 0.0), now) + self._interval_s
        self._full_at[name] = min(full_at, now + _MINUTE_S + self._interval_s)
        if len(self._full_at) > self._addresses_max:
            self._full_at.popitem(last=False)
