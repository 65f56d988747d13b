"""The state of an account and the rules that concern one account alone: its window, its rate, its units."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from odea_contracts.quota import Balance, Window

_MINUTE_US = 60_000_000


@dataclass(slots=True, kw_only=True)
class TopUpBalance:
    """A top-up: units beside the plan's, until they lapse. See the table `topups`."""

    topup_id: str
    account_id: str
    units_left: int
    units_held: int
    expires_at_ms: int

    def live(self, now_us: int) -> bool:
        """Whether its units can still be taken."""
        return self.units_left > 0 and now_us < self.expires_at_ms * 1000


@dataclass(slots=True, kw_only=True)
class Account:
    """The hot half of an account; see the table `balances`.

    Attributes:
        version: of the row that it was read from; it is written only if that is still the newest.
    """

    account_id: str
    suspended: bool
    window: Window
    limit: int | None
    requests_per_minute: int | None
    requests_burst: int
    in_flight_max: int | None
    window_started_at_ms: int
    window_ends_at_ms: int | None
    used: int
    held: int
    in_flight: int
    requests_tat_us: int
    text_characters_max: int | None = None
    models: tuple[str, ...] | None = None
    voices: tuple[str, ...] | None = None
    soft_limits_percent: tuple[int, ...] = ()
    crossed_percent: int = 0
    topups: list[TopUpBalance] = field(default_factory=list[TopUpBalance])
    version: str = ""

    def remaining(self, now_us: int) -> int | None:
        """Units that a reserve could still take; `None` if there is no limit."""
        room = self.room()
        return None if room is None else room + self.topup_units(now_us)

    def room(self) -> int | None:
        """Units that the plan still has, top-ups apart; `None` if there is no limit."""
        return None if self.limit is None else max(0, self.limit - self.used - self.held)

    def short_of(self, units: int, now_us: int) -> bool:
        """Whether a reserve could not take so many units."""
        remaining = self.remaining(now_us)
        return remaining is not None and remaining < units

    def topup_units(self, now_us: int) -> int:
        """Units of top-ups that could still be taken."""
        if not self.topups:
            return 0
        return sum(topup.units_left for topup in self.topups if topup.live(now_us))

    def take_topups(self, units: int, now_us: int) -> dict[str, int]:
        """Take up to `units` from top-ups, those that lapse first first; how much from which."""
        taken: dict[str, int] = {}
        if self.limit is None:
            return taken
        for topup in sorted(self.topups, key=lambda topup: (topup.expires_at_ms, topup.topup_id)):
            if units and topup.live(now_us):
                part = min(units, topup.units_left)
                topup.units_left -= part
                topup.units_held += part
                taken[topup.topup_id] = part
                units -= part
        return taken

    def roll(self, now_us: int) -> None:
        """Begin the window that `now_us` lies in, if the account's has ended. Open holds go along."""
        if self.window_ends_at_ms is not None and now_us >= self.window_ends_at_ms * 1000:
            self.used = 0
            self.crossed_percent = 0
            starts_at_ms, ends_at_ms = window_ms(self.window, now_us)
            # Never before the end of the last one: what was charged there would count again in an audit.
            self.window_started_at_ms = max(starts_at_ms, self.window_ends_at_ms)
            self.window_ends_at_ms = ends_at_ms

    def cross(self) -> tuple[int, ...]:
        """The soft limits that are reached now and were not in this window before, ascending."""
        limit = self.limit
        if not limit:
            return ()
        reached = {percent for percent in self.soft_limits_percent if self.used * 100 >= percent * limit}
        crossed = tuple(sorted(percent for percent in reached if percent > self.crossed_percent))
        self.crossed_percent = max((self.crossed_percent, *crossed))
        return crossed

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
            held=self.held + sum(topup.units_held for topup in self.topups),
            remaining=self.remaining(now_us),
            window=self.window,
            window_ends_at_ms=self.window_ends_at_ms,
            requests_limit=rate,
            requests_remaining=None if rate is None else max(0, self.requests_burst - taken),
            requests_reset_ms=None if rate is None else -(-ahead_us // 1000),
            in_flight=self.in_flight,
            in_flight_max=self.in_flight_max,
            topup_remaining=self.topup_units(now_us),
        )

    @staticmethod
    def _interval_us(requests_per_minute: int) -> int:
        # Rounded up, so that rounding never lets one request more through.
        return -(-_MINUTE_US // requests_per_minute)


def window_ms(window: Window, now_us: int) -> tuple[int, int | None]:
    """When the window that `now_us` lies in starts and ends, in UTC; it has no end if it lasts for ever."""
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case Window.DAY:
            start, end = day, day + timedelta(days=1)
        case Window.MONTH:
            start = day.replace(day=1)
            end = (start + timedelta(days=32)).replace(day=1)
        case Window.NONE:
            return 0, None
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000
