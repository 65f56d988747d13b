"""What is written beside every change, in its transaction: a row of the audit and an event for the outbox."""

from enum import StrEnum
from typing import Any, Final

import msgspec
import structlog

from odea_contracts import subjects
from odea_contracts.base import Message
from odea_contracts.keys import KeyEvent, Scope
from odea_contracts.tenants import TenantEvent
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Connection

SOURCE: Final = f"odea/{subjects.KEYS}"


class Action(StrEnum):
    """The changes that there are; each is told to the bus under the subject of the same name."""

    TENANT_CREATED = "tenant_created"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    ISSUED = "issued"
    ROTATED = "rotated"
    REVOKED = "revoked"


_SUBJECTS: Final = {
    Action.TENANT_CREATED: subjects.KEYS_TENANT_CREATED,
    Action.SUSPENDED: subjects.KEYS_SUSPENDED,
    Action.RESUMED: subjects.KEYS_RESUMED,
    Action.ISSUED: subjects.KEYS_ISSUED,
    Action.ROTATED: subjects.KEYS_ROTATED,
    Action.REVOKED: subjects.KEYS_REVOKED,
}


class Detail(Message, omit_defaults=True):
    """What the audit keeps of a change besides who, what and when. Nothing here opens anything."""

    name: str | None = None
    plan: str | None = None
    public_id: str | None = None
    scopes: tuple[Scope, ...] | None = None
    own_account: bool | None = None
    expires_at_ms: int | None = None
    grace_ms: int | None = None


class Journal:
    """Writes with the service's named queries."""

    def __init__(self, queries: Any) -> None:
        self._queries = queries

    async def record(
        self,
        connection: Connection,
        action: Action,
        event: KeyEvent | TenantEvent,
        *,
        actor: str,
        detail: Detail | None = None,
    ) -> None:
        """Write the change to the audit and its event to the outbox, in the transaction that `connection` is in."""
        await self._queries.add_audit(
            connection,
            actor=actor,
            action=action.value,
            tenant_id=event.tenant_id,
            key_id=_key_id(event),
            request_id=structlog.contextvars.get_contextvars().get("request_id"),
            detail=msgspec.json.encode(detail or Detail()).decode(),
        )
        await self._queries.add_event(
            connection, subject=_SUBJECTS[action], event_id=new_uuid(), source=SOURCE, body=msgspec.json.encode(event)
        )


def _key_id(event: KeyEvent | TenantEvent) -> str | None:
    if isinstance(event, TenantEvent) or event.key_id is msgspec.UNSET:
        return None
    return event.key_id
