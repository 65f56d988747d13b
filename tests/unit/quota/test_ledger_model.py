"""The ledger against a slow and obvious model, over random histories (P1, P2)."""

import calendar
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from dataclasses import replace as copy_of
from fractions import Fraction
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from odea_contracts import quota
from odea_contracts.errors import Failure
from odea_contracts.quota import Outcome, Window
from odea_contracts.writeoffs import WriteOff, WrittenOff
from odea_quota.accounts import Account, TopUpBalance
from odea_quota.book import Book, Entry, Expire, Hold, Resolution, Reversal
from odea_quota.ledger import Answer, Command, decide
from unit.quota.ledger_model import Extra, Limits, Model, always, each_day, each_month
from unit.quota.samples import account, at_us, expire, extend, hold_id, release, reserve, settle, topup, write_off

_START_US = at_us("2027-12-31T22:30:00")


_WORDS: dict[type, Callable[[Any], str]] = {
    quota.Reserved: lambda answer: f"reserved {answer.units} until {answer.expires_at_ms * 1000}",
    quota.Denied: lambda answer: f"denied {answer.limit} {answer.account_id}",
    quota.HoldConflict: lambda _: "conflict",
    quota.Settled: lambda answer: f"settled {answer.units} late {answer.late}",
    quota.SettledBefore: lambda answer: f"settled before {answer.units}",
    quota.Released: lambda _: "released",
    quota.ReleasedBefore: lambda _: "released before",
    quota.Extended: lambda answer: f"extended until {answer.expires_at_ms * 1000}",
    quota.Expired: lambda _: "expired",
    quota.HoldUnknown: lambda _: "unknown",
    quota.ExceedsHold: lambda answer: f"exceeds {answer.held}",
    WrittenOff: lambda answer: f"written off {answer.units}",
    Failure: lambda _: "failure",
}
"""The answers of the ledger as the model puts them."""


@dataclass
class Tables:
    """Where the ledger's state rests between batches: rows go in and out as the book says, and nothing is decided."""

    accounts: dict[str, Account]
    topups: dict[str, TopUpBalance] = field(default_factory=dict[str, TopUpBalance])
    holds: dict[str, Hold] = field(default_factory=dict[str, Hold])
    resolutions: list[Resolution] = field(default_factory=list[Resolution])
    entries: list[Entry] = field(default_factory=list[Entry])
    reversals: list[Reversal] = field(default_factory=list[Reversal])

    def apply(self, commands: list[Command], now_us: int) -> list[Answer]:
        named = {command.hold_id for command in commands}
        written_off = {command.hold_id for command in commands if isinstance(command, WriteOff)}
        book = Book(
            accounts={name: self._account(one, now_us, written_off) for name, one in self.accounts.items()},
            holds={name: deepcopy(hold) for name, hold in self.holds.items() if name in named},
            # In the order of writing, so the newest of a hold's ends stays.
            resolutions={one.hold.hold_id: self._known(one) for one in self.resolutions if one.hold.hold_id in named},
            charges={name: charges for name in written_off if (charges := self._charges(name))},
        )
        answers = [deepcopy(decide(book, command, now_us)) for command in commands]
        self._write(book, now_us)
        return answers

    def _known(self, ended: Resolution) -> Resolution:
        back = sum(one.units for one in self.reversals if one.hold.hold_id == ended.hold.hold_id)
        return replace(ended, units=ended.units - back, taken_back=back)

    def _charges(self, name: str) -> list[Entry]:
        if any(one.hold.hold_id == name for one in self.reversals):
            return []
        return [one for one in self.entries if one.cause_id == name]

    def _account(self, one: Account, now_us: int, written_off: set[str]) -> Account:
        spent = {entry.debit for name in written_off for entry in self._charges(name)}
        alive = [
            topup
            for topup in self.topups.values()
            if topup.units_held or topup.expires_at_ms * 1000 > now_us or f"topup:{topup.topup_id}" in spent
        ]
        return copy_of(one, topups=[deepcopy(topup) for topup in alive if topup.account_id == one.account_id])

    def _write(self, book: Book, now_us: int) -> None:
        self.accounts.update({name: copy_of(one, topups=[]) for name, one in book.changed.items()})
        self.topups.update(deepcopy(book.changed_topups))
        assert not book.opened.keys() & self.holds.keys()
        self.holds.update(deepcopy(book.opened))
        for name, hold in book.extended.items():
            self.holds[name] = deepcopy(hold)
        for name in book.closed:
            del self.holds[name]
        # The record of a late settlement keeps nothing of what the hold had from top-ups.
        self.resolutions.extend(replace(one, hold=replace(one.hold, topups={}), at_us=now_us) for one in book.resolved)
        self.entries.extend(book.entries)
        self.reversals.extend(book.reversals)


