"""The state of an account and the rules that concern one account alone: its window, its rate, what remains."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from odea_contracts.quota import Balance, Window

_MINUTE_US = 60_000_000


@dataclass(slots=True, kw_only=True)
class Account:
    """The hot half of an account; see the table `balances`."""

    account_id: str
    suspended: bool
    window: Window
    limit: int | None
    requests_per_minute: int | None
    requests_burst: int
    in_flight_max: int | None
    window_ends_at_ms: int | None
    used: int
    held: int
    in_flight: int
    requests_tat_us: int

    @property
    def remaining(self) -> int | None:
        """Units that a reserve could still take."""
        return None if self.limit is None else max(0, self.limit - self.used - self.held)

    def roll(self, now_us: int) -> None:
        """Begin the window that `now_us` lies in, if the account's has ended. Open holds go along."""
        if self.window_ends_at_ms is not None and now_us >= self.window_ends_at_ms * 1000:
            self.used = 0
            self.window_ends_at_ms = window_end_ms(self.window, now_us)

    def wait_us(self, now_us: int) -> int:
        """How long until the rate lets a request through; 0 for now (GCRA, ITU-T I.371)."""
        if self.requests_per_minute is None:
            return 0
        interval = self._interval_us(self.requests_per_minute)
        return max(0, self.requests_tat_us - interval * (self.requests_burst - 1) - now_us)

    def count_request(self, now_us: int) -> None:
        """Take one request from the rate."""
        if self.requests_per_minute is not None:
            self.requests_tat_us = max(self.requests_tat_us, now_us) + self._interval_us(self.requests_per_minute)

    def balance(self, now_us: int) -> Balance:
        """Where the account stands."""
        rate = self.requests_per_minute
        ahead_us = max(0, self.requests_tat_us - now_us)
        taken = 0 if rate is None else -(-ahead_us // self._interval_us(rate))
        return Balance(
            account_id=self.account_id,
            limit=self.limit,
            used=self.used,
            held=self.held,
            remaining=self.remaining,
            window=self.window,
            window_ends_at_ms=self.window_ends_at_ms,
            requests_limit=rate,
            requests_remaining=None if rate is None else max(0, self.requests_burst - taken),
            requests_reset_ms=None if rate is None else -(-ahead_us // 1000),
            in_flight=self.in_flight,
            in_flight_max=self.in_flight_max,
        )

    @staticmethod
    def _interval_us(requests_per_minute: int) -> int:
        # Rounded up, so that rounding never lets one request more through.
        return -(-_MINUTE_US // requests_per_minute)


def window_end_ms(window: Window, now_us: int) -> int | None:
    """When the window that `now_us` lies in ends, in UTC; `None` if it never does."""
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case Window.DAY:
            end = day + timedelta(days=1)
        case Window.MONTH:
            end = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        case Window.NONE:
            return None
    return int(end.timestamp()) * 1000
