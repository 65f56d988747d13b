"""What is written beside every change, in its transaction: a row of the audit and an event for the outbox."""

from typing import Any, Final

import msgspec

from odea_contracts import subjects
from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.base import Change
from odea_contracts.keys import KeyEvent
from odea_contracts.tenants import TenantEvent
from odea_runtime.audit import NOTHING, AuditLog
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Connection, Database

SOURCE: Final = f"odea/{subjects.KEYS}"


_SUBJECTS: Final = {
    AuditAction.TENANT_CREATED: subjects.KEYS_TENANT_CREATED,
    AuditAction.TENANT_UPDATED: subjects.KEYS_TENANT_UPDATED,
    AuditAction.SUSPENDED: subjects.KEYS_SUSPENDED,
    AuditAction.RESUMED: subjects.KEYS_RESUMED,
    AuditAction.ISSUED: subjects.KEYS_ISSUED,
    AuditAction.UPDATED: subjects.KEYS_UPDATED,
    AuditAction.ROTATED: subjects.KEYS_ROTATED,
    AuditAction.REVOKED: subjects.KEYS_REVOKED,
}


class Journal:
    """Writes with the service's named queries."""

    def __init__(self, database: Database) -> None:
        self._queries: Any = database.queries
        self._audit = AuditLog(database)

    async def record(
        self,
        connection: Connection,
        action: AuditAction,
        event: KeyEvent | TenantEvent,
        change: Change,
        detail: AuditDetail = NOTHING,
    ) -> None:
        """Write the change to the audit and its event to the outbox, in the transaction that `connection` is in."""
        await self._audit.record(
            connection, action, change, tenant_id=event.tenant_id, key_id=_key_id(event), detail=detail
        )
        await self._queries.add_event(
            connection, subject=_SUBJECTS[action], event_id=new_uuid(), source=SOURCE, body=msgspec.json.encode(event)
        )


def _key_id(event: KeyEvent | TenantEvent) -> str | None:
    if isinstance(event, TenantEvent) or event.key_id is msgspec.UNSET:
        return None
    return event.key_id
