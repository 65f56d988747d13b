"""The rules of speech: which names mean what, and what callers hear of errors and limits."""

import msgspec
import pytest

from odea_contracts.balances import Balance, Window
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.quota import Denied, Limit
from odea_contracts.synth import AudioFormat, Speak
from odea_synth.providers.base import ErrorClass, ProviderError, Voice
from odea_synth.synthesis import OPENAI_MODELS, OPENAI_VOICES, Catalogue, Route, Rule, provider_failure, quota_failure
from support.scripted import ScriptedProvider


def voice(name: str) -> Voice:
    return Voice(id=name, name=f"{name} the voice", language="en-GB", provider="scripted", preview_url="https://x/y")


def catalogue(*names: str) -> Catalogue:
    return Catalogue.of(ScriptedProvider(), [voice(name) for name in names], 7)


def speak(**changes: object) -> Speak:
    fields: dict[str, object] = {
        "request_id": "req_1",
        "tenant_id": "ten_1",
        "key_id": "key_1",
        "accounts": ("ten_1",),
        "model": "tts-1",
        "voice": "Vera",
        "input": "Say this.",
    }
    return Speak(**(fields | changes))  # pyright: ignore[reportArgumentType] - the fields are checked by the service


def routes_of(everything: Catalogue, asked: Speak) -> tuple[Route, ...]:
    routes = everything.routes(asked)
    assert not isinstance(routes, Failure), routes
    return routes


@pytest.mark.parametrize("model", [*OPENAI_MODELS, "scripted"])
@pytest.mark.parametrize("name", OPENAI_VOICES)
def test_every_name_that_openai_clients_know_is_spoken_by_the_first_voice(model: str, name: str) -> None:
    [route] = routes_of(catalogue("Vera", "Bert"), speak(model=model, voice=name))
    assert route.utterance.voice == "Vera"


def test_the_providers_own_voices_come_before_the_names_of_others() -> None:
    voices = catalogue("Vera", "nova")
    [route] = routes_of(voices, speak(voice="nova"))
    assert route.utterance.voice == "nova"
    listed = voices.list_voices(None)
    assert not isinstance(listed, Failure)
    assert [entry.id for entry in listed].count("nova") == 1


def test_a_route_carries_everything_that_was_asked_for() -> None:
    asked = speak(
        model="tts-1-hd",
        voice="Bert",
        speed=1.5,
        instructions="Softly.",
        response_format=AudioFormat.FLAC,
        sample_rate_hz=16_000,
    )
    [route] = routes_of(catalogue("Vera", "Bert"), asked)
    said = route.utterance
    assert (said.text, said.voice, said.model, said.speed) == ("Say this.", "Bert", "tts-1-hd", 1.5)
    assert (said.instructions, said.response_format, said.sample_rate_hz) == ("Softly.", AudioFormat.FLAC, 16_000)
    assert "Say this" not in repr(route)
    assert "Softly" not in repr(route)


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": "TTS-1"}, ErrorCode.MODEL_NOT_FOUND, "model"),
        ({"voice": "vera"}, ErrorCode.VOICE_NOT_FOUND, "voice"),
        ({"voice": "Alloy"}, ErrorCode.VOICE_NOT_FOUND, "voice"),
        ({"model": "none", "voice": "none"}, ErrorCode.MODEL_NOT_FOUND, "model"),
    ],
)
def test_unknown_names_are_refused_by_field(change: dict[str, object], code: ErrorCode, param: str) -> None:
    refused = catalogue("Vera").routes(speak(**change))
    assert isinstance(refused, Failure)
    assert (refused.code, refused.param) == (code, param)


def test_everything_that_is_listed_can_be_spoken() -> None:
    everything = catalogue("Vera", "Bert")
    models, voices = everything.list_models(), everything.list_voices("tts-1")
    assert not isinstance(voices, Failure)
    for model in models:
        for listed in voices:
            assert routes_of(everything, speak(model=model.id, voice=listed.id))


@pytest.mark.parametrize("listed", [(), ("ash", "Vera"), ("Vera", "coral")])
@pytest.mark.parametrize("standard", [{}, {"alloy": "Carl", "coral": "Ines"}])
@pytest.mark.parametrize("voices", [{}, {"alloy": "Kurt", "Vera": "Kurt"}])
def test_a_name_means_what_the_list_of_names_says(
    voices: dict[str, str], standard: dict[str, str], listed: tuple[str, ...]
) -> None:
    rule = Rule(provider=ScriptedProvider(), voices=voices, standard_voices=standard)
    known = tuple(map(voice, listed))
    names = rule.names(known)
    for name in (*OPENAI_VOICES, "Vera", "Kurt", "nobody"):
        assert rule.voice(name, known) == names.get(name)


