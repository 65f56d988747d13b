"""The whole stack, started as a person starts it, and what a test needs to look inside."""

import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx
import pytest

from e2e.console import client_with
from odea_contracts import keys, plans, tenants
from odea_local.embedded import EmbeddedStack, embedded_stack
from support.operator import Operator, operating


@pytest.fixture(scope="session")
def stack() -> Generator[EmbeddedStack]:
    """A stack that many tests share; whoever breaks it waits until it is whole again."""
    # Not one of pytest's folders: each run of pytest closes those of all runs to the database's user.
    with (
        tempfile.TemporaryDirectory(prefix="odea-e2e-", ignore_cleanup_errors=True) as folder,
        embedded_stack(Path(folder), {"ODEA_LOG_FORMAT": "json"}) as running,
    ):
        yield running


@pytest.fixture
async def operator(stack: EmbeddedStack) -> AsyncGenerator[Operator]:
    """Somebody with access to the bus and the databases."""
    async with operating(stack) as somebody:
        yield somebody


@pytest.fixture
async def tenant(operator: Operator) -> tuple[tenants.Tenant, str]:
    """A tenant of the test's own with a generous plan, and its key."""
    plan = plans.Plan(name="e2e", units=1_000_000, requests_per_minute=1_000_000, requests_burst=1_000_000)
    return await operator.new_tenant(plan)


@pytest.fixture
async def admin(
    stack: EmbeddedStack, operator: Operator, tenant: tuple[tenants.Tenant, str]
) -> AsyncGenerator[httpx.AsyncClient]:
    """Somebody with an admin key."""
    issue = keys.Issue(tenant_id=tenant[0].tenant_id, name="operator", scopes=(keys.Scope.ADMIN,))
    issued = await operator.bus.call(keys.ISSUE, issue)
    assert isinstance(issued, keys.Issued), issued
    async with client_with(stack, issued.secret) as client:
        yield client
