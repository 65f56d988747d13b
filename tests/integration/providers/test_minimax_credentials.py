"""Several credentials: one that is refused is parked as long as MiniMax's codes say, and the next one speaks."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from fakes.minimax import Behaviour, End, FakeMiniMax
from integration.providers.harness import credentials, minimax, say, text
from odea_synth.providers.base import ErrorClass
from odea_synth.providers.credentials import Credentials

KEYS = ("one", "two")


def spoken_by(fake: FakeMiniMax) -> list[str]:
    keys = [heard.key for heard in fake.heard]
    fake.heard.clear()
    return keys


@pytest.mark.parametrize("code", [1004, 1008, 1028, 1030, 2049, 2056])
async def test_a_refused_credential_is_parked_and_the_next_one_speaks(code: int) -> None:
    fake = FakeMiniMax(keys=KEYS)
    fake.by_key["one"] = Behaviour(code=code, text="usage limit exceeded")
    async with minimax(fake, credentials=credentials(*KEYS)) as provider:
        assert (await say(provider, text())).error is None
        assert spoken_by(fake) == ["one", "two"]
        assert (await say(provider, text(model="speech-02-hd"))).error is None
        assert spoken_by(fake) == ["two"]


async def test_a_credential_that_lacks_a_model_is_parked_for_that_alone() -> None:
    fake = FakeMiniMax(keys=KEYS)
    fake.by_key["one"] = Behaviour(code=2061, text="your current token plan not support model, speech-2.8-hd")
    async with minimax(fake, credentials=credentials(*KEYS)) as provider:
        await say(provider, text())
        assert spoken_by(fake) == ["one", "two"]
        fake.by_key.clear()
        await say(provider, text(model="speech-02-hd"))
        await say(provider, text())
        assert spoken_by(fake) == ["one", "two"]


@pytest.mark.parametrize("code", [1002, 1039, 1041, 2045])
async def test_a_throttled_credential_rests_but_is_better_than_none(code: int) -> None:
    fake = FakeMiniMax(keys=KEYS)
    fake.by_key["one"] = Behaviour(code=code)
    async with minimax(fake, credentials=credentials(*KEYS)) as provider:
        await say(provider, text())
        await say(provider, text())
        assert spoken_by(fake) == ["one", "two", "two"]
        fake.by_key["two"] = Behaviour(code=2049)
        del fake.by_key["one"]
        assert (await say(provider, text())).error is None
        assert spoken_by(fake) == ["two", "one"]


async def test_a_voice_of_another_credential_is_looked_for_there() -> None:
    fake = FakeMiniMax(keys=KEYS)
    fake.by_key["one"] = Behaviour(code=2042)
    async with minimax(fake, credentials=credentials(*KEYS)) as provider:
        assert (await say(provider, text())).error is None
        await say(provider, text())
        # It is fine for other voices, so it is not parked.
        assert spoken_by(fake) == ["one", "two", "one", "two"]


@pytest.mark.parametrize("code", [1000, 1026, 2013, 2054, 2153 * 1000, 1042])
async def test_for_other_refusals_no_other_credential_is_tried(code: int) -> None:
    fake = FakeMiniMax(keys=KEYS)
    fake.by_key["one"] = Behaviour(code=code)
    async with minimax(fake, credentials=credentials(*KEYS)) as provider:
        for _ in range(2):
            await say(provider, text())
    assert spoken_by(fake) == ["one", "one"]


async def test_nobody_else_goes_on_once_audio_was_heard() -> None:
    fake = FakeMiniMax(keys=KEYS)
    fake.by_key["one"] = Behaviour(code=1008, end=End.ERROR)
    async with minimax(fake, credentials=credentials(*KEYS)) as provider:
        said = await say(provider, text())
        assert said.failed.error_class is ErrorClass.ACCOUNT
        assert spoken_by(fake) == ["one"]
        await say(provider, text())
        assert spoken_by(fake) == ["two"]


async def test_with_all_parked_nothing_is_sent_and_the_wait_is_told() -> None:
    fake = FakeMiniMax(keys=())
    async with minimax(fake, credentials=credentials(*KEYS), park_s=100) as provider:
        assert (await say(provider, text())).failed.error_class is ErrorClass.ACCOUNT
        assert spoken_by(fake) == ["one", "two"]
        error = (await say(provider, text())).failed
        assert error.error_class is ErrorClass.ACCOUNT
        assert error.retry_after_s == pytest.approx(100, abs=5)
        assert fake.heard == []


async def test_a_window_is_waited_for_and_a_plan_without_speech_for_ever() -> None:
    resets_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for said, wait_s in (
        (f"usage limit exceeded, 5-hour usage limit reached for Token Plan X (9/9 used), resets at {resets_at}", 3600),
        ("usage limit exceeded, 5-hour usage limit reached for Token Plan X (9/9 used), resets at soon", 300),
        (f"usage limit exceeded (0/0 used), resets at {resets_at}", None),
    ):
        fake = FakeMiniMax()
        fake.behaviours.append(Behaviour(code=2056, text=said))
        async with minimax(fake) as provider:
            await say(provider, text())
            wait = (await say(provider, text())).failed.retry_after_s
        assert wait == (None if wait_s is None else pytest.approx(wait_s, abs=10))


def test_a_parked_credential_comes_back() -> None:
    now = 100.0
    one, two = credentials(*KEYS)
    kept = Credentials("p", (one, two), clock=lambda: now)
    kept.park(one, 10, reason="")
    kept.park(two, 5, model="m", reason="")
    kept.rest(two, 20)
    assert (kept.usable("m"), kept.usable("n"), kept.wait_s("m")) == ((), (two,), 5)
    now = 105.0
    assert kept.usable("m") == (two,)
    now = 110.0
    assert kept.usable("m") == (one, two)
    kept.rest(one, 5)
    kept.rest(two, 0)
    assert kept.usable("m") == (two, one)


async def test_voices_are_listed_once_and_kept_to_the_byte() -> None:
    fake = FakeMiniMax()
    async with minimax(fake) as provider:
        voices = {voice.id: voice.language for voice in await provider.voices()}
        await provider.voices()
    assert voices == {
        "English_expressive_narrator": "en",
        "English_Graceful_Lady": "en",
        "male-qn-qingse": None,
        "Santa_Claus ": None,
        "Cantonese_ProfessionalHost\uff08F)": "yue",
        "OurClone1": None,
    }
    assert fake.voice_lists == 1


async def test_voices_are_bounded_and_an_old_list_outlives_a_failure() -> None:
    fake = FakeMiniMax()
    async with minimax(fake, voices_max=2, voices_ttl_s=0.000001) as provider:
        listed = await provider.voices()
        assert len(listed) == 2
        fake.voices_fail = 1000
        assert await provider.voices() == listed
        assert fake.voice_lists == 2


async def test_without_any_list_the_failure_is_told() -> None:
    fake = FakeMiniMax(keys=KEYS)
    async with minimax(fake, credentials=credentials("bad", "two")) as provider:
        assert await provider.voices()
    fake = FakeMiniMax(keys=())
    async with minimax(fake) as provider:
        with pytest.raises(Exception, match="not available"):
            await provider.voices()
        assert json.dumps([heard.key for heard in fake.heard]) == "[]"
