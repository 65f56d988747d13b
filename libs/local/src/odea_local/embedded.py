"""PostgreSQL, NATS and whole stacks for tests: the same as in real life, each behind a handle that can break it.

Use them from a thread that lives as long as the server should; the main thread of a test run does.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from odea_local.credentials import new_secret
from odea_local.errors import StartFailedError
from odea_local.folder import DataFolder
from odea_local.logfile import LogFile
from odea_local.nats import Nats
from odea_local.ports import find_free
from odea_local.postgres import Postgres
from odea_local.process import KILL_WAIT_S, Command, Process
from odea_local.status import ServiceStatus, StackStatus, read_status
from odea_runtime.busadmin.authorization import PAYLOAD_BYTES_MAX

USER = "odea"
READY_WITHIN_S = 60.0
PROBE_PAUSE_S = 0.02
GRACE_S = 20.0
VERB_WITHIN_S = 240.0


class EmbeddedPostgres:
    """A running PostgreSQL whose data stays when it is stopped or killed."""

    def __init__(self, data_dir: Path) -> None:
        folder = data_dir.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self.postgres = Postgres.at(folder / "postgres", new_secret())
        self._log = LogFile(folder / "postgres.log")
        self.postgres.prepare()
        _run_to_end(self.postgres.init_command(), self._log)
        self.postgres.adopt()
        self._process = self._spawn()

    @property
    def dsn(self) -> str:
        """The superuser's address, password and socket directory included."""
        return self.postgres.admin_dsn()

    @property
    def pid(self) -> int:
        """The process id of the postmaster that was started last."""
        return self._process.pid

    def stop(self) -> None:
        """End it in order; its clients are sent away."""
        self._process.stop(GRACE_S)
        self.postgres.tidy()

    def kill(self) -> None:
        """End it as a crash would, backends included."""
        self._process.kill()
        self._process.wait(KILL_WAIT_S)
        self.postgres.sweep()

    def restart(self) -> None:
        """Start it again at the same address, ending it first if it runs; returns when it takes connections."""
        self.stop()
        self._process = self._spawn()

    def _spawn(self) -> Process:
        self.postgres.prepare()
        process = Process(self.postgres.server_command(), self._log)
        return _until_ready(process, self.postgres)


