"""PostgreSQL's own programs for whole databases: `pg_dump`, `pg_restore`, `psql`."""

import os
import subprocess
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from odea_local.errors import LocalError
from odea_local.postgres import find_binaries

PROGRAM_WITHIN_S: Final = 6 * 3600.0
_SAID_CHARS_MAX: Final = 2000


def run(program: str, database_url: str, *arguments: str) -> str:
    """Run a program on a database to its end; what it prints.

    Raises:
        LocalError: it failed, with what it said last, or took too long.
    """
    environ = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", **libpq_environ(database_url)}
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


def ask(database_url: str, query: str) -> str:
    """The only value that a query brings, as text.

    Raises:
        LocalError: the database refused.
    """
    return run("psql", database_url, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={query}").strip()


def libpq_environ(database_url: str) -> dict[str, str]:
    """The address in libpq's variables: on a command line everybody could read the password."""
    parts = urlsplit(database_url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    found = {
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGHOST": query.get("host") or parts.hostname or "",
        "PGPORT": str(parts.port or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        "PGSSLMODE": query.get("sslmode", ""),
        "PGSSLROOTCERT": query.get("sslrootcert", ""),
        "PGCONNECT_TIMEOUT": "10",
    }
    return {name: value for name, value in found.items() if value}
