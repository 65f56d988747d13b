"""What the stand-ins for keys and quota answer, so that the demo tenant can be made."""

import asyncio
import os

import msgspec
import nats
from nats.aio.msg import Msg

from odea_contracts import keys, plans, quota, tenants
from odea_contracts.base import Message
from odea_contracts.keytext import encode_secret, format_key
from odea_contracts.permissions import USERS
from odea_contracts.subjects import inbox_prefix

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


async def answer(url: str, seed: str, user: str) -> None:
    """Answer for ever what `user` serves."""
    connection = await nats.connect(url, nkeys_seed_str=seed, inbox_prefix=inbox_prefix(user))

    async def respond(message: Msg) -> None:
        await message.respond(msgspec.json.encode(reply_to(message.subject)))

    for subject in next(each.serves for each in USERS if each.name == user):
        await connection.subscribe(subject, user, cb=respond)
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
