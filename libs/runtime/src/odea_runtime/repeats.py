"""Changes that may be asked for again under the name that the caller gave them (`idempotency_key`).

The name is claimed in the transaction of the change, so of two callers at once the second waits and gets the answer
that the first one got. A refused change claims nothing. Names belong to one actor and one operation.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final, TypeAlias, TypeVar

import aiosql
import msgspec

from odea_contracts.base import UNKNOWN, Change
from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.plans import PlanSet
from odea_runtime.postgres import Connection, Database, StorageUnavailableError

T = TypeVar("T")
Work: TypeAlias = Callable[[Connection], Awaitable[T | Failure]]

REUSED: Final = failure(
    ErrorCode.CONFLICT, "This idempotency key was used for a request with other content.", param="idempotency_key"
)
UNANSWERED: Final = failure(
    ErrorCode.CONFLICT, "This was done before; its answer was not kept.", param="idempotency_key"
)
_PAUSE_S: Final = 60.0


class RefusedError(Exception):
    """Ends a transaction without a trace; what is refused is the answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Repeats:
    """The table `repeats` in the service's own schema.

    Args:
        database: where it is.
        keep_s: how long a name is remembered.
    """

    def __init__(self, database: Database, *, keep_s: float) -> None:
        self._database = database
        self._queries: Any = aiosql.from_str((files("odea_runtime") / "repeats.sql").read_text(), "asyncpg")
        self._keep_s: Final = keep_s

    async def once(self, operation: str, change: Change | PlanSet, kind: type[T], work: Work[T]) -> T | Failure:
        """What `work` answers in a transaction of its own, or what it answered when the name was new.

        Args:
            operation: what is done; each has names of its own.
            change: what is asked. Without a name the work is done each time.
            kind: of the answer, which is kept for as long as the name. It must hold no secret.
            work: makes the change. If it refuses, nothing of it stays.

        Raises:
            StorageUnavailableError: it is unknown whether the change was made. Asked again, it is made once.
        """
        try:
            async with self._database.transaction() as connection:
                if change.idempotency_key is None:
                    return _granted(await work(connection))
                name = _Name(operation, change.actor, change.idempotency_key)
                answer = await self._claim(connection, name, _content_hash(change))
                if answer is not None:
                    return msgspec.json.decode(answer, type=kind)
                made = _granted(await work(connection))
                await self._queries.keep_repeat(connection, **name.row, answer=msgspec.json.encode(made).decode())
                return made
        except RefusedError as error:
            return error.failure

    async def forget(self) -> None:
        """Forget the names whose time is over, and with them the last that their secrets could be derived from.

        Goes on until cancelled; while the storage is away there is nothing to forget from. Replicas may look at once;
        what one has deleted, another no longer finds.
        """
        while True:
            with suppress(StorageUnavailableError):
                async with self._database.connection() as connection:
                    await self._queries.forget_old_repeats(connection, keep_s=self._keep_s)
            await asyncio.sleep(_PAUSE_S)

    async def _claim(self, connection: Connection, name: "_Name", content_hash: bytes) -> str | None:
        """The answer that was given under the name; `None` if it is this transaction's now."""
        await self._queries.forget_repeat(connection, **name.row, keep_s=self._keep_s)
        if await self._queries.claim_repeat(connection, **name.row, content_hash=content_hash):
            return None
        row = await self._queries.repeat(connection, **name.row)
        if row is None:
            # Another replica has forgotten it just now.
            return await self._claim(connection, name, content_hash)
        if row["content_hash"] != content_hash:
            raise RefusedError(REUSED)
        if row["answer"] is None:
            # By a version that kept other things.
            raise RefusedError(UNANSWERED)
        answer: str = row["answer"]
        return answer


class _Name:
    """Where a change is remembered. The name itself is known to the caller alone."""

    def __init__(self, operation: str, actor: str, name: str) -> None:
        name_hash = hashlib.sha256(name.encode()).digest()
        self.row: Final = {"actor": actor, "operation": operation, "name_hash": name_hash}


def _content_hash(change: Change | PlanSet) -> bytes:
    """Of what is asked for. Who sent it from where is no part of it."""
    content = msgspec.structs.replace(change, actor=UNKNOWN, origin=UNKNOWN, idempotency_key=None)
    return hashlib.sha256(msgspec.json.encode(content)).digest()


def _granted(answer: T | Failure) -> T:
    if isinstance(answer, Failure):
        raise RefusedError(answer)
    return answer
