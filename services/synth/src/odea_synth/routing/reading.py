"""From a routing file to a plan of providers and models, or to the list of all that is wrong with it.

Secrets come from the environment, by the names that the file gives; neither they nor any other value of the file stands
in an error.
"""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar, cast

from pydantic import SecretStr, TypeAdapter, ValidationError

from odea_runtime.settings import SettingsError
from odea_synth.providers.credentials import Credential
from odea_synth.providers.minimax.options import REGIONS, MiniMaxOptions
from odea_synth.providers.openai.options import OpenAIOptions
from odea_synth.providers.piper.options import PiperOptions
from odea_synth.providers.upstream import UpstreamOptions
from odea_synth.routing.config import (
    MODEL,
    PROVIDER,
    MiniMaxConfig,
    ModelConfig,
    OpenAIConfig,
    PiperConfig,
    ProviderConfig,
)

T = TypeVar("T")
Options: TypeAlias = MiniMaxOptions | OpenAIOptions | PiperOptions
Fault: TypeAlias = tuple[str, str]
"""The path of a key, and what is wrong there."""

_KINDS: Final = ("minimax", "openai", "piper")
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class RoutingError(SettingsError):
    """A routing file that cannot be used; the message lists every fault, one a line, without the values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderPlan:
    """One provider: what the file says, and what that means to its own code, credentials included."""

    name: str
    config: ProviderConfig
    options: Options

    @property
    def burst(self) -> int:
        """How many requests of a minute may come at once."""
        return self.config.burst or max(1, math.ceil((self.config.requests_per_minute or 1) / 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPlan:
    """Providers and models, by name. Whatever it names is there."""

    providers: Mapping[str, ProviderPlan]
    models: Mapping[str, ModelConfig]


def read_routing(text: str, environ: Mapping[str, str], *, where: str) -> RoutingPlan:
    """The plan that a file's `text` describes.

    Raises:
        RoutingError: all that is wrong, each fault with `where` and the path of its key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _error(where, [("", f"not valid TOML: {error}")]) from None
    faults: list[Fault] = [(_path([key]), "there is no such table") for key in table if key not in _TABLES]
    configs = _each(table, "providers", PROVIDER, faults)
    models = _each(table, "models", MODEL, faults)
    providers = {name: _plan(name, config, environ, faults) for name, config in configs.items()}
    _check_models(table, faults)
    if faults:
        raise _error(where, faults)
    return RoutingPlan(providers={name: plan for name, plan in providers.items() if plan}, models=models)


_TABLES: Final = ("providers", "models")


def plan_provider(name: str, config: ProviderConfig, environ: Mapping[str, str], *, where: str) -> ProviderPlan:
    """The plan of one provider.

    Raises:
        RoutingError: its credentials are not there, or its values do not fit together.
    """
    faults: list[Fault] = []
    plan = _plan(name, config, environ, faults)
    if plan is None or faults:
        raise _error(where, faults)
    return plan


def _names(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = table.get(key)
    return cast("Mapping[str, object]", found) if isinstance(found, dict) else {}


def _each(table: Mapping[str, object], key: str, adapter: TypeAdapter[T], faults: list[Fault]) -> dict[str, T]:
    """The tables below one key, those that are well formed."""
    entries = _names(table, key)
    if not entries:
        faults.append((key, "there must be at least one"))
    good: dict[str, T] = {}
    for name, entry in entries.items():
        faults += [(_path([key, name]), problem) for problem in _NAME_RULES[key](name)]
        try:
            good[name] = adapter.validate_python(entry)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False, include_context=False):
                # pydantic puts the kind of a provider into the path, where the file has none.
                inner = fault["loc"][1:] if fault["loc"][:1] and fault["loc"][0] in _KINDS else fault["loc"]
                faults.append((_path([key, name, *inner]), _MESSAGES.get(fault["type"], fault["msg"])))
    return good


def _provider_name_faults(name: str) -> Sequence[str]:
    plain = name and name[0].isalpha() and name == name.lower() and set(name) <= _BARE and len(name) <= 32
    return () if plain else ("a provider's name has up to 32 lower-case letters, digits, - and _",)


def _model_name_faults(name: str) -> Sequence[str]:
    return () if 0 < len(name) <= 128 and name.isprintable() else ("a model's name has up to 128 visible characters",)


