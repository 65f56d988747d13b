"""The request log over HTTP: one's own tenant's, and for operators everybody's."""

from typing import Annotated, Final

import msgspec
from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import QueryParameter
from litestar.response import Response
from msgspec import Struct

from odea_contracts.base import REQUEST_ID
from odea_contracts.keys import Principal, Scope
from odea_contracts.requests import LoggedRequest, RequestsList
from odea_gateway.auth import requires, requires_admin
from odea_gateway.documentation import BEARER, failures
from odea_gateway.services import services_of
from odea_gateway.views import UnixSeconds

AuthRequest = Request[Principal, None, State]
_CURSOR = r"^[0-9]{1,18}_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_ID = r"^[A-Za-z0-9_]{1,64}$"
Limit = Annotated[int, QueryParameter(description="Entries on a page", ge=1, le=200)]
PageCursor = Annotated[
    str | None, QueryParameter(description="`next_cursor` of the page before", pattern=_CURSOR, max_length=64)
]
ById = Annotated[str | None, QueryParameter(pattern=_ID, max_length=64)]
ByRequestId = Annotated[
    str | None,
    QueryParameter(description="As `x-request-id` said it", pattern=rf"^{REQUEST_ID}$", max_length=128),
]
ByName = Annotated[str | None, QueryParameter(min_length=1, max_length=128)]
ByOutcome = Annotated[
    str | None,
    QueryParameter(description="`completed`, `refused`, `provider_failed`, `client_gone` and so on", max_length=128),
]
ByTime = Annotated[int | None, QueryParameter(description="Seconds since 1970", ge=0, le=10**11)]


class RequestView(Struct, frozen=True, kw_only=True):
    """How one request for speech went. Neither its text nor its audio is kept.

    Attributes:
        outcome: `completed`; `refused`, before a provider was asked; `provider_failed`; `client_gone` and
            `client_stalled`, by the client; by us `unsettled`, `receiver_fault`,
            `receiver_silent`, `shutdown` and `fault`.
        code: of the failure that the client was told.
        attempts: how often a provider was asked.
        fallback: another provider than the first was asked in the end.
        characters: of the text.
        units: characters that were charged.
    """

    id: str
    request_id: str
    key_id: str
    received_at: UnixSeconds
    model: str
    voice: str
    response_format: str
    provider: str | None
    outcome: str
    code: str | None
    attempts: int
    fallback: bool
    characters: int
    units: int
    audio_bytes: int
    first_audio_ms: int | None
    duration_ms: int


class AdminRequestView(RequestView, frozen=True, kw_only=True):
    """The same for operators, with whose it was, what was held for it and what the provider billed."""

    tenant_id: str
    units_held: int
    provider_units: int


class RequestListView(Struct, frozen=True, kw_only=True):
    """A page, newest first. It may be short, even empty, and the list go on where `has_more`."""

    data: tuple[RequestView, ...]
    has_more: bool
    next_cursor: str | None
    object: str = "list"


class AdminRequestListView(Struct, frozen=True, kw_only=True):
    """A page of everybody's requests; see `RequestListView`."""

    data: tuple[AdminRequestView, ...]
    has_more: bool
    next_cursor: str | None
    object: str = "list"


def wanted(
    *,
    key_id: ById = None,
    request_id: ByRequestId = None,
    outcome: ByOutcome = None,
    model: ByName = None,
    provider: ByName = None,
    since: ByTime = None,
    until: ByTime = None,
    cursor: PageCursor = None,
    limit: Limit = 50,
) -> RequestsList:
    """What entries are wanted: all that is given must fit."""
    return RequestsList(
        key_id=key_id,
        request_id=request_id,
        outcome=outcome,
        model=model,
        provider=provider,
        since_ms=_milliseconds(since),
        until_ms=_milliseconds(until),
        cursor=cursor,
        limit=limit,
    )


_WANTED: Final = {"wanted": Provide(wanted, sync_to_thread=False)}


class RequestController(Controller):
    """What became of requests for speech."""

    path = "/v1/requests"
    tags = ("account",)
    guards = (requires(Scope.USAGE_READ, Scope.SPEECH),)
    security = BEARER
    dependencies = _WANTED

    @get(operation_id="list_requests", summary="List requests", responses=failures(400, 401, 403, 429, 500, 503))
    async def list_requests(
        self, request: AuthRequest, wanted: NamedDependency[RequestsList]
    ) -> Response[RequestListView]:
        """The speech requests of the caller's tenant, newest first, refused ones too. They show up a moment later."""
        asked = msgspec.structs.replace(wanted, tenant_id=request.user.tenant_id)
        page = await services_of(request).clients.requests(asked)
        view = RequestListView(
            data=tuple(map(request_view, page.requests)),
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
        return Response(view, headers={"cache-control": "no-store"})


class AdminRequestController(Controller):
    """The same for operators."""

    path = "/v1/admin/requests"
    tags = ("admin: usage and audit",)
    guards = (requires_admin(),)
    security = BEARER
    dependencies = _WANTED

    @get(operation_id="admin_list_requests", summary="List requests", responses=failures(400, 401, 404, 429, 500, 503))
    async def list_requests(
        self, request: AuthRequest, wanted: NamedDependency[RequestsList], tenant_id: ById = None
    ) -> Response[AdminRequestListView]:
        """The speech requests of one tenant or of all, newest first."""
        asked = msgspec.structs.replace(wanted, tenant_id=tenant_id)
        page = await services_of(request).clients.requests(asked)
        view = AdminRequestListView(
            data=tuple(map(admin_request_view, page.requests)),
            has_more=page.next_cursor is not None,
            next_cursor=page.next_cursor,
        )
        return Response(view, headers={"cache-control": "no-store"})


def request_view(entry: LoggedRequest) -> RequestView:
    """An entry as the tenant sees it."""
    return RequestView(
        id=entry.id,
        request_id=entry.request_id,
        key_id=entry.key_id,
        received_at=entry.received_at_ms // 1000,
        model=entry.model,
        voice=entry.voice,
        response_format=entry.response_format,
        provider=entry.provider,
        outcome=entry.outcome,
        code=entry.code,
        attempts=entry.attempts,
        fallback=entry.fallback,
        characters=entry.characters,
        units=entry.units_settled,
        audio_bytes=entry.audio_bytes,
        first_audio_ms=entry.first_audio_ms,
        duration_ms=entry.duration_ms,
    )


def admin_request_view(entry: LoggedRequest) -> AdminRequestView:
    """An entry as an operator sees it."""
    seen = request_view(entry)
    return AdminRequestView(
        **{name: getattr(seen, name) for name in RequestView.__struct_fields__},
        tenant_id=entry.tenant_id,
        units_held=entry.units_held,
        provider_units=entry.provider_units,
    )


def _milliseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
