"""What the admin API reads. A field that is not known is refused: a limit misspelt would be no limit."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from odea_contracts.base import HoldId, Milliseconds, Name, Units
from odea_contracts.keys import Cidrs, Scopes
from odea_contracts.plans import Overrides
from odea_contracts.quota import HeldUnits, Window

_Rate = Annotated[int, Meta(ge=1, le=1_000_000)]


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body of a request."""


class TenantBody(Body, frozen=True, kw_only=True):
    """A new tenant.

    Attributes:
        plan: of its account.
    """

    name: Name
    plan: Name = "default"


class TenantChange(Body, frozen=True, kw_only=True):
    """Another name for a tenant."""

    name: Name


class Limits(Overrides, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that differ from the plan's. A field not sent follows the plan; `null` is no limit."""


class KeyBody(Body, frozen=True, kw_only=True):
    """A new key; the fields are those of the bus's `issue`."""

    name: Name
    scopes: Scopes
    expires_at_ms: Milliseconds | None = None
    own_account: bool = False
    plan: Name = "default"
    overrides: Limits | UnsetType = UNSET
    allowed_cidrs: Cidrs = ()


class KeyChange(Body, frozen=True, kw_only=True):
    """What is changed about a key; a field that is not sent stays."""

    name: Name | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    expires_at_ms: Milliseconds | UnsetType | None = UNSET
    allowed_cidrs: Cidrs | UnsetType = UNSET


class Rotation(Body, frozen=True, kw_only=True):
    """How long the older secrets of a key work on."""

    grace_ms: Annotated[int, Meta(ge=0, le=90 * 24 * 3600 * 1000)] = 0


class PlanBody(Body, frozen=True, kw_only=True):
    """A plan; its name stands in the path. `null` is no limit."""

    units: Units | None
    window: Window = Window.MONTH
    requests_per_minute: _Rate | None = None
    requests_burst: _Rate = 1
    in_flight_max: _Rate | None = None
    text_characters_max: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    models: Annotated[tuple[Name, ...], Meta(max_length=100)] | None = None
    voices: Annotated[tuple[Name, ...], Meta(max_length=500)] | None = None
    soft_limits_percent: Annotated[tuple[Annotated[int, Meta(ge=1, le=100)], ...], Meta(max_length=10)] = ()


class AccountChange(Body, frozen=True, kw_only=True):
    """What is changed about an account; a field that is not sent stays. `overrides` replaces all that there were."""

    plan: Name | UnsetType = UNSET
    overrides: Limits | UnsetType = UNSET


class TopUpBody(Body, frozen=True, kw_only=True):
    """Extra units, until they lapse."""

    units: HeldUnits
    expires_at_ms: Milliseconds


class CarryOverBody(Body, frozen=True, kw_only=True):
    """Units that were used before, under an id that is used once for ever."""

    carryover_id: HoldId
    units: HeldUnits