def test_lists_say_who_is_behind_a_name() -> None:
    everything = catalogue("Vera")
    assert {(model.owned_by, model.created_at_ms) for model in everything.list_models()} == {("odea", 7)}
    voices = everything.list_voices(None)
    assert not isinstance(voices, Failure)
    [alloy] = [entry for entry in voices if entry.id == "alloy"]
    assert (alloy.name, alloy.language, alloy.provider, alloy.preview_url) == (
        "alloy",
        "en-GB",
        "scripted",
        "https://x/y",
    )
    refused = everything.list_voices("none")
    assert isinstance(refused, Failure)
    assert refused.code is ErrorCode.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("error_class", "code"),
    [
        (ErrorClass.CALLER, ErrorCode.INVALID_VALUE),
        (ErrorClass.CONTENT, ErrorCode.CONTENT_REFUSED),
        (ErrorClass.ACCOUNT, ErrorCode.UPSTREAM_UNAVAILABLE),
        (ErrorClass.THROTTLE, ErrorCode.UPSTREAM_BUSY),
        (ErrorClass.UPSTREAM, ErrorCode.UPSTREAM_ERROR),
    ],
)
def test_a_providers_error_is_named_by_whose_fault_it_is(error_class: ErrorClass, code: ErrorCode) -> None:
    """P6: the detail is for our logs. P8's classes decide on the advice: what may pass is worth a retry."""
    error = ProviderError(error_class, "It would not.", detail="Bearer credential-of-ours", retry_after_s=1.25)
    told = provider_failure(error)
    assert (told.code, told.message, told.retry_after_ms) == (code, "It would not.", 1250)
    assert told.retryable == (error_class not in (ErrorClass.CALLER, ErrorClass.CONTENT))
    assert "credential" not in repr(told)


def test_every_class_of_error_and_every_limit_has_its_answer() -> None:
    for error_class in ErrorClass:
        assert provider_failure(ProviderError(error_class, "x")).retry_after_ms is None
    for limit in Limit:
        assert quota_failure(denied(limit)).code is not ErrorCode.INTERNAL_ERROR


@pytest.mark.parametrize(("given_s", "told_ms"), [(0.0, 0), (-3.0, 0), (float("nan"), None), (float("inf"), None)])
def test_a_provider_that_talks_nonsense_about_time_is_not_repeated(given_s: float, told_ms: int | None) -> None:
    """A negative time would not even be readable at the other end."""
    error = ProviderError(ErrorClass.THROTTLE, "Busy.", retry_after_s=given_s)
    assert provider_failure(error).retry_after_ms == told_ms


@pytest.mark.parametrize(
    ("limit", "code", "retry_after_ms"),
    [
        (Limit.UNITS, ErrorCode.INSUFFICIENT_QUOTA, None),
        (Limit.REQUESTS, ErrorCode.RATE_LIMIT_EXCEEDED, 700),
        (Limit.IN_FLIGHT, ErrorCode.CONCURRENCY_LIMIT_EXCEEDED, 1000),
        (Limit.SUSPENDED, ErrorCode.ACCOUNT_SUSPENDED, None),
        (Limit.ACCOUNT, ErrorCode.QUOTA_UNAVAILABLE, None),
    ],
)
def test_a_limit_that_refused_is_told_with_its_advice(
    limit: Limit, code: ErrorCode, retry_after_ms: int | None
) -> None:
    told = quota_failure(denied(limit, retry_after_ms))
    assert (told.code, told.retry_after_ms) == (code, retry_after_ms)


def test_the_balances_of_a_refusal_go_with_it() -> None:
    balance = Balance(
        account_id="ten_1", limit=5, used=5, held=0, remaining=0, window=Window.NONE, window_ends_at_ms=None
    )
    refused = msgspec.structs.replace(denied(Limit.UNITS), balances=(balance,))
    assert quota_failure(refused).balances == (balance,)


def denied(limit: Limit, retry_after_ms: int | None = None) -> Denied:
    return Denied(hold_id="h", limit=limit, account_id="ten_1", retry_after_ms=retry_after_ms)
