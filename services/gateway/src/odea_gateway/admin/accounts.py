"""Accounts by their id."""

from typing import Final
from uuid import UUID, uuid5

from litestar import Controller, get, patch, post
from litestar.response import Response
from msgspec import UNSET

from odea_contracts import plans
from odea_contracts.errors import ErrorCode
from odea_gateway.admin.bodies import AccountChange, TopUpBody
from odea_gateway.admin.operations import (
    CHANGING,
    NO_BODY,
    READING,
    AccountId,
    AdminRequest,
    IdempotencyKey,
    asked,
    described,
    identifier,
    told,
)
from odea_gateway.auth import requires_admin
from odea_gateway.documentation import BEARER
from odea_gateway.services import services_of
from odea_runtime.ids import new_uuid

_TOPUPS: Final = UUID("9b1f0a52-6a1c-5d0e-9c64-2f0f5c7b3d11")
"""The namespace of top-ups that are named by their caller."""


class AccountController(Controller):
    """What is charged."""

    path = "/v1/admin/accounts/{account_id:str}"
    tags = ("admin: accounts",)
    guards = (requires_admin(),)
    security = BEARER

    @get(
        operation_id="get_account",
        operation_class=described(plans.Account),
        summary="Read an account",
        responses=READING,
    )
    async def get_account(self, request: AdminRequest, account_id: AccountId) -> Response[bytes]:
        """One account with its plan and balance."""
        return told(await _account(request, account_id))

    @patch(
        operation_id="update_account",
        operation_class=described(plans.Account, AccountChange),
        summary="Change an account",
        responses=CHANGING,
    )
    async def update_account(self, request: AdminRequest, account_id: AccountId) -> Response[bytes]:
        """Another plan, or limits that differ from it. What is used stays used."""
        identifier(account_id, "account_id")
        body = await asked(request, AccountChange)
        account = await _account(request, account_id)
        message = plans.AccountSet(
            account_id=account_id,
            tenant_id=account.tenant_id,
            plan=account.plan if body.plan is UNSET else body.plan,
            overrides=body.overrides,
        )
        return told(await services_of(request).clients.ask(plans.ACCOUNT_SET, message, ErrorCode.QUOTA_UNAVAILABLE))

    @post(
        "/suspend",
        operation_id="suspend_account",
        operation_class=described(plans.Account),
        summary="Suspend an account",
        status_code=200,
        responses=NO_BODY,
    )
    async def suspend_account(self, request: AdminRequest, account_id: AccountId) -> Response[bytes]:
        """It holds nothing more until it is resumed; what is held ends as it would."""
        message = plans.AccountRef(account_id=identifier(account_id, "account_id"))
        return told(await services_of(request).clients.ask(plans.ACCOUNT_SUSPEND, message, ErrorCode.QUOTA_UNAVAILABLE))

    @post(
        "/resume",
        operation_id="resume_account",
        operation_class=described(plans.Account),
        summary="Resume an account",
        status_code=200,
        responses=NO_BODY,
    )
    async def resume_account(self, request: AdminRequest, account_id: AccountId) -> Response[bytes]:
        """It may be charged again."""
        message = plans.AccountRef(account_id=identifier(account_id, "account_id"))
        return told(await services_of(request).clients.ask(plans.ACCOUNT_RESUME, message, ErrorCode.QUOTA_UNAVAILABLE))

    @post(
        "/topups",
        operation_id="top_up_account",
        operation_class=described(plans.Account, TopUpBody),
        summary="Top an account up",
        status_code=200,
        responses=CHANGING,
    )
    async def top_up_account(
        self, request: AdminRequest, account_id: AccountId, idempotency_key: IdempotencyKey = None
    ) -> Response[bytes]:
        """Extra units until they lapse, used before the plan's."""
        identifier(account_id, "account_id")
        body = await asked(request, TopUpBody)
        message = plans.TopUp(
            topup_id=_topup_id(request.user.key_id, account_id, idempotency_key),
            account_id=account_id,
            units=body.units,
            expires_at_ms=body.expires_at_ms,
        )
        return told(await services_of(request).clients.ask(plans.TOP_UP, message, ErrorCode.QUOTA_UNAVAILABLE))


def _topup_id(actor: str, account_id: str, idempotency_key: str | None) -> str:
    """The id by which quota tells a repeat; without a key of the caller's, every request is another top-up."""
    if idempotency_key is None:
        return new_uuid()
    return str(uuid5(_TOPUPS, f"{actor}\n{account_id}\n{idempotency_key}"))


async def _account(request: AdminRequest, account_id: str) -> plans.Account:
    message = plans.AccountRef(account_id=identifier(account_id, "account_id"))
    return await services_of(request).clients.ask(plans.ACCOUNT_GET, message, ErrorCode.QUOTA_UNAVAILABLE)
