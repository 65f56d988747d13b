"""Whatever stands in an id, a cursor or an enum: it is refused by name, and nothing changes (P7)."""

import json
import random
from typing import Any

import asyncpg
import msgspec
import pytest

from integration.keys.harness import Client, verify_request
from odea_contracts import subjects
from odea_contracts.audit import AuditPage
from odea_contracts.base import Message
from odea_contracts.catalogue import ENDPOINTS
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Issued

TABLES = ("tenants", "keys", "secrets", "audit", "repeats", "outbox")
FIELDS = {
    "tenant_id",
    "key_id",
    "public_id",
    "digest",
    "cursor",
    "scopes",
    "allowed_cidrs",
    "limit",
    "grace_ms",
    "expires_at_ms",
}
LISTS = {"scopes", "allowed_cidrs"}
HOSTILE = (
    "'; DROP TABLE keys.audit; --",
    "' OR '1'='1",
    "ten_0' UNION SELECT hash FROM keys.secrets --",
    "$1",
    ":tenant_id",
    "%s",
    "%(tenant_id)s",
    "{tenant_id}",
    "\\x27",
    "\\'; SELECT pg_sleep(10) --",
    "$$; SELECT 1; $$",
    "null",
    "*",
    ">",
    "odea.v1.keys.>",
    "../../etc/passwd",
    "ten_0\u0000",
    "ten_0\n",
    "te\u0301n",
    "ｔｅｎ_0",  # noqa: RUF001 - looks like an id, and is none
    "тen_0",
    "\u202e0_net",
    "x" * 100_000,
    "",
)


def fuzz(seed: int, count: int) -> list[str]:
    """Texts of characters that mean something to SQL, JSON, NATS or a terminal."""
    chance = random.Random(seed)
    alphabet = "'\"\\;-%$:()*>./ \t\r\n\u0000\u001b\u200b\u202eéＡ0aZ_"  # noqa: RUF001
    return ["".join(chance.choices(alphabet, k=chance.randint(1, 80))) for _ in range(count)]


async def contents(database: asyncpg.Connection) -> dict[str, Any]:
    return {table: await database.fetch(f"SELECT * FROM keys.{table} ORDER BY 1") for table in TABLES}


def is_refused(kind: Any, answer: bytes) -> bool:
    """Whether nothing was done, or nothing found."""
    reply = msgspec.json.decode(answer, type=kind)
    if isinstance(reply, AuditPage):
        return reply.entries == ()
    return isinstance(reply, Failure) and reply.code in {ErrorCode.INVALID_VALUE, ErrorCode.NOT_FOUND}


def good_body(request: type[Message], issued: Issued) -> dict[str, Any]:
    """A body of the type with every required field."""
    verify = verify_request(issued.secret)
    known: dict[str, Any] = {
        "tenant_id": issued.key.tenant_id,
        "key_id": issued.key.key_id,
        "public_id": verify.public_id,
        "digest": verify.digest,
        "name": "fuzzed",
        "scopes": ["speech"],
    }
    fields = msgspec.structs.fields(request)
    return {field.encode_name: known[field.encode_name] for field in fields if field.required}


@pytest.mark.usefixtures("service")
async def test_hostile_values_are_refused_and_change_nothing(client: Client, database: asyncpg.Connection) -> None:
    issued = await client.new_key((await client.new_tenant()).tenant_id)
    await database.execute("DELETE FROM keys.outbox")
    before = await contents(database)
    tried = 0
    for endpoint in ENDPOINTS:
        if endpoint.queue != subjects.KEYS:
            continue
        names = {field.encode_name for field in msgspec.structs.fields(endpoint.request)}
        for name in sorted(names & FIELDS):
            for value in (*HOSTILE, *fuzz(tried, 6)):
                body = good_body(endpoint.request, issued) | {name: [value] if name in LISTS else value}
                message = await client.bus.client.request(endpoint.subject, json.dumps(body).encode(), timeout=5)
                assert is_refused(endpoint.reply, message.data), (endpoint.subject, name, value)
                tried += 1
    assert tried > 800
    assert await contents(database) == before
