"""A fresh, migrated database for each test that wants one: cloned from a template that is migrated once."""

import itertools
import os
from importlib import import_module
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from odea_runtime.migrations import migrate
from odea_runtime.settings import DatabaseSettings, load
from support.waiting import until

SERVICES: Final = ("keys", "quota", "synth")
_PASSWORD: Final = "tests-only"


class Databases:
    """Makes databases on one server; each service's role owns just its schema, as in production."""

    def __init__(self, admin_dsn: str) -> None:
        self._admin_dsn = admin_dsn
        self._templates: set[str] = set()
        self._count = itertools.count()

    async def create(self, service: str) -> str:
        """A new database with the newest schema of `service`; the DSN of the service's own role."""
        template = f"odea_template_{service}_{os.getpid()}"
        if service not in self._templates:
            await self._create_template(service, template)
            self._templates.add(service)
        name = f"odea_{service}_{os.getpid()}_{next(self._count)}"
        await self._admin(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self._dsn(name, f"odea_{service}", _PASSWORD)

    def admin(self, dsn: str) -> str:
        """The superuser's DSN for the database that `dsn` names."""
        return self._replace(self._admin_dsn, path=urlsplit(dsn).path)

    async def _create_template(self, service: str, name: str) -> None:
        for role in SERVICES:
            await self._admin(
                f"DO $$ BEGIN CREATE ROLE odea_{role} LOGIN PASSWORD '{_PASSWORD}'; "
                f"EXCEPTION WHEN duplicate_object THEN ALTER ROLE odea_{role} LOGIN PASSWORD '{_PASSWORD}'; END $$"
            )
        await self._admin(f"CREATE DATABASE {name}")
        connection = await asyncpg.connect(self._replace(self._admin_dsn, path=f"/{name}"))
        try:
            await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for role in SERVICES:
                await connection.execute(f"CREATE SCHEMA {role} AUTHORIZATION odea_{role}")
        finally:
            await connection.close()
        dsn = self._dsn(name, f"odea_{service}", _PASSWORD)
        settings = load(DatabaseSettings, {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": dsn})
        await migrate(settings, import_module(f"odea_{service}").__name__, service)
        # A database can't be cloned while somebody is in it, and the server ends a session a moment after its client.
        await until(lambda: self._is_empty(name))

    async def _is_empty(self, name: str) -> bool:
        connection = await asyncpg.connect(self._admin_dsn)
        try:
            inside = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name)
        finally:
            await connection.close()
        return inside == 0

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(self._admin_dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _dsn(self, database: str, user: str, password: str) -> str:
        parts = urlsplit(self._admin_dsn)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(("postgresql", f"{user}:{password}@{host}", f"/{database}", parts.query, ""))

    @staticmethod
    def _replace(dsn: str, *, path: str) -> str:
        parts = urlsplit(dsn)
        return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
