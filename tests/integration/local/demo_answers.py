"""What the stand-in for keys answers in place of keys and quota, so that the demo tenant can be made."""

import asyncio
import os

import msgspec
import nats
from nats.aio.msg import Msg

from odea_contracts import keys, plans, quota, tenants
from odea_contracts.base import Message
from odea_contracts.keytext import encode_secret, format_key

TENANT = tenants.Tenant(tenant_id="ten_1", name="demo", suspended=False, created_at_ms=0)
SCOPES = (keys.Scope.SPEECH,)
PUBLIC_ID = "0" * 12
KEY = keys.Key(
    key_id="key_1",
    tenant_id="ten_1",
    name="tenant",
    public_id=PUBLIC_ID,
    scopes=SCOPES,
    own_account=False,
    created_at_ms=0,
    expires_at_ms=None,
    revoked_at_ms=None,
)
BALANCE = quota.Balance(
    account_id="ten_1", limit=1, used=0, held=0, remaining=1, window=quota.Window.MONTH, window_ends_at_ms=None
)
ACCOUNT = plans.Account(account_id="ten_1", tenant_id="ten_1", plan="demo", suspended=False, balance=BALANCE)


async def answer(url: str) -> None:
    """Answer for ever."""
    connection = await nats.connect(url)

    async def respond(message: Msg) -> None:
        await message.respond(msgspec.json.encode(reply_to(message.subject)))

    await connection.subscribe("odea.v1.>", cb=respond)
    await asyncio.Event().wait()


def reply_to(subject: str) -> Message:
    """Everything exists, every key is good, and each one that is issued is new."""
    match subject:
        case tenants.TENANT_CREATE.subject:
            return TENANT
        case keys.VERIFY.subject:
            return keys.Principal(tenant_id="ten_1", key_id="key_1", scopes=SCOPES, accounts=("ten_1",))
        case keys.ISSUE.subject:
            return keys.Issued(key=KEY, secret=format_key(PUBLIC_ID, encode_secret(os.urandom(64))))
        case plans.PLAN_GET.subject:
            return plans.Plan(name="demo", units=1)
        case _:
            return ACCOUNT
