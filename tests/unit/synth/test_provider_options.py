"""What providers are told about their upstreams: every fault is named at once, and no secret shows (P6)."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr

from odea_synth.providers.credentials import Credential
from odea_synth.providers.minimax.options import REGIONS, MiniMaxOptions
from odea_synth.providers.openai.options import WAYS, Flavour, OpenAIOptions
from odea_synth.providers.upstream import UpstreamOptions

KEY = Credential(name="main", secret=SecretStr("sk-very-secret"))


def faults(build: Callable[[], object]) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        build()
    return str(error.value)


def test_the_defaults_do() -> None:
    assert MiniMaxOptions(credentials=(KEY,)).base_url == "https://api.minimax.io"
    assert OpenAIOptions(credentials=(KEY,)).base_url == "https://api.openai.com/v1"
    for url in REGIONS.values():
        assert MiniMaxOptions(credentials=(KEY,), base_url=url)


def test_every_flavour_has_its_ways() -> None:
    assert set(WAYS) == set(Flavour)


def test_no_secret_shows() -> None:
    assert "very-secret" not in repr(MiniMaxOptions(credentials=(KEY,)))
    bad = Credential(name="bad", secret=SecretStr("very-secret\r\nx-evil: 1"))
    said = faults(lambda: MiniMaxOptions(credentials=(KEY, KEY, bad)))
    assert "very-secret" not in said
    assert "credential main is named twice" in said
    assert "credential bad must be printable" in said


def test_all_faults_are_named_at_once() -> None:
    said = faults(lambda: MiniMaxOptions(credentials=(), base_url="ftp://x", park_s=0, voices_max=0))
    for name in ("credentials", "base_url", "park_s", "voices_max"):
        assert name in said
    assert "text_characters_max" in faults(lambda: OpenAIOptions(text_characters_max=0))
    said = faults(lambda: UpstreamOptions(streams_max=0, read_timeout_s=float("nan"), line_bytes_max=1))
    for name in ("streams_max", "read_timeout_s", "line_bytes_max"):
        assert name in said


@pytest.mark.parametrize(
    "url", ["", "api.minimax.io", "https://", "https://u:p@x", "https://x?key=1", "https://x:99999"]
)
def test_an_address_holds_scheme_host_port_and_path_alone(url: str) -> None:
    assert "base_url" in faults(lambda: OpenAIOptions(base_url=url))


def test_a_credential_is_not_sent_in_the_clear() -> None:
    assert "https" in faults(lambda: OpenAIOptions(base_url="http://speech.example/v1", credentials=(KEY,)))
    assert OpenAIOptions(base_url="http://speech.example/v1")
    assert OpenAIOptions(base_url="http://127.0.0.1:8880/v1", credentials=(KEY,))
