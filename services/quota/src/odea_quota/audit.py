"""`python -m odea_quota audit`: recompute every balance from the ledger and the open holds, and show each difference.

All checks see one snapshot, so it may run beside any traffic. It exits with 1 if anything differs (P1, P2).
"""

import asyncio
import sys
from typing import Any, Final

import msgspec

from odea_quota.settings import QuotaSettings
from odea_runtime.postgres import Database

_CHECKS: Final = ("balances", "topups", "charges", "carryovers", "endings", "usage_days")
_PATIENCE_S: Final = 60.0


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that does not add up."""

    check: str
    subject: str
    difference: str


async def find_differences(database: Database) -> list[Difference]:
    """Everything that does not add up, by check.

    Raises:
        StorageUnavailableError: the database could not be asked, or took longer than its settings allow.
    """
    found: list[Difference] = []
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        for check in _CHECKS:
            query: Any = getattr(database.queries, f"audit_{check}")
            rows = [row async for row in query(connection)]
            found += [Difference(check=check, subject=row["subject"], difference=row["difference"]) for row in rows]
    return found


async def run(settings: QuotaSettings, _stop: asyncio.Event) -> None:
    """Print one JSON object a difference, and exit with 1 if there was any."""
    patient = settings.model_copy(update={"database_timeout_s": max(_PATIENCE_S, settings.database_timeout_s)})
    database = Database(patient, "odea_quota", "quota")
    await database.start()
    try:
        found = await find_differences(database)
    finally:
        await database.stop()
    for difference in found:
        sys.stdout.write(msgspec.json.encode(difference).decode() + "\n")
    sys.stdout.write(f"{len(_CHECKS)} checks, {len(found)} differences\n")
    if found:
        sys.exit(1)
