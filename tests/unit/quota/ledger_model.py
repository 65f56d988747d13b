"""A model of the ledger, slow and obvious. It shares no rule and no number with the ledger.

Every unit of a hold is an item of a list that names where it comes from: a top-up, or the plan. Nothing is stored that
can be counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from odea_contracts.quota import Extend, Outcome, Release, Reserve, Settle
from odea_contracts.writeoffs import WriteOff
from odea_quota.ledger import Command

PLAN = "plan"


@dataclass
class Wish:
    """A hold as the model keeps it: every one there ever was, with its whole fate."""

    number: str
    accounts: tuple[str, ...]
    units: int
    lease_end_us: int
    sources: dict[str, list[str]]
    """By account, where each of the held units comes from."""
    fate: str = "open"
    paid: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """By account, where each of the charged units came from."""
    charged: int = 0
    charged_at_us: int = 0
    was_late: bool = False
    given_back: int = 0


@dataclass
class Extra:
    """A top-up as it was given."""

    name: str
    account: str
    units: int
    lapses_at_us: int


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
    extras: list[Extra] = field(default_factory=list[Extra])

    def held(self, name: str, source: str = PLAN) -> int:
        return sum(one.sources.get(name, []).count(source) for one in self.wishes if one.fate == "open")

    def in_flight(self, name: str) -> int:
        return sum(1 for one in self.wishes if one.fate == "open" and name in one.accounts)

    def ever_used(self, name: str, source: str = PLAN) -> int:
        return sum(one.paid.get(name, []).count(source) for one in self.wishes)

    def used(self, name: str, now_us: int) -> int:
        period = self.limits[name].period
        now = [one for one in self.wishes if period(one.charged_at_us) == period(now_us)]
        return sum(one.paid.get(name, []).count(PLAN) for one in now)

    def left(self, extra: Extra) -> int:
        return extra.units - self.held(extra.account, extra.name) - self.ever_used(extra.account, extra.name)

    def free(self, name: str, now_us: int) -> list[str] | None:
        """Where each unit would come from that could be held now, in order; `None` if there is no limit."""
        limit = self.limits[name].units
        if limit is None:
            return None
        live = [extra for extra in self.extras if extra.account == name and extra.lapses_at_us > now_us]
        live.sort(key=lambda extra: (extra.lapses_at_us, extra.name))
        from_extras = [extra.name for extra in live for _ in range(self.left(extra))]
        return from_extras + [PLAN] * (limit - self.used(name, now_us) - self.held(name))

    def take(self, name: str, units: int, now_us: int) -> list[str] | None:
        """Where so many units would come from; `None` if there are not so many."""
        free = self.free(name, now_us)
        if free is None:
            return [PLAN] * units
        return free[:units] if len(free) >= units else None

    def level(self, name: str, now_us: int) -> Fraction:
        """Requests in the bucket; one drips out every so often."""
        bucket = self.limits[name]
        assert bucket.every is not None
        return max(Fraction(0), bucket.level - (now_us - bucket.level_at_us) / bucket.every)

    def answer(self, command: Command, now_us: int) -> str:
        """What should be said, in words; the model is then as it should be after that."""
        wish = next((one for one in self.wishes if one.number == command.hold_id), None)
        if isinstance(command, Reserve):
            return self._answer_reserve(command, wish, now_us)
        if isinstance(command, Settle) and command.outcome is Outcome.WRITTEN_OFF and command.units > 0:
            return "failure"
        if wish is None:
            return "unknown"
        if isinstance(command, Settle):
            return self._answer_settle(command, wish, now_us)
        if isinstance(command, WriteOff):
            return self._answer_write_off(wish, now_us)
        if wish.fate != "open":
            return "released" if isinstance(command, Release) and wish.fate == "released" else self._past(wish)
        return self._answer_open(command, wish, now_us)

    def _answer_reserve(self, command: Reserve, wish: Wish | None, now_us: int) -> str:
        if len(command.accounts) == 2 and command.accounts[0] == command.accounts[1]:
            return "failure"
        if wish is None:
            return self._refusal(command, now_us) or self._open(command, now_us)
        if wish.fate != "open":
            return self._past(wish)
        same = wish.accounts == command.accounts and wish.units == command.units
        return f"reserved {wish.units} until {wish.lease_end_us}" if same else "conflict"

    def _refusal(self, command: Reserve, now_us: int) -> str | None:
        for name in command.accounts:
            if name not in self.limits:
                return f"denied account {name}"
        for limit, refuses in (("units", self._no_units), ("in_flight", self._no_place), ("requests", self._no_rate)):
            for name in command.accounts:
                if refuses(name, command.units, now_us):
                    return f"denied {limit} {name}"
        return None

    def _open(self, command: Reserve, now_us: int) -> str:
        for name in command.accounts:
            bucket = self.limits[name]
            if bucket.every is not None:
                bucket.level, bucket.level_at_us = self.level(name, now_us) + 1, now_us
        sources = {name: self.take(name, command.units, now_us) or [] for name in command.accounts}
        end_us = (now_us // 1000 + command.lease_ms) * 1000
        self.wishes.append(Wish(command.hold_id, command.accounts, command.units, end_us, sources))
        return f"reserved {command.units} until {end_us}"

    def _no_units(self, name: str, units: int, now_us: int) -> bool:
        return self.take(name, units, now_us) is None

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
        if late and any(self.take(name, command.units, now_us) is None for name in wish.accounts):
            return "expired"
        for name in wish.accounts:
            sources = self.take(name, command.units, now_us) if late else wish.sources[name]
            wish.paid[name] = (sources or [])[: command.units]
        wish.fate, wish.charged, wish.charged_at_us, wish.was_late = "settled", command.units, now_us, late
        return f"settled {wish.charged} late {late}"

    def _answer_write_off(self, wish: Wish, now_us: int) -> str:
        if wish.fate == "released":
            return "released before"
        if wish.fate == "settled":
            if wish.charged and now_us > wish.charged_at_us + 3_600_000_000:
                return self._past(wish)
            wish.given_back += wish.charged
        else:
            wish.was_late = wish.fate == "expired"
            wish.fate, wish.charged_at_us = "settled", now_us
        wish.charged, wish.paid = 0, {}
        return f"written off {wish.given_back}"

    def _answer_open(self, command: Command, wish: Wish, now_us: int) -> str:
        if isinstance(command, Release):
            wish.fate = "released"
            return "released"
        if isinstance(command, Extend):
            refused = self._raise(wish, (command.units or 0) - wish.units, now_us)
            if refused:
                return refused
            wish.lease_end_us = max(wish.lease_end_us, (now_us // 1000 + command.lease_ms) * 1000)
        elif now_us >= wish.lease_end_us:
            wish.fate = "expired"
            return "expired"
        return f"extended until {wish.lease_end_us}"

    def _raise(self, wish: Wish, more: int, now_us: int) -> str | None:
        if more <= 0:
            return None
        for name in wish.accounts:
            if self._no_units(name, more, now_us):
                return f"denied units {name}"
        order = {extra.name: (extra.lapses_at_us, extra.name) for extra in self.extras}
        for name in wish.accounts:
            wish.sources[name] += self.take(name, more, now_us) or []
            # What is charged comes from the soonest to lapse, whenever it was held.
            wish.sources[name].sort(key=lambda source: (source == PLAN, order.get(source)))
        wish.units += more
        return None

    @staticmethod
    def _past(wish: Wish) -> str:
        if wish.fate == "settled":
            return f"settled before {wish.charged}"
        return "released before" if wish.fate == "released" else "expired"
