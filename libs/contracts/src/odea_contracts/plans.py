"""Plans and accounts on the bus: what limits whom, and how an operator changes it."""

from typing import Annotated, Final, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from odea_contracts import subjects
from odea_contracts.base import Endpoint, HoldId, Id, Message, Milliseconds, Name, Units
from odea_contracts.errors import Failure
from odea_contracts.quota import Balance, HeldUnits, Window


class Plan(Message, tag_field="type", tag="plan"):
    """The limits that accounts share. `None` means no limit.

    Attributes:
        units: billed characters in a window.
        requests_burst: how many requests may come at once before the per-minute rate holds them back.
    """

    name: Name
    units: Units | None
    window: Window = Window.MONTH
    requests_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    requests_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    in_flight_max: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    text_characters_max: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    models: Annotated[tuple[Name, ...], Meta(max_length=100)] | None = None
    voices: Annotated[tuple[Name, ...], Meta(max_length=500)] | None = None
    soft_limits_percent: Annotated[tuple[Annotated[int, Meta(ge=1, le=100)], ...], Meta(max_length=10)] = ()


class PlanRef(Message):
    """Name a plan."""

    name: Name


class PlanList(Message):
    """Ask for all plans."""


class Plans(Message, tag_field="type", tag="plans"):
    """All plans, by name."""

    plans: tuple[Plan, ...]


PlanReply: TypeAlias = Plan | Failure
PlansReply: TypeAlias = Plans | Failure
PLAN_SET: Final[Endpoint[Plan, PlanReply]] = Endpoint(subjects.QUOTA_PLAN_SET, subjects.QUOTA, Plan, PlanReply)
PLAN_GET: Final[Endpoint[PlanRef, PlanReply]] = Endpoint(subjects.QUOTA_PLAN_GET, subjects.QUOTA, PlanRef, PlanReply)
PLAN_LIST: Final[Endpoint[PlanList, PlansReply]] = Endpoint(
    subjects.QUOTA_PLAN_LIST, subjects.QUOTA, PlanList, PlansReply
)


class Overrides(Message):
    """Limits of one account that differ from its plan's. A field not sent follows the plan; `None` is no limit."""

    units: Units | UnsetType | None = UNSET
    requests_per_minute: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET
    requests_burst: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    in_flight_max: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType | None = UNSET


class AccountSet(Message):
    """Open an account, or move it to another plan: what is used stays used, the new limits hold from now on.

    Attributes:
        overrides: replace those that the account has; not sent, they stay.
    """

    account_id: Id
    tenant_id: Id
    plan: Name
    overrides: Overrides | UnsetType = UNSET


class TopUp(Message):
    """Give an account extra units until they lapse. Repeating it with the same id changes nothing.

    They are used before the plan's, those that lapse first first.
    """

    topup_id: HoldId
    account_id: Id
    units: HeldUnits
    expires_at_ms: Milliseconds


class AccountRef(Message):
    """Name an account."""

    account_id: Id


class Account(Message, tag_field="type", tag="account"):
    """An account with its plan and balance."""

    account_id: Id
    tenant_id: Id
    plan: Name
    suspended: bool
    balance: Balance
    overrides: Overrides = Overrides()


AccountReply: TypeAlias = Account | Failure
ACCOUNT_SET: Final[Endpoint[AccountSet, AccountReply]] = Endpoint(
    subjects.QUOTA_ACCOUNT_SET, subjects.QUOTA, AccountSet, AccountReply
)
ACCOUNT_GET: Final[Endpoint[AccountRef, AccountReply]] = Endpoint(
    subjects.QUOTA_ACCOUNT_GET, subjects.QUOTA, AccountRef, AccountReply
)
ACCOUNT_SUSPEND: Final[Endpoint[AccountRef, AccountReply]] = Endpoint(
    subjects.QUOTA_ACCOUNT_SUSPEND, subjects.QUOTA, AccountRef, AccountReply
)
ACCOUNT_RESUME: Final[Endpoint[AccountRef, AccountReply]] = Endpoint(
    subjects.QUOTA_ACCOUNT_RESUME, subjects.QUOTA, AccountRef, AccountReply
)
TOP_UP: Final[Endpoint[TopUp, AccountReply]] = Endpoint(subjects.QUOTA_TOP_UP, subjects.QUOTA, TopUp, AccountReply)
