"""Accounts by their id."""

from typing import Final
from uuid import UUID, uuid5

from litestar import Controller, get, patch, post
from litestar.response import Response

from odea_contracts import plans
from odea_gateway.admin.bodies import AccountChange, CarryOverBody, TopUpBody
from odea_gateway.admin.operations import (
    AUTHOR,
    CHANGING,
    NO_BODY,
    READING,
    AccountId,
    AdminRequest,
    Author,
    By,
    answered,
    asked,
    described,
    identifier,
)
from odea_gateway.auth import requires_admin
from odea_gateway.documentation import BEARER
from odea_runtime.ids import new_uuid

_TOPUPS: Final = UUID("9b1f0a52-6a1c-5d0e-9c64-2f0f5c7b3d11")
"""The namespace of top-ups that are named by their caller."""


class AccountController(Controller):
    """What is charged."""

    path = "/v1/admin/accounts/{account_id:str}"
    tags = ("admin: accounts",)
    guards = (requires_admin(),)
    security = BEARER
    dependencies = AUTHOR

    @get(
        operation_id="get_account",
        operation_class=described(plans.Account),
        summary="Read an account",
        responses=READING,
    )
    async def get_account(self, request: AdminRequest, account_id: AccountId) -> Response[bytes]:
        """One account with its plan and balance."""
        message = plans.AccountRef(account_id=identifier(account_id, "account_id"))
        return await answered(request, plans.ACCOUNT_GET, message)

    @patch(
        operation_id="update_account",
        operation_class=described(plans.Account, AccountChange),
        summary="Change an account",
        responses=CHANGING,
    )
    async def update_account(self, request: AdminRequest, account_id: AccountId, author: By) -> Response[bytes]:
        """Another plan, or limits that differ from it. What is used stays used."""
        identifier(account_id, "account_id")
        body = await asked(request, AccountChange)
        message = plans.AccountSet(account_id=account_id, plan=body.plan, overrides=body.overrides, **author)
        return await answered(request, plans.ACCOUNT_SET, message)

    @post(
        "/suspend",
        operation_id="suspend_account",
        operation_class=described(plans.Account),
        summary="Suspend an account",
        status_code=200,
        responses=NO_BODY,
    )
    async def suspend_account(self, request: AdminRequest, account_id: AccountId, author: By) -> Response[bytes]:
        """It holds nothing more until it is resumed; what is held ends as it would."""
        message = plans.AccountRef(account_id=identifier(account_id, "account_id"), **author)
        return await answered(request, plans.ACCOUNT_SUSPEND, message)

    @post(
        "/resume",
        operation_id="resume_account",
        operation_class=described(plans.Account),
        summary="Resume an account",
        status_code=200,
        responses=NO_BODY,
    )
    async def resume_account(self, request: AdminRequest, account_id: AccountId, author: By) -> Response[bytes]:
        """It may be charged again."""
        message = plans.AccountRef(account_id=identifier(account_id, "account_id"), **author)
        return await answered(request, plans.ACCOUNT_RESUME, message)

    @post(
        "/topups",
        operation_id="top_up_account",
        operation_class=described(plans.Account, TopUpBody),
        summary="Top an account up",
        status_code=200,
        responses=CHANGING,
    )
    async def top_up_account(self, request: AdminRequest, account_id: AccountId, author: By) -> Response[bytes]:
        """Extra units until they lapse, used before the plan's."""
        identifier(account_id, "account_id")
        body = await asked(request, TopUpBody)
        message = plans.TopUp(
            topup_id=_topup_id(account_id, author),
            account_id=account_id,
            units=body.units,
            expires_at_ms=body.expires_at_ms,
            **author,
        )
        return await answered(request, plans.TOP_UP, message)

    @post(
        "/carryovers",
        operation_id="carry_usage_over",
        operation_class=described(plans.Account, CarryOverBody),
        summary="Carry usage over",
        status_code=200,
        responses=CHANGING,
    )
    async def carry_usage_over(self, request: AdminRequest, account_id: AccountId, author: By) -> Response[bytes]:
        """Charge what was used before, in the account's present window; 409 if its limit leaves less."""
        identifier(account_id, "account_id")
        body = await asked(request, CarryOverBody)
        message = plans.CarryOver(carryover_id=body.carryover_id, account_id=account_id, units=body.units, **author)
        return await answered(request, plans.CARRY_OVER, message)


def _topup_id(account_id: str, author: Author) -> str:
    """The id by which quota tells a repeat for ever, where names are forgotten; without one each is another top-up."""
    if author["idempotency_key"] is None:
        return new_uuid()
    return str(uuid5(_TOPUPS, f"{author['actor']}\n{account_id}\n{author['idempotency_key']}"))
