"""`odea-quota serve|migrate|await-schema|audit`, also as `python -m odea_quota`: the only reader of the environment."""

import asyncio

from odea_quota import audit
from odea_quota.app import serve
from odea_quota.settings import QuotaSettings
from odea_runtime.service import main


async def _migrate(settings: QuotaSettings, _stop: asyncio.Event) -> None:
    # Imported here: the serving process has no use for the migration tools and their memory.
    from odea_runtime.migrations import migrate  # noqa: PLC0415

    await migrate(settings, "odea_quota", "quota")


async def _await_schema(settings: QuotaSettings, stop: asyncio.Event) -> None:
    from odea_runtime.migrations import await_schema  # noqa: PLC0415 - as above

    await await_schema(settings, "odea_quota", "quota", stop)


def run() -> None:
    """The console script."""
    main(
        "quota", QuotaSettings, {"serve": serve, "migrate": _migrate, "await-schema": _await_schema, "audit": audit.run}
    )


if __name__ == "__main__":
    run()
