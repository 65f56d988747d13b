"""What the OpenAPI document says beyond what the handlers' types tell."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from litestar import Request, Router
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
    SecurityScheme,
)

from odea_contracts.errors import ErrorCode
from odea_contracts.synth import CONTENT_TYPES
from odea_gateway.page import PagePlugin
from odea_gateway.problems import ErrorBody, problem
from odea_gateway.speech import SpeechRequest

BEARER: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"header": []}]
_SPEAKS: Final = "create_speech"
_OF_THE_LEDGER: Final = frozenset({_SPEAKS, "get_usage"})
_SPEECH: Final = ("odea-characters", "odea-provider", "odea-overhead-ms", "odea-fallback")
_LIMITS: Final = (
    *(f"x-ratelimit-{part}-{kind}" for part in ("limit", "remaining", "reset") for kind in ("requests", "characters")),
    "ratelimit-policy",
    "ratelimit",
)
_NUMBERS: Final = frozenset(
    {"retry-after", "odea-characters", "odea-overhead-ms"}
    | {f"x-ratelimit-{part}-{kind}" for part in ("limit", "remaining") for kind in ("requests", "characters")}
)
_HEADERS: Final[Mapping[str, str]] = {
    "x-request-id": "The one that was sent if it is well-formed, else one of ours",
    "cache-control": "`no-store` where the answer is the caller's alone",
    "www-authenticate": "What is wrong with the key",
    "retry-after": "Seconds after which another attempt makes sense, 1 to 120",
    "x-should-retry": "`false` where waiting alone does not help",
    "odea-characters": "Characters held for this speech; at most that many are charged",
    "odea-provider": "Who spoke",
    "odea-overhead-ms": "What Odea added to the provider's first audio",
    "odea-fallback": "`1` if the first choice of provider could not speak",
    "ratelimit-policy": "The limits, by draft-ietf-httpapi-ratelimit-headers-10",
    "ratelimit": "What is left of them, and seconds until they are whole again",
}
EXPOSED: Final = (
    "retry-after",
    "x-should-retry",
    "x-request-id",
    *_SPEECH,
    *_LIMITS,
)
"""Headers that pages in a browser may read."""
_REASONS: Final[Mapping[int, str]] = {
    400: "The request does not fit; `param` names the field",
    401: "No API key, or one that is not good",
    403: "The key lacks the scope, or the plan or account does not allow this",
    404: "There is no such thing",
    409: "This conflicts with what is there, or the `Idempotency-Key` was used for something else",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "Out of quota (`x-should-retry: false`), too fast, or too many bad keys (`Retry-After`)",
    500: "Our fault",
    502: "The speech provider failed",
    503: "Busy, or a part of the service is down; `code` says which",
    504: "Not in time",
}


def failures(*statuses: int) -> dict[int, ResponseSpec]:
    """The answers other than success that an operation may give."""
    return {
        status: ResponseSpec(ErrorBody, generate_examples=False, description=_REASONS[status]) for status in statuses
    }


def openapi_config(version: str) -> OpenAPIConfig:
    """The document at `/schema/openapi.json` and the page at `/schema`."""
    return OpenAPIConfig(
        title="Odea",
        version=version,
        summary="Metered text-to-speech with OpenAI's interface",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, before_request=_known_only),
        use_handler_docstrings=True,
        render_plugins=[PagePlugin()],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description="An API key"),
                "header": SecurityScheme(type="apiKey", security_scheme_in="header", name="X-API-Key"),
            }
        ),
    )


def complete(document: OpenAPI) -> None:
    """Add to `document` the headers that answers have."""
    for item in (document.paths or {}).values():
        for operation in (item.get, item.post, item.put, item.patch):
            if operation is None:
                continue
            for status, response in (operation.responses or {}).items():
                if isinstance(response, OpenAPIResponse):
                    names = _header_names(int(status), operation.operation_id or "")
                    response.headers = {name: _header(name) for name in names}


def _header_names(status: int, operation_id: str) -> Iterator[str]:
    yield "x-request-id"
    yield "cache-control"
    if status in {401, 403}:
        yield "www-authenticate"
    if status in {429, 500, 502, 503, 504}:
        yield "retry-after"
    if status in {409, 429}:
        yield "x-should-retry"
    if operation_id in _OF_THE_LEDGER and status in {200, 400, 403, 429, 503}:
        yield from _LIMITS
    if operation_id == _SPEAKS and status == 200:
        yield from _SPEECH


def _header(name: str) -> OpenAPIHeader:
    kind = OpenAPIType.INTEGER if name in _NUMBERS else OpenAPIType.STRING
    return OpenAPIHeader(schema=Schema(type=kind), description=_HEADERS.get(name), required=name == "x-request-id")


async def _known_only(request: Request[Any, Any, Any]) -> None:
    """Litestar answers unknown paths below the document with a page; here they are nothing, as everywhere."""
    if request.scope["path_template"] == "/schema/{path}":
        raise problem(ErrorCode.NOT_FOUND)


@dataclass
class SpeechOperation(Operation):
    """The speech endpoint reads its body and streams its answer by itself, so its types are told here."""

    def __post_init__(self) -> None:
        """Add the body of the request and the kinds of audio."""
        (schema,), parts = msgspec.json.schema_components([SpeechRequest], ref_template="#/$defs/{name}")
        self.request_body = RequestBody(
            required=True,
            content={"application/json": OpenAPIMediaType(schema=cast("Schema", inlined(schema, parts)))},
        )
        audio = OpenAPIMediaType(schema=Schema(description="Audio"))
        kinds = dict.fromkeys(CONTENT_TYPES.values(), audio)
        events = OpenAPIMediaType(schema=Schema(description="`speech.audio.delta` events, then `speech.audio.done`"))
        if self.responses is not None:
            self.responses["200"] = OpenAPIResponse(
                description="The audio, as it is made", content={**kinds, "text/event-stream": events}
            )


def inlined(schema: Any, parts: Mapping[str, Any]) -> Any:
    """`schema` with what it refers to put in its place; the parts do not refer to each other in a circle."""
    if isinstance(schema, dict):
        entries = cast("dict[str, Any]", schema)
        if "$ref" in entries:
            return inlined(parts[entries["$ref"].rpartition("/")[2]], parts)
        return {name: inlined(value, parts) for name, value in entries.items()}
    if isinstance(schema, list):
        return [inlined(item, parts) for item in cast("list[Any]", schema)]
    return schema
