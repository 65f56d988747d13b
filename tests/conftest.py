"""Servers and databases for every kind of test. Nothing here is skipped: a server that can't be had fails the test."""

from collections.abc import Generator
from pathlib import Path

import pytest
import structlog

from support.databases import Databases
from support.servers import NatsServer, PostgresServer, own_nats, own_postgres, shared_nats, shared_postgres


def pytest_configure() -> None:
    """Show the faults that tests provoke in a line each, as the services do; drawing them in full stops the loop."""
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], console])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The superuser's DSN of a PostgreSQL that many tests share."""
    with shared_postgres(tmp_path_factory.mktemp("postgres")) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Databases:
    """Makes a fresh database for a service."""
    return Databases(postgres_url)


@pytest.fixture(scope="module")
def nats_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of a NATS with JetStream that the tests of one module share."""
    with shared_nats(tmp_path_factory.mktemp("nats")) as url:
        yield url


@pytest.fixture
def breakable_postgres(tmp_path: Path) -> Generator[PostgresServer]:
    """A PostgreSQL of the test's own, to stop, kill and restart."""
    with own_postgres(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
def breakable_nats(tmp_path: Path) -> Generator[NatsServer]:
    """A NATS of the test's own, to stop, kill and restart."""
    with own_nats(tmp_path / "nats") as server:
        yield server
