"""Plans, accounts and holds on the bus.

Two-phase rules (after TigerBeetle): reserve makes a hold with a lease; it is then settled, released, or it expires.
Settling less than the hold gives the rest back, settling more is refused, a hold resolves once, and every late second
attempt gets its own named answer.
"""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from odea_contracts import subjects
from odea_contracts.balances import Balance as Balance  # noqa: PLC0414 - a part of quota's messages, so named here too
from odea_contracts.balances import Window as Window  # noqa: PLC0414
from odea_contracts.base import Endpoint, HoldId, Id, Message, Milliseconds, RequestId, Units
from odea_contracts.errors import Failure

LEASE_MS_MIN: Final = 1_000
LEASE_MS_MAX: Final = 3_600_000
LeaseMs = Annotated[int, Meta(ge=LEASE_MS_MIN, le=LEASE_MS_MAX)]
HeldUnits = Annotated[int, Meta(ge=1, le=10**9)]
Label = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$", max_length=10, description="A day in UTC, as 2026-11-23")]
Accounts = Annotated[tuple[Id, ...], Meta(min_length=1, max_length=2)]


class Reserve(Message):
    """Hold units on one account or, atomically, on a tenant's and a key's.

    Attributes:
        hold_id: made by the caller; repeating a granted reserve with the same id gives the first answer, or the named
            one if the hold has ended since. A refusal takes nothing and is not remembered.
        units: an upper bound of what the work may cost.
        lease_ms: how long the hold lasts unless it is extended.
        characters: the length of the text, for plans that limit it.
        model: what is asked for, for plans that list what is allowed.
        voice: likewise.
        mixed_voices: those that are mixed, likewise.
    """

    hold_id: HoldId
    accounts: Accounts
    units: HeldUnits
    lease_ms: LeaseMs
    request_id: RequestId
    tenant_id: Id
    key_id: Id
    characters: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    model: Label = ""
    voice: Label = ""
    mixed_voices: Annotated[tuple[Label, ...], Meta(max_length=16)] = ()


class Reserved(Message, tag_field="type", tag="reserved"):
    """The hold is written."""

    hold_id: HoldId
    units: int
    expires_at_ms: Milliseconds
    balances: tuple[Balance, ...]


class Limit(StrEnum):
    """Which limit refused."""

    UNITS = "units"
    REQUESTS = "requests"
    IN_FLIGHT = "in_flight"
    SUSPENDED = "suspended"
    ACCOUNT = "account"
    """There is no such account."""
    TEXT = "text"
    MODEL = "model"
    VOICE = "voice"


class Denied(Message, tag_field="type", tag="denied"):
    """Nothing was taken from any limit.

    Attributes:
        retry_after_ms: when trying again makes sense; `None` where waiting alone does not help.
    """

    hold_id: HoldId
    limit: Limit
    account_id: Id
    retry_after_ms: int | None
    balances: tuple[Balance, ...] = ()


class HoldConflict(Message, tag_field="type", tag="hold_conflict"):
    """The hold id was used before, for something else."""

    hold_id: HoldId


class Outcome(StrEnum):
    """How the work ended that a settlement pays for."""

    COMPLETED = "completed"
    CLIENT_LEFT = "client_left"
    WRITTEN_OFF = "written_off"
    """We or the upstream cut it: settled with zero units, the provider's own figure stays on record."""


class Settle(Message):
    """Turn a hold into a charge of `units`, at most what is held; the rest is given back.

    Attributes:
        provider_units: what the provider says that it billed, for reconciliation.
    """

    hold_id: HoldId
    units: Units
    outcome: Outcome
    provider: Label = ""
    model: Label = ""
    voice: Label = ""
    provider_units: Units | None = None


class Settled(Message, tag_field="type", tag="settled"):
    """The charge is durable. Repeating the settlement gives this answer again."""

    hold_id: HoldId
    units: int
    late: bool = False
    """The hold had expired, and the account still had room."""


class SettledBefore(Message, tag_field="type", tag="settled_before"):
    """The hold was settled before, with these units."""

    hold_id: HoldId
    units: int


class ReleasedBefore(Message, tag_field="type", tag="released_before"):
    """The hold was released before."""

    hold_id: HoldId


