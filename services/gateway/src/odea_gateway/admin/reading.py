"""What was used, and what was changed."""

import re
from datetime import date, timedelta
from typing import Annotated, Final

from litestar import Controller, get
from litestar.params import QueryParameter
from litestar.response import Response
from msgspec import Struct

from odea_contracts import audit, quota
from odea_contracts.errors import ErrorCode
from odea_gateway.admin.changes import changes
from odea_gateway.admin.operations import (
    READING,
    AdminRequest,
    Limit,
    Page,
    PageCursor,
    described,
    page,
    told,
)
from odea_gateway.auth import requires_admin
from odea_gateway.documentation import BEARER
from odea_gateway.problems import problem
from odea_gateway.services import services_of

_DAYS_MAX: Final = 366
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ID: Final = r"^[A-Za-z0-9_]{1,64}$(?!\n)"
_Tenant = Annotated[str, QueryParameter(description="The tenant", pattern=_ID)]
_TenantFilter = Annotated[str | None, QueryParameter(description="Only this tenant's", pattern=_ID)]
_KeyFilter = Annotated[str | None, QueryParameter(description="Only this key's", pattern=_ID)]
_DATE: Final = {"format": "date"}
_From = Annotated[str | None, QueryParameter(name="from", description="The first day, in UTC", schema_extra=_DATE)]
_To = Annotated[
    str | None, QueryParameter(name="to", description="The last day, at most a year later", schema_extra=_DATE)
]


class UsageOfTenant(Struct, frozen=True, kw_only=True):
    """Where a tenant's accounts stand, and what it used by day and key if days were asked for."""

    tenant_id: str
    balances: tuple[quota.Balance, ...]
    points: tuple[quota.UsagePoint, ...]
    object: str = "usage"


class ReadingController(Controller):
    """Usage and the audit."""

    path = "/v1/admin"
    tags = ("admin: usage and audit",)
    guards = (requires_admin(),)
    security = BEARER

    @get(
        "/usage",
        operation_id="read_usage",
        operation_class=described(UsageOfTenant),
        summary="Read a tenant's usage",
        responses=READING,
    )
    async def read_usage(
        self,
        request: AdminRequest,
        tenant_id: _Tenant,
        key_id: _KeyFilter = None,
        first: _From = None,
        last: _To = None,
    ) -> Response[bytes]:
        """The balance of its account, and of a key's own. With `from` and `to`: its units by day and key."""
        wanted = (tenant_id,) if key_id in {None, tenant_id} else (tenant_id, str(key_id))
        clients = services_of(request).clients
        balances = await clients.usage(wanted)
        if not any(balance.account_id == tenant_id for balance in balances):
            raise problem(ErrorCode.NOT_FOUND, param="tenant_id")
        points: tuple[quota.UsagePoint, ...] = ()
        if days := _days(first, last):
            series = quota.UsageSeries(tenant_id=tenant_id, first_day=days[0].isoformat(), days=days[1], key_id=key_id)
            points = (await clients.ask(quota.USAGE_SERIES, series)).points
        return told(UsageOfTenant(tenant_id=tenant_id, balances=balances, points=points))

    @get(
        "/audit",
        operation_id="list_audit",
        operation_class=described(Page[audit.AuditEntry]),
        summary="Read the audit",
        responses=READING,
    )
    async def list_audit(
        self,
        request: AdminRequest,
        tenant_id: _TenantFilter = None,
        key_id: _KeyFilter = None,
        limit: Limit = 50,
        cursor: PageCursor = None,
    ) -> Response[bytes]:
        """Who changed what about tenants, keys, plans and accounts, newest first."""
        wanted = audit.AuditList(tenant_id=tenant_id, key_id=key_id, cursor=cursor, limit=limit)
        found = await changes(services_of(request).clients, wanted)
        return page(found.entries, found.next_cursor)


def _days(first: str | None, last: str | None) -> tuple[date, int] | None:
    """The first day and how many, if a series is asked for."""
    if first is None and last is None:
        return None
    if first is None or last is None:
        missing = "to" if last is None else "from"
        raise problem(ErrorCode.MISSING_PARAMETER, "Give both `from` and `to`.", param=missing)
    first_day = _day(first, "from")
    days = (_day(last, "to") - first_day) // timedelta(days=1) + 1
    if not 1 <= days <= _DAYS_MAX:
        raise problem(ErrorCode.INVALID_VALUE, f"The days must be 1 to {_DAYS_MAX}, the last included.", param="to")
    return first_day, days


def _day(text: str, param: str) -> date:
    # `fromisoformat` alone takes other ways to write a day too.
    if not _DAY.fullmatch(text):
        raise problem(ErrorCode.INVALID_VALUE, f"'{param}' must be a day such as 2026-11-01.", param=param)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise problem(ErrorCode.INVALID_VALUE, "There is no such day.", param=param) from None
