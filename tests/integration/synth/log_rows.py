"""The request log's table, and rows to fill it with."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from integration.synth.caller import synth_settings
from odea_runtime.ids import new_uuid
from odea_runtime.postgres import Database
from odea_synth.request_log import Ended
from odea_synth.store import RequestStore


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ended(**changes: object) -> Ended:
    """A row, whole and fresh unless changed."""
    row = Ended(
        received_at_ms=now_ms(),
        hold_id=new_uuid(),
        request_id="req_1",
        tenant_id="ten_1",
        key_id="key_1",
        model="tts-1",
        voice="Vera",
        response_format="mp3",
        provider="scripted",
        outcome="completed",
        characters=5,
        units_held=5,
        units_settled=5,
        provider_units=5,
        audio_bytes=4711,
        first_audio_ms=None,
        duration_ms=12,
    )
    return msgspec.structs.replace(row, **changes)


@asynccontextmanager
async def open_request_store(dsn: str) -> AsyncGenerator[RequestStore]:
    """A store on a pool of its own, as each replica has."""
    database = Database(synth_settings("nats://unused", dsn, database_timeout_s="5"), "odea_synth", "synth")
    await database.start()
    yield RequestStore(database)
    await database.stop()


async def partitions(table: asyncpg.Connection) -> list[str]:
    """The months that the log has, oldest first."""
    query = """SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
        WHERE inhparent = 'synth.requests'::regclass ORDER BY 1"""
    return [row["relname"].removeprefix("requests_") for row in await table.fetch(query)]
