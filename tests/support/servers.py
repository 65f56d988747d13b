"""PostgreSQL and NATS for tests, in this order: addresses in the environment, containers if asked for, embedded wheels.

A test that stops or kills a server takes one of its own (`own_postgres`, `own_nats`); the others share.
"""

import asyncio
import os
import subprocess
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from odea_local.embedded import embedded_nats, embedded_postgres
from odea_local.postgres import find_binaries
from odea_runtime.busadmin.__main__ import apply
from odea_runtime.settings import Settings, load

POSTGRES_IMAGE = os.environ.get("ODEA_TEST_POSTGRES_IMAGE", "postgres:15-alpine")
NATS_IMAGE = os.environ.get("ODEA_TEST_NATS_IMAGE", "nats:2.15-alpine")
_CONTAINERS = os.environ.get("ODEA_TEST_INFRA") == "containers"


class Server(Protocol):
    """A server that a test may break."""

    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def restart(self) -> None: ...


class PostgresServer(Server, Protocol):
    """PostgreSQL, with the superuser's DSN."""

    @property
    def dsn(self) -> str: ...


class NatsServer(Server, Protocol):
    """NATS with JetStream."""

    @property
    def url(self) -> str: ...


@contextmanager
def shared_postgres(folder: Path) -> Generator[str]:
    """The DSN of a superuser."""
    given = os.environ.get("ODEA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with own_postgres(folder) as server:
        yield server.dsn


@contextmanager
def shared_nats(folder: Path) -> Generator[str]:
    """The URL of a server with JetStream."""
    given = os.environ.get("ODEA_TEST_NATS_URL")
    if given:
        apply_bus({"ODEA_NATS_URL": given})
        yield given
        return
    with own_nats(folder) as server:
        yield server.url


@contextmanager
def own_postgres(folder: Path) -> Generator[PostgresServer]:
    """A server that the test may stop, kill and restart."""
    if _CONTAINERS:
        from support.containers import container_postgres

        with container_postgres(POSTGRES_IMAGE) as server:
            yield server
        return
    with embedded_postgres(folder) as server:
        _spare_the_disk(server.dsn)
        yield server


def _spare_the_disk(dsn: str) -> None:
    """Do not wait for the disk: tests end processes, not machines, and half of their time would go there."""
    parts = urlsplit(dsn)
    environ = {**os.environ, "PGPASSWORD": parts.password or "", "PGHOST": parse_qs(parts.query)["host"][0]}
    commands = ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    arguments = [argument for command in commands for argument in ("-c", command)]
    psql = find_binaries() / "psql"
    subprocess.run(
        [psql, "-q", "-X", "-U", parts.username or "", *arguments, "postgres"],
        env=environ,
        check=True,
        capture_output=True,
    )


@contextmanager
def own_nats(folder: Path) -> Generator[NatsServer]:
    """A server that the test may stop, kill and restart."""
    if _CONTAINERS:
        from support.containers import container_nats

        with container_nats(NATS_IMAGE) as server:
            apply_bus({"ODEA_NATS_URL": server.url})
            yield server
        return
    with embedded_nats(folder) as server:
        apply_bus({"ODEA_NATS_URL": server.url})
        yield server


def apply_bus(environ: Mapping[str, str]) -> None:
    """Make the stream of events and its consumers, as an operator does before the services start."""
    settings = load(Settings, environ)
    with ThreadPoolExecutor(1) as elsewhere:
        # A thread, because the test's own loop may be running.
        elsewhere.submit(lambda: asyncio.run(apply(settings))).result()
