"""The whole stack, started as a person starts it, and what a test needs to look inside."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx
import pytest

from e2e.canaries import COLLECTOR_TOKEN, CREDENTIALS, Canary, surroundings
from e2e.console import client_with
from fakes.minimax import FakeMiniMax
from fakes.openai.app import FakeOpenAI
from fakes.serving import serving
from odea_contracts import keys, plans, tenants
from odea_local.embedded import EmbeddedStack, embedded_stack
from support.collector import Collector, fake_collector
from support.operator import Operator, operating
from support.sentry import Reports, fake_sentry


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
    plan = plans.PlanSet(name="e2e", units=1_000_000, requests_per_minute=1_000_000, requests_burst=1_000_000)
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


@pytest.fixture(scope="session")
def reports() -> Generator[Reports]:
    """Where `canary` sends its crash reports."""
    with fake_sentry() as reports:
        yield reports


@pytest.fixture(scope="session")
def collector() -> Generator[Collector]:
    """Where `canary` sends its traces."""
    with fake_collector() as collector:
        yield collector


@pytest.fixture(scope="session")
async def canary(reports: Reports, collector: Collector) -> AsyncGenerator[Canary]:
    """A stack that is watched from all sides and driven into trouble, with fakes for its upstreams."""
    *good, _ = CREDENTIALS.values()
    minimax, openai = FakeMiniMax(keys=tuple(good)), FakeOpenAI(keys=tuple(good))
    with tempfile.TemporaryDirectory(prefix="odea-canary-", ignore_cleanup_errors=True) as folder:
        async with serving(minimax.app) as minimax_url, serving(openai.app) as openai_url:
            environ = surroundings(Path(folder), minimax_url, openai_url) | {
                "ODEA_SENTRY_DSN": reports.dsn,
                "ODEA_OTLP_ENDPOINT": collector.url,
                "ODEA_OTLP_HEADERS": f"authorization=Bearer%20{COLLECTOR_TOKEN}",
                "ODEA_TRACE_RATIO": "1",
            }
            # On a thread: the fakes must answer while the stack comes up.
            running = embedded_stack(Path(folder) / "data", environ)
            stack = await asyncio.to_thread(running.__enter__)
            try:
                yield Canary(stack=stack, minimax=minimax, openai=openai, answers=[])
            finally:
                await asyncio.to_thread(running.__exit__, None, None, None)