_MESSAGES: Final[Mapping[str, str]] = {
    "union_tag_invalid": "kind must be one of " + ", ".join(_KINDS),
    "union_tag_not_found": "kind is missing: one of " + ", ".join(_KINDS),
    "extra_forbidden": "there is no such key",
    "missing": "is missing",
}
"""Where pydantic's own words would repeat a value or speak of Python."""
_NAME_RULES: Final[Mapping[str, Callable[[str], Sequence[str]]]] = {
    "providers": _provider_name_faults,
    "models": _model_name_faults,
}


def _plan(name: str, config: ProviderConfig, environ: Mapping[str, str], faults: list[Fault]) -> ProviderPlan | None:
    at = ["providers", name]
    if config.burst is not None and config.burst > (config.requests_per_minute or 0):
        faults.append((_path([*at, "burst"]), "must not be above requests_per_minute"))
    credentials: list[Credential] = []
    if not isinstance(config, PiperConfig):
        for index, variable in enumerate(config.credentials):
            secret = environ.get(variable, "")
            if secret:
                credentials.append(Credential(name=variable, secret=SecretStr(secret)))
            else:
                faults.append((_path([*at, "credentials", index]), "the environment has no variable of this name"))
        if len(credentials) < len(config.credentials):
            return None
    try:
        return ProviderPlan(name=name, config=config, options=_options(name, config, tuple(credentials)))
    except ValueError as error:
        faults += [(_path(at), problem) for problem in str(error).split("; ")]
        return None


def _options(name: str, config: ProviderConfig, credentials: tuple[Credential, ...]) -> Options:
    match config:
        case PiperConfig():
            return PiperOptions(name=name, voices=config.voices, workers=config.workers, streams_max=config.streams_max)
        case MiniMaxConfig():
            return MiniMaxOptions(
                name=name,
                credentials=credentials,
                base_url=config.base_url or REGIONS[config.region],
                group_id=config.group_id,
                streaming=config.streaming,
                upstream=_upstream(config),
            )
        case OpenAIConfig():
            return OpenAIOptions(
                name=name,
                credentials=credentials,
                base_url=config.base_url,
                flavour=config.flavour,
                voices=config.voices,
                upstream=_upstream(config),
            )


def _upstream(config: MiniMaxConfig | OpenAIConfig) -> UpstreamOptions:
    return UpstreamOptions(
        streams_max=config.streams_max,
        connect_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
        keepalive_s=config.keepalive_s,
    )


def _check_models(table: Mapping[str, object], faults: list[Fault]) -> None:
    """What one table can't tell alone. Looks at the file as it is, so that one fault does not hide another."""
    providers, models = _names(table, "providers"), _names(table, "models")
    taken = dict.fromkeys(models, "a model")
    for name, model in models.items():
        if not isinstance(model, dict):
            continue
        for index, alias in enumerate(_list(cast("Mapping[str, object]", model).get("aliases"))):
            if isinstance(alias, str):
                if alias in taken:
                    faults.append((_path(["models", name, "aliases", index]), f"the name is taken by {taken[alias]}"))
                taken[alias] = "another alias"
        seen: list[tuple[object, object]] = []
        for index, route in enumerate(_list(cast("Mapping[str, object]", model).get("routes"))):
            at = ["models", name, "routes", index]
            if not isinstance(route, dict):
                continue
            who = (route.get("provider"), route.get("model"))
            if isinstance(who[0], str) and who[0] not in providers:
                faults.append((_path([*at, "provider"]), "there is no provider of this name"))
            if who in seen:
                faults.append((_path(at), "the same provider and model stand here twice"))
            seen.append(who)


def _list(value: object) -> list[dict[str, object] | str]:
    return cast("list[dict[str, object] | str]", value) if isinstance(value, list) else []


def _path(parts: Iterable[str | int]) -> str:
    """A key's path as TOML writes it, with the index of what stands in a list."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            bare = bool(part) and set(part) <= _BARE
            quoted = part if bare else '"' + part.encode("unicode_escape").decode().replace('"', '\\"')[:128] + '"'
            path += f".{quoted}" if path else quoted
    return path


def _error(where: str, faults: Sequence[Fault]) -> RoutingError:
    return RoutingError("\n".join(f"{where}: {path + ': ' if path else ''}{problem}" for path, problem in faults))
