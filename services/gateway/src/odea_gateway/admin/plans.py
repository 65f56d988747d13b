"""Plans by their name."""

from hashlib import sha256

from litestar import Controller, get, put
from litestar.response import Response
from msgspec.structs import asdict

from odea_contracts import plans
from odea_contracts.errors import ErrorCode
from odea_gateway.admin.bodies import PlanBody
from odea_gateway.admin.operations import (
    AUTHOR,
    CHANGING,
    READING,
    AdminRequest,
    By,
    Limit,
    Page,
    PageCursor,
    PlanName,
    answered,
    asked,
    described,
    page,
)
from odea_gateway.auth import requires_admin
from odea_gateway.documentation import BEARER
from odea_gateway.problems import problem
from odea_gateway.services import services_of


class PlanController(Controller):
    """The limits that accounts share."""

    path = "/v1/admin/plans"
    tags = ("admin: plans",)
    guards = (requires_admin(),)
    security = BEARER
    dependencies = AUTHOR

    @get(
        operation_id="list_plans", operation_class=described(Page[plans.Plan]), summary="List plans", responses=READING
    )
    async def list_plans(self, request: AdminRequest, limit: Limit = 50, cursor: PageCursor = None) -> Response[bytes]:
        """Plans by name."""
        asking = services_of(request).clients.ask(plans.PLAN_LIST, plans.PlanList())
        known = (await asking).plans
        start = 0
        if cursor is not None:
            # Plans are never removed, so the one that ended a page stays a place in the list.
            start = next((place for place, plan in enumerate(known, 1) if _cursor(plan) == cursor), 0)
            if not start:
                raise problem(ErrorCode.INVALID_VALUE, "There is no such place in the list.", param="cursor")
        shown = known[start : start + limit]
        return page(shown, _cursor(shown[-1]) if start + limit < len(known) else None)

    @get(
        "/{name:str}",
        operation_id="get_plan",
        operation_class=described(plans.Plan),
        summary="Read a plan",
        responses=READING,
    )
    async def get_plan(self, request: AdminRequest, name: PlanName) -> Response[bytes]:
        """One plan."""
        message = plans.PlanRef(name=_checked(name))
        return await answered(request, plans.PLAN_GET, message)

    @put(
        "/{name:str}",
        operation_id="set_plan",
        operation_class=described(plans.Plan, PlanBody),
        summary="Make or replace a plan",
        responses=CHANGING,
    )
    async def set_plan(self, request: AdminRequest, name: PlanName, author: By) -> Response[bytes]:
        """Its accounts get the new limits at once; what is used stays used."""
        _checked(name)
        body = await asked(request, PlanBody)
        message = plans.PlanSet(name=name, **asdict(body), **author)
        return await answered(request, plans.PLAN_SET, message)


def _checked(name: str) -> str:
    if any(character < " " or character == "\x7f" for character in name):
        raise problem(ErrorCode.INVALID_VALUE, "A name has no control characters.", param="name")
    return name


def _cursor(plan: plans.Plan) -> str:
    return sha256(plan.name.encode()).hexdigest()[:32]
