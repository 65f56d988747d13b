"""How the admin API's operations are asked, answered and described.

Bodies are read by msgspec and answers written by it, so the document is made from msgspec's schemas of the same types.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeAlias, TypedDict, TypeVar, cast

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.enums import MediaType
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, RequestBody, Schema
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from litestar.response import Response
from msgspec import Struct

from odea_contracts import plans
from odea_contracts.base import Endpoint, Message
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.keys import Principal
from odea_gateway.admin.bodies import Body
from odea_gateway.body import decode_body, read_body
from odea_gateway.documentation import failures, inlined
from odea_gateway.problems import ProblemError, problem
from odea_gateway.services import services_of
from odea_gateway.trace import trace_of

AdminRequest = Request[Principal, None, State]
BodyT = TypeVar("BodyT", bound=Body)
RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)
T = TypeVar("T")

ID: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_ID_SCHEMA: Final = {"pattern": "^[A-Za-z0-9_]{1,64}$"}
TenantId = Annotated[str, PathParameter(description="The tenant", schema_extra=_ID_SCHEMA)]
KeyId = Annotated[str, PathParameter(description="The key", schema_extra=_ID_SCHEMA)]
AccountId = Annotated[
    str, PathParameter(description="The account: a tenant's id, or a key's with its own", schema_extra=_ID_SCHEMA)
]
PlanName = Annotated[str, PathParameter(description="The plan", min_length=1, max_length=128)]
Limit = Annotated[int, QueryParameter(description="How many at most", ge=1, le=200)]
PageCursor = Annotated[
    str | None,
    QueryParameter(description="`next_cursor` of the page before", pattern=r"^[A-Za-z0-9_-]{1,128}$(?!\n)"),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The caller's name for this change: asked again, it gives the first answer; with another body, 409",
        pattern=r"^[!-~]{1,255}$(?!\n)",
    ),
]

READING: Final = failures(400, 401, 404, 429, 500, 503)
CHANGING: Final = failures(400, 401, 404, 409, 413, 415, 429, 500, 503)
NO_BODY: Final = failures(400, 401, 404, 409, 429, 500, 503)


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """A part of a list. `next_cursor` continues it where `has_more`."""

    data: tuple[T, ...]
    has_more: bool
    next_cursor: str | None
    object: str = "list"


def page(items: Iterable[T], next_cursor: str | None) -> Response[bytes]:
    """A page as an answer."""
    return told(Page(data=tuple(items), has_more=next_cursor is not None, next_cursor=next_cursor))


def told(reply: Struct) -> Response[bytes]:
    """A message as an answer. Nobody between here and the caller may keep it: some hold a secret."""
    body = msgspec.json.encode(reply)
    return Response(body, status_code=200, media_type=MediaType.JSON, headers={"cache-control": "no-store"})


async def answered(
    request: AdminRequest, endpoint: Endpoint[RequestT, ReplyT | Failure], message: RequestT
) -> Response[bytes]:
    """What the service of `endpoint` replies to `message`, as an answer.

    Raises:
        ProblemError: it refuses, or can't be reached.
    """
    return told(await services_of(request).clients.ask(endpoint, message))


async def asked(request: AdminRequest, kind: type[BodyT]) -> BodyT:
    """The body of `request`.

    Raises:
        ProblemError: it can't be read, or does not fit.
    """
    body = await read_body(request.scope["headers"], request.receive, services_of(request).settings)
    return decode_body(body, msgspec.json.Decoder(kind), {})


async def known_plan(request: AdminRequest, name: str) -> str:
    """`name` as that of a plan which is there. Whoever opens an account hears of it too late to say otherwise.

    Raises:
        ProblemError: there is no such plan, or quota can't be asked.
    """
    try:
        await services_of(request).clients.ask(plans.PLAN_GET, plans.PlanRef(name=name))
    except ProblemError as error:
        if error.failure.code is ErrorCode.NOT_FOUND:
            raise problem(ErrorCode.NOT_FOUND, "There is no such plan.", param="plan") from None
        raise
    return name


def identifier(text: str, param: str) -> str:
    """`text` as an id of something that may be there.

    Raises:
        ProblemError: nothing can have this id.
    """
    if not ID.fullmatch(text):
        raise problem(ErrorCode.NOT_FOUND, param=param)
    return text


class Author(TypedDict):
    """Who asks for a change, from where and by which name, as every message that changes something says it."""

    actor: str
    origin: str
    idempotency_key: str | None


def author(request: AdminRequest, idempotency_key: IdempotencyKey = None) -> Author:
    """Who sends `request`."""
    address = str(trace_of(request.scope).address)
    return Author(actor=request.user.key_id, origin=address, idempotency_key=idempotency_key)


By: TypeAlias = NamedDependency[Author]
AUTHOR: Final = {"author": Provide(author, sync_to_thread=False)}
"""The dependencies of a controller with changes: each takes `author: By`, and with it the name to be asked again by."""


def described(reply: Any, body: type[Body] | None = None) -> type[Operation]:
    """An operation that reads `body` and answers with `reply`, for the document."""

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            if body is not None:
                self.request_body = RequestBody(required=True, content=_json(body))
            if self.responses is not None:
                self.responses["200"] = OpenAPIResponse(description="Done, or read", content=_json(reply))

    return Described


def _json(kind: Any) -> dict[str, OpenAPIMediaType]:
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return {"application/json": OpenAPIMediaType(schema=cast("Schema", inlined(schema, parts)))}
