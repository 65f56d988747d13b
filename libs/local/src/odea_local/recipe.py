"""The recipe of a stack: which processes it has, with which commands and environments."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from odea_contracts.subjects import GATEWAY, INSTALLER, OPERATOR
from odea_local.credentials import Credentials
from odea_local.folder import DataFolder
from odea_local.leftovers import MARK
from odea_local.nats import Nats, is_healthy
from odea_local.ports import LOOPBACK, Ports
from odea_local.postgres import Postgres
from odea_local.process import Command, Process
from odea_local.roles import DATABASE, Role
from odea_local.status import ServiceStatus
from odea_local.supervisor import Service
from odea_runtime.busadmin.authorization import server_config

DATABASE_SERVICES: Final = ("keys", "quota", "synth")
DEMO: Final = "demo"
START_ORDER: Final = ("postgres", "nats", *DATABASE_SERVICES, GATEWAY)

DRAIN_S = 8
"""What the services get for work in hand; their grace is a little longer."""
SERVICE_GRACE_S = 10.0
SERVICE_READY_WITHIN_S = 30.0
NATS_GRACE_S = 5.0
NATS_READY_WITHIN_S = 15.0
POSTGRES_GRACE_S = 20.0
POSTGRES_READY_WITHIN_S = 120.0
"""Recovery after a crash replays up to `max_wal_size`, which takes a while on a slow disk."""

NOT_INHERITED: Final = ("PYTHONHOME", "VIRTUAL_ENV", "PG")
"""Beginnings of variables that must not reach the services; those of PostgreSQL would point their driver elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that is known about a stack before it starts."""

    folder: DataFolder
    port: int
    ports: Ports
    credentials: Credentials
    postgres: Postgres
    nats: Nats

    @classmethod
    def of(cls, folder: DataFolder, port: int, ports: Ports, credentials: Credentials) -> "Recipe":
        """The recipe for a folder.

        Raises:
            LocalError: one of the servers is not installed.
        """
        postgres = Postgres.at(folder.postgres, credentials.postgres)
        access = server_config(credentials.nats_public_keys())
        nats = Nats.at(folder.nats, access, ports.nats, ports.nats_monitor)
        return cls(folder=folder, port=port, ports=ports, credentials=credentials, postgres=postgres, nats=nats)

    @property
    def url(self) -> str:
        """Where clients reach the gateway."""
        return f"http://{LOOPBACK}:{self.port}"

    def roles(self) -> tuple[Role, ...]:
        """The login of each service that has a database."""
        return tuple(Role(service=name, password=self._database_password(name)) for name in DATABASE_SERVICES)

    def postgres_service(self) -> Service:
        """The database server."""
        return Service(
            name="postgres",
            command=self.postgres.server_command(),
            is_ready=self.postgres.is_ready,
            ready_within_s=POSTGRES_READY_WITHIN_S,
            grace_s=POSTGRES_GRACE_S,
            sweep=self.postgres.sweep,
        )

    def nats_service(self) -> Service:
        """The bus."""
        return Service(
            name="nats",
            command=self.nats.server_command(self._marked({})),
            is_ready=self.nats.is_ready,
            ready_within_s=NATS_READY_WITHIN_S,
            grace_s=NATS_GRACE_S,
        )

    def service(self, name: str) -> Service:
        """One of Odea's own services."""
        return Service(
            name=name,
            command=self._python(f"odea_{name}", "serve", environ=self._environ(name)),
            is_ready=_answers_readyz(self._ops_port(name)),
            ready_within_s=SERVICE_READY_WITHIN_S,
            grace_s=SERVICE_GRACE_S,
        )

    def init_database(self) -> Command:
        """The command that makes the database cluster."""
        return self.postgres.init_command(self._marked({}))

    def migrate(self, name: str) -> Command:
        """The command that brings a service's schema up to date."""
        return self._python(f"odea_{name}", "migrate", environ=self._environ(name))

    def demo(self) -> Command:
        """The command that makes sure that there is a demo tenant with its keys on file."""
        environ = {"ODEA_LOG_FORMAT": "pretty", **_inherited(), **self._login(OPERATOR)}
        return self._python("odea_local.demo", str(self.folder.keys), environ=self._marked(environ))

    def apply_bus(self) -> Command:
        """The command that makes the stream of events and its consumers."""
        environ = {"ODEA_LOG_FORMAT": "pretty", **_inherited(), **self._login(INSTALLER)}
        return self._python("odea_runtime.busadmin", "apply", environ=self._marked(environ))

    def statuses(self) -> tuple[ServiceStatus, ...]:
        """The services before they start, in order, with the addresses that they will have."""
        addresses = {
            "postgres": str(self.postgres.socket_dir),
            "nats": f"{LOOPBACK}:{self.ports.nats}",
            GATEWAY: f"{LOOPBACK}:{self.port}",
        }
        return tuple(
            ServiceStatus(name=name, address=addresses.get(name) or f"{LOOPBACK}:{self._ops_port(name)}")
            for name in START_ORDER
        )

    def _environ(self, name: str) -> dict[str, str]:
        """A service's settings: what the user exported, below what the stack decides."""
        environ = {"ODEA_LOG_FORMAT": "pretty", "ODEA_DRAIN_S": str(DRAIN_S), **_inherited()}
        environ |= self._login(name)
        environ["ODEA_OPS_ADDRESS"] = f"{LOOPBACK}:{self._ops_port(name)}"
        if name in DATABASE_SERVICES:
            password = self._database_password(name)
            environ["ODEA_DATABASE_URL"] = self.postgres.dsn(f"odea_{name}", password, DATABASE)
        if name == "keys":
            environ["ODEA_KEYS_PEPPERS"] = f"local:{self.credentials.keys_pepper}"
        if name == GATEWAY:
            environ["ODEA_GATEWAY_ADDRESS"] = f"{LOOPBACK}:{self.port}"
        return self._marked(environ)

    def _login(self, user: str) -> dict[str, str]:
        return {"ODEA_NATS_URL": self.nats.url, "ODEA_NATS_SEED": self.credentials.nats_seed(user)}

    def _marked(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {**environ, MARK: str(self.folder.root)}

    def _python(self, module: str, *arguments: str, environ: dict[str, str]) -> Command:
        # -P: a file in the current folder must not stand in for a module.
        argv = (sys.executable, "-P", "-m", module, *arguments)
        return Command(argv=argv, environ=environ, cwd=self.folder.root)

    def _ops_port(self, name: str) -> int:
        return int(getattr(self.ports, f"{name}_ops"))

    def _database_password(self, name: str) -> str:
        return str(getattr(self.credentials, f"{name}_database"))


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}


def _answers_readyz(port: int) -> Callable[[Process], bool]:
    def is_ready(process: Process) -> bool:
        return not process.exited.done() and is_healthy(port, "/readyz")

    return is_ready
