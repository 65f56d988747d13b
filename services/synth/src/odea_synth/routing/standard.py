"""What holds without a routing file: MiniMax if there is a key for it, and the voice in the box.

OpenAI's thirteen voice names are known everywhere, since some clients refuse any other before they send.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from odea_synth.routing.config import MiniMaxConfig, ModelConfig, PiperConfig, RouteConfig
from odea_synth.routing.reading import ProviderPlan, RoutingPlan, plan_provider

MINIMAX_KEY: Final = "MINIMAX_API_KEY"
MINIMAX_REQUESTS_PER_MINUTE: Final = 60
"""What MiniMax allows an account that has not agreed on more."""
MINIMAX_VOICES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "alloy": "English_expressive_narrator",
        "ash": "English_Trustworth_Man",
        "ballad": "English_CaptivatingStoryteller",
        "coral": "English_radiant_girl",
        "echo": "English_Persuasive_Man",
        "fable": "English_Aussie_Bloke",
        "onyx": "English_ManWithDeepVoice",
        "nova": "English_Graceful_Lady",
        "sage": "English_CalmWoman",
        "shimmer": "English_Wiselady",
        "verse": "English_magnetic_voiced_man",
        "marin": "English_Insightful_Speaker",
        "cedar": "English_Deep-VoicedGentleman",
    }
)
MINIMAX_MODELS: Final = (
    "speech-2.8-hd", "speech-2.8-turbo", "speech-2.6-hd", "speech-2.6-turbo", "speech-02-hd", "speech-02-turbo",
)  # fmt: skip
_OF_OPENAI: Final[Mapping[str, str]] = MappingProxyType(
    {"tts-1": "speech-2.8-turbo", "tts-1-hd": "speech-2.8-hd", "gpt-4o-mini-tts": "speech-2.8-turbo"}
)


def standard_plan(environ: Mapping[str, str], piper: PiperConfig | None) -> RoutingPlan:
    """MiniMax if there is a key for it, and the voice in the box after it, or alone.

    Raises:
        RoutingError: the key can't be one.
    """
    providers: dict[str, ProviderPlan] = {}
    if environ.get(MINIMAX_KEY):
        config = MiniMaxConfig(kind="minimax", requests_per_minute=MINIMAX_REQUESTS_PER_MINUTE)
        providers["minimax"] = plan_provider("minimax", config, environ, where="standard routing")
    if piper:
        providers["piper"] = plan_provider("piper", piper, environ, where="standard routing")
    return RoutingPlan(providers=providers, models=_models(list(providers)))


def _models(providers: Sequence[str]) -> dict[str, ModelConfig]:
    box = (RouteConfig(provider="piper"),) if "piper" in providers else ()
    models: dict[str, ModelConfig] = {}
    for name, own in _OF_OPENAI.items():
        routes = [RouteConfig(provider="minimax", model=own)] if "minimax" in providers else []
        models[name] = ModelConfig(routes=(*routes, *box))
    if "minimax" in providers:
        models |= {name: ModelConfig(routes=(RouteConfig(provider="minimax"),)) for name in MINIMAX_MODELS}
    if box:
        models["piper"] = ModelConfig(routes=box)
    return models
