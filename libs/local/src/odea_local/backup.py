"""Backups: the three schemas as they were at one instant, and the stream of events, encrypted if somebody is named.

`pg_dump` takes one snapshot for all schemas, so balances, entries and keys fit one another. The stream is copied while
that snapshot is held and nothing else has been done: an event that the dump has not in an outbox any more is in the
copy. Of a few it has both, and the restored outbox forgets those. Secrets are not in a backup: without the peppers no
key works, and without the recipient's identity nothing can be read.
"""

import asyncio
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import asyncpg
import pyrage

from odea_local import backup_events, pgtools
from odea_local.errors import LocalError
from odea_local.recipe import DATABASE_SERVICES

SUFFIX: Final = ".dump"
EVENTS: Final = ".events"
ENCRYPTED: Final = ".age"
_FILLED: Final = "SELECT EXISTS (SELECT FROM keys.tenants)"
_THERE: Final = "SELECT to_regclass('keys.tenants') IS NOT NULL"
_FORGET: Final = """
DELETE FROM keys.outbox WHERE event_id::text IN (SELECT id FROM pg_temp.told);
DELETE FROM quota.outbox WHERE event_id::text IN (SELECT id FROM pg_temp.told);
"""


def write(database_url: str, folder: Path, recipient: str | None, bus: Mapping[str, str] | None = None) -> list[Path]:
    """Write one backup into `folder`, each of its files whole or not at all, the database's last; their paths.

    Args:
        database_url: of a login that may read all three schemas.
        folder: where it goes; made if it is not there.
        recipient: an age public key (`age1…`), or nothing for files that everybody can read.
        bus: how the user `backup` gets in (`ODEA_NATS_…`); without it the stream of events is left out.

    Raises:
        LocalError: the database or the bus refused, or the recipient is none. Without the bus the database is kept
            all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"odea-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    reader = _reader(recipient) if recipient else None
    with ExitStack() as scratch:
        events, dump = (scratch.enter_context(_scratch(folder)) for _ in range(2))
        trouble = asyncio.run(_take(database_url, dump, bus, events))
        taken = {EVENTS: events, SUFFIX: dump} if bus and not trouble else {SUFFIX: dump}
        kept = [_settle(each, folder / f"{stem}{suffix}", reader) for suffix, each in taken.items()]
    if trouble:
        raise LocalError(f"{trouble} The database alone is in {kept[-1]}.")
    return kept


async def _take(database_url: str, dump: Path, bus: Mapping[str, str] | None, events: Path) -> LocalError | None:
    """Dump the database and copy the stream; what kept the stream from being copied."""
    trouble: LocalError | None = None
    schemas = [f"--schema={schema}" for schema in DATABASE_SERVICES]
    try:
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                instant = await connection.fetchval("SELECT pg_export_snapshot()")
                if bus:
                    try:
                        await backup_events.take(bus, events)
                    except LocalError as error:
                        trouble = error
                how = ("--format=custom", f"--snapshot={instant}", *schemas, f"--file={dump}")
                await asyncio.to_thread(pgtools.run, "pg_dump", database_url, *how)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise LocalError(f"the database: {error}") from error
    return trouble


def read(
    database_url: str,
    path: Path,
    identity: Path | None,
    *,
    replace: bool,
    bus: Mapping[str, str] | None = None,
    standstill: AbstractContextManager[None] | None = None,
) -> bool:
    """Put a backup back: first its stream of events, if it has one, then the database, all of it or nothing.

    Args:
        database_url: of a login that owns the three roles, or of the superuser.
        path: the database's file; the stream's is looked for beside it.
        identity: the file with the age identity (`AGE-SECRET-KEY-1…`), for encrypted ones.
        replace: whether tenants and events that are there may be lost.
        bus: how the user `installer` gets in; without it the stream is left as it is.
        standstill: entered before anything is changed, and left afterwards.

    Returns:
        Whether the stream is back, too.

    Raises:
        LocalError: there are tenants or events, the identity does not fit, or the database or the bus refused.
    """
    beside = path.with_name(path.name.replace(SUFFIX, EVENTS))
    with_events = bool(bus) and beside != path and beside.exists()
    if not replace and (_has_tenants(database_url) or (with_events and backup_events.hold_events(bus or {}))):
        raise LocalError(
            "there are tenants or events. --replace puts the backup in their place; nothing of them is left."
        )
    with ExitStack() as scratch:
        plain, plain_events, script, forget = (scratch.enter_context(_scratch(path.parent)) for _ in range(4))
        pgtools.run("pg_restore", database_url, f"--file={script}", str(_plain(path, plain, identity)))
        events = _plain(beside, plain_events, identity) if with_events else None
        scratch.enter_context(standstill or nullcontext())
        forget.write_text(_forgetting(backup_events.put_back(bus or {}, events) if events else []), encoding="utf-8")
        # Not `pg_restore --clean`: it takes partitions apart piece by piece, and stumbles over what they inherited.
        drop = f"DROP SCHEMA IF EXISTS {', '.join(DATABASE_SERVICES)} CASCADE"
        how = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
        pgtools.run("psql", database_url, *how, f"--command={drop}", f"--file={script}", f"--file={forget}")
    return with_events


def _forgetting(told: Sequence[str]) -> str:
    """A script that takes what the stream has out of the outboxes."""
    rows = "".join(f"{event_id}\n" for event_id in told)
    return f"CREATE TEMPORARY TABLE told (id text) ON COMMIT DROP;\nCOPY pg_temp.told FROM stdin;\n{rows}\\.\n{_FORGET}"


def _reader(recipient: str) -> pyrage.x25519.Recipient:
    try:
        return pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise LocalError("that is not an age public key (age1…).") from None


def _plain(path: Path, scratch: Path, identity: Path | None) -> Path:
    """The file itself, or what it is when decrypted."""
    if path.suffix != ENCRYPTED:
        return path
    if identity is None:
        raise LocalError(f"{path.name} is encrypted; --identity names the file with its key.")
    keys = [line for line in identity.read_text(encoding="utf-8").split() if line.startswith("AGE-SECRET-KEY-")]
    try:
        pyrage.decrypt_file(str(path), str(scratch), [pyrage.x25519.Identity.from_str(key) for key in keys])
    except (pyrage.DecryptError, pyrage.IdentityError):
        raise LocalError(f"{path.name} was not encrypted for the identity in {identity.name}, or is damaged.") from None
    return scratch


def _has_tenants(database_url: str) -> bool:
    return pgtools.ask(database_url, _THERE) == "t" and pgtools.ask(database_url, _FILLED) == "t"


@contextmanager
def _scratch(folder: Path) -> Generator[Path]:
    """A file of mode 0600 that is gone afterwards, on the file system where the result will be."""
    with NamedTemporaryFile(dir=folder, prefix=".backup-", delete=False) as file:
        path = Path(file.name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _settle(written: Path, path: Path, reader: pyrage.x25519.Recipient | None) -> Path:
    """Give a file its place, encrypted if there is a reader; where it is."""
    if reader is None:
        return _move(written, path)
    with _scratch(path.parent) as whole:
        pyrage.encrypt_file(str(written), str(whole), [reader])
        return _move(whole, path.with_name(path.name + ENCRYPTED))


def _move(written: Path, path: Path) -> Path:
    with written.open("rb") as file:
        os.fsync(file.fileno())
    return written.replace(path)
