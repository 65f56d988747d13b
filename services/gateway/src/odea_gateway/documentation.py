"""What the OpenAPI document says beyond what the handlers' types tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from litestar import Request, Router
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPIMediaType,
    OpenAPIResponse,
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
EXPOSED: Final = (
    "retry-after",
    "x-should-retry",
    "x-request-id",
    "odea-characters",
    "odea-provider",
    "odea-overhead-ms",
    "ratelimit",
    "ratelimit-policy",
    *(f"x-ratelimit-{part}-{kind}" for part in ("limit", "remaining", "reset") for kind in ("requests", "characters")),
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
