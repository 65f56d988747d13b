"""Plans and accounts on the bus: what limits whom, and how an operator changes it."""

from typing import Annotated, Final, TypeAlias

from msgspec import UNSET, Meta, UnsetType

from odea_contracts import subjects
from odea_contracts.base import (
    UNKNOWN,
    Change,
    Endpoint,
    HoldId,
    Id,
    IdempotencyKey,
    Message,
    Milliseconds,
    Name,
    Origin,
    Units,
)
from odea_contracts.errors import Failure
from odea_contracts.quota import Balance, HeldUnits, Window


class NamedLimits(Message):
    """The limits that accounts share, under the name of a plan. `None` means no limit.

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


class Plan(NamedLimits, tag_field="type", tag="plan"):
    """A plan as it is."""


class PlanSet(NamedLimits, kw_only=True):
    """Make a plan, or replace one. Its accounts get the new limits at once; what is used stays used.

    It has the fields of a `Change`, and not its name for a base: a struct gets its fields from one base alone.
    """

    actor: Name = UNKNOWN
    origin: Origin = UNKNOWN
    idempotency_key: IdempotencyKey | None = None

    def limits(self) -> NamedLimits:
        """What is asked for, without who asks."""
        return NamedLimits(**{field: getattr(self, field) for field in NamedLimits.__struct_fields__})


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
PLAN_SET: Final[Endpoint[PlanSet, PlanReply]] = Endpoint(subjects.QUOTA_PLAN_SET, subjects.QUOTA, PlanSet, PlanReply)
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


class AccountSet(Change, kw_only=True):
    """Change an account in one step: what is not sent stays, what is used stays used, new limits hold from now on.

    Attributes:
        tenant_id: whose it must be; one that is not there is opened. Not sent, it must be there.
        plan: of an account that is opened, `default` unless it is sent.
        overrides: replace all those that the account has.
    """

    account_id: Id
    tenant_id: Id | UnsetType = UNSET
    plan: Name | UnsetType = UNSET
    overrides: Overrides | UnsetType = UNSET


class TopUp(Change, kw_only=True):
    """Give an account extra units until they lapse. Repeating it with the same id changes nothing.

    They are used before the plan's, those that lapse first first.
    """

    topup_id: HoldId
    account_id: Id
    units: HeldUnits
    expires_at_ms: Milliseconds


class CarryOver(Change, kw_only=True):
    """Charge an account, in its present window, with what was used before it was here. Once for each id, for ever.

    All of the units must fit under the plan's limit, beside what is used and held; top-ups are left alone. Otherwise
    nothing is charged, and the answer is the failure `exceeds_limit`.
    """

    carryover_id: HoldId
    account_id: Id
    units: HeldUnits


class AccountRef(Change, kw_only=True):
    """Name an account. `actor` and `origin` are for the audit, where something is changed."""

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
CARRY_OVER: Final[Endpoint[CarryOver, AccountReply]] = Endpoint(
    subjects.QUOTA_CARRY_OVER, subjects.QUOTA, CarryOver, AccountReply
)