_LIVE = [("month",), ("day",), ("endless",), ("month", "day"), ("endless", "month")]
_AMISS = [("nobody",), ("day", "nobody"), ("day", "day")]
_LEASES_MS = st.sampled_from([1_000, 30_000, 1_800_000])
_AGES = st.integers(1, 6)
"""Which hold is meant: 1 is the newest, 0 one that is to be opened."""


def _reserve(age: int, accounts: tuple[str, ...], units: int, lease_ms: int) -> Command:
    return reserve(age, units, *accounts, lease_ms=lease_ms)


_COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(_reserve, st.just(0), st.sampled_from(_LIVE), st.sampled_from([1, 20, 45]), _LEASES_MS),
    st.builds(_reserve, st.just(0), st.sampled_from(_LIVE), st.integers(1, 90), _LEASES_MS),
    st.builds(_reserve, st.integers(0, 6), st.sampled_from(_LIVE + _AMISS), st.sampled_from([20, 45]), _LEASES_MS),
    st.builds(settle, _AGES, st.sampled_from([0, 1, 20, 45])),
    st.builds(settle, _AGES, st.integers(0, 60)),
    st.builds(settle, _AGES, st.integers(0, 1), st.just(Outcome.WRITTEN_OFF)),
    st.builds(release, _AGES),
    st.builds(extend, _AGES, _LEASES_MS),
    st.builds(extend, _AGES, _LEASES_MS, st.integers(1, 90)),
    st.builds(expire, _AGES),
    st.builds(write_off, _AGES),
)