class EmbeddedNats:
    """A running NATS server whose streams stay when it is stopped or killed.

    Args:
        data_dir: where it lives.
        access: who may come in and do what; by default one user with a password and all rights.
    """

    def __init__(self, data_dir: Path, access: Mapping[str, Any] | None = None) -> None:
        folder = data_dir.resolve() / "nats"
        folder.mkdir(parents=True, exist_ok=True)
        port = find_free()
        password = new_secret()
        self._login = "" if access else f"{USER}:{password}@"
        self._nats = Nats.at(
            folder,
            access or {"max_payload": PAYLOAD_BYTES_MAX, "authorization": {"user": USER, "password": password}},
            port,
            find_free(avoid=(port,)),
        )
        self._log = LogFile(folder / "nats.log")
        self._nats.prepare()
        self._process = self._spawn()

    @property
    def url(self) -> str:
        """The address for clients; user and password included, if there are. It stays the same over a restart."""
        return self._nats.url.replace("://", f"://{self._login}")

    @property
    def pid(self) -> int:
        """The process id of the server that was started last."""
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Its configuration and its store."""
        return self._nats.folder

    def stop(self) -> None:
        """End it in order."""
        self._process.stop(GRACE_S)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(KILL_WAIT_S)

    def reload(self, access: Mapping[str, Any]) -> None:
        """Let others in, or the same with other rights, without a restart; it follows within a moment."""
        self._nats = replace(self._nats, access=access)
        self._nats.prepare()
        self._process.signal(signal.SIGHUP)

    def restart(self) -> None:
        """Start it again on the same port, ending it first if it runs; returns when it answers."""
        self.stop()
        self._process = self._spawn()

    def _spawn(self) -> Process:
        return _until_ready(Process(self._nats.server_command(), self._log), self._nats)


class EmbeddedStack:
    """A whole stack in the background, driven through the `odea` command as a person drives it."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str] | None = None) -> None:
        """Prepare to drive the stack in this folder, which need not exist or run."""
        self.folder = DataFolder.at(data_dir)
        self.environ = {**os.environ, **(environ or {})}

    @property
    def url(self) -> str:
        """Where the gateway is, without a path."""
        return self.status().url

    @property
    def tenant_key(self) -> str:
        """The demo tenant's key, for speech and usage."""
        return (self.folder.keys / "tenant.key").read_text().strip()

    @property
    def admin_key(self) -> str:
        """The key for administration."""
        return (self.folder.keys / "admin.key").read_text().strip()

    def up(self, port: int = 0) -> subprocess.CompletedProcess[str]:
        """Start it, at a free port unless one is given; returns when it is ready or has failed."""
        return self.run("up", "--detach", "--port", str(port))

    def down(self) -> subprocess.CompletedProcess[str]:
        """End it; returns when nothing of it is left."""
        return self.run("down")

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run any verb of the command on this stack. Look at `returncode`, `stdout` and `stderr`."""
        command = [sys.executable, "-P", "-m", "odea_local", verb, "--data", str(self.folder.root), *arguments]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=False, timeout=VERB_WITHIN_S
        )

    def status(self) -> StackStatus:
        """What runs now.

        Raises:
            StartFailedError: nothing does.
        """
        status = read_status(self.folder)
        if not status:
            raise StartFailedError(f"no Odea runs in {self.folder.root}.")
        return status

    def service(self, name: str) -> ServiceStatus:
        """One process of it."""
        return next(service for service in self.status().services if service.name == name)

    def kill(self, name: str) -> None:
        """End one process of it as a crash would; the supervisor starts it again."""
        pid = self.service(name).pid
        if pid:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def embedded_stack(data_dir: Path, environ: Mapping[str, str] | None = None) -> Generator[EmbeddedStack]:
    """A stack that is ready, for the time of the block, its data in this folder, at a free port.

    Args:
        data_dir: where it lives; what is there from an earlier block is kept.
        environ: variables for the services, above those of this process.

    Raises:
        StartFailedError: with what `odea up` said.
    """
    stack = EmbeddedStack(data_dir, environ)
    try:
        started = stack.up()
        if started.returncode != 0:
            raise StartFailedError(started.stderr.strip() or started.stdout.strip())
        yield stack
    finally:
        stack.down()


@contextmanager
def embedded_postgres(data_dir: Path) -> Generator[EmbeddedPostgres]:
    """A fresh PostgreSQL 18 for the time of the block, in this folder, which must not hold a cluster yet.

    Root gets it in a temporary folder instead: the server's own user must be able to search all folders above, and
    pytest takes that right from those that it makes whenever another run of it starts.

    Raises:
        StartFailedError: with the last line that it wrote.
    """
    temporary = Path(tempfile.mkdtemp(prefix="odea-")) if os.geteuid() == 0 else None
    server = EmbeddedPostgres(temporary or data_dir)
    try:
        yield server
    finally:
        server.stop()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def embedded_nats(data_dir: Path, access: Mapping[str, Any] | None = None) -> Generator[EmbeddedNats]:
    """A NATS server with JetStream, its store in this folder, for the time of the block. `access` as for its class.

    Raises:
        StartFailedError: with the last line that it wrote.
    """
    server = EmbeddedNats(data_dir, access)
    try:
        yield server
    finally:
        server.stop()


def _run_to_end(command: Command, log: LogFile) -> None:
    process = Process(command, log)
    if process.wait(READY_WITHIN_S) != 0:
        process.stop(GRACE_S)
        raise StartFailedError(f"{Path(command.argv[0]).name} failed: {log.last_words()}")


def _until_ready(process: Process, server: Postgres | Nats) -> Process:
    deadline = time.monotonic() + READY_WITHIN_S
    while not server.is_ready(process):
        if process.exited.done() or time.monotonic() > deadline:
            process.stop(GRACE_S)
            name = Path(process.command.argv[0]).name
            raise StartFailedError(f"{name} did not start: {process.log.last_words()}")
        time.sleep(PROBE_PAUSE_S)
    return process
