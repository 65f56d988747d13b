"""The load generator: `python -m bench.load PLAN.json RESULT` asks as a plan says and writes down every request.

Its own and not wrk, since the money is checked request by request: each has an id, and how it ended for the client is
known exactly. A process of its own on uvloop; what it costs is reported beside what the services cost.
"""

import asyncio
import itertools
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import uvloop

from bench.records import LEAVING, UPSTREAM_FAULTS, Caller, End, LoadPlan, LoadResult, Record, Wish, request_text
from bench.upstream import AUDIO_BYTES, AUDIO_CRC
from bench.wire import Answer, Connection

RAMP_S = 0.0005
"""Between two new connections at the beginning, so that a backlog has room for them."""
RECONNECT_S = 0.05
LOST_PAUSE_S = 0.05


class Generator:
    """Runs one plan."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        parts = urlsplit(plan.url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._records: list[Record] = []
        self._numbers = itertools.count()
        self._random = random.Random(plan.seed)
        self._until = 0.0
        self._stop = Path(plan.stop_file) if plan.stop_file else None
        self._stopped = False

    async def run(self) -> LoadResult:
        """Do it all; returns when the last answer has ended."""
        began, cost_s = time.monotonic(), time.process_time()
        self._until = began + self._plan.warm_up_s + self._plan.seconds
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            places = [caller for caller in self._plan.callers for _ in range(caller.connections)]
            workers = [group.create_task(self._work(caller, place)) for place, caller in enumerate(places)]
            await asyncio.wait(workers)
            watch.cancel()
        return LoadResult(
            plan=self._plan,
            began=began + self._plan.warm_up_s,
            ended=min(self._until, time.monotonic()),
            records=tuple(self._records),
            cpu_s=time.process_time() - cost_s,
        )

    async def _watch(self) -> None:
        while not self._stopped:
            self._stopped = self._stop is not None and self._stop.exists()
            await asyncio.sleep(0.05)

    async def _work(self, caller: Caller, place: int) -> None:
        await asyncio.sleep(place * RAMP_S)
        connection: Connection | None = None
        while time.monotonic() < self._until and not self._stopped:
            if connection is None or not connection.usable:
                connection = await self._connect()
                if connection is None:
                    await asyncio.sleep(RECONNECT_S)
                    continue
            await self._one(connection, caller)
        if connection:
            connection.close()

    async def _connect(self) -> Connection | None:
        loop = asyncio.get_running_loop()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._plan.hang_s):
                return (await loop.create_connection(Connection, self._host, self._port))[1]
        return None

    async def _one(self, connection: Connection, caller: Caller) -> None:
        plan = self._plan
        request_id = f"{plan.name}.{next(self._numbers)}"
        wish = self._wish()
        characters = self._random.randint(plan.characters_min, plan.characters_max)
        request = self._request(caller, request_id, wish, characters)
        began = time.monotonic()
        answer = await connection.ask(
            request,
            hang_s=plan.hang_s,
            leave_at_first=wish is Wish.LEAVE,
            leave_after_s=plan.leave_early_s if wish is Wish.LEAVE_EARLY else None,
        )
        self._note(caller, request_id, wish, characters, began, answer)
        if answer.end is End.REFUSED:
            await asyncio.sleep(min(answer.retry_after_s or 0, plan.pause_s_max))
        elif answer.end is not End.WHOLE:
            connection.close()
            if answer.end is End.LOST:
                await asyncio.sleep(LOST_PAUSE_S)

    def _wish(self) -> Wish:
        drawn = self._random.random()
        for wish, share in self._plan.wishes.items():
            drawn -= share
            if drawn < 0:
                return wish
        return Wish.OK

    def _request(self, caller: Caller, request_id: str, wish: Wish, characters: int) -> bytes:
        said = wish if wish in UPSTREAM_FAULTS else Wish.OK
        asked = {
            "model": self._plan.model,
            "input": request_text(request_id, said, characters),
            "voice": self._plan.voice,
            "response_format": "mp3",
        }
        body = msgspec.json.encode(asked)
        return (
            f"POST /v1/audio/speech HTTP/1.1\r\nhost: {self._host}\r\nauthorization: Bearer {caller.key}\r\n"
            f"x-request-id: {request_id}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    def _note(self, caller: Caller, request_id: str, wish: Wish, characters: int, began: float, answer: Answer) -> None:
        now = time.monotonic()
        assert answer.end
        record = Record(
            id=request_id,
            tenant_id=caller.tenant_id,
            characters=characters,
            wish=wish,
            # One that wanted to leave and had everything by then did not.
            end=answer.end if wish in LEAVING or answer.end is not End.LEFT else End.HUNG,
            status=answer.status,
            began=began,
            first_ms=((answer.first or now) - began) * 1000,
            total_ms=(now - began) * 1000,
            bytes=answer.bytes,
            sound=answer.bytes == AUDIO_BYTES and answer.crc == AUDIO_CRC,
            code=answer.code if answer.end is End.REFUSED else "",
            retry_after=answer.retry_after_s is not None,
        )
        self._records.append(record)


def main() -> None:
    """Run the plan that the first argument names."""
    plan_path, result_path = map(Path, sys.argv[1:3])
    plan = msgspec.json.decode(plan_path.read_bytes(), type=LoadPlan)
    result = uvloop.run(Generator(plan).run())
    result_path.write_bytes(msgspec.msgpack.encode(result))


if __name__ == "__main__":
    main()
