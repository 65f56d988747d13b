"""The bus's part of a backup: a copy of the stream of events, and what a restored outbox need not tell again."""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

import nats.errors

from odea_contracts.subjects import BACKUP, INSTALLER
from odea_local.errors import LocalError
from odea_runtime import snapshots
from odea_runtime.bus import Bus
from odea_runtime.settings import Settings, SettingsError, load

T = TypeVar("T")

CONNECT_WITHIN_S: Final = 30.0
WORK_WITHIN_S: Final = 1800.0
"""A backup keeps the database's snapshot open for as long, which stops vacuum."""
OVERLAP: Final = timedelta(hours=1)
"""How long before the stream's last event one may have come that a dump still has in an outbox; moments are usual."""
_EVENT_ID: Final = re.compile(r"[0-9a-f-]{36}")


async def take(login: Mapping[str, str], path: Path) -> None:
    """Copy the stream into a file.

    Args:
        login: the variables `ODEA_NATS_…` for the user `backup`.
        path: where it goes.

    Raises:
        LocalError: the bus does not answer, does not let us in, or has no stream.
    """
    await _on_bus(BACKUP, login, lambda bus: snapshots.take(bus, path))


def hold_events(login: Mapping[str, str]) -> bool:
    """Whether there is a stream with events in it; for the user `installer`. Raises as `take`."""
    return bool(asyncio.run(_on_bus(INSTALLER, login, snapshots.count)))


def put_back(login: Mapping[str, str], path: Path) -> list[str]:
    """Make the stream what it was.

    Args:
        login: for the user `installer`.
        path: the copy.

    Returns:
        The ids of the events that the stream has and a dump of that moment may have, too, in an outbox.

    Raises:
        LocalError: as `take`.
    """

    async def do(bus: Bus) -> set[str]:
        last = await snapshots.put_back(bus, path)
        return await snapshots.ids_since(bus, last - OVERLAP) if last else set()

    return sorted(filter(_EVENT_ID.fullmatch, asyncio.run(_on_bus(INSTALLER, login, do))))


async def _on_bus(user: str, login: Mapping[str, str], do: Callable[[Bus], Awaitable[T]]) -> T:
    try:
        bus = Bus(load(Settings, {**os.environ, **login}), user)
    except SettingsError as error:
        raise LocalError(f"the bus: {error}") from None
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await bus.start()
        async with asyncio.timeout(WORK_WITHIN_S):
            return await do(bus)
    except (snapshots.SnapshotError, nats.errors.Error, TimeoutError) as error:
        raise LocalError(f"the stream of events: {error!r}.") from None
    finally:
        await bus.stop()
