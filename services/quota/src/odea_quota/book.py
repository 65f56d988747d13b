"""What a batch of commands can touch and what it changed: accounts, open holds, ended holds, entries of the ledger."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from odea_contracts.quota import Settle
from odea_quota.accounts import Account, TopUpBalance

OPERATOR: Final = "operator"
"""The ledger's account that top-ups come from."""
PREDECESSOR: Final = "predecessor"
"""The ledger's account that is paid for what was used before an account was here."""
_TOPUP: Final = "topup:"
_WRITE_OFF_US: Final = 3_600_000_000


class Hold(Struct, kw_only=True, gc=False):
    """An open hold.

    Attributes:
        topups: how many of its units come from which top-up; the others come from the plan.
    """

    hold_id: str
    account_ids: tuple[str, ...]
    units: int
    lease_ends_at_ms: int
    reserved_at_ms: int
    request_id: str
    tenant_id: str
    key_id: str
    topups: dict[str, int] = {}


class Kind(StrEnum):
    """How a hold ended."""

    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Resolution(Struct, kw_only=True, gc=False):
    """The end of a hold, and the whole record of it.

    Attributes:
        units: what is charged.
        at_us: when it ended; `None` for now.
        taken_back: what was charged and is not any more.
    """

    hold: Hold
    kind: Kind
    units: int = 0
    late: bool = False
    settle: Settle | None = None
    at_us: int | None = None
    taken_back: int = 0


