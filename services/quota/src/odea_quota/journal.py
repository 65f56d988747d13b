"""What is written beside every change of an account, in its transaction: a row of the audit."""

from odea_contracts.audit import AuditAction, AuditDetail
from odea_contracts.base import Change
from odea_contracts.plans import Account, AccountReply
from odea_runtime.audit import NOTHING, AuditLog
from odea_runtime.postgres import Connection, Database


class Journal:
    """Writes to the audit on behalf of accounts."""

    def __init__(self, database: Database) -> None:
        self._audit = AuditLog(database)

    async def record(
        self,
        connection: Connection,
        action: AuditAction,
        change: Change,
        account: AccountReply,
        detail: AuditDetail = NOTHING,
    ) -> None:
        """Add a row about an account, which is its tenant's or, if it has another id, a key's own."""
        assert isinstance(account, Account), "it was there to be changed"
        own = account.account_id != account.tenant_id
        await self._audit.record(
            connection,
            action,
            change,
            tenant_id=account.tenant_id,
            key_id=account.account_id if own else None,
            detail=detail,
        )
