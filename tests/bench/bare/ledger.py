"""Holds in PostgreSQL: `python -m bench.bare.ledger`. What comes during a transaction shares the next one."""

import asyncio
import os

import asyncpg
import msgspec
import nats
import uvloop
from nats.aio.msg import Msg

from bench.bare.messages import RESERVE, SETTLE, Hold
from odea_local.postgres import PORT

BATCH_MAX = 400
TABLES = """
CREATE TABLE IF NOT EXISTS account (id int PRIMARY KEY, used bigint NOT NULL, held bigint NOT NULL)
    WITH (fillfactor = 20);
CREATE TABLE IF NOT EXISTS hold (id text PRIMARY KEY, units bigint NOT NULL);
CREATE TABLE IF NOT EXISTS entry (id text NOT NULL, units bigint NOT NULL);
INSERT INTO account VALUES (1, 0, 0) ON CONFLICT DO NOTHING;
"""


class Ledger:
    """One transaction after the other."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def receive(self, message: Msg) -> None:
        """Take it into the next batch."""
        self._queue.put_nowait(message)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH_MAX and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._write(batch)
            for message in batch:
                await message.respond(b"{}")

    async def _write(self, batch: list[Msg]) -> None:
        held = [msgspec.json.decode(message.data, type=Hold) for message in batch if message.subject == RESERVE]
        settled = [msgspec.json.decode(message.data, type=Hold) for message in batch if message.subject == SETTLE]
        held_units, settled_units = (sum(hold.units for hold in holds) for holds in (held, settled))
        async with self._connection.transaction():
            await self._connection.fetchrow("SELECT used, held FROM account WHERE id = 1 FOR UPDATE")
            await self._connection.execute(
                "UPDATE account SET used = used + $1, held = held + $2 WHERE id = 1",
                settled_units,
                held_units - settled_units,
            )
            if held:
                await self._connection.execute(
                    "INSERT INTO hold SELECT * FROM unnest($1::text[], $2::bigint[])", *_columns(held)
                )
            if settled:
                ids, units = _columns(settled)
                await self._connection.execute("DELETE FROM hold WHERE id = ANY($1::text[])", ids)
                await self._connection.execute(
                    "INSERT INTO entry SELECT * FROM unnest($1::text[], $2::bigint[])", ids, units
                )


def _columns(holds: list[Hold]) -> tuple[list[str], list[int]]:
    return [hold.id for hold in holds], [hold.units for hold in holds]


async def main() -> None:
    """Serve until killed."""
    connection = await asyncpg.connect(os.environ["BARE_DATABASE_URL"], port=PORT)
    await connection.execute(TABLES)
    bus = await nats.connect(os.environ["BARE_NATS_URL"])
    ledger = Ledger(connection)
    for subject in (RESERVE, SETTLE):
        await bus.subscribe(subject, cb=ledger.receive)
    await ledger.run()


if __name__ == "__main__":
    uvloop.run(main())