class Reversal(Struct, frozen=True, kw_only=True, gc=False):
    """A charge was taken back."""

    hold: Hold
    units: int
    charged_at_us: int


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One double entry of the ledger: `units` leave the account `debit` and arrive at the account `credit`.

    Accounts of the ledger are quota accounts by id, `topup:<id>`, `provider:<name>`, `budget:<tenant account>` for what
    a key with a budget of its own uses, `operator` and `predecessor`. A reversal goes the other way than the charge
    that it takes back, under the same cause.
    """

    cause_id: str
    debit: str
    credit: str
    units: int


class Crossing(Struct, frozen=True, kw_only=True, gc=False):
    """An account reached a soft limit for the first time in its window."""

    account_id: str
    tenant_id: str
    percent: int
    used: int
    limit: int
    window_ends_at_ms: int | None


class Expire(Struct, frozen=True, gc=False):
    """The sweeper's command: end this hold if its lease has ended.

    Attributes:
        account_id: the first that it takes from, if that is known.
    """

    hold_id: str
    account_id: str | None = None


@dataclass(slots=True, kw_only=True)
class Book:
    """All that a batch of commands can touch, and what they changed.

    Attributes:
        accounts: by id; each is written only if nobody else has changed it since it was read.
        holds: the open ones among the holds that the commands name.
        resolutions: how the others ended, the newest for each.
        charges: the entries of settled holds that are to be written off, by hold.
        write_off_us: how old a charge may be that is taken back.
    """

    accounts: dict[str, Account]
    holds: dict[str, Hold]
    resolutions: dict[str, Resolution]
    charges: dict[str, list[Entry]] = field(default_factory=dict[str, list[Entry]])
    write_off_us: int = _WRITE_OFF_US
    changed: dict[str, Account] = field(default_factory=dict[str, Account])
    changed_topups: dict[str, TopUpBalance] = field(default_factory=dict[str, TopUpBalance])
    opened: dict[str, Hold] = field(default_factory=dict[str, Hold])
    extended: dict[str, Hold] = field(default_factory=dict[str, Hold])
    closed: dict[str, Hold] = field(default_factory=dict[str, Hold])
    resolved: list[Resolution] = field(default_factory=list[Resolution])
    entries: list[Entry] = field(default_factory=list[Entry])
    crossings: list[Crossing] = field(default_factory=list[Crossing])
    reversals: list[Reversal] = field(default_factory=list[Reversal])

    def hold_units(self, account: Account, units: int, now_us: int) -> dict[str, int]:
        """Hold `units` of an account, from top-ups as far as they reach; how much from which."""
        taken = account.take_topups(units, now_us)
        account.held += units - sum(taken.values())
        account.in_flight += 1
        self._note(account, taken)
        return taken

    def hold_more(self, account: Account, hold: Hold, units: int, now_us: int) -> None:
        """Raise an open hold on one of its accounts."""
        taken = account.take_topups(units, now_us)
        account.held += units - sum(taken.values())
        for topup_id, part in taken.items():
            hold.topups[topup_id] = hold.topups.get(topup_id, 0) + part
        self._note(account, taken)

    def give_back(self, account: Account, hold: Hold) -> None:
        """Undo a hold on one of its accounts. What a top-up gave returns to it, lapsed or not."""
        taken: dict[str, int] = {}
        for topup in account.topups:
            if part := hold.topups.get(topup.topup_id, 0):
                topup.units_held -= part
                topup.units_left += part
                taken[topup.topup_id] = part
        account.held -= hold.units - sum(taken.values())
        account.in_flight -= 1
        self._note(account, taken)

    def charge(self, account: Account, hold: Hold, units: int, provider: str) -> None:
        """Use `units` of an account: first what the hold had from top-ups, then the plan's."""
        used: dict[str, int] = {}
        left = units
        for topup in sorted(account.topups, key=lambda topup: (topup.expires_at_ms, topup.topup_id)):
            part = min(left, hold.topups.get(topup.topup_id, 0))
            if part:
                topup.units_left -= part
                used[topup.topup_id] = part
                left -= part
        account.used += left
        self._note(account, used)
        # The tenant's account pays the provider; a key's own account only keeps to its budget.
        tenant = hold.account_ids[0]
        credit = f"provider:{provider}" if account.account_id == tenant else f"budget:{tenant}"
        debits = {f"{_TOPUP}{topup_id}": part for topup_id, part in used.items()} | {account.account_id: left}
        for debit, part in debits.items():
            if part:
                self.entries.append(Entry(cause_id=hold.hold_id, debit=debit, credit=credit, units=part))
        self._cross(account, hold.tenant_id)

    def carry_over(self, account: Account, tenant_id: str, carryover_id: str, units: int) -> None:
        """Use `units` of an account's plan for what was used before."""
        account.used += units
        self._note(account, {})
        self.entries.append(Entry(cause_id=carryover_id, debit=account.account_id, credit=PREDECESSOR, units=units))
        self._cross(account, tenant_id)

    def take_back(self, ended: Resolution, accounts: list[Account], charged_at_us: int) -> None:
        """Undo the charge of a settled hold on all of its accounts.

        A top-up gets its units back, lapsed or not. The plan's are not used any more, unless their window has ended:
        then nothing counts them as it is.
        """
        hold = ended.hold
        charges = self.charges.get(hold.hold_id) or [entry for entry in self.entries if entry.cause_id == hold.hold_id]
        units = {entry.debit: entry.units for entry in charges}
        for account in accounts:
            if charged_at_us >= account.window_started_at_ms * 1000:
                account.used -= units.get(account.account_id, 0)
            returned = {
                topup.topup_id: units[_TOPUP + topup.topup_id]
                for topup in account.topups
                if _TOPUP + topup.topup_id in units
            }
            for topup in account.topups:
                topup.units_left += returned.get(topup.topup_id, 0)
            self._note(account, returned)
        self.entries += [replace(entry, debit=entry.credit, credit=entry.debit) for entry in charges]
        self.reversals.append(Reversal(hold=hold, units=ended.units, charged_at_us=charged_at_us))
        self.resolutions[hold.hold_id] = replace(ended, units=0, taken_back=ended.units)

    def resolve(self, resolution: Resolution) -> None:
        """A hold has ended."""
        hold_id = resolution.hold.hold_id
        self.resolutions[hold_id] = resolution
        self.resolved.append(resolution)
        self._touch(resolution.hold)
        hold = self.holds.pop(hold_id, None)
        self.extended.pop(hold_id, None)
        if hold and self.opened.pop(hold_id, None) is None:
            self.closed[hold_id] = hold

    def extend(self, hold: Hold, lease_ends_at_ms: int) -> None:
        """A hold is held longer, or holds more."""
        hold.lease_ends_at_ms = max(hold.lease_ends_at_ms, lease_ends_at_ms)
        self.extended[hold.hold_id] = hold
        self._touch(hold)

    def _touch(self, hold: Hold) -> None:
        """Have the hold's balances written whatever else happened: by that other replicas see that it has changed."""
        self.changed.update({name: self.accounts[name] for name in hold.account_ids if name in self.accounts})

    def _note(self, account: Account, topup_ids: dict[str, int]) -> None:
        self.changed[account.account_id] = account
        self.changed_topups.update({topup.topup_id: topup for topup in account.topups if topup.topup_id in topup_ids})

    def _cross(self, account: Account, tenant_id: str) -> None:
        self.crossings += [
            Crossing(
                account_id=account.account_id,
                tenant_id=tenant_id,
                percent=percent,
                used=account.used,
                limit=account.limit or 0,
                window_ends_at_ms=account.window_ends_at_ms,
            )
            for percent in account.cross()
        ]
