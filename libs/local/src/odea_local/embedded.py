"""PostgreSQL and NATS for tests: the same servers as in the stack, each behind a handle that can break them.

Use them from a thread that lives as long as the server should; the main thread of a test run does.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from odea_local.credentials import new_secret
from odea_local.errors import StartFailedError
from odea_local.logfile import LogFile
from odea_local.nats import Nats
from odea_local.ports import find_free
from odea_local.postgres import Postgres
from odea_local.process import KILL_WAIT_S, Command, Process

READY_WITHIN_S = 60.0
PROBE_PAUSE_S = 0.02
GRACE_S = 20.0


class EmbeddedPostgres:
    """A running PostgreSQL whose data stays when it is stopped or killed."""

    def __init__(self, data_dir: Path) -> None:
        folder = data_dir.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._postgres = Postgres.at(folder / "postgres", new_secret())
        self._log = LogFile(folder / "postgres.log")
        self._postgres.prepare()
        _run_to_end(self._postgres.init_command(), self._log)
        self._postgres.adopt()
        self._process = self._spawn()

    @property
    def dsn(self) -> str:
        """The superuser's address, password and socket directory included."""
        return self._postgres.admin_dsn()

    @property
    def pid(self) -> int:
        """The process id of the postmaster that was started last."""
        return self._process.pid

    def stop(self) -> None:
        """End it in order; its clients are sent away."""
        self._process.stop(GRACE_S)
        self._postgres.tidy()

    def kill(self) -> None:
        """End it as a crash would, backends included."""
        self._process.kill()
        self._process.wait(KILL_WAIT_S)
        self._postgres.sweep()

    def restart(self) -> None:
        """Start it again at the same address, ending it first if it runs; returns when it takes connections."""
        self.stop()
        self._process = self._spawn()

    def _spawn(self) -> Process:
        self._postgres.prepare()
        process = Process(self._postgres.server_command(), self._log)
        return _until_ready(process, self._postgres)


class EmbeddedNats:
    """A running NATS server whose streams stay when it is stopped or killed."""

    def __init__(self, data_dir: Path) -> None:
        folder = data_dir.resolve() / "nats"
        folder.mkdir(parents=True, exist_ok=True)
        port = find_free()
        self._nats = Nats.at(folder, new_secret(), port, find_free(avoid=(port,)))
        self._log = LogFile(folder / "nats.log")
        self._nats.prepare()
        self._process = self._spawn()

    @property
    def url(self) -> str:
        """The address for clients, user and password included. It stays the same over a restart."""
        return self._nats.url

    @property
    def pid(self) -> int:
        """The process id of the server that was started last."""
        return self._process.pid

    def stop(self) -> None:
        """End it in order."""
        self._process.stop(GRACE_S)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(KILL_WAIT_S)

    def restart(self) -> None:
        """Start it again on the same port, ending it first if it runs; returns when it answers."""
        self.stop()
        self._process = self._spawn()

    def _spawn(self) -> Process:
        return _until_ready(Process(self._nats.server_command(), self._log), self._nats)


@contextmanager
def embedded_postgres(data_dir: Path) -> Generator[EmbeddedPostgres]:
    """A fresh PostgreSQL 18 in this folder for the time of the block; the folder must not hold a cluster yet.

    Raises:
        StartFailedError: with the last line that it wrote.
    """
    server = EmbeddedPostgres(data_dir)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def embedded_nats(data_dir: Path) -> Generator[EmbeddedNats]:
    """A NATS server with JetStream, its store in this folder, for the time of the block.

    Raises:
        StartFailedError: with the last line that it wrote.
    """
    server = EmbeddedNats(data_dir)
    try:
        yield server
    finally:
        server.stop()


def _run_to_end(command: Command, log: LogFile) -> None:
    process = Process(command, log)
    if process.wait(READY_WITHIN_S) != 0:
        process.stop(GRACE_S)
        raise StartFailedError(f"{Path(command.argv[0]).name} failed: {' '.join(log.tail()[-1:])}")


def _until_ready(process: Process, server: Postgres | Nats) -> Process:
    deadline = time.monotonic() + READY_WITHIN_S
    while not server.is_ready(process):
        if process.exited.done() or time.monotonic() > deadline:
            process.stop(GRACE_S)
            name = Path(process.command.argv[0]).name
            raise StartFailedError(f"{name} did not start: {' '.join(process.log.tail()[-1:])}")
        time.sleep(PROBE_PAUSE_S)
    return process