class LedgerAgainstModel(RuleBasedStateMachine):
    """Batches of commands at moving times, on three accounts with tight limits."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = _START_US
        self.newest = 0
        self.totals: dict[str, int] = {}
        self.last: list[Command] = []
        new_year_ms = calendar.timegm((2028, 1, 1, 0, 0, 0)) * 1000
        month = account("month", limit=100, in_flight_max=3, window_ends_at_ms=new_year_ms)
        day = account("day", limit=70, window=Window.DAY, window_ends_at_ms=new_year_ms)
        day.requests_per_minute, day.requests_burst = 2, 3
        endless = account("endless", limit=None, window=Window.NONE, window_ends_at_ms=None)
        endless.requests_per_minute, endless.requests_burst, endless.in_flight_max = 60, 2, 4
        self.tables = Tables({one.account_id: one for one in (month, day, endless)})
        self.model = Model(
            {
                "month": Limits(100, each_month, None, 0, 3),
                "day": Limits(70, each_day, Fraction(30_000_000), 3, None),
                "endless": Limits(None, always, Fraction(1_000_000), 2, 4),
            }
        )

    @rule(commands=st.lists(_COMMANDS, min_size=1, max_size=5))
    def batch(self, commands: list[Command]) -> None:
        self._apply([self._meant(command) for command in commands])

    def _meant(self, command: Command) -> Command:
        age = int(command.hold_id[-12:], 16)
        self.newest += age == 0
        name = hold_id(self.newest - max(0, age - 1))
        return Expire(name) if isinstance(command, Expire) else replace(command, hold_id=name)

    def _apply(self, commands: list[Command]) -> None:
        self.last = commands
        answers = self.tables.apply(commands, self.now_us)
        for command, answer in zip(commands, answers, strict=True):
            assert _WORDS[type(answer)](answer) == self.model.answer(command, self.now_us), command
            if isinstance(answer, quota.Reserved | quota.Denied):
                self._balances_are_true(answer, last=command is commands[-1])
        # What was refused is not remembered, so its number is free again.
        self.newest = max((int(one.number[-12:], 16) for one in self.model.wishes), default=0)

    @rule()
    def deliver_the_last_batch_again(self) -> None:
        self._apply(self.last)

    @rule(share=st.sampled_from([1, 2]), more=st.integers(0, 1), meanwhile=st.sampled_from([0, 45, 60]))
    def settle_what_expired(self, share: int, more: int, meanwhile: int) -> None:
        expired = [one for one in self.model.wishes if one.fate == "expired"][-3:]
        for one in expired[-1:] if meanwhile else []:
            self._apply([reserve(self.newest + 1, meanwhile, *one.accounts)])
        self._apply([settle(int(one.number[-12:], 16), one.units // share + more) for one in expired])

    @rule(late_us=st.sampled_from([0, 1, 3_599_999_999, 3_600_000_000, 3_600_000_001]), count=st.integers(1, 3))
    def write_off_what_was_charged(self, late_us: int, count: int) -> None:
        charged = [one for one in self.model.wishes if one.charged][-count:]
        if charged:
            self.now_us = max(self.now_us, charged[-1].charged_at_us + late_us)
        self._apply([WriteOff(hold_id=one.number) for one in charged])

    @rule(before_us=st.integers(0, 1))
    def wait_for_a_lease_to_end(self, before_us: int) -> None:
        ends = [one.lease_end_us for one in self.model.wishes if one.fate == "open" and one.lease_end_us > self.now_us]
        self.now_us = min(ends, default=self.now_us + 1) - before_us
        self._apply([Expire(name) for name in self.tables.holds])

    @rule(
        name=st.sampled_from(["month", "day"]),
        units=st.sampled_from([5, 30]),
        lapses_in_ms=st.sampled_from([1, 20_000, 10**8]),
    )
    def top_up(self, name: str, units: int, lapses_in_ms: int) -> None:
        number = len(self.tables.topups)
        extra = topup(number, units, account_id=name)
        extra.expires_at_ms = self.now_us // 1000 + lapses_in_ms
        self.tables.topups[extra.topup_id] = extra
        self.model.extras.append(Extra(extra.topup_id, name, units, extra.expires_at_ms * 1000))

    @rule(name=st.sampled_from(["month", "day"]), limit=st.sampled_from([40, 100, 100, 150]))
    def change_the_plan(self, name: str, limit: int) -> None:
        self.tables.accounts[name].limit = self.model.limits[name].units = limit

    @rule(gap_us=st.sampled_from([1, 999, 250_000, 1_000_000, 29_999_999, 30_000_000, 600_000_000]))
    def wait(self, gap_us: int) -> None:
        self.now_us += gap_us

    @rule(hours=st.integers(1, 30))
    def sleep_for_hours(self, hours: int) -> None:
        self.now_us += hours * 3_600_000_000

    @rule(before_us=st.integers(0, 1))
    def wait_for_midnight(self, before_us: int) -> None:
        day_us = 86_400_000_000
        self.now_us = max(self.now_us, (self.now_us // day_us + 1) * day_us - before_us)

    @rule()
    def sweep(self) -> None:
        overdue = [
            Expire(name) for name, hold in self.tables.holds.items() if hold.lease_ends_at_ms * 1000 <= self.now_us
        ]
        if overdue:
            self._apply(list(overdue))
        assert all(one.lease_end_us > self.now_us for one in self.model.wishes if one.fate == "open")

    @invariant()
    def nobody_is_over(self) -> None:
        """P1, on the rows as they are stored. Above a limit that was lowered, nothing more may be taken."""
        for name, one in self.tables.accounts.items():
            total = one.used + one.held
            assert one.limit is None or total <= max(one.limit, self.totals.get(name, 0))
            self.totals[name] = total
        for extra in self.tables.topups.values():
            assert extra.units_left >= 0
            assert extra.units_held >= 0

    @invariant()
    def balances_add_up(self) -> None:
        for name, one in self.tables.accounts.items():
            assert one.held == self.model.held(name)
            assert one.in_flight == self.model.in_flight(name)
            # A row of a window that has ended counts for nothing; it is only rolled when somebody calls.
            ended = one.window_ends_at_ms is not None and one.window_ends_at_ms * 1000 <= self.now_us
            assert (0 if ended else one.used) == self.model.used(name, self.now_us)
        for extra in self.model.extras:
            row = self.tables.topups[extra.name]
            assert (row.units_left, row.units_held) == (
                self.model.left(extra),
                self.model.held(extra.account, extra.name),
            )

    @invariant()
    def the_ledger_tells_every_charge(self) -> None:
        debits: Counter[str] = Counter()
        for entry in self.tables.entries:
            back = entry.debit.startswith(("provider:", "budget:"))
            debits[entry.credit if back else entry.debit] += -entry.units if back else entry.units
        debits = +debits
        paid = {name: self.model.ever_used(name) for name in self.model.limits}
        paid |= {f"topup:{one.name}": self.model.ever_used(one.account, one.name) for one in self.model.extras}
        assert debits == Counter({name: units for name, units in paid.items() if units})

    @invariant()
    def records_add_up_to_what_is_charged(self) -> None:
        charged = sum(one.units for one in self.tables.resolutions) - sum(one.units for one in self.tables.reversals)
        assert charged == sum(one.charged for one in self.model.wishes)
        assert sum(one.units for one in self.tables.reversals) == sum(one.given_back for one in self.model.wishes)

    @invariant()
    def every_end_is_on_record_once(self) -> None:
        ends = Counter((one.hold.hold_id, one.kind.value) for one in self.tables.resolutions)
        assert all(count == 1 for count in ends.values())
        fates = {one.number: one.fate for one in self.model.wishes if one.fate != "open"}
        assert {one.hold.hold_id: one.kind.value for one in self.tables.resolutions} == fates

    def _balances_are_true(self, answer: quota.Reserved | quota.Denied, *, last: bool) -> None:
        # The model has gone on by the end of the batch, so only the last answer can be compared with it.
        for told in answer.balances if last else ():
            name, free = told.account_id, self.model.free(told.account_id, self.now_us)
            extras = [one.name for one in self.model.extras if one.account == name]
            held = self.model.held(name) + sum(self.model.held(name, extra) for extra in extras)
            assert (told.used, told.held) == (self.model.used(name, self.now_us), held)
            assert told.remaining == (None if free is None else len(free))
            assert told.in_flight == self.model.in_flight(name)


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
