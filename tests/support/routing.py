"""Plans of providers that tests make themselves."""

from collections.abc import Mapping
from typing import Any

from odea_synth.providers.piper import PiperOptions
from odea_synth.routing.config import ModelConfig, PiperConfig, RouteConfig
from odea_synth.routing.reading import ProviderPlan, RoutingPlan
from odea_synth.synthesis import OPENAI_MODELS


def provider_plan(name: str, **config: Any) -> ProviderPlan:
    """A provider that is asked once and waits for nobody, apart from what `config` says. Its kind does not matter."""
    fields: dict[str, Any] = {
        "kind": "piper",
        "attempts_max": 1,
        "streams_max": 100_000,
        "breaker": {"faults_max": 1000},
    }
    fields |= config
    return ProviderPlan(name=name, config=PiperConfig.model_validate(fields), options=PiperOptions(name=name))


def routing_of(*names: str, own_model: str | None = None, **config: Mapping[str, Any]) -> RoutingPlan:
    """Providers of these names, asked in this order for OpenAI's models, and each by its own name.

    Args:
        names: of the providers.
        own_model: what the providers call the model, if not as the client does.
        config: what differs from `provider_plan`, by provider.
    """
    providers = {name: provider_plan(name, **config.get(name, {})) for name in names}
    all_of_them = ModelConfig(routes=tuple(RouteConfig(provider=name, model=own_model) for name in names))
    models = dict.fromkeys(OPENAI_MODELS, all_of_them)
    models |= {name: ModelConfig(routes=(RouteConfig(provider=name, model=own_model),)) for name in names}
    return RoutingPlan(providers=providers, models=models)