class Expired(Message, tag_field="type", tag="expired"):
    """The lease ended before this came, and nothing is charged."""

    hold_id: HoldId


class HoldUnknown(Message, tag_field="type", tag="hold_unknown"):
    """No hold with this id is on record."""

    hold_id: HoldId


class ExceedsHold(Message, tag_field="type", tag="exceeds_hold"):
    """More was to be settled than is held; the hold stands."""

    hold_id: HoldId
    held: int


ReserveReply: TypeAlias = Reserved | Denied | HoldConflict | SettledBefore | ReleasedBefore | Expired | Failure
RESERVE: Final[Endpoint[Reserve, ReserveReply]] = Endpoint(
    subjects.QUOTA_RESERVE, subjects.QUOTA, Reserve, ReserveReply
)
SettleReply: TypeAlias = Settled | SettledBefore | ReleasedBefore | Expired | HoldUnknown | ExceedsHold | Failure
SETTLE: Final[Endpoint[Settle, SettleReply]] = Endpoint(subjects.QUOTA_SETTLE, subjects.QUOTA, Settle, SettleReply)


class Release(Message):
    """Give a hold back whole: nothing was made that could be charged."""

    hold_id: HoldId


class Released(Message, tag_field="type", tag="released"):
    """The hold is gone. Repeating the release gives this answer again."""

    hold_id: HoldId


ReleaseReply: TypeAlias = Released | SettledBefore | Expired | HoldUnknown | Failure
RELEASE: Final[Endpoint[Release, ReleaseReply]] = Endpoint(
    subjects.QUOTA_RELEASE, subjects.QUOTA, Release, ReleaseReply
)


class Extend(Message):
    """Let the lease end `lease_ms` from now, if that is later than it ends already.

    Attributes:
        units: hold at least so many, if the accounts have them; otherwise nothing changes and the answer is `denied`.
            No request is counted. Repeating it changes nothing.
    """

    hold_id: HoldId
    lease_ms: LeaseMs
    units: HeldUnits | None = None


class Extended(Message, tag_field="type", tag="extended"):
    """The lease ends at this time.

    Attributes:
        units: what is held, if units were asked for.
    """

    hold_id: HoldId
    expires_at_ms: Milliseconds
    units: int | None = None


ExtendReply: TypeAlias = Extended | Denied | SettledBefore | ReleasedBefore | Expired | HoldUnknown | Failure
EXTEND: Final[Endpoint[Extend, ExtendReply]] = Endpoint(subjects.QUOTA_EXTEND, subjects.QUOTA, Extend, ExtendReply)


class Usage(Message):
    """Ask where accounts stand."""

    accounts: Accounts


class UsageReport(Message, tag_field="type", tag="usage"):
    """The balance of each account that was asked for and exists."""

    balances: tuple[Balance, ...]


UsageReply: TypeAlias = UsageReport | Failure
USAGE: Final[Endpoint[Usage, UsageReply]] = Endpoint(subjects.QUOTA_USAGE, subjects.QUOTA, Usage, UsageReply)


class UsageSeries(Message):
    """Ask what a tenant used, day by day and key by key, in UTC.

    Attributes:
        first_day: the first day, as `2026-11-01`.
        days: how many days, at most a year and a day.
        key_id: only this key's.
    """

    tenant_id: Id
    first_day: Day
    days: Annotated[int, Meta(ge=1, le=366)]
    key_id: Id | None = None


CARRIED_OVER: Final = "carried_over"
"""Stands for the key in the series of days, where units were used before the tenant was here."""


class UsagePoint(Message):
    """One key's use on one day; or what was carried over on it, under the key `carried_over` and in no request."""

    day: Day
    key_id: Id
    units: int
    requests: int


class UsageSeriesReport(Message, tag_field="type", tag="usage_series"):
    """Days and keys with any use, in order."""

    points: tuple[UsagePoint, ...]


UsageSeriesReply: TypeAlias = UsageSeriesReport | Failure
USAGE_SERIES: Final[Endpoint[UsageSeries, UsageSeriesReply]] = Endpoint(
    subjects.QUOTA_USAGE_SERIES, subjects.QUOTA, UsageSeries, UsageSeriesReply
)
