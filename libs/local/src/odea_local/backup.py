"""Backups: the three schemas as they were at one instant, in one file, encrypted if somebody is named to read it.

`pg_dump` takes one snapshot for all schemas, so balances, entries and keys fit one another. Secrets are not in it:
without the peppers no key works, and without the recipient's identity nothing can be read. Events that have left the
outbox are JetStream's and not in it; what they tell stands in the ledger.
"""

import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import pyrage

from odea_local.errors import LocalError
from odea_local.postgres import find_binaries
from odea_local.recipe import DATABASE_SERVICES

SUFFIX: Final = ".dump"
ENCRYPTED: Final = ".age"
PROGRAM_WITHIN_S: Final = 6 * 3600.0
_SAID_CHARS_MAX: Final = 2000
_FILLED: Final = "SELECT EXISTS (SELECT FROM keys.tenants)"


def write(database_url: str, folder: Path, recipient: str | None) -> Path:
    """Write one backup into `folder`, whole or not at all; its path.

    Args:
        database_url: of a login that may read all three schemas.
        folder: where it goes; made if it is not there.
        recipient: an age public key (`age1…`), or nothing for a file that everybody can read.

    Raises:
        LocalError: the database refused, or the recipient is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"odea-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{SUFFIX}"
    path = folder / (name + ENCRYPTED if recipient else name)
    schemas = [f"--schema={schema}" for schema in DATABASE_SERVICES]
    with _scratch(folder) as dump, _scratch(folder) as whole:
        _run("pg_dump", database_url, "--format=custom", *schemas, f"--file={dump}")
        if recipient:
            try:
                pyrage.encrypt_file(str(dump), str(whole), [pyrage.x25519.Recipient.from_str(recipient)])
            except pyrage.RecipientError:
                raise LocalError("that is not an age public key (age1…).") from None
        _settle(whole if recipient else dump, path)
    return path


def read(database_url: str, path: Path, identity: Path | None, *, replace: bool) -> None:
    """Put a backup into a database that has the roles, all of it or nothing.

    Args:
        database_url: of a login that owns the three roles, or of the superuser.
        path: the backup.
        identity: the file with the age identity (`AGE-SECRET-KEY-1…`), for an encrypted one.
        replace: whether tenants that are there may be lost.

    Raises:
        LocalError: there are tenants, the identity does not fit, or the database refused.
    """
    if not replace and _has_tenants(database_url):
        raise LocalError("the database has tenants. --replace puts the backup in their place; nothing of them is left.")
    with _scratch(path.parent) as plain, _scratch(path.parent) as script:
        dump = path
        if path.suffix == ENCRYPTED:
            _decrypt(path, plain, identity)
            dump = plain
        _run("pg_restore", database_url, f"--file={script}", str(dump))
        # Not `pg_restore --clean`: it takes partitions apart piece by piece, and stumbles over what they inherited.
        drop = f"DROP SCHEMA IF EXISTS {', '.join(DATABASE_SERVICES)} CASCADE"
        how = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
        _run("psql", database_url, *how, f"--command={drop}", f"--file={script}")


def _decrypt(path: Path, plain: Path, identity: Path | None) -> None:
    if identity is None:
        raise LocalError(f"{path.name} is encrypted; --identity names the file with its key.")
    keys = [line for line in identity.read_text(encoding="utf-8").split() if line.startswith("AGE-SECRET-KEY-")]
    try:
        pyrage.decrypt_file(str(path), str(plain), [pyrage.x25519.Identity.from_str(key) for key in keys])
    except (pyrage.DecryptError, pyrage.IdentityError):
        raise LocalError(f"{path.name} was not encrypted for the identity in {identity.name}, or is damaged.") from None


def _has_tenants(database_url: str) -> bool:
    there = "SELECT to_regclass('keys.tenants') IS NOT NULL"
    said = _run("psql", database_url, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={there}")
    if said.strip() != "t":
        return False
    return (
        _run("psql", database_url, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={_FILLED}").strip() == "t"
    )


def _run(program: str, database_url: str, *arguments: str) -> str:
    environ = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", **_connection(database_url)}
    try:
        done = subprocess.run(
            [find_binaries() / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=environ,
            timeout=PROGRAM_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise LocalError(f"{program} did not end within {PROGRAM_WITHIN_S / 3600:.0f} hours.") from None
    if done.returncode:
        raise LocalError(f"{program}: {done.stderr.strip()[-_SAID_CHARS_MAX:]}")
    return done.stdout


def _connection(database_url: str) -> dict[str, str]:
    """The address in libpq's variables: on a command line everybody could read the password."""
    parts = urlsplit(database_url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    found = {
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGHOST": query.get("host") or parts.hostname or "",
        "PGPORT": str(parts.port or ""),
        "PGDATABASE": _database(database_url),
        "PGSSLMODE": query.get("sslmode", ""),
        "PGSSLROOTCERT": query.get("sslrootcert", ""),
        "PGCONNECT_TIMEOUT": "10",
    }
    return {name: value for name, value in found.items() if value}


def _database(database_url: str) -> str:
    return unquote(urlsplit(database_url).path.lstrip("/"))


@contextmanager
def _scratch(folder: Path) -> Generator[Path]:
    """A file of mode 0600 that is gone afterwards, on the file system where the result will be."""
    with NamedTemporaryFile(dir=folder, prefix=".backup-", delete=False) as file:
        path = Path(file.name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _settle(written: Path, path: Path) -> None:
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(path)
