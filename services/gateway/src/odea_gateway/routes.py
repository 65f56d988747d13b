"""What is served under `/v1`, and at the root."""

import time
from pathlib import Path
from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter
from litestar.response import Response

from odea_contracts.errors import ErrorCode
from odea_contracts.keys import Principal, Scope
from odea_gateway.admin import ADMIN_HANDLERS
from odea_gateway.auth import requires, requires_key_unless_public
from odea_gateway.body import decode_body, read_body
from odea_gateway.documentation import BEARER, SpeechOperation, failures
from odea_gateway.problems import problem
from odea_gateway.ratelimits import rate_limit_headers
from odea_gateway.requests import AdminRequestController, RequestController
from odea_gateway.services import services_of
from odea_gateway.speaking import SpeechAnswer
from odea_gateway.speech import DECODER, HINTS, StreamFormat, to_speak
from odea_gateway.trace import trace_of
from odea_gateway.views import (
    AudioModelListView,
    AudioModelView,
    CallerView,
    ModelListView,
    ModelView,
    UsageView,
    VoiceListView,
    Welcome,
    account_view,
    caller_view,
    model_view,
    voice_view,
)

AuthRequest = Request[Principal, None, State]
AnyRequest = Request[None, None, State]
ModelPath = Annotated[Path, PathParameter(description="The model's id")]
ModelFilter = Annotated[
    str | None,
    QueryParameter(
        description="A model from `GET /v1/models`", min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)"
    ),
]


@get(["/", "/v1"], operation_id="welcome", summary="Say hello", tags=["about"], include_in_schema=False)
async def welcome() -> Welcome:
    """Where to go from here. Some clients call this to open a connection early."""
    return Welcome()


class _HotHandler(HTTPRouteHandler):
    """A route whose guards are given itself. Litestar makes each a copy of it, for every request; ours look at none."""

    async def authorize_connection(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        for guard in self.resolve_guards():
            await guard(connection, self)  # pyright: ignore[reportGeneralTypeIssues]


class SpeechController(Controller):
    """Text in, speech out."""

    path = "/v1/audio/speech"
    tags = ("speech",)
    guards = (requires(Scope.SPEECH),)
    security = BEARER

    @_HotHandler(
        http_method=HttpMethod.POST,
        operation_id="create_speech",
        operation_class=SpeechOperation,
        summary="Speak a text",
        status_code=200,
        responses=failures(400, 401, 403, 404, 413, 415, 429, 500, 502, 503, 504),
    )
    async def create_speech(self, request: AuthRequest) -> SpeechAnswer:
        """OpenAI's speech endpoint. The audio comes as it is made; a cut body means that it is not whole."""
        services = services_of(request)
        body = await read_body(request.scope["headers"], request.receive, services.settings)
        asked = decode_body(body, DECODER, HINTS)
        speak = to_speak(asked, request.user, trace_of(request.scope).request_id, services.settings)
        return services.speaker.answer(speak, asked.stream_format or StreamFormat.AUDIO)


class ModelController(Controller):
    """Model names, as OpenAI lists them."""

    path = "/v1/models"
    tags = ("models and voices",)
    guards = (requires(),)
    security = BEARER

    @get(operation_id="list_models", summary="List models", responses=failures(400, 401, 429, 500, 503))
    async def list_models(self, request: AuthRequest) -> ModelListView:
        """Every model name that a speech request can use."""
        models = await services_of(request).clients.models()
        return ModelListView(data=tuple(map(model_view, models)))

    @get(
        "/{model_id:path}",
        operation_id="get_model",
        summary="Get a model",
        responses=failures(400, 401, 404, 429, 500, 503),
    )
    async def get_model(self, request: AuthRequest, model_id: ModelPath) -> ModelView:
        """One model by its name, which may hold slashes."""
        wanted = model_id.as_posix().removeprefix("/")
        for model in await services_of(request).clients.models():
            if model.id == wanted:
                return model_view(model)
        raise problem(ErrorCode.MODEL_NOT_FOUND, param="model")


class AudioListController(Controller):
    """The two lists that compatible speech servers have, and that some clients read without a key."""

    path = "/v1/audio"
    tags = ("models and voices",)
    guards = (requires_key_unless_public(),)

    @get(
        "/models", operation_id="list_audio_models", summary="List models", responses=failures(400, 401, 429, 500, 503)
    )
    async def list_audio_models(self, request: AnyRequest) -> AudioModelListView:
        """The same models in the shape of other speech servers."""
        models = await services_of(request).clients.models()
        return AudioModelListView(models=tuple(AudioModelView(id=model.id, name=model.id) for model in models))

    @get("/voices", operation_id="list_voices", summary="List voices", responses=failures(400, 401, 404, 429, 500, 503))
    async def list_voices(self, request: AnyRequest, model: ModelFilter = None) -> VoiceListView:
        """The voices of a model, or all."""
        voices = await services_of(request).clients.voices(model)
        return VoiceListView(voices=tuple(map(voice_view, voices)))


class UsageController(Controller):
    """What was used and what is left."""

    path = "/v1/usage"
    tags = ("account",)
    guards = (requires(Scope.USAGE_READ, Scope.SPEECH),)
    security = BEARER

    @get(operation_id="get_usage", summary="Read usage", responses=failures(400, 401, 403, 429, 500, 503))
    async def get_usage(self, request: AuthRequest) -> Response[UsageView]:
        """Where the accounts stand that this key is charged to."""
        balances = await services_of(request).clients.usage(request.user.accounts)
        view = UsageView(tenant_id=request.user.tenant_id, accounts=tuple(map(account_view, balances)))
        limits = rate_limit_headers(balances, int(time.time() * 1000))
        return Response(view, headers={"cache-control": "no-store", **dict(limits)})


class CallerController(Controller):
    """Who one is."""

    path = "/v1/me"
    tags = ("account",)
    guards = (requires(),)
    security = BEARER

    @get(operation_id="get_caller", summary="Read the caller", responses=failures(400, 401, 429, 500, 503))
    async def get_caller(self, request: AuthRequest) -> Response[CallerView]:
        """Whose key this is, and what it may do."""
        return Response(caller_view(request.user), headers={"cache-control": "no-store"})


HANDLERS = (
    welcome,
    SpeechController,
    ModelController,
    AudioListController,
    UsageController,
    CallerController,
    RequestController,
    AdminRequestController,
    *ADMIN_HANDLERS,
)
