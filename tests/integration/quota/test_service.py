"""The real process: every endpoint answered, refused, sent nonsense, without storage, and absent (P7, P9)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from integration.quota.harness import calling, extend, open_hall, release, reserve, settle
from integration.quota.replicas import environ_of, replicas
from odea_contracts import audit, plans, quota
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.plans import Account, AccountRef, AccountSet, Plan, PlanList, PlanRef, PlanSet, TopUp
from odea_contracts.quota import Denied, HoldUnknown, Reserved, Usage, UsageReport, UsageSeries
from odea_runtime.bus import Bus, NoRespondersError
from odea_runtime.ids import new_uuid
from support.databases import Databases
from support.servers import NatsServer, PostgresServer

_NAMED_WITHIN_S = 2.0
_PLAN = PlanSet(name="small", units=10**6)
_HALL = AccountRef(account_id="hall")
_NOBODY = AccountRef(account_id="nobody")
_NO_ACCOUNT = (ErrorCode.NOT_FOUND, "account_id")

AnyEndpoint = Endpoint[Any, Any]
MakeRequest = Callable[[Bus], Awaitable[Message]]


@dataclass(frozen=True)
class Case:
    """An endpoint, how to ask it well, and something that it refuses.

    Attributes:
        good: a request, or what makes one.
        refused: a request and its outcome, a type or a code with the field that is at fault; `None` where nothing can
            be wrong but the bytes.
    """

    endpoint: AnyEndpoint
    good: Message | MakeRequest
    answer: type[Message]
    refused: tuple[Message, type[Message] | tuple[ErrorCode, str]] | None


async def _held(bus: Bus) -> str:
    command = reserve(50)
    assert isinstance(await bus.call(quota.RESERVE, command), Reserved)
    return command.hold_id


def _of_a_hold(make: Callable[[str], Message]) -> MakeRequest:
    async def make_request(bus: Bus) -> Message:
        return make(await _held(bus))

    return make_request


def _top_up(account_id: str) -> TopUp:
    return TopUp(topup_id=new_uuid(), account_id=account_id, units=10, expires_at_ms=2**42)


CASES = [
    Case(quota.RESERVE, reserve(1), Reserved, (reserve(10**9), Denied)),
    Case(quota.SETTLE, _of_a_hold(settle), quota.Settled, (settle(new_uuid()), HoldUnknown)),
    Case(quota.RELEASE, _of_a_hold(release), quota.Released, (release(new_uuid()), HoldUnknown)),
    Case(quota.EXTEND, _of_a_hold(extend), quota.Extended, (extend(new_uuid()), HoldUnknown)),
    Case(
        quota.USAGE, Usage(accounts=("hall",)), UsageReport, (Usage(accounts=()), (ErrorCode.INVALID_VALUE, "accounts"))
    ),
    Case(
        quota.USAGE_SERIES,
        UsageSeries(tenant_id="ten", first_day="2026-02-01", days=28),
        quota.UsageSeriesReport,
        (UsageSeries(tenant_id="ten", first_day="2026-02-30", days=28), (ErrorCode.INVALID_VALUE, "first_day")),
    ),
    Case(plans.PLAN_SET, _PLAN, Plan, (PlanSet(name="x", units=-1), (ErrorCode.INVALID_VALUE, "units"))),
    Case(plans.PLAN_GET, PlanRef(name="small"), Plan, (PlanRef(name="none such"), (ErrorCode.NOT_FOUND, "name"))),
    Case(plans.PLAN_LIST, PlanList(), plans.Plans, None),
    Case(
        plans.ACCOUNT_SET,
        AccountSet(account_id="hall", tenant_id="ten", plan="small"),
        Account,
        (AccountSet(account_id="hall", tenant_id="ten", plan="none such"), (ErrorCode.NOT_FOUND, "plan")),
    ),
    Case(plans.ACCOUNT_GET, _HALL, Account, (_NOBODY, _NO_ACCOUNT)),
    Case(plans.ACCOUNT_SUSPEND, _HALL, Account, (_NOBODY, _NO_ACCOUNT)),
    Case(plans.ACCOUNT_RESUME, _HALL, Account, (_NOBODY, _NO_ACCOUNT)),
    Case(plans.TOP_UP, _top_up("hall"), Account, (_top_up("nobody"), _NO_ACCOUNT)),
    Case(
        plans.CARRY_OVER,
        plans.CarryOver(carryover_id=new_uuid(), account_id="hall", units=10),
        Account,
        (plans.CarryOver(carryover_id=new_uuid(), account_id="nobody", units=10), _NO_ACCOUNT),
    ),
    Case(
        audit.QUOTA_AUDIT_LIST,
        audit.AuditList(),
        audit.AuditPage,
        (audit.AuditList(cursor="nowhere"), (ErrorCode.INVALID_VALUE, "cursor")),
    ),
]
each_endpoint = pytest.mark.parametrize("case", CASES, ids=lambda case: case.endpoint.subject.rpartition(".")[2])


@pytest.fixture(scope="module")
async def bus(nats_url: str, databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Bus]:
    """A caller of a service that runs for the whole module, with the account `hall`."""
    environ = environ_of(nats_url, await databases.create("quota"))
    async with calling(nats_url) as caller, replicas(1, environ, tmp_path_factory.mktemp("logs")):
        await open_hall(caller)
        yield caller


def test_no_endpoint_is_left_out() -> None:
    contract = [*vars(quota).values(), *vars(plans).values(), audit.QUOTA_AUDIT_LIST]
    assert {case.endpoint.subject for case in CASES} == {one.subject for one in contract if isinstance(one, Endpoint)}


@each_endpoint
async def test_answered(bus: Bus, case: Case) -> None:
    await bus.call(plans.ACCOUNT_RESUME, _HALL)
    request = case.good if isinstance(case.good, Message) else await case.good(bus)
    assert isinstance(await bus.call(case.endpoint, request), case.answer)


@each_endpoint
async def test_refused(bus: Bus, case: Case) -> None:
    if case.refused is None:
        # The request is empty, so there is nothing in it to refuse.
        assert case.endpoint.request.__struct_fields__ == ()
        return
    request, outcome = case.refused
    reply = await bus.call(case.endpoint, request)
    if isinstance(reply, Failure):
        assert (reply.code, reply.param) == outcome
    else:
        assert type(reply) is outcome


@each_endpoint
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"hold_id": 7' + b"[" * 50_000])
async def test_sent_nonsense(bus: Bus, case: Case, body: bytes) -> None:
    """P7: a named refusal at once, whatever the bytes are."""
    message = await bus.client.request(case.endpoint.subject, body, timeout=10)
    reply = msgspec.json.decode(message.data, type=Failure)
    assert reply.code is ErrorCode.INVALID_VALUE


@pytest.mark.parametrize(
    ("endpoint", "request_", "field", "value"),
    [
        (quota.RESERVE, reserve(), "units", 0),
        (quota.RESERVE, reserve(), "units", -1),
        (quota.RESERVE, reserve(), "units", 10**9 + 1),
        (quota.RESERVE, reserve(), "units", 1.5),
        (quota.RESERVE, reserve(), "units", True),
        (quota.RESERVE, reserve(), "units", 10**30),
        (quota.RESERVE, reserve(), "lease_ms", 999),
        (quota.RESERVE, reserve(), "lease_ms", 3_600_001),
        (quota.RESERVE, reserve(), "hold_id", "x"),
        (quota.RESERVE, reserve(), "hold_id", "00000000-0000-4000-8000-000000000001\n"),
        (quota.RESERVE, reserve(), "accounts", ["a", "b", "c"]),
        (quota.RESERVE, reserve(), "tenant_id", "x'; DROP TABLE quota.holds; --"),
        (quota.RESERVE, reserve(), "request_id", "a b"),
        (quota.RESERVE, reserve(), "voice", "v" * 257),
        (quota.SETTLE, settle(new_uuid()), "units", -1),
        (quota.SETTLE, settle(new_uuid()), "outcome", "lost"),
        (quota.SETTLE, settle(new_uuid()), "provider", "\x00"),
        (quota.SETTLE, settle(new_uuid()), "model", "m" * 257),
        (quota.SETTLE, settle(new_uuid()), "provider_units", 10**12 + 1),
        (quota.EXTEND, extend(new_uuid()), "lease_ms", 0),
    ],
)
async def test_sent_a_value_out_of_bounds(
    bus: Bus, endpoint: AnyEndpoint, request_: Message, field: str, value: object
) -> None:
    """P7: the field is named, nothing is written, and the next request is none the worse for it."""
    before = await bus.call(quota.USAGE, Usage(accounts=("hall",)))
    body = msgspec.json.encode(msgspec.structs.asdict(request_) | {field: value})
    message = await bus.client.request(endpoint.subject, body, timeout=10)
    reply = msgspec.json.decode(message.data, type=Failure)
    assert (reply.code, (reply.param or "").partition("[")[0]) == (ErrorCode.INVALID_VALUE, field)
    assert await bus.call(quota.USAGE, Usage(accounts=("hall",))) == before


async def test_a_list_that_names_an_account_twice_is_refused(bus: Bus) -> None:
    reply = await bus.call(quota.RESERVE, reserve(1, "hall", "hall"))
    assert isinstance(reply, Failure)
    assert (reply.code, reply.param) == (ErrorCode.INVALID_VALUE, "accounts")


async def test_nobody_listens(breakable_nats: NatsServer) -> None:
    async with calling(breakable_nats.url) as caller:

        async def ask(case: Case) -> float:
            began = time.monotonic()
            with pytest.raises(NoRespondersError):
                await caller.call(case.endpoint, _request(case, new_uuid()))
            return time.monotonic() - began

        assert max(await asyncio.gather(*(ask(case) for case in CASES))) < _NAMED_WITHIN_S


def _request(case: Case, hold_id: str) -> Message:
    """A request that is well made, which is all that matters where it is not handled."""
    if isinstance(case.good, Message):
        return case.good
    makers: dict[type[Message], Callable[[str], Message]] = {
        quota.Settle: settle,
        quota.Release: release,
        quota.Extend: extend,
    }
    return makers[case.endpoint.request](hold_id)


async def test_without_storage_every_endpoint_says_so_in_time(
    breakable_postgres: PostgresServer, breakable_nats: NatsServer, tmp_path: Path
) -> None:
    dsn = await Databases(breakable_postgres.dsn).create("quota")
    environ = environ_of(breakable_nats.url, dsn)
    async with calling(breakable_nats.url) as caller, replicas(1, environ, tmp_path):
        await open_hall(caller)
        hold_id = await _held(caller)
        breakable_postgres.kill()

        async def ask(case: Case) -> tuple[object, float]:
            began = time.monotonic()
            return await caller.call(case.endpoint, _request(case, hold_id)), time.monotonic() - began

        for reply, took_s in await asyncio.gather(*(ask(case) for case in CASES)):
            assert isinstance(reply, Failure)
            assert reply.code is ErrorCode.QUOTA_UNAVAILABLE
            assert took_s < _NAMED_WITHIN_S
        breakable_postgres.restart()
        assert isinstance(await caller.call(quota.SETTLE, settle(hold_id)), quota.Settled)
