"""A model of the ledger, slow and obvious. It shares no rule and no number with the ledger."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from odea_contracts.quota import Extend, Outcome, Release, Reserve, Settle
from odea_quota.ledger import Command


@dataclass
class Wish:
    """A hold as the model keeps it: every one there ever was, with its whole fate."""

    number: str
    accounts: tuple[str, ...]
    units: int
    lease_end_us: int
    fate: str = "open"
    charged: int = 0
    charged_at_us: int = 0
    was_late: bool = False


@dataclass
class Limits:
    """What an account may do, and the level of its bucket of requests."""

    units: int | None
    period: Callable[[int], object]
    every: Fraction | None
    burst: int
    in_flight: int | None
    level: Fraction = Fraction(0)
    level_at_us: int = 0


def each_month(now_us: int) -> object:
    return time.gmtime(now_us // 1_000_000)[:2]


def each_day(now_us: int) -> object:
    return time.gmtime(now_us // 1_000_000)[:3]


def always(now_us: int) -> object:
    del now_us
    return None


@dataclass
class Model:
    """Adds everything up again each time it is asked."""

    limits: dict[str, Limits]
    wishes: list[Wish] = field(default_factory=list[Wish])

    def held(self, name: str) -> int:
        return sum(one.units for one in self.wishes if one.fate == "open" and name in one.accounts)

    def in_flight(self, name: str) -> int:
        return sum(1 for one in self.wishes if one.fate == "open" and name in one.accounts)

    def used(self, name: str, now_us: int) -> int:
        period = self.limits[name].period
        return sum(
            one.charged for one in self.wishes if name in one.accounts and period(one.charged_at_us) == period(now_us)
        )

    def fits(self, name: str, units: int, now_us: int) -> bool:
        limit = self.limits[name].units
        return limit is None or self.used(name, now_us) + self.held(name) + units <= limit

    def level(self, name: str, now_us: int) -> Fraction:
        """Requests in the bucket; one drips out every so often."""
        bucket = self.limits[name]
        assert bucket.every is not None
        return max(Fraction(0), bucket.level - (now_us - bucket.level_at_us) / bucket.every)

    def find(self, number: str) -> Wish | None:
        return next((one for one in self.wishes if one.number == number), None)

    def answer(self, command: Command, now_us: int) -> str:
        """What should be said, in words, and the model as it is after that."""
        wish = self.find(command.hold_id)
        if isinstance(command, Reserve):
            return self._answer_reserve(command, wish, now_us)
        if isinstance(command, Settle) and command.outcome is Outcome.WRITTEN_OFF and command.units > 0:
            return "failure"
        if wish is None:
            return "unknown"
        if isinstance(command, Settle):
            return self._answer_settle(command, wish, now_us)
        if wish.fate != "open":
            return "released" if isinstance(command, Release) and wish.fate == "released" else self._past(wish)
        return self._answer_open(command, wish, now_us)

    def _answer_reserve(self, command: Reserve, wish: Wish | None, now_us: int) -> str:
        if len(command.accounts) == 2 and command.accounts[0] == command.accounts[1]:
            return "failure"
        if wish is None:
            return self._open(command, now_us)
        if wish.fate != "open":
            return self._past(wish)
        same = wish.accounts == command.accounts and wish.units == command.units
        return f"reserved {wish.units} until {wish.lease_end_us}" if same else "conflict"

    def _open(self, command: Reserve, now_us: int) -> str:
        for name in command.accounts:
            if name not in self.limits:
                return f"denied account {name}"
        for limit, refuses in (("units", self._no_units), ("in_flight", self._no_place), ("requests", self._no_rate)):
            for name in command.accounts:
                if refuses(name, command.units, now_us):
                    return f"denied {limit} {name}"
        for name in command.accounts:
            bucket = self.limits[name]
            if bucket.every is not None:
                bucket.level, bucket.level_at_us = self.level(name, now_us) + 1, now_us
        end_us = (now_us // 1000 + command.lease_ms) * 1000
        self.wishes.append(Wish(command.hold_id, command.accounts, command.units, end_us))
        return f"reserved {command.units} until {end_us}"

    def _no_units(self, name: str, units: int, now_us: int) -> bool:
        return not self.fits(name, units, now_us)

    def _no_place(self, name: str, _units: int, _now_us: int) -> bool:
        most = self.limits[name].in_flight
        return most is not None and self.in_flight(name) + 1 > most

    def _no_rate(self, name: str, _units: int, now_us: int) -> bool:
        bucket = self.limits[name]
        return bucket.every is not None and self.level(name, now_us) + 1 > bucket.burst

    def _answer_settle(self, command: Settle, wish: Wish, now_us: int) -> str:
        if wish.fate == "settled" and wish.charged == command.units:
            return f"settled {wish.charged} late {wish.was_late}"
        if wish.fate in ("settled", "released"):
            return self._past(wish)
        if command.units > wish.units:
            return f"exceeds {wish.units}"
        late = wish.fate == "expired"
        if late and not all(self.fits(name, command.units, now_us) for name in wish.accounts):
            return "expired"
        wish.fate, wish.charged, wish.charged_at_us, wish.was_late = "settled", command.units, now_us, late
        return f"settled {wish.charged} late {late}"

    def _answer_open(self, command: Command, wish: Wish, now_us: int) -> str:
        if isinstance(command, Release):
            wish.fate = "released"
            return "released"
        if isinstance(command, Extend):
            wish.lease_end_us = max(wish.lease_end_us, (now_us // 1000 + command.lease_ms) * 1000)
        elif now_us >= wish.lease_end_us:
            wish.fate = "expired"
            return "expired"
        return f"extended until {wish.lease_end_us}"

    @staticmethod
    def _past(wish: Wish) -> str:
        return (
            f"settled before {wish.charged}"
            if wish.fate == "settled"
            else f"{wish.fate}{' before' * (wish.fate == 'released')}"
        )
