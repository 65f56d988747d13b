"""The routing file: every fault at once with its path, no secret and no value in an error, and the example is good."""

from pathlib import Path

import pytest

from odea_synth.providers.minimax.options import REGIONS, MiniMaxOptions
from odea_synth.providers.openai.options import OpenAIOptions
from odea_synth.providers.piper import PiperOptions
from odea_synth.routing.config import PiperConfig
from odea_synth.routing.reading import RoutingError, RoutingPlan, read_routing
from odea_synth.routing.standard import MINIMAX_VOICES, standard_plan
from odea_synth.synthesis import OPENAI_MODELS, OPENAI_VOICES

EXAMPLE = Path(__file__).parents[3] / "docs" / "routing.example.toml"
KEYS = {"MINIMAX_API_KEY": "secret-one", "MINIMAX_SPARE_KEY": "secret-two"}

GOOD = """
[providers.piper]
kind = "piper"
[models.tts-1]
routes = [{ provider = "piper" }]
"""
BAD = """
extra = 1
[providers.minimax]
kind = "minimax"
credentials = ["sk-very-secret", "NOT_THERE"]
pace = 3
[providers.kokoro]
kind = "openai"
base_url = "http://user:hunter2@kokoro/v1"
requests_per_minute = 3
burst = 9
[providers.Loud]
kind = "piper"
workers = 0
[providers.odd]
kind = "hunter2"
[models.tts-1]
aliases = ["tts-1-hd", "twice", "twice"]
routes = [{ provider = "kokoro", speed = 3 }, { provider = "nobody" }]
[models."tts-1-hd"]
routes = []
[models."a.b"]
routes = [{ provider = "kokoro" }, { provider = "kokoro" }]
"""


def faults_of(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(RoutingError) as caught:
        read_routing(text, environ or {}, where="routing.toml")
    return str(caught.value).splitlines()


def test_every_fault_is_listed_at_once_with_the_path_of_its_key() -> None:
    faults = faults_of(BAD)
    paths = [fault.split(": ")[1] for fault in faults]
    assert sorted(paths) == sorted(
        [
            "extra",
            "providers.minimax.credentials[0]",
            "providers.minimax.pace",
            "providers.kokoro",
            "providers.kokoro.burst",
            "providers.Loud",
            "providers.Loud.workers",
            "providers.odd",
            "models.tts-1.aliases[0]",
            "models.tts-1.aliases[2]",
            "models.tts-1.routes[0].speed",
            "models.tts-1.routes[1].provider",
            "models.tts-1-hd.routes",
            'models."a.b".routes[1]',
        ]
    )
    assert all(fault.startswith("routing.toml: ") for fault in faults)


def test_no_value_stands_in_an_error() -> None:
    """P6. What somebody pasted where it does not belong may be a secret."""
    assert not any(word in fault for fault in faults_of(BAD) for word in ("very-secret", "hunter2", "NOT_THERE"))


def test_credentials_must_be_there() -> None:
    text = '[providers.m]\nkind = "minimax"\n[models.x]\nroutes = [{ provider = "m" }]\n'
    assert faults_of(text) == ["routing.toml: providers.m.credentials[0]: the environment has no variable of this name"]
    assert read_routing(text, {"MINIMAX_API_KEY": "k"}, where="x").providers["m"]


@pytest.mark.parametrize("text", ["a = [", "a = 1\na = 2", ""])
def test_a_file_that_says_nothing_usable_is_refused(text: str) -> None:
    assert faults_of(text)


def test_the_example_is_good_and_says_what_its_comments_say() -> None:
    plan = read_routing(EXAMPLE.read_text("utf-8"), KEYS, where="example")
    minimax, kokoro, piper = (plan.providers[name].options for name in ("minimax", "kokoro", "piper"))
    assert isinstance(minimax, MiniMaxOptions)
    assert minimax.base_url == REGIONS["global-west"]
    assert [one.secret.get_secret_value() for one in minimax.credentials] == ["secret-one", "secret-two"]
    assert minimax.upstream.streams_max == 64
    assert isinstance(kokoro, OpenAIOptions)
    assert isinstance(piper, PiperOptions)
    assert plan.providers["minimax"].burst == 10
    assert [route.provider for route in plan.models["tts-1"].routes] == ["minimax", "kokoro", "piper"]
    assert "secret-one" not in repr(plan)


def test_without_a_file_minimax_speaks_if_there_is_a_key_and_piper_after_it() -> None:
    piper = PiperConfig(kind="piper")
    both = standard_plan(KEYS, piper)
    assert who_speaks(both) == ["minimax", "piper"]
    assert both.providers["minimax"].config.requests_per_minute == 60
    assert who_speaks(standard_plan({}, piper)) == ["piper"]
    assert who_speaks(standard_plan(KEYS, None)) == ["minimax"]
    assert set(MINIMAX_VOICES) == set(OPENAI_VOICES)


def test_a_burst_is_a_sixth_of_the_minute_unless_it_is_said() -> None:
    text = GOOD.replace('kind = "piper"', 'kind = "piper"\nrequests_per_minute = PACE')
    bursts = [
        read_routing(text.replace("PACE", str(pace)), {}, where="x").providers["piper"].burst for pace in (1, 6, 60, 61)
    ]
    assert bursts == [1, 1, 10, 11]


def who_speaks(plan: RoutingPlan) -> list[str]:
    """Who speaks each of OpenAI's models; they are all alike."""
    [routes] = {tuple(route.provider for route in plan.models[name].routes) for name in OPENAI_MODELS}
    return list(routes)
